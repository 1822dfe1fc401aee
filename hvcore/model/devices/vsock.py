"""The <vsock> element."""

from __future__ import annotations

from hvcore.model.devices.base import Device
from hvcore.xml.fields import element


@element("vsock")
class Vsock(Device):
    """A vsock."""
