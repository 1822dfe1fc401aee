"""The <sysinfo> section."""

from __future__ import annotations

from hvcore.xml.fields import Element
from hvcore.xml.fields import element


@element("sysinfo")
class SysInfo(Element):
    """SMBIOS and fw_cfg contents."""
