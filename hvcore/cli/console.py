"""The console verb: a terminal on a serial line of the guest."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING
from typing import Final

import click

from hvcore.cli.session import domain_argument

if TYPE_CHECKING:
    from hvcore.cli.session import Session
    from hvcore.domain import Domain
    from hvcore.host import Host

_ESCAPE: Final = 0x1D
"""Control and ``]``, virsh's way out."""


@click.command()
@domain_argument
@click.option("--devname", help="alias of the serial or console device")
@click.pass_obj
def console(session: Session, domain: str, *, devname: str | None) -> None:
    """Connect to the guest's console; Ctrl+] ends it."""

    async def work(host: Host, found: Domain) -> None:
        del host
        await attach(session, found, devname)

    session.on(domain, work, failing=f"Failed to open console for domain '{domain}'")


async def attach(session: Session, domain: Domain, devname: str | None) -> None:
    """Join this terminal with the pty of a console until it closes or Ctrl+] is typed.

    :raises HvError: the domain has no such console.
    """
    path = await domain.console(devname)
    if not session.quiet:
        click.echo(f"Connected to domain '{domain.name}'", err=True)
        click.echo("Escape character is ^] (Ctrl + ])", err=True)
    line = os.open(path, os.O_RDWR | os.O_NOCTTY)
    try:
        await _join(line)
    finally:
        os.close(line)


async def _join(line: int) -> None:
    import asyncio  # noqa: PLC0415 - only while connected
    import termios  # noqa: PLC0415
    import tty  # noqa: PLC0415

    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    keys, screen = sys.stdin.fileno(), sys.stdout.fileno()
    before = termios.tcgetattr(keys) if os.isatty(keys) else None

    def from_guest() -> None:
        try:
            data = os.read(line, 4096)
        except OSError:  # the other end of a pty went away
            data = b""
        if data:
            os.write(screen, data)
        else:
            ended.set()

    def from_user() -> None:
        data = os.read(keys, 4096)
        head, escape, _ = data.partition(bytes([_ESCAPE]))
        if head:
            os.write(line, head)
        if escape or not data:
            ended.set()

    loop.add_reader(line, from_guest)
    loop.add_reader(keys, from_user)
    try:
        if before is not None:
            tty.setraw(keys)
        await ended.wait()
    finally:
        loop.remove_reader(line)
        loop.remove_reader(keys)
        if before is not None:
            termios.tcsetattr(keys, termios.TCSADRAIN, before)
