"""Which transport virtio devices use: PCI, memory-mapped I/O or channel I/O; and CCW addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.addresses.ccw import CcwAddressSet
from hvcore.model.devices.base import CcwAddress
from hvcore.model.devices.base import PciAddress
from hvcore.model.devices.base import VirtioMmioAddress
from hvcore_qemu.machines import RISCV

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

    from hvcore.model.devices.base import Device
    from hvcore_qemu.addresses.guest import Guest

INTERFACE_MODELS: Final = ("virtio", "virtio-transitional", "virtio-non-transitional")

# Everything QEMU has of these families is virtio, unless a condition says which is.
_VIRTIO: Final[tuple[tuple[str, Callable[[Any], bool]], ...]] = (
    ("disks", lambda disk: disk.bus == "virtio"),
    ("interfaces", lambda net: net.model in INTERFACE_MODELS),
    ("videos", lambda video: video.type == "virtio"),
    ("inputs", lambda device: device.bus == "virtio"),
    ("controllers", lambda controller: controller.type in ("virtio-serial", "scsi")),
    ("hostdevs", lambda dev: dev.mode == "subsystem" and dev.type == "scsi_host"),
    ("memballoons", lambda balloon: balloon.model != "none"),
    ("rngs", lambda _: True),
    ("memories", lambda memory: memory.model in ("virtio-pmem", "virtio-mem")),
    ("cryptos", lambda _: True),
    ("sounds", lambda sound: sound.model == "virtio"),
)
# These too, but only where they are on channel I/O is it said before PCI is assigned.
_CHANNEL_ONLY: Final = ("filesystems", "vsocks")

_MMIO_ARCHES: Final = frozenset({"armv6l", "armv7l", "aarch64"}) | RISCV


def _virtio_devices(guest: Guest) -> Iterator[Device]:
    for family, suits in _VIRTIO:
        for device in getattr(guest.devices, family):
            if suits(device):
                yield device


def _choose(guest: Guest, transport: type[CcwAddress | PciAddress | VirtioMmioAddress]) -> None:
    for device in _virtio_devices(guest):
        if device.address is None:
            device.address = transport()


def assign_ccw(guest: Guest) -> None:
    """Put virtio devices of s390x guests on channel I/O and number their subchannels.

    :raises ValidationFailed: when two devices have the same address.
    """
    if "vfio-ccw" in guest.caps:
        _choose_for_mediated(guest)
    _choose(guest, CcwAddress)
    for family in _CHANNEL_ONLY:
        for device in getattr(guest.devices, family):
            if device.address is None:
                device.address = CcwAddress()
    used = CcwAddressSet()
    channel = [each.address for each in guest.visited if type(each.address) is CcwAddress]
    for address in channel:
        if address.devno is not None:
            used.reserve(address.cssid or 0, address.ssid or 0, address.devno)
    for address in channel:
        if address.devno is None:
            address.cssid, address.ssid, address.devno = used.reserve_next()


def _choose_for_mediated(guest: Guest) -> None:
    for hostdev in guest.devices.hostdevs:
        if hostdev.mode == "subsystem" and hostdev.type == "mdev":
            if hostdev.model == "vfio-ccw" and hostdev.address is None:
                hostdev.address = CcwAddress()
            elif hostdev.model == "vfio-ap":
                # Crypto adapters are seen through the AP bus, which has no such addresses.
                hostdev.address = None


def prefer_mmio_or_pci(guest: Guest) -> None:
    """Choose between PCI and memory-mapped I/O on Arm and RISC-V boards that have both.

    PCI is better, but a guest that has a memory-mapped device was made for it.
    """
    machine = guest.machine
    if machine.arch not in _MMIO_ARCHES or not (
        machine.name.startswith("vexpress-") or machine.arm_virt or machine.riscv_virt
    ):
        return
    if (
        guest.root_model() == "pcie-root"
        and ("pcie-root-port" in guest.caps or "ioh3420" in guest.caps)
        and not any(type(each.address) is VirtioMmioAddress for each in guest.visited)
    ):
        _choose(guest, PciAddress)
    elif "virtio-mmio" in guest.caps:
        _choose(guest, VirtioMmioAddress)
