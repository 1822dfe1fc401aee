"""The <cpu> section."""

from __future__ import annotations

from hvcore.xml.fields import Element
from hvcore.xml.fields import element


@element("cpu")
class Cpu(Element):
    """Model, topology, features and NUMA cells of the guest's CPU."""
