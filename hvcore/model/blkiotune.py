"""The <blkiotune> section."""

from __future__ import annotations

from hvcore.xml.fields import Element
from hvcore.xml.fields import element


@element("blkiotune")
class BlkioTune(Element):
    """Weights and limits of block I/O."""
