"""Devices that are part of the machine, as the guest sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.abi.common import differs
from hvcore.abi.common import info
from hvcore.abi.common import unlike
from hvcore.abi.common import virtio
from hvcore.abi.table import ANY
from hvcore.abi.table import NUMBER
from hvcore.abi.table import SWITCH
from hvcore.abi.table import YES_NO
from hvcore.abi.table import Compared
from hvcore.abi.table import Kind
from hvcore.abi.table import Table
from hvcore.abi.table import differences
from hvcore.abi.table import one_of
from hvcore.errors import Issue
from hvcore.model.devices.tpm import EmulatorTpm

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator


# -- what people see and hear ---------------------------------------------------------------------

_INPUT_BUS_OF_MODEL: Final = {
    # libvirt shows the model by the name of the bus with its number.
    None: "default",
    "virtio": "ps2",
    "virtio-transitional": "usb",
    "virtio-non-transitional": "xen",
}

INPUT: Final[Table] = (
    differs("input device type", ANY)("type"),
    differs("input device bus", one_of("default"))("bus"),
    differs("input model", Kind(words=_INPUT_BUS_OF_MODEL))("model"),
    virtio,
    info,
)

SOUND: Final[Table] = (
    differs("sound card model", ANY)("model"),
    differs("sound card multichannel setting", YES_NO, quoted=True)("multichannel"),
    info,
)

_TRISTATE: Final = Kind(words={None: "0", True: "1", False: "2"})


def _accelerated(video: Any) -> bool:
    return (video.accel2d, video.accel3d, video.rendernode) != (None, None, None)


def _acceleration(source: Any, target: Any) -> Iterator[Issue]:
    """Compare acceleration."""
    if _accelerated(source) != _accelerated(target):
        yield Issue.unsupported(
            "Target video card acceleration does not match source",
            line=target.line,
            path="model/acceleration",
        )
    else:
        table = (
            differs("video card 2d accel", _TRISTATE)("accel2d"),
            differs("video card 3d accel", _TRISTATE)("accel3d"),
        )
        yield from differences(table, source, target)


VIDEO: Final[Table] = (
    differs("video card model", one_of("default"))("type"),
    differs("video card ram")("ram"),
    differs("video card vram")("vram"),
    differs("video card vram64")("vram64"),
    differs("video card vgamem")("vgamem"),
    differs("video card heads")("heads"),
    _acceleration,
    virtio,
    info,
)

# -- the rest -------------------------------------------------------------------------------------

MEMBALLOON: Final[Table] = (
    differs("balloon model", ANY)("model"),
    differs("balloon autodeflate attribute value", SWITCH, quoted=True)("autodeflate"),
    differs("balloon freePageReporting attribute value", SWITCH, quoted=True)(
        "free_page_reporting"
    ),
    virtio,
    info,
)


SHMEM: Final[Table] = (
    unlike("shared memory role", "role", one_of("default"), about="source role"),
    unlike("shared memory model", "model", about="source model"),
    unlike("shared memory size", "size", about="source size"),
    Compared(
        "server",
        "Target shared memory server usage doesn't match source",
        get=lambda shmem: shmem.server is not None,
    ),
    Compared(
        "msi",
        "Target shared memory MSI configuration doesn't match source",
        get=lambda shmem: (
            shmem.msi and (shmem.msi.vectors or 0, shmem.msi.ioeventfd)  # nothing, or its values
        ),
    ),
    info,
)


_EMULATOR: Final[Table] = (
    Compared("version", "Target TPM version doesn't match source"),
    Compared("banks", "Target active PCR banks doesn't match source"),
)


def _emulator(source: Any, target: Any) -> Iterator[Issue]:
    """Compare TPMs in software."""
    if isinstance(source.backend, EmulatorTpm) and isinstance(target.backend, EmulatorTpm):
        yield from differences(_EMULATOR, source.backend, target.backend)


TPM: Final[Table] = (
    Compared(
        "backend", "Target TPM device type doesn't match source", get=lambda tpm: tpm.backend.type
    ),
    Compared("model", "Target TPM device model doesn't match source"),
    _emulator,
    info,
)


def _of(*models: str) -> Callable[[Any], bool]:
    """Return what tells whether a memory device is of a model; none given means any."""
    return lambda device: not models or device.model in models


def _memory(
    what: str, names: str, *models: str, kind: Kind = NUMBER, swapped: bool = False
) -> Compared:
    """Return a row of what some models of memory devices have.

    :param swapped: libvirt shows the source where it speaks of the target.
    """
    first, second = ("source", "target") if swapped else ("target", "source")
    words = f"Target {what} '{{{first}}}' doesn't match source {what} '{{{second}}}'"
    return Compared(names, words, kind, where=_of(*models))


_GUEST_PHYSICAL: Final = Kind(0, form="0x{:x}")

MEMORY: Final[Table] = (
    # What else there is depends on the model.
    Compared(
        "model",
        "Target memory device model '{target}' doesn't match source model '{source}'",
        decides=True,
    ),
    Compared(
        "node",
        "Target memory device targetNode '{target}' doesn't match source targetNode '{source}'",
        Kind(-1),
    ),
    _memory("memory device size", "size"),
    _memory("NVDIMM label size", "label_size", "nvdimm", swapped=True),
    _memory("NVDIMM alignment", "align_size", "nvdimm", swapped=True),
    Compared(
        "pmem",
        "Target NVDIMM pmem flag doesn't match source NVDIMM pmem flag",
        where=_of("nvdimm"),
    ),
    Compared(
        "readonly",
        "Target NVDIMM readonly flag doesn't match source NVDIMM readonly flag",
        where=_of("nvdimm"),
    ),
    Compared("uuid", "Target NVDIMM UUID doesn't match source NVDIMM", where=_of("nvdimm")),
    _memory("memory device block size", "block_size", "virtio-mem"),
    _memory("memory device requested size", "requested_size", "virtio-mem"),
    _memory("memory device address", "base", "virtio-pmem", "virtio-mem", kind=_GUEST_PHYSICAL),
    Compared(
        "dynamic_memslots",
        "Target memory device 'dynamicMemslots' property doesn't match source memory device",
        where=_of("virtio-mem"),
    ),
    info,
)

IOMMU: Final[Table] = (
    unlike("domain IOMMU device model", "model"),
    unlike("domain IOMMU device intremap value", "intremap", SWITCH),
    unlike("domain IOMMU device caching mode", "caching_mode", SWITCH),
    unlike("domain IOMMU device eim value", "eim", SWITCH),
    unlike("domain IOMMU device iotlb value", "iotlb", SWITCH),
    unlike("domain IOMMU device aw_bits value", "aw_bits"),
    unlike("domain IOMMU device dma translation", "dma_translation", SWITCH),
    info,
)
