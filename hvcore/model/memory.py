"""The <memtune>, <memoryBacking> section."""

from __future__ import annotations

from hvcore.xml.fields import Element
from hvcore.xml.fields import element


@element("memtune")
class MemoryTuning(Element):
    """Hard and soft limits of host memory."""


@element("memoryBacking")
class MemoryBacking(Element):
    """Where guest memory comes from."""
