"""The <serial>, <parallel>, <console>, <channel> element."""

from __future__ import annotations

from hvcore.model.devices.base import Device
from hvcore.xml.fields import element


@element("serial")
class Serial(Device):
    """A serial."""


@element("parallel")
class Parallel(Device):
    """A parallel."""


@element("console")
class Console(Device):
    """A console."""


@element("channel")
class Channel(Device):
    """A channel."""
