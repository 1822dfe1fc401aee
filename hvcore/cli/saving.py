"""Verbs that put guests into files and get them out again."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

import click

from hvcore.cli.session import domain_argument
from hvcore.cli.session import read_document

if TYPE_CHECKING:
    from hvcore.cli.session import Session
    from hvcore.domain import Domain
    from hvcore.host import Host


def _state_options(command: Any) -> Any:
    for name, text in (
        ("paused", "let it stand still when restored"),
        ("running", "let it run when restored"),
    ):
        command = click.option(f"--{name}", is_flag=True, help=text)(command)
    return command


def _running(*, running: bool, paused: bool) -> bool | None:
    """Return the options of :func:`_state_options` as the API takes them.

    :raises UsageError: both are given.
    """
    if running and paused:
        raise click.UsageError("Options --running and --paused are mutually exclusive")
    return True if running else False if paused else None


def _absolute(file: str) -> str:
    import os  # noqa: PLC0415 - only here

    return os.path.abspath(file)  # noqa: PTH100 - links are the owner's business


# -- files ----------------------------------------------------------------------------------------


@click.command()
@domain_argument
@click.argument("file", type=click.Path())
@click.option("--xml", help="file with the document to restore it with", type=click.Path())
@_state_options
@click.pass_obj
def save(
    session: Session, domain: str, file: str, *, xml: str | None, running: bool, paused: bool
) -> None:
    """Save a guest to a file and end it."""
    state = _running(running=running, paused=paused)
    document = None if xml is None else read_document(xml, session)

    async def work(host: Host, found: Domain) -> None:
        del host
        await found.save(_absolute(file), xml=document, running=state)

    session.on(domain, work, failing=f"Failed to save domain '{domain}' to {file}")
    session.done(f"Domain '{domain}' saved to {file}")


@click.command()
@click.argument("file", type=click.Path())
@click.option("--xml", help="file with the document to start it with", type=click.Path())
@_state_options
@click.pass_obj
def restore(session: Session, file: str, *, xml: str | None, running: bool, paused: bool) -> None:
    """Start the guest that was saved in a file."""
    state = _running(running=running, paused=paused)
    document = None if xml is None else read_document(xml, session)

    async def work(host: Host) -> None:
        await host.restore(_absolute(file), xml=document, running=state)

    session.run(work, failing=f"Failed to restore domain from {file}")
    session.done(f"Domain restored from {file}")


@click.command("save-image-dumpxml")
@click.argument("file", type=click.Path())
@click.option("--security-info", is_flag=True, help="with passwords")
@click.pass_obj
def save_image_dumpxml(session: Session, file: str, *, security_info: bool) -> None:
    """Show the document of a guest that was saved in a file."""

    async def work(host: Host) -> str:
        return await host.save_image_xml(_absolute(file), secure=security_info)

    text = session.run(work)
    session.value({"xml": text}, text)


@click.command("save-image-define")
@click.argument("file", type=click.Path())
@click.argument("xml", type=click.Path())
@_state_options
@click.pass_obj
def save_image_define(
    session: Session, file: str, xml: str, *, running: bool, paused: bool
) -> None:
    """Change the document of a guest that was saved in a file."""
    state = _running(running=running, paused=paused)
    document = read_document(xml, session)

    async def work(host: Host) -> None:
        await host.save_image_define(_absolute(file), document, running=state)

    session.run(work, failing=f"Failed to update {file}", source=document)
    session.done(f"State file {file} updated.")


# -- the next start -------------------------------------------------------------------------------


@click.command()
@domain_argument
@_state_options
@click.pass_obj
def managedsave(session: Session, domain: str, *, running: bool, paused: bool) -> None:
    """Save a guest where its next start finds it, and end it."""
    state = _running(running=running, paused=paused)

    async def work(host: Host, found: Domain) -> None:
        del host
        await found.managed_save(running=state)

    session.on(domain, work, failing=f"Failed to save domain '{domain}' state")
    session.done(f"Domain '{domain}' state saved by libvirt")


@click.command("managedsave-remove")
@domain_argument
@click.pass_obj
def managedsave_remove(session: Session, domain: str) -> None:
    """Remove the saved state that the next start would begin with."""

    async def work(host: Host, found: Domain) -> bool:
        del host
        there = found.has_managed_save
        if there:
            await found.managed_save_remove()
        return there

    failing = f"Failed to remove managed save image for domain '{domain}'"
    if session.on(domain, work, failing=failing):
        session.done(f"Removed managedsave image for domain '{domain}'")
    else:
        session.done(f"Domain '{domain}' has no manage save image; removal skipped")


@click.command("managedsave-dumpxml")
@domain_argument
@click.option("--security-info", is_flag=True, help="with passwords")
@click.pass_obj
def managedsave_dumpxml(session: Session, domain: str, *, security_info: bool) -> None:
    """Show the document in the saved state of a domain."""

    async def work(host: Host, found: Domain) -> str:
        del host
        return await found.managed_save_xml(secure=security_info)

    text = session.on(domain, work)
    session.value({"xml": text}, text)


@click.command("managedsave-define")
@domain_argument
@click.argument("xml", type=click.Path())
@_state_options
@click.pass_obj
def managedsave_define(
    session: Session, domain: str, xml: str, *, running: bool, paused: bool
) -> None:
    """Change the document in the saved state of a domain."""
    state = _running(running=running, paused=paused)
    document = read_document(xml, session)

    async def work(host: Host, found: Domain) -> str:
        del host
        await found.managed_save_define(document, running=state)
        return found.name

    failing = f"Failed to update {domain} XML configuration"
    name = session.on(domain, work, failing=failing)
    session.done(f"Managed save state file of domain '{name}' updated.")


# -- memory ---------------------------------------------------------------------------------------


@click.command()
@domain_argument
@click.argument("file", type=click.Path())
@click.option("--live", is_flag=True, help="let the guest run meanwhile")
@click.option("--crash", is_flag=True, help="end the guest afterwards, as crashed")
@click.option("--reset", is_flag=True, help="reset the guest afterwards")
@click.option("--memory-only", is_flag=True, help="memory alone, in a format for debuggers")
@click.option("--format", "format_", metavar="FORMAT", help="of --memory-only; elf unless given")
@click.pass_obj
def dump(session: Session, /, domain: str, file: str, **options: Any) -> None:
    """Write the memory of a guest to a file."""
    from hvcore.verbs.saving import DUMP_FORMATS  # noqa: PLC0415 - only here

    kind = options["format_"]
    if kind is not None and not options["memory_only"]:
        session.refuse("--format only works with --memory-only")
    if kind is not None and kind not in DUMP_FORMATS:
        session.refuse(
            f"format '{kind}' is not supported, expecting 'kdump-zlib', 'kdump-lzo', "
            "'kdump-snappy', 'win-dmp' or 'elf'",
        )
    if options["memory_only"]:
        kind = kind or "elf"

    async def work(host: Host, found: Domain) -> None:
        del host
        flags = {name: options[name] for name in ("live", "crash", "reset")}
        await found.dump(_absolute(file), kind=kind, **flags)

    session.on(domain, work, failing=f"Failed to core dump domain '{domain}' to {file}")
    session.done(f"Domain '{domain}' dumped to {file}")
