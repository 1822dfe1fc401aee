"""The <controller> element."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import ClassVar
from typing import Final
from typing import Literal

from hvcore.model.devices.base import VirtioDevice
from hvcore.model.devices.storage import IOThreadMapping
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import INTEGER
from hvcore.xml.codecs import ONOFF
from hvcore.xml.codecs import STR
from hvcore.xml.codecs import UINT
from hvcore.xml.fields import attr
from hvcore.xml.fields import children
from hvcore.xml.fields import element
from hvcore.xml.fields import scaled
from hvcore.xml.fields import text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import FormatContext
    from hvcore.xml.context import ParseContext

ControllerType = Literal[
    "ide", "fdc", "scsi", "sata", "virtio-serial", "ccid", "usb", "pci", "xenbus", "isa"
]
PciModelName = Literal[
    "none", "pci-bridge", "i82801b11-bridge", "ioh3420", "x3130-upstream", "xio3130-downstream",
    "pxb", "pxb-pcie", "pcie-root-port", "spapr-pci-host-bridge", "pcie-pci-bridge",
]  # fmt: skip

MODELS: Final[Mapping[str, frozenset[str]]] = {
    "scsi": frozenset(
        {
            "auto", "buslogic", "lsilogic", "lsisas1068", "vmpvscsi", "ibmvscsi", "virtio-scsi",
            "lsisas1078", "virtio-transitional", "virtio-non-transitional", "ncr53c90", "dc390",
            "am53c974",
        }
    ),
    "usb": frozenset(
        {
            "piix3-uhci", "piix4-uhci", "ehci", "ich9-ehci1", "ich9-uhci1", "ich9-uhci2",
            "ich9-uhci3", "vt82c686b-uhci", "pci-ohci", "nec-xhci", "qusb1", "qusb2", "qemu-xhci",
            "none",
        }
    ),
    "pci": frozenset(
        {
            "pci-root", "pcie-root", "pci-bridge", "dmi-to-pci-bridge", "pcie-to-pci-bridge",
            "pcie-root-port", "pcie-switch-upstream-port", "pcie-switch-downstream-port",
            "pci-expander-bus", "pcie-expander-bus",
        }
    ),
    "ide": frozenset({"piix3", "piix4", "ich6"}),
    "virtio-serial": frozenset({"virtio", "virtio-transitional", "virtio-non-transitional"}),
}  # fmt: skip
"""Models by controller type; the other types have none."""

COMPANION_PORTS: Final[Mapping[str, int]] = {"ich9-uhci1": 0, "ich9-uhci2": 2, "ich9-uhci3": 4}
"""First port of the USB 1.1 companions of an ich9-ehci1."""

_INT: Final = INTEGER(0, 2**31 - 1, negative="Expected non-negative value")
_INT0: Final = INTEGER(0, 2**31 - 1, base=0, negative="Expected non-negative value")
_PCI_ONLY: Final = (
    "model_name", "chassis_nr", "chassis", "port", "bus_nr", "target_index", "hotplug",
    "mem_reserve", "node",
)  # fmt: skip
_ROOTS: Final = frozenset({"pci-root", "pcie-root"})


def _model_name(controller: Controller, ctx: FormatContext) -> PciModelName | None:
    """Return what is written; old versions know no name for the root of pSeries."""
    name = controller.model_name
    usual = controller.model == "pci-root" and name == "spapr-pci-host-bridge"
    return None if usual and ctx.migratable else name


@element("controller")
class Controller(VirtioDevice):
    """A bus that devices are plugged into."""

    trailing: ClassVar[tuple[str, ...]] = ("pcihole64",)

    type: ControllerType = attr("@type", ENUM(ControllerType), default="ide")
    index: int | None = attr("@index", _INT, doc="distinguishes controllers of one type")
    model: str | None = attr("@model", STR, doc="see MODELS")
    ports: int | None = attr("@ports", _INT, doc="virtio-serial, usb: number of ports")
    vectors: int | None = attr("@vectors", _INT, doc="virtio-serial: interrupt vectors")
    max_grant_frames: int | None = attr("@maxGrantFrames", _INT, doc="xenbus")
    max_event_channels: int | None = attr("@maxEventChannels", _INT, doc="xenbus")
    model_name: PciModelName | None = attr(
        "model/@name",
        ENUM(PciModelName),
        omit=("none",),
        written=_model_name,
        doc="pci: the hypervisor's device",
    )
    chassis_nr: int | None = attr("target/@chassisNr", _INT0)
    chassis: int | None = attr("target/@chassis", _INT0)
    port: int | None = attr("target/@port", INTEGER(0, 2**31 - 1, base=0, form="#x"))
    bus_nr: int | None = attr("target/@busNr", _INT0, doc="number of an expander's bus")
    target_index: int | None = attr("target/@index", _INT0, doc="pSeries: number of the bridge")
    hotplug: bool | None = attr("target/@hotplug", ONOFF)
    mem_reserve: int | None = attr(
        "target/@memReserve",
        INTEGER(0, 2**64 - 1, base=0, zero=False, expected="Expected non-negative integer value"),
        doc="KiB of MMIO for the devices below",
    )
    node: int | None = text(
        "target/node", _INT, refused="invalid NUMA node in target", doc="guest NUMA node"
    )
    queues: int | None = attr("driver/@queues", UINT, omit=(0,))
    cmd_per_lun: int | None = attr("driver/@cmd_per_lun", UINT, omit=(0,))
    max_sectors: int | None = attr("driver/@max_sectors", UINT, omit=(0,))
    ioeventfd: bool | None = attr("driver/@ioeventfd", ONOFF)
    iothread: int | None = attr("driver/@iothread", UINT, omit=(0,))
    iothreads: list[IOThreadMapping] = children("driver/iothreads/iothread", IOThreadMapping)
    pcihole64: int | None = scaled("pcihole64", doc="KiB of the 64-bit PCI hole")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check the model, and drop what means nothing for the type."""
        if self.model is not None and self.model not in MODELS.get(self.type, ()):
            ctx.issue(el, f"unsupported configuration: Unknown model type '{self.model}'")
        for tag in ("model", "target"):
            if len(el.findall(tag)) > 1:
                ctx.issue(el, f"Multiple <{tag}> elements in controller definition not allowed")
        if self.type != "pci":
            for name in _PCI_ONLY:
                setattr(self, name, None)
        if self.type != "pci" or self.model not in _ROOTS:
            self.pcihole64 = None
        if self.type not in ("virtio-serial", "usb"):
            self.ports = None
        if self.type != "virtio-serial":
            self.vectors = None
        if self.type != "xenbus":
            self.max_grant_frames = self.max_event_channels = None
        if self.type == "usb":
            if self.model == "none":
                self.alias = self.address = None
            if self.master_startport is None:
                self.master_startport = COMPANION_PORTS.get(self.model or "")
