"""The <filesystem> element."""

from __future__ import annotations

from hvcore.model.devices.base import Device
from hvcore.xml.fields import element


@element("filesystem")
class Filesystem(Device):
    """A filesystem."""
