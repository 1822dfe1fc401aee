"""The <redirdev>, <redirfilter> element."""

from __future__ import annotations

from hvcore.model.devices.base import Device
from hvcore.xml.fields import element


@element("redirdev")
class Redirdev(Device):
    """A redirdev."""


@element("redirfilter")
class RedirFilter(Device):
    """A redirfilter."""
