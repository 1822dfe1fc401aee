"""Verbs that change the size of memory and disks, and the one for a guest that hangs."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

import click

from hvcore.cli.session import domain_argument
from hvcore.cli.tuning import scope
from hvcore.cli.tuning import scope_options
from hvcore.cli.words import malformed
from hvcore.errors import ErrorClass
from hvcore.errors import HvError

if TYPE_CHECKING:
    from hvcore.cli.session import Session
    from hvcore.domain import Domain
    from hvcore.host import Host


class Size(click.ParamType[int]):
    """A size as virsh takes it: a number with a unit, KiB without one; bytes when read."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes."""
        from hvcore.xml.codecs import unit_factor  # noqa: PLC0415 - only for verbs with a size

        text = str(value).strip()
        digits = text.rstrip("".join(set(text) - set("0123456789")))
        unit = text[len(digits) :] or "KiB"
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
            malformed(text, param, ctx, "Scaled numeric")
        try:
            return int(digits) * unit_factor(unit)
        except ValueError:
            why = f"invalid argument: unknown suffix '{unit}'"
            malformed(text, param, ctx, "Scaled numeric", why)


def _check_size(session: Session, size: int, failing: str = "") -> None:
    """Refuse to leave no memory: libvirt does so before it asks any driver, and names no class."""
    if size == 0:
        error = HvError(
            "memory in virDomainSetMemoryFlags must not be zero", kind=ErrorClass.SYSTEM
        )
        session.fail(error, failing=failing)


@click.command()
@domain_argument
@click.argument("size", type=Size())
@scope_options
@click.pass_obj
def setmem(session: Session, /, domain: str, size: int, **options: Any) -> None:
    """Change how much of its memory a guest has."""
    where = scope(options)
    _check_size(session, size)

    async def work(host: Host, found: Domain) -> None:
        del host
        await found.set_memory(-(-size // 1024), **where)

    session.on(domain, work)
    session.done("")


@click.command()
@domain_argument
@click.argument("size", type=Size())
@scope_options
@click.pass_obj
def setmaxmem(session: Session, /, domain: str, size: int, **options: Any) -> None:
    """Change how much memory a guest has from its next start on."""
    where, failing = scope(options), "Unable to change MaxMemorySize"
    _check_size(session, size, failing)

    async def work(host: Host, found: Domain) -> None:
        del host
        await found.set_max_memory(-(-size // 1024), **where)

    session.on(domain, work, failing=failing)
    session.done("")


@click.command()
@domain_argument
@click.argument("path")
@click.argument("size", type=Size())
@click.pass_obj
def blockresize(session: Session, /, domain: str, path: str, size: int) -> None:
    """Change the size of a disk while the guest runs."""

    async def work(host: Host, found: Domain) -> None:
        del host
        await found.resize_disk(path, size)

    session.on(domain, work, failing=f"Failed to resize block device '{path}'")
    session.done(f"Block device '{path}' is resized")


@click.command()
@domain_argument
@click.pass_obj
def inject_nmi(session: Session, /, domain: str) -> None:
    """Send the guest a non-maskable interrupt."""

    async def work(host: Host, found: Domain) -> None:
        del host
        await found.inject_nmi()

    session.on(domain, work)
    session.done("")
