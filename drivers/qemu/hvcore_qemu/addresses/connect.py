"""How each kind of device plugs into PCI, as tables by model.

Four ways cover nearly all: not at all, as a conventional PCI device, as PCI Express where the
machine has it, and as virtio, which is either. Two more are for parts of the chipset, which sit
on the root bus itself. *Transitional* virtio devices still have the
legacy interface, which exists on conventional PCI only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.addresses.pci import Connect
from hvcore_qemu.addresses.guest import has_pci_address

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from hvcore_qemu.addresses.guest import Guest

NONE: Final = 0
PCI: Final = 1
EXPRESS: Final = 2
VIRTIO: Final = 3
VIRTIO_INTEGRATED: Final = 4
PCI_INTEGRATED: Final = 5

_VIRTIO_MODELS: Final[Mapping[str | None, int]] = {
    None: VIRTIO,
    "virtio": VIRTIO,
    "virtio-transitional": PCI,
    "virtio-non-transitional": VIRTIO,
}
# Where no model means that none was chosen rather than plain virtio.
_VIRTIO_ONLY: Final[Mapping[str | None, int]] = {
    model: way for model, way in _VIRTIO_MODELS.items() if model
}
_SCSI: Final[Mapping[str | None, int]] = {
    "virtio-scsi": VIRTIO,
    "virtio-non-transitional": VIRTIO,
    "virtio-transitional": PCI,
    "buslogic": PCI,
    "lsilogic": PCI,
    "lsisas1068": PCI,
    "vmpvscsi": PCI,
    "ibmvscsi": PCI,
    "lsisas1078": PCI,
    "dc390": PCI,
    "am53c974": PCI,
}
_USB: Final[Mapping[str | None, int]] = {
    None: PCI,
    "nec-xhci": EXPRESS,
    "qemu-xhci": EXPRESS,
    "ehci": PCI,
    "ich9-ehci1": PCI,
    "ich9-uhci1": PCI,
    "ich9-uhci2": PCI,
    "ich9-uhci3": PCI,
    "vt82c686b-uhci": PCI,
    "piix3-uhci": PCI,
    "piix4-uhci": PCI,
    "pci-ohci": PCI,
}
_CONTROLLERS: Final[Mapping[str, Mapping[str | None, int]]] = {
    "scsi": _SCSI,
    "usb": _USB,
    "virtio-serial": _VIRTIO_MODELS,
}
_ANY_MODEL: Final = frozenset({"sata", "ide"})
# Models that libvirt does not know are taken for Express. So are interfaces without a model,
# whose device only the network decides; those are host devices.
_INTERFACES: Final[Mapping[str | None, int]] = {
    "usb-net": NONE,
    "virtio": VIRTIO,
    "virtio-non-transitional": VIRTIO,
    **dict.fromkeys(
        (
            "virtio-transitional", "netfront", "rtl8139", "e1000", "spapr-vlan", "lan9118",
            "scm91c111", "vlance", "vmxnet", "vmxnet2", "vmxnet3", "Am79C970A", "Am79C973",
            "82540EM", "82545EM", "82543GC",
        ),
        PCI,
    ),
}  # fmt: skip
_SOUNDS: Final[Mapping[str | None, int]] = {
    "es1370": PCI,
    "ac97": PCI,
    "ich6": PCI,
    "ich9": PCI,
    "virtio": VIRTIO,
}
_VIDEOS: Final[Mapping[str | None, int]] = {
    "virtio": VIRTIO,
    "vga": PCI,
    "cirrus": PCI,
    "vmvga": PCI,
    "xen": PCI,
    "vbox": PCI,
    "qxl": PCI,
    "parallels": PCI,
    "bochs": EXPRESS,
}
_FILESYSTEMS: Final[Mapping[str | None, Mapping[str | None, int]]] = {
    # 9p goes by the model; virtiofs is vhost-user, which has one model.
    None: _VIRTIO_MODELS,
    "default": _VIRTIO_MODELS,
    "path": _VIRTIO_MODELS,
    "handle": _VIRTIO_MODELS,
}


def _disk(disk: Any, guest: Guest) -> int:
    del guest
    return _VIRTIO_MODELS.get(disk.model, NONE) if disk.bus == "virtio" else NONE


def _interface(interface: Any, guest: Guest) -> int:
    if interface.type == "hostdev":
        return host_device_way(interface, guest)
    return _INTERFACES.get(interface.model, EXPRESS)


def _hostdev(hostdev: Any, guest: Guest) -> int:
    if hostdev.mode != "subsystem":
        return NONE
    if hostdev.type == "scsi_host":
        return _VIRTIO_MODELS.get(hostdev.model, NONE)
    if hostdev.type == "mdev":
        # Every mediated device there is, is an Express one.
        return EXPRESS
    return host_device_way(hostdev, guest)


def host_device_way(device: Any, guest: Guest) -> int:
    """Return the way of an assigned host device: its own, if that is known."""
    source = host_pci_address(device)
    if source is None:
        return NONE
    # An address of the document is checked leniently, so the host need not be asked.
    if guest.host is None or has_pci_address(device):
        return EXPRESS
    return PCI if guest.host.is_express(*source) is False else EXPRESS


def host_pci_address(device: Any) -> tuple[int, int, int, int] | None:
    """Return which PCI device of the host a hostdev or interface is, if it is one."""
    source = device.source_pci
    if source is None:
        return None
    return (source.domain or 0, source.bus or 0, source.slot or 0, source.function or 0)


def _controller(controller: Any, guest: Guest) -> int:
    del guest
    if controller.type in _ANY_MODEL:
        return PCI
    table = _CONTROLLERS.get(controller.type)
    return NONE if table is None else table.get(controller.model, NONE)


def _input(device: Any, guest: Guest) -> int:
    del guest
    return _VIRTIO_MODELS.get(device.model, NONE) if device.bus == "virtio" else NONE


def _filesystem(filesystem: Any, guest: Guest) -> int:
    del guest
    if filesystem.driver_type == "virtiofs":
        return VIRTIO
    table = _FILESYSTEMS.get(filesystem.driver_type)
    return NONE if table is None else table.get(filesystem.model, NONE)


def _video(video: Any, guest: Guest) -> int:
    del guest
    return _VIDEOS.get(video.type, NONE)


def _serial(serial: Any, guest: Guest) -> int:
    del guest
    return PCI if serial.target_type == "pci-serial" else NONE


def _always(device: Any, guest: Guest) -> int:
    del device, guest
    return PCI


def _by_model(table: Mapping[str | None, int]) -> Callable[[Any, Guest], int]:
    def way(device: Any, guest: Guest) -> int:
        del guest
        return table.get(device.model, NONE)

    return way


# Families that are not here never are on PCI.
WAYS: Final[Mapping[str, Callable[[Any, Guest], int]]] = {
    "disks": _disk,
    "interfaces": _interface,
    "sounds": _by_model(_SOUNDS),
    "hostdevs": _hostdev,
    "videos": _video,
    "controllers": _controller,
    "serials": _serial,
    "inputs": _input,
    "filesystems": _filesystem,
    "watchdogs": _by_model({"i6300esb": PCI}),
    "memballoons": _by_model(_VIRTIO_ONLY),
    "rngs": _by_model(_VIRTIO_ONLY),
    "shmems": _always,
    "panics": _by_model({"pvpanic": PCI_INTEGRATED}),
    "memories": _by_model({"virtio-pmem": VIRTIO, "virtio-mem": VIRTIO}),
    "iommus": _by_model({"virtio": VIRTIO_INTEGRATED}),
    "vsocks": _by_model(_VIRTIO_ONLY),
    "cryptos": _by_model({"virtio": PCI}),
    "pstores": _always,
}


def flags_by_way(guest: Guest, *, express: bool) -> tuple[int, ...]:
    """Return the connect flags of each way on a machine.

    :param express: the root bus is PCI Express.
    """
    pcie = Connect.PCIE if express else Connect.PCI
    virtio = pcie if "virtio-pci-non-transitional" in guest.caps else Connect.PCI
    return (
        0,
        Connect.PCI,
        pcie,
        virtio,
        virtio | Connect.INTEGRATED,
        Connect.PCI | Connect.INTEGRATED,
    )
