"""The <seclabel> section."""

from __future__ import annotations

from hvcore.xml.fields import Element
from hvcore.xml.fields import element


@element("seclabel")
class Seclabel(Element):
    """Security label of the domain."""
