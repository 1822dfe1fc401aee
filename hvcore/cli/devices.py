"""Verbs that add, take away and change single devices."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

import click

from hvcore.cli.session import domain_argument
from hvcore.cli.session import read_document
from hvcore.cli.tuning import scope
from hvcore.cli.tuning import scope_options

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from collections.abc import Callable

    from hvcore.cli.session import Session
    from hvcore.domain import Domain
    from hvcore.host import Host

_patience = click.option(
    "--timeout",
    type=float,
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="how long the guest may take to let the device go",
)


def _scope_options(command: Any) -> Any:
    """Add the options of :func:`~hvcore.cli.tuning.scope_options` and virsh's ``--persistent``."""
    command = click.option(
        "--persistent", is_flag=True, help="the next start, and what runs if it does"
    )(command)
    return scope_options(command)


async def _scope(options: dict[str, Any], domain: Domain) -> dict[str, bool | None]:
    """Return what is meant, as the API takes it.

    :raises UsageError: ``--current`` beside one of the others.
    """
    if options["persistent"]:
        if options["current"]:
            raise click.UsageError("Options --persistent and --current are mutually exclusive")
        return {"config": True, "live": True if domain.is_active else options["live"] or None}
    return scope(options)


def _on(
    session: Session,
    domain: str,
    document: bytes,
    failing: str,
    work: Callable[[Domain], Awaitable[Any]],
) -> Any:
    """Do ``work`` on a domain; errors show the line of the device's document."""

    async def lookup(host: Host, found: Domain) -> Any:
        del host
        return await work(found)

    return session.on(domain, lookup, failing=failing, source=document)


@click.command()
@domain_argument
@click.argument("file", type=click.Path())
@_scope_options
@click.pass_obj
def attach_device(session: Session, /, domain: str, file: str, **options: Any) -> None:
    """Add the device that a file describes."""
    document = read_document(file, session)

    async def work(found: Domain) -> None:
        await found.attach_device(document, **await _scope(options, found))

    _on(session, domain, document, f"Failed to attach device from {file}", work)
    session.done("Device attached successfully\n")


@click.command()
@domain_argument
@click.argument("file", type=click.Path())
@_scope_options
@_patience
@click.pass_obj
def detach_device(session: Session, /, domain: str, file: str, **options: Any) -> None:
    """Take away the device that a file describes."""
    document = read_document(file, session)

    async def work(found: Domain) -> bool:
        where = await _scope(options, found)
        return await found.detach_device(document, **where, within=options["timeout"])

    gone = _on(session, domain, document, f"Failed to detach device from {file}", work)
    _tell_detached(session, gone=gone)


@click.command()
@domain_argument
@click.argument("alias")
@scope_options
@_patience
@click.pass_obj
def detach_device_alias(session: Session, /, domain: str, alias: str, **options: Any) -> None:
    """Take away the device with an alias."""
    where = scope(options)

    async def work(found: Domain) -> bool:
        return await found.detach_device_alias(alias, **where, within=options["timeout"])

    gone = _on(session, domain, b"", f"Failed to detach device with alias {alias}", work)
    _tell_detached(session, gone=gone)


def _tell_detached(session: Session, *, gone: bool) -> None:
    if gone:
        session.done("Device detached successfully\n", gone=True)
    else:
        # The guest has not answered; the event device-removed tells when it did.
        session.done("Device detach request sent successfully\n", gone=False)


@click.command()
@domain_argument
@click.argument("file", type=click.Path())
@_scope_options
@click.option("--force", is_flag=True, help="open a tray that the guest keeps locked")
@click.pass_obj
def update_device(session: Session, /, domain: str, file: str, **options: Any) -> None:
    """Change a device to what a file describes."""
    document = read_document(file, session)

    async def work(found: Domain) -> None:
        where = await _scope(options, found)
        await found.update_device(document, **where, force=options["force"])

    _on(session, domain, document, f"Failed to update device from {file}", work)
    session.done("Device updated successfully\n")
