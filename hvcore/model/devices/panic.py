"""The <panic> element."""

from __future__ import annotations

from typing import Literal

from hvcore.model.devices.base import Device
from hvcore.xml.codecs import ENUM
from hvcore.xml.fields import attr
from hvcore.xml.fields import element

PanicModel = Literal["isa", "pseries", "hyperv", "s390", "pvpanic"]


@element("panic")
class Panic(Device):
    """A channel on which the guest reports that it crashed."""

    model: PanicModel | None = attr(
        "@model",
        ENUM(PanicModel),
        refused="unsupported configuration: unknown panic model '{value}'",
    )
