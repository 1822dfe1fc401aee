"""The <features> section."""

from __future__ import annotations

from hvcore.xml.fields import Element
from hvcore.xml.fields import element


@element("features")
class Features(Element):
    """Hypervisor features of the machine."""
