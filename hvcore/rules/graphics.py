"""Rules of <graphics> that hold for every driver."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.errors import Issue
from hvcore.model.devices.graphics import DbusGraphics
from hvcore.model.devices.graphics import RdpGraphics
from hvcore.model.devices.graphics import SpiceGraphics
from hvcore.model.devices.graphics import VncGraphics
from hvcore.rules.audio import unknown_backend
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues

rules = Rules()

_NETWORKED: Final = ("vnc", "spice")
"""Displays for which a unix socket, or none at all, can be chosen."""


@rules.post_parse_early
def _forget_live_state(domain: Domain, ctx: Context) -> None:
    """Forget the ports and addresses of the last run, unless the domain is running."""
    if ctx.active:
        return
    for graphics in domain.devices.graphics:
        if isinstance(graphics, (VncGraphics, SpiceGraphics, RdpGraphics)):
            if graphics.autoport:
                graphics.port = None
            if graphics.autoport and isinstance(graphics, SpiceGraphics):
                graphics.tls_port = None
            for listen in graphics.listens:
                if listen.type == "network":
                    listen.address = None


@rules.post_parse_late
def _spice_without_ports(domain: Domain, ctx: Context) -> None:
    """Call it by its name when SPICE listens nowhere."""
    del ctx
    for graphics in domain.devices.graphics:
        if isinstance(graphics, SpiceGraphics) and graphics.listens:
            first = graphics.listens[0]
            ports = graphics.port or graphics.tls_port or graphics.autoport
            if first.type == "address" and not ports:
                first.address = None
                first.type = "none"


@rules.check(VncGraphics, SpiceGraphics, RdpGraphics)
def _listens(domain: Domain, device: Any, ctx: Context) -> Issues:
    """Refuse listens that the kind of display does not know."""
    del domain, ctx
    for listen in device.listens:
        if listen.type == "network" and not listen.network:
            yield Issue.xml("'network' attribute is required for listen type 'network'")
        elif listen.type in ("socket", "none") and device.type not in _NETWORKED:
            yield Issue.unsupported(
                f"listen type '{listen.type}' is not available for graphics type '{device.type}'"
            )


@rules.check(VncGraphics)
def _audio(domain: Domain, device: VncGraphics, ctx: Context) -> Issues:
    """Require the backend whose sound clients hear."""
    del ctx
    issue = unknown_backend(domain, device.audio)
    if issue is not None:
        yield issue


@rules.check(DbusGraphics)
def _address(domain: Domain, device: DbusGraphics, ctx: Context) -> Issues:
    """Refuse a bus where clients connect directly."""
    del domain, ctx
    if device.p2p and device.bus_address is not None:
        yield Issue.xml("D-Bus p2p with an address is not supported")
