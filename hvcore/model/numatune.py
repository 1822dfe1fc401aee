"""The <numatune> section."""

from __future__ import annotations

from hvcore.xml.fields import Element
from hvcore.xml.fields import element


@element("numatune")
class NumaTune(Element):
    """Host NUMA nodes that guest memory comes from."""
