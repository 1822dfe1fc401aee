"""Rules of addresses that hold for every driver."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.model import devices
from hvcore.model.devices import Devices
from hvcore.model.devices.base import Device
from hvcore.model.devices.base import UnassignedAddress
from hvcore.model.devices.hostdev import Hostdev
from hvcore.rules.base import Rules
from hvcore.xml.fields import fields_of

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues

rules = Rules()

_CLASSES = {
    name: spec.element_class() for name, spec in fields_of(Devices) if spec.kind == "children"
}

ADDRESSED: Final = tuple(cls for name, cls in _CLASSES.items() if name in devices.ADDRESSED)
"""The classes of all devices that may have an address."""


@rules.check(*(cls for cls in ADDRESSED if cls is not Hostdev))
def _unassigned(domain: Domain, device: Device, ctx: Context) -> Issues:
    """Refuse to keep anything but host devices out of the guest."""
    del domain, ctx
    if type(device.address) is UnassignedAddress:
        message = "address of type 'unassigned' is supported only for hostdevs"
        return [Issue.unsupported(message, line=device.line)]
    return ()
