"""The <vsock> element."""

from __future__ import annotations

from typing import ClassVar
from typing import Literal

from hvcore.model.devices.base import VIRTIO_OPTIONS
from hvcore.model.devices.base import VirtioDevice
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import POSITIVE
from hvcore.xml.codecs import YESNO
from hvcore.xml.fields import attr
from hvcore.xml.fields import element

VsockModel = Literal["virtio", "virtio-transitional", "virtio-non-transitional"]


@element("vsock")
class Vsock(VirtioDevice):
    """Sockets between host and guest."""

    trailing: ClassVar[tuple[str, ...]] = VIRTIO_OPTIONS

    model: VsockModel | None = attr("@model", ENUM(VsockModel))
    auto_cid: bool | None = attr("cid/@auto", YESNO, doc="the host chooses the identifier")
    guest_cid: int | None = attr("cid/@address", POSITIVE, doc="identifier of the guest, from 3")
