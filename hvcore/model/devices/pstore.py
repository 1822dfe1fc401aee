"""The <pstore> element."""

from __future__ import annotations

from typing import Literal

from hvcore.model.devices.base import Device
from hvcore.xml.codecs import ENUM
from hvcore.xml.fields import attr
from hvcore.xml.fields import element
from hvcore.xml.fields import scaled
from hvcore.xml.fields import text

PstoreBackend = Literal["acpi-erst"]


@element("pstore")
class Pstore(Device):
    """Storage in which the guest kernel leaves what it has to say before it dies."""

    backend: PstoreBackend = attr("@backend", ENUM(PstoreBackend), required=True)
    path: str | None = text("path", doc="file on the host")
    size: int | None = scaled("size", doc="KiB, a power of two")
