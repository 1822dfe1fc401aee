"""Verbs that show what disks and interfaces have done."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import click

from hvcore.cli.session import domain_argument

if TYPE_CHECKING:
    from hvcore.cli.session import Session
    from hvcore.domain import Domain
    from hvcore.host import Host

_BLOCK: Final = {
    "rd_req": "read_requests",
    "rd_bytes": "read_bytes",
    "wr_req": "write_requests",
    "wr_bytes": "write_bytes",
    "errs": "errors",
}
_INTERFACE: Final = {
    "rx_bytes": "rx_bytes",
    "rx_packets": "rx_packets",
    "rx_errs": "rx_errors",
    "rx_drop": "rx_drops",
    "tx_bytes": "tx_bytes",
    "tx_packets": "tx_packets",
    "tx_errs": "tx_errors",
    "tx_drop": "tx_drops",
}
"""Figures by virsh's name, in virsh's order."""


def _show(session: Session, device: str, names: dict[str, str], found: Any) -> None:
    """Print the figures that are counted."""
    figures = {shown: getattr(found, name) for shown, name in names.items()}
    counted = {shown: value for shown, value in figures.items() if value is not None}
    session.value(counted, "\n".join(f"{device} {name} {n}" for name, n in counted.items()))


@click.command()
@domain_argument
@click.argument("device")
@click.pass_obj
def domblkstat(session: Session, /, domain: str, device: str) -> None:
    """Show what a disk has done."""

    async def work(host: Host, found: Domain) -> Any:
        del host
        return await found.block_stats(device)

    _show(session, device, _BLOCK, session.on(domain, work))


@click.command()
@domain_argument
@click.argument("interface")
@click.pass_obj
def domifstat(session: Session, /, domain: str, interface: str) -> None:
    """Show what an interface has done."""

    async def work(host: Host, found: Domain) -> Any:
        del host
        return await found.interface_stats(interface)

    _show(session, interface, _INTERFACE, session.on(domain, work))
