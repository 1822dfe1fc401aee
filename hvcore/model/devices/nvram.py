"""The <nvram> element."""

from __future__ import annotations

from hvcore.model.devices.base import Device
from hvcore.xml.fields import element


@element("nvram")
class Nvram(Device):
    """A nvram."""
