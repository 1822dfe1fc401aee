"""The <hub> element."""

from __future__ import annotations

from typing import Literal

from hvcore.model.devices.base import Device
from hvcore.xml.codecs import ENUM
from hvcore.xml.fields import attr
from hvcore.xml.fields import element

HubType = Literal["usb"]


@element("hub")
class Hub(Device):
    """A USB hub with eight ports."""

    type: HubType = attr(
        "@type",
        ENUM(HubType),
        required=True,
        missing="internal error: missing hub device type",
        refused="unsupported configuration: unknown hub device type '{value}'",
    )
