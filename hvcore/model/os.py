"""The <os>, <idmap> section."""

from __future__ import annotations

from hvcore.xml.fields import Element
from hvcore.xml.fields import element


@element("os")
class Os(Element):
    """Machine, firmware, kernel and boot order."""


@element("idmap")
class IdMap(Element):
    """User namespace of containers."""
