"""Whether there is USB at all, which the controllers of a document decide."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import ErrorClass
from hvcore.errors import Issue
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context

rules = Rules()


@rules.post_parse_early
def _controllers(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Refuse USB controllers beside one that says there is no USB, and companions on their own."""
    del ctx
    usb = [each for each in domain.devices.controllers if each.type == "usb"]
    if len(usb) > 1 and any(each.model == "none" for each in usb):
        yield Issue(
            "Can't add another USB controller: USB is disabled for this domain",
            ErrorClass.XML_DETAIL,
            line=usb[1].line,
        )
    elif usb and usb[0].model != "none" and all(c.master_startport is not None for c in usb):
        yield Issue("No master USB controller specified", ErrorClass.XML_DETAIL, line=usb[0].line)


@rules.post_parse_early
def _devices(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Refuse USB devices where there is no USB."""
    del ctx
    devices = domain.devices
    if not any(each.type == "usb" and each.model == "none" for each in devices.controllers):
        return
    for each in devices.inputs:
        if each.bus == "usb":
            yield Issue.unsupported(
                "Can't add USB input device. USB bus is disabled", line=each.line
            )
    for hostdev in devices.hostdevs:
        if hostdev.type == "usb":
            yield Issue.unsupported(
                "Can't add host USB device: USB is disabled in this host", line=hostdev.line
            )
    for hub in devices.hubs:
        if hub.type == "usb":
            yield Issue.unsupported(
                "Can't add USB hub: USB is disabled for this domain", line=hub.line
            )
