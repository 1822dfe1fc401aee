"""Verbs about the host and the hypervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

import click

if TYPE_CHECKING:
    from hvcore.cli.session import Session
    from hvcore.domaincaps import DomainCapabilities
    from hvcore.host import Host


@click.command()
@click.pass_obj
def capabilities(session: Session) -> None:
    """Show what the hypervisor and host can do, as libvirt's document."""

    async def work(host: Host) -> str:
        return await host.capabilities()

    text = session.run(work, failing="failed to get capabilities")
    session.value({"xml": text}, text)


@click.command()
@click.option("--virttype", "virt_type", help="virtualization type (/domain/@type)")
@click.option("--emulatorbin", "emulator", help="path of the emulator (/domain/devices/emulator)")
@click.option("--arch", help="architecture (/domain/os/type/@arch)")
@click.option("--machine", help="machine type (/domain/os/type/@machine)")
@click.option(
    "--disable-deprecated-features",
    "disable_deprecated",
    is_flag=True,
    help="turn off in the host's CPU model what is advised against",
)
@click.pass_obj
def domcapabilities(session: Session, /, **options: Any) -> None:
    """Show what guests can have, as libvirt's document."""

    async def work(host: Host) -> DomainCapabilities:
        return await host.domain_capabilities(**options)

    found = session.run(work, failing="failed to get emulator capabilities")
    session.value(found.to_json(), found.to_xml())


@click.command()
@click.pass_obj
def nodeinfo(session: Session) -> None:
    """Show the host's CPUs and memory."""

    async def work(host: Host) -> Any:
        return await host.nodeinfo()

    node = session.run(work)
    rows = [
        ("CPU model", node.model),
        ("CPU(s)", node.cpus),
        ("CPU frequency", f"{node.mhz} MHz"),
        ("CPU socket(s)", node.sockets),
        ("Core(s) per socket", node.cores),
        ("Thread(s) per core", node.threads),
        ("NUMA cell(s)", node.cells),
        ("Memory size", f"{node.memory} KiB"),
    ]
    names = ("model", "cpus", "mhz", "sockets", "cores", "threads", "cells", "memory")
    session.facts(rows, {name: getattr(node, name) for name in names})


@click.command()
@click.pass_obj
def version(session: Session) -> None:
    """Show the versions of hvcore and of the hypervisor."""
    from hvcore import __version__  # noqa: PLC0415 - only here

    async def work(host: Host) -> tuple[str, int]:
        return host.uri, await host.version()

    uri, number = session.run(work)
    scheme = uri.partition(":")[0].partition("+")[0]
    dotted = f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
    session.facts(
        [("Library", f"hvcore {__version__}"), ("Hypervisor", f"{scheme} {dotted}")],
        {"library": __version__, "hypervisor": scheme, "version": dotted, "number": number},
    )


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell: eval "$(hv completion bash)"."""
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - only here

    found = get_completion_class(shell)
    assert found is not None  # the choices above are those click has
    click.echo(found(ctx.find_root().command, {}, "hv", "_HV_COMPLETE").source())
