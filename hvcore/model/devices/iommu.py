"""The <iommu> element."""

from __future__ import annotations

from typing import Literal

from hvcore.model.devices.base import Device
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import ONOFF
from hvcore.xml.codecs import UINT
from hvcore.xml.fields import attr
from hvcore.xml.fields import element

IommuModel = Literal["intel", "smmuv3", "virtio"]


@element("iommu")
class Iommu(Device):
    """An IOMMU of the guest."""

    model: IommuModel = attr("@model", ENUM(IommuModel), required=True)
    intremap: bool | None = attr("driver/@intremap", ONOFF, doc="interrupt remapping")
    caching_mode: bool | None = attr(
        "driver/@caching_mode", ONOFF, doc="needed for assigned devices"
    )
    eim: bool | None = attr("driver/@eim", ONOFF, doc="extended interrupt mode, for many vCPUs")
    iotlb: bool | None = attr("driver/@iotlb", ONOFF, doc="vhost has a translation cache")
    aw_bits: int | None = attr("driver/@aw_bits", UINT, omit=(0,), doc="address width in bits")
    dma_translation: bool | None = attr("driver/@dma_translation", ONOFF)
    pci_bus: int | None = attr("driver/@pciBus", UINT, doc="smmuv3: controller whose bus it serves")
