"""What the test driver fills in beside libvirt's rules for all hypervisors."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from hvcore.model.devices.video import Video
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context

RULES = Rules()


@RULES.post_parse(Video)
def _model(domain: Domain, device: Video, ctx: Context) -> None:
    """Choose a model, as ``testDomainDevicesDefPostParse`` of libvirt does."""
    del ctx
    assert domain.os is not None  # refused without
    if device.type is None:
        if domain.os.type in ("xen", "linux"):
            device.type = "xen"
        else:
            device.type = "vga" if (domain.os.arch or "").startswith("ppc64") else "cirrus"


@RULES.post_parse_late
def _names_on_host(domain: Domain, ctx: Context) -> None:
    """Name interfaces on the host, as ``testDomainGenerateIfnames`` of libvirt does."""
    del ctx
    interfaces = domain.devices.interfaces if domain.devices is not None else []
    taken = {each.target for each in interfaces}
    free = (name for number in itertools.count() if (name := f"testnet{number}") not in taken)
    for interface in interfaces:
        interface.target = interface.target or next(free)
