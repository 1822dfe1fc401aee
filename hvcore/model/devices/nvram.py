"""The <nvram> element below <devices>."""

from __future__ import annotations

from hvcore.model.devices.base import Device
from hvcore.xml.fields import element


@element("nvram", paired=True)
class Nvram(Device):
    """The memory in which pSeries firmware keeps its variables."""
