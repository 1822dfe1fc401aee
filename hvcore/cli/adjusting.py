"""Verbs for I/O threads, for limits that disks share, and for guests that sleep."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

import click

from hvcore.cli.session import domain_argument
from hvcore.cli.tuning import scope
from hvcore.cli.tuning import scope_options
from hvcore.cli.words import Number

if TYPE_CHECKING:
    from hvcore.cli.session import Session
    from hvcore.domain import Domain
    from hvcore.host import Host

_POLLING = {
    "poll_max_ns": "poll_max",
    "poll_grow": "poll_grow",
    "poll_shrink": "poll_shrink",
    "thread_pool_min": "thread_pool_min",
    "thread_pool_max": "thread_pool_max",
}
"""Options of virsh, and what we call them."""

# -- I/O threads ----------------------------------------------------------------------------------


def _checked(session: Session, number: int) -> int:
    if number <= 0:
        session.refuse(f"Invalid IOThread id value: '{number}'")
    return number


@click.command()
@domain_argument
@click.argument("id_", metavar="ID", type=Number(signed=True))
@scope_options
@click.pass_obj
def iothreadadd(session: Session, /, domain: str, id_: int, **options: Any) -> None:
    """Add an I/O thread."""
    number, where = _checked(session, id_), scope(options)

    async def work(host: Host, found: Domain) -> None:
        del host
        await found.add_iothread(number, **where)

    session.on(domain, work)
    session.done("")


@click.command()
@domain_argument
@click.argument("id_", metavar="ID", type=Number(signed=True))
@scope_options
@click.pass_obj
def iothreaddel(session: Session, /, domain: str, id_: int, **options: Any) -> None:
    """Remove an I/O thread."""
    number, where = _checked(session, id_), scope(options)

    async def work(host: Host, found: Domain) -> None:
        del host
        await found.remove_iothread(number, **where)

    session.on(domain, work)
    session.done("")


@click.command()
@domain_argument
@click.argument("id_", metavar="ID", type=Number(signed=True))
@click.option("--poll-max-ns", type=Number(), help="nanoseconds for which it polls at most")
@click.option("--poll-grow", type=Number(), help="how much longer it polls if that was too short")
@click.option("--poll-shrink", type=Number(), help="how much shorter if that was too long")
@click.option("--thread-pool-min", type=Number(), help="workers that it always keeps")
@click.option("--thread-pool-max", type=Number(), help="workers that it has at most")
@scope_options
@click.pass_obj
def iothreadset(session: Session, /, domain: str, id_: int, **options: Any) -> None:
    """Let an I/O thread work in another way."""
    number, where = _checked(session, id_), scope(options)
    settings = {ours: options[name] for name, ours in _POLLING.items()}
    if all(value is None for value in settings.values()):
        session.refuse("Not enough arguments passed, nothing to set")

    async def work(host: Host, found: Domain) -> None:
        del host
        await found.set_iothread(number, **settings, **where)

    session.on(domain, work)
    session.done("")


# -- limits ---------------------------------------------------------------------------------------

_WAYS = ("total", "read", "write")
_LIMITS = (
    *(f"{way}_{what}_sec" for what in ("bytes", "iops") for way in _WAYS),
    *(f"{way}_{what}_sec_max" for what in ("bytes", "iops") for way in _WAYS),
    "size_iops_sec",
    *(f"{way}_{what}_sec_max_length" for what in ("bytes", "iops") for way in _WAYS),
)
"""In virsh's order."""


def _limit_options(command: Any) -> Any:
    for name in reversed(_LIMITS):
        command = click.option(f"--{name.replace('_', '-')}", type=Number(wide=True))(command)
    return command


@click.command()
@domain_argument
@click.argument("group_name")
@_limit_options
@scope_options
@click.pass_obj
def domthrottlegroupset(session: Session, /, domain: str, group_name: str, **options: Any) -> None:
    """Make a group of limits that disks share, or change it; 0 is no limit."""
    where = scope(options)
    limits = {name: options[name] for name in _LIMITS if options[name] is not None}

    async def work(host: Host, found: Domain) -> None:
        del host
        await found.set_throttle_group(group_name, limits, **where)

    session.on(domain, work, failing="Unable to set throttle group")
    session.done("Throttle group set successfully")


@click.command()
@domain_argument
@click.argument("group_name")
@scope_options
@click.pass_obj
def domthrottlegroupdel(session: Session, /, domain: str, group_name: str, **options: Any) -> None:
    """Remove a group of limits."""
    where = scope(options)

    async def work(host: Host, found: Domain) -> None:
        del host
        await found.remove_throttle_group(group_name, **where)

    session.on(domain, work)
    session.done("Throttle group deleted successfully")


async def _groups(found: Domain, *, inactive: bool) -> dict[str, dict[str, int]]:
    return await found.throttle_groups(config=True if inactive else None)


@click.command()
@domain_argument
@click.argument("group_name")
@click.option("--inactive", is_flag=True, help="of the next start")
@click.pass_obj
def domthrottlegroupinfo(session: Session, domain: str, group_name: str, *, inactive: bool) -> None:
    """Show the limits of a group."""

    async def work(host: Host, found: Domain) -> dict[str, int]:
        del host
        return (await _groups(found, inactive=inactive)).get(group_name, {})

    limits = session.on(domain, work)
    lines = [f"{name:<15}: {limits[name]}" for name in _LIMITS if name in limits]
    session.value(limits, "\n".join(lines))


@click.command()
@domain_argument
@click.option("--inactive", is_flag=True, help="of the next start")
@click.pass_obj
def domthrottlegrouplist(session: Session, domain: str, *, inactive: bool) -> None:
    """List the groups of limits."""

    async def work(host: Host, found: Domain) -> list[str]:
        del host
        return list(await _groups(found, inactive=inactive))

    names = session.on(domain, work)
    if session.as_json:
        session.value(names, "")
    else:
        session.table(("Name",), [(name,) for name in names])


# -- sleep ----------------------------------------------------------------------------------------


@click.command()
@domain_argument
@click.argument("target")
@click.option("--duration", type=Number(), default=0, help="seconds after which it wakes up")
@click.pass_obj
def dompmsuspend(session: Session, domain: str, target: str, *, duration: int) -> None:
    """Let a guest sleep: mem, disk or hybrid."""
    if target not in ("mem", "disk", "hybrid"):
        session.refuse("Invalid target")

    async def work(host: Host, found: Domain) -> str:
        del host
        await found.pm_suspend(target, seconds=duration)  # type: ignore[arg-type] # checked above
        return found.name

    name = session.on(domain, work, failing=f"Domain '{domain}' could not be suspended")
    session.done(f"Domain '{name}' successfully suspended")


@click.command()
@domain_argument
@click.pass_obj
def dompmwakeup(session: Session, domain: str) -> None:
    """Wake a guest up."""

    async def work(host: Host, found: Domain) -> str:
        del host
        await found.pm_wakeup()
        return found.name

    name = session.on(domain, work, failing=f"Domain '{domain}' could not be woken up")
    session.done(f"Domain '{name}' successfully woken up")
