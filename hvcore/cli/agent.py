"""Verbs that ask the agent in a guest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from typing import Any

import click

from hvcore.cli.session import domain_argument

if TYPE_CHECKING:
    from hvcore.agent import Filesystem
    from hvcore.agent import GuestInterface
    from hvcore.cli.session import Session
    from hvcore.domain import Domain
    from hvcore.host import Host


@click.command("qemu-agent-command")
@domain_argument
@click.argument("command", nargs=-1, required=True)
@click.option("--timeout", type=int, help="seconds to wait for the answer; 5 unless given")
@click.option("--block", is_flag=True, help="wait for the answer for ever")
@click.option("--pretty", is_flag=True, help="show the answer in several lines")
@click.pass_obj
def qemu_agent_command(
    session: Session, /, domain: str, command: tuple[str, ...], **options: Any
) -> None:
    """Give the agent in a guest a command, and show its answer."""
    timeout = options["timeout"]
    if timeout is not None and timeout < 1:
        session.refuse("timeout must be positive")
    if timeout is not None and options["block"]:
        session.refuse("timeout, async and block options are exclusive")
    within = None if options["block"] else timeout or 5

    async def work(host: Host, found: Domain) -> str:
        del host
        return await found.agent_command(" ".join(command), within=within)

    answer = session.on(domain, work)
    if options["pretty"]:
        answer = json.dumps(json.loads(answer), indent=2)
    click.echo(answer + "\n")


@click.command()
@domain_argument
@click.pass_obj
def domfsinfo(session: Session, domain: str) -> None:
    """Show the file systems that are mounted in a guest."""

    async def work(host: Host, found: Domain) -> list[Filesystem]:
        del host
        return await found.filesystems()

    infos = session.on(domain, work, failing="Unable to get filesystem information")
    if session.as_json:
        import attrs  # noqa: PLC0415 - only to print

        session.value([attrs.asdict(info) for info in infos], "")
    elif not infos:
        session.done("No filesystems are mounted in the domain")
    else:
        rows = [[info.mountpoint, info.name, info.type, ",".join(info.disks)] for info in infos]
        session.table(["Mountpoint", "Name", "Type", "Target"], rows)


@click.command()
@domain_argument
@click.option("--mountpoint", multiple=True, help="only these; all unless given")
@click.argument("mountpoints", nargs=-1)
@click.pass_obj
def domfsfreeze(
    session: Session, domain: str, *, mountpoint: tuple[str, ...], mountpoints: tuple[str, ...]
) -> None:
    """Have a guest hold its file systems still."""

    async def work(host: Host, found: Domain) -> int:
        del host
        return await found.freeze([*mountpoint, *mountpoints] or None)

    count = session.on(domain, work, failing="Unable to freeze filesystems")
    session.done(f"Froze {count} filesystem(s)", count=count)


@click.command()
@domain_argument
@click.pass_obj
def domfsthaw(session: Session, domain: str) -> None:
    """Let a guest write to its file systems again."""

    async def work(host: Host, found: Domain) -> int:
        del host
        return await found.thaw()

    count = session.on(domain, work, failing="Unable to thaw filesystems")
    session.done(f"Thawed {count} filesystem(s)", count=count)


@click.command()
@domain_argument
@click.option("--minimum", type=int, default=0, help="bytes of the smallest range to be told of")
@click.option("--mountpoint", help="only this one, which no driver can")
@click.pass_obj
def domfstrim(session: Session, domain: str, *, minimum: int, mountpoint: str | None) -> None:
    """Have a guest tell its disks which blocks it does not use."""
    if mountpoint is not None:
        session.refuse("Specifying mount point is not supported for now")

    async def work(host: Host, found: Domain) -> None:
        del host
        await found.trim(minimum=minimum)

    session.on(domain, work, failing="Unable to invoke fstrim")
    session.done("")


@click.command()
@domain_argument
@click.argument("interface", required=False)
@click.option("--full", is_flag=True, help="show names and MAC addresses in each line")
@click.option("--source", default="agent", help="agent: what the guest says")
@click.pass_obj
def domifaddr(
    session: Session, domain: str, *, interface: str | None, full: bool, source: str
) -> None:
    """Show the addresses of a guest's network interfaces."""
    _check_source(session, source)

    async def work(host: Host, found: Domain) -> list[GuestInterface]:
        del host
        return await found.guest_interfaces()

    found = session.on(domain, work, failing="Failed to query for interfaces addresses")
    shown = [each for each in found if interface in (None, each.name)]
    if session.as_json:
        import attrs  # noqa: PLC0415 - only to print

        session.value([attrs.asdict(each) for each in shown], "")
        return
    lines = [f" {'Name':<10} {'MAC address':<20} {'Protocol':<8}     Address", "-" * 79]
    for each in shown:
        lines += _addresses(each, full=full)
    click.echo("\n".join(lines) + "\n")


def _check_source(session: Session, source: str) -> None:
    """Refuse what only a network or the host's tables could tell."""
    if source in ("lease", "arp"):
        session.refuse(f"data source '{source}' is not supported, only 'agent'")
    if source != "agent":
        session.refuse(f"Unknown data source '{source}'")


def _addresses(interface: GuestInterface, *, full: bool) -> list[str]:
    if not interface.addresses:
        return [f" {interface.name:<10} {interface.mac or 'N/A':<17}    {'N/A':<12} N/A"]
    lines = []
    for number, address in enumerate(interface.addresses):
        name, mac = (interface.name, interface.mac or "") if full or not number else ("-", "-")
        text = f"{address.type:<12} {address.address}/{address.prefix}"
        lines.append(f" {name:<10} {mac:<17}    {text}")
    return lines


@click.command()
@domain_argument
@click.option("--source", default="agent", help="agent: what the guest says")
@click.pass_obj
def domhostname(session: Session, domain: str, *, source: str) -> None:
    """Show the name that a guest has given itself."""
    _check_source(session, source)

    async def work(host: Host, found: Domain) -> str:
        del host
        return await found.hostname()

    name = session.on(domain, work, failing="failed to get hostname")
    session.value({"hostname": name}, name)


@click.command("set-user-password")
@domain_argument
@click.argument("user")
@click.argument("password")
@click.option("--encrypted", is_flag=True, help="the password is what the guest keeps of it")
@click.pass_obj
def set_user_password(
    session: Session, domain: str, *, user: str, password: str, encrypted: bool
) -> None:
    """Change the password of a user of a guest."""

    async def work(host: Host, found: Domain) -> None:
        del host
        await found.set_user_password(user, password, encrypted=encrypted)

    session.on(domain, work)
    session.done(f"Password set successfully for {user} in {domain}")


def _types(command: Any) -> Any:
    for name in ("load", "interface", "disk", "filesystem", "hostname", "timezone", "os", "user"):
        command = click.option(f"--{name}", is_flag=True, help=f"facts about {name}")(command)
    return command


@click.command()
@domain_argument
@_types
@click.pass_obj
def guestinfo(session: Session, /, domain: str, **options: bool) -> None:
    """Show facts about a guest."""
    wanted = [name for name, given in options.items() if given]

    async def work(host: Host, found: Domain) -> dict[str, Any]:
        del host
        return await found.guest_info(wanted)

    facts = session.on(domain, work)
    lines = (f"{name:<20}: {_text(value)}" for name, value in facts.items())
    session.value(facts, "\n".join(lines) + "\n")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:f}" if isinstance(value, float) else str(value)
