"""The <clock> section."""

from __future__ import annotations

from hvcore.xml.fields import Element
from hvcore.xml.fields import element


@element("clock")
class Clock(Element):
    """Guest time and its timers."""
