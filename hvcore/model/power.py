"""The <pm>, <perf> section."""

from __future__ import annotations

from hvcore.xml.fields import Element
from hvcore.xml.fields import element


@element("pm")
class PowerManagement(Element):
    """Suspend states the firmware offers."""


@element("perf")
class Perf(Element):
    """Performance events to count."""
