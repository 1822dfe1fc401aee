"""The <resource> section."""

from __future__ import annotations

from hvcore.xml.fields import Element
from hvcore.xml.fields import element


@element("resource")
class Resource(Element):
    """Cgroup partition and fibre channel identity."""
