"""The <iothread>, <defaultiothread>, <throttlegroup> section."""

from __future__ import annotations

from hvcore.xml.fields import Element
from hvcore.xml.fields import element


@element("iothread")
class IOThread(Element):
    """One I/O thread below <iothreadids>."""


@element("defaultiothread")
class DefaultIOThread(Element):
    """Limits of the main loop's pool."""


@element("throttlegroup")
class ThrottleGroup(Element):
    """A group of disks with common limits."""
