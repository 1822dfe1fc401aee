"""The <lease> element."""

from __future__ import annotations

from hvcore.model.devices.base import Device
from hvcore.xml.fields import element


@element("lease")
class Lease(Device):
    """A lease."""
