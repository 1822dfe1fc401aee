"""The <cputune> section."""

from __future__ import annotations

from hvcore.xml.fields import Element
from hvcore.xml.fields import element


@element("cputune")
class CpuTune(Element):
    """Shares, periods and pinning."""
