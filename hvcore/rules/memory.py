"""Rules of the <memory> device: what its model needs, and where it may be mapped."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import ErrorClass
from hvcore.errors import Issue
from hvcore.model.devices.base import DimmAddress
from hvcore.model.devices.memory import MemoryDevice
from hvcore.rules.base import Rules
from hvcore.rules.domain_memory import numa_cells

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues

rules = Rules()

PPC64: Final = frozenset({"ppc64", "ppc64le"})
_USUAL_THP: Final = 2048  # KiB, where the host does not tell
_USUAL_PAGE: Final = 4


def _arch(domain: Domain) -> str:
    return (domain.os.arch if domain.os else None) or ""


@rules.post_parse(MemoryDevice)
def _defaults(domain: Domain, device: MemoryDevice, ctx: Context) -> Issues:
    """Share virtio-pmem, as its file has to see what the guest writes; name pSeries NVDIMMs."""
    if device.model == "virtio-pmem" and device.access is None:
        device.access = "shared"
    if device.model == "nvdimm" and device.uuid is None and _arch(domain) in PPC64:
        device.uuid = str(uuid.UUID(bytes=ctx.random_bytes(16), version=4))
    return ()


def _detail(message: str, device: MemoryDevice) -> Issue:
    return Issue(message, ErrorClass.XML_DETAIL, line=device.line)


def _unsupported(message: str, device: MemoryDevice) -> Issue:
    return Issue.unsupported(message, line=device.line)


@rules.check(MemoryDevice)
def _check(domain: Domain, device: MemoryDevice, ctx: Context) -> Iterator[Issue]:
    """Check the guest node, then what the model needs, then the address."""
    if device.node is not None:
        count = len(numa_cells(domain))
        if count == 0:
            yield _detail("can't add memory backend as guest has no NUMA nodes configured", device)
            return
        if device.node >= count:
            yield _detail(
                f"can't add memory backend for guest node '{device.node}' as the guest has only "
                f"'{count}' NUMA nodes configured",
                device,
            )
    if device.model == "nvdimm":
        yield from _nvdimm(domain, device)
    elif device.model == "virtio-pmem":
        page = _USUAL_PAGE if ctx.host is None else ctx.host.page_size
        yield from _pmem(device, page * 1024)
    elif device.model == "virtio-mem":
        yield from _virtio_mem(device, (ctx.host.thp_size if ctx.host else 0) or _USUAL_THP)
    elif device.model == "sgx-epc" and device.address is not None:
        yield _unsupported(
            f"memory device address is not supported for model '{device.model}'", device
        )
    yield from _conflicts(domain, device, ctx)


def _nvdimm(domain: Domain, device: MemoryDevice) -> Iterator[Issue]:
    if not device.path:
        yield _detail("path is required for model 'nvdimm'", device)
    if device.discard:
        yield _unsupported("discard is not supported for nvdimms", device)
    if _arch(domain) not in PPC64:
        if device.uuid is not None:
            yield _unsupported("UUID is not supported for NVDIMM device", device)
    elif not device.label_size:
        yield _unsupported("label size is required for NVDIMM device", device)


def _pmem(device: MemoryDevice, page: int) -> Iterator[Issue]:
    if not device.path:
        yield _detail(f"path is required for model '{device.model}'", device)
    if device.discard:
        yield _unsupported(f"discard is not supported for model '{device.model}'", device)
    if device.access != "shared":
        yield _unsupported("shared access mode required for virtio-pmem device", device)
    if device.node is not None:
        yield _unsupported("virtio-pmem does not support NUMA nodes", device)
    if (device.base or 0) % page:
        yield _unsupported(f"memory address must be aligned to {page} bytes", device)


def _virtio_mem(device: MemoryDevice, smallest: int) -> Iterator[Issue]:
    block, requested = device.block_size or 0, device.requested_size or 0
    if requested > device.size:
        yield _detail(
            f"requested size must be smaller than or equal to @size ({device.size}KiB)", device
        )
    if block.bit_count() != 1:
        yield _detail("block size must be a power of two", device)
        return
    if block < smallest:
        yield _detail(f"block size too small, must be at least {smallest}KiB", device)
    if requested % block:
        yield _detail("requested size must be an integer multiple of block size", device)
    if (device.base or 0) % (block * 1024):
        yield _detail("memory device address must be aligned to blocksize", device)


def _start(device: MemoryDevice) -> int:
    """Return the guest physical address in bytes, 0 where the hypervisor chooses it."""
    if device.model in ("dimm", "nvdimm"):
        return (device.address.base or 0) if isinstance(device.address, DimmAddress) else 0
    return device.base or 0


def _mapped(device: MemoryDevice, page: int) -> int:
    """Return how many bytes of the guest's address space the device takes."""
    size = device.size
    if device.model == "nvdimm":
        # The label is not mapped, and what remains is cut to the alignment.
        align = device.align_size or page
        size -= -(-(device.label_size or 0) // align) * align
    return size * 1024


def _same(device: MemoryDevice, other: MemoryDevice) -> bool:
    """Return whether ``other`` is what ``device`` was before an update."""
    return (device.address is not None and other.address == device.address) or (
        device.alias is not None and other.alias == device.alias
    )


def _conflicts(domain: Domain, device: MemoryDevice, ctx: Context) -> Iterator[Issue]:
    """Report slots and address ranges that another device has."""
    slot = device.address.slot if isinstance(device.address, DimmAddress) else None
    start = _start(device)
    page = _USUAL_PAGE if ctx.host is None else ctx.host.page_size
    end = start + _mapped(device, page)
    for other in domain.devices.memories:
        if other is device:
            continue
        if slot is not None:
            if isinstance(other.address, DimmAddress) and other.address.slot == slot:
                yield _unsupported(
                    f"memory device slot '{slot}' is already being used by another memory device",
                    device,
                )
        elif _same(device, other):
            continue
        other_start = _start(other)
        if start == 0 or other_start == 0:
            continue
        if start < other_start + _mapped(other, page) and other_start < end:
            yield _unsupported(
                f"memory device address [{start:#x}:{end:#x}] overlaps with other memory device "
                f"({other_start:#x})",
                device,
            )
