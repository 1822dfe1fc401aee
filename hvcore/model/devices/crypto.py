"""The <crypto> element."""

from __future__ import annotations

from typing import Literal

from hvcore.model.devices.base import VirtioDevice
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import UINT
from hvcore.xml.fields import attr
from hvcore.xml.fields import element

CryptoModel = Literal["virtio"]
CryptoType = Literal["qemu"]
CryptoBackend = Literal["builtin", "lkcf"]


@element("crypto")
class Crypto(VirtioDevice):
    """A cryptographic accelerator."""

    model: CryptoModel = attr("@model", ENUM(CryptoModel), required=True)
    type: CryptoType = attr("@type", ENUM(CryptoType), required=True)
    backend: CryptoBackend = attr(
        "backend/@model",
        ENUM(CryptoBackend),
        required=True,
        missing="only one crypto backend is supported",
    )
    queues: int | None = attr("backend/@queues", UINT, omit=(0,))
