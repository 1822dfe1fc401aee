"""The <resource> section."""

from __future__ import annotations

from hvcore.xml.codecs import NONEMPTY
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import element
from hvcore.xml.fields import text


@element("resource", omit_empty=True)
class Resource(Element):
    """Where the guest's processes are accounted."""

    partition: str | None = text("partition", NONEMPTY, doc="absolute path of a control group")
    appid: str | None = attr(
        "fibrechannel/@appid", NONEMPTY, doc="tag of the guest's Fibre Channel traffic"
    )
