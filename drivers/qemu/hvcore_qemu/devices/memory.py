"""The <memory> device in QEMU: defaults, validation and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

from hvcore.errors import Issue
from hvcore.errors import ValidationFailed
from hvcore.model.devices.base import CcwAddress
from hvcore.model.devices.base import DimmAddress
from hvcore.model.devices.base import PciAddress
from hvcore.model.devices.memory import MemoryDevice
from hvcore.rules.base import Rules
from hvcore.rules.domain_memory import has_memory_hotplug
from hvcore.rules.domain_memory import hugepages
from hvcore.rules.domain_memory import initial_memory
from hvcore.rules.domain_memory import numa_cells
from hvcore_qemu.machines import PPC64
from hvcore_qemu.machines import S390
from hvcore_qemu.machines import machine_of
from hvcore_qemu.props import address_props
from hvcore_qemu.props import virtio_name
from hvcore_qemu.sections.memory import PPC64_ALIGNMENT
from hvcore_qemu.sections.memory import Piece
from hvcore_qemu.sections.memory import add
from hvcore_qemu.sections.memory import align_nvdimm
from hvcore_qemu.sections.memory import backend
from hvcore_qemu.sections.memory import preallocates

if TYPE_CHECKING:
    from collections.abc import Generator
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore_qemu.command import Command
    from hvcore_qemu.monitor import Command as MonitorCommand

rules = Rules()

_IN_SLOTS = ("dimm", "nvdimm")


@rules.post_parse(MemoryDevice)
def _align(domain: Domain, device: MemoryDevice, ctx: Context) -> Iterator[Issue]:
    """Round the size of new pSeries modules here, so that it is visible in the document."""
    if not ctx.abi_update or machine_of(domain).arch not in PPC64:
        return
    if device.model != "nvdimm":
        device.size = -(-device.size // PPC64_ALIGNMENT) * PPC64_ALIGNMENT
        return
    try:
        device.size = align_nvdimm(device.size, device.label_size or 0)
    except ValidationFailed as failed:
        yield from failed.issues


# -- validation of all modules together ---------------------------------------------------------


@rules.check_domain
def _hotplug(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Check that modules have slots and room, and nodes where there are any."""
    del ctx
    modules = domain.devices.memories
    if not has_memory_hotplug(domain):
        if modules:
            yield Issue.unsupported(
                "cannot use/hotplug a memory device when domain 'maxMemory' is not defined"
            )
        return
    if machine_of(domain).arch not in PPC64 | S390 and not numa_cells(domain):
        # QEMU would make a node by itself then, which nobody would see in the document.
        yield Issue.unsupported(
            "At least one numa node has to be configured when enabling memory hotplug"
        )
    for module in modules:
        if module.model != "sgx-epc":
            yield from _place(domain, module)
    slots = domain.max_memory_slots or 0
    needed = sum(module.model in _IN_SLOTS for module in modules)
    if needed > slots:
        yield Issue.unsupported(
            f"count of memory devices requiring memory slots '{needed}' exceeds slots count "
            f"'{slots}'"
        )
    room = (domain.max_memory or 0) - initial_memory(domain)
    if sum(module.size for module in modules) > room:
        yield Issue.unsupported("memory device total size exceeds hotplug space")


def _place(domain: Domain, module: MemoryDevice) -> Iterator[Issue]:
    address = module.address
    if module.model in _IN_SLOTS:
        if address is not None and not isinstance(address, DimmAddress):
            yield Issue.unsupported("only 'dimm' addresses are supported for the pc-dimm device")
        elif address is not None and (address.slot or 0) >= (domain.max_memory_slots or 0):
            yield Issue.unsupported(
                f"memory device slot '{address.slot}' exceeds slots count "
                f"'{domain.max_memory_slots or 0}'"
            )
    elif module.model == "virtio-pmem":
        if address is not None and not isinstance(address, PciAddress):
            yield Issue.unsupported("only 'pci' addresses are supported for the virtio-pmem device")
        return
    elif address is not None and not isinstance(address, (PciAddress, CcwAddress)):
        yield Issue.unsupported(
            f"only 'pci' and 'ccw' addresses are supported for the {module.model} device"
        )
    if numa_cells(domain) and module.node is None:
        yield Issue.unsupported("target NUMA node needs to be specified for memory device")


# -- validation of each module ------------------------------------------------------------------


@rules.check(MemoryDevice)
def _check(domain: Domain, device: MemoryDevice, ctx: Context) -> Iterator[Issue]:
    """Check that this QEMU has what the model needs."""
    caps = ctx.caps
    if device.model == "dimm":
        if "pc-dimm" not in caps:
            yield Issue.unsupported("memory hotplug isn't supported by this QEMU binary")
    elif device.model == "nvdimm":
        if "nvdimm" not in caps:
            yield Issue.unsupported("nvdimm isn't supported by this QEMU binary")
        elif device.readonly and "nvdimm.unarmed" not in caps:
            yield Issue.unsupported(
                "nvdimm readonly property is not available with this QEMU binary"
            )
    elif device.model == "virtio-pmem":
        if "virtio-pmem-pci" not in caps:
            yield Issue.unsupported("virtio-pmem isn't supported by this QEMU binary")
    elif device.model == "virtio-mem":
        yield from _virtio_mem(domain, device, ctx)
    elif device.model == "sgx-epc":
        yield from _enclave(device, ctx)


def _virtio_mem(domain: Domain, device: MemoryDevice, ctx: Context) -> Iterator[Issue]:
    on_ccw = isinstance(device.address, CcwAddress)
    flag = "virtio-mem-ccw" if on_ccw else "virtio-mem-pci"
    if isinstance(device.address, (PciAddress, CcwAddress)) and flag not in ctx.caps:
        yield Issue.unsupported("virtio-mem isn't supported by this QEMU binary")
    if on_ccw:
        pages = hugepages(domain)
        first = None if pages is None else (pages[0].size if pages else 0)
        if device.page_size and first is not None and device.page_size != first:
            yield Issue.unsupported(
                "virtio-mem-ccw can't use different page size than the boot memory"
            )
        if device.node:
            yield Issue.unsupported("NUMA nodes are not supported for virtio-mem-ccw")
    if device.dynamic_memslots and "virtio-mem-pci.dynamic-memslots" not in ctx.caps:
        yield Issue.unsupported("virtio-mem does not support dynamicMemslots")


def _enclave(device: MemoryDevice, ctx: Context) -> Iterator[Issue]:
    if "sgx-epc" not in ctx.caps:
        yield Issue.unsupported("sgx epc isn't supported by this QEMU binary")
        return
    sections = ctx.caps.sgx.sections if ctx.caps.sgx else ()
    if not sections:
        yield Issue.unsupported("this QEMU version didn't provide SGX EPC NUMA info")
        return
    for node in device.nodemask or (0,):
        size = sections[node].size if node < len(sections) else 0
        if device.size > size:
            yield Issue.unsupported(
                f"sgx epc size {size} on host node {node} is less than requested size {device.size}"
            )


# -- command line -------------------------------------------------------------------------------


def piece_of(device: MemoryDevice) -> Piece:
    """Return the memory that ``device`` consists of."""
    return Piece(
        alias=f"mem{device.alias}",
        name=device.alias,
        size=device.size,
        node=-1 if device.node is None else device.node,
        model=device.model,
        access=device.access,
        discard=device.discard,
        page_size=device.page_size or 0,
        nodes=device.nodemask,
        path=device.path,
        align=device.align_size or 0,
        pmem=device.pmem,
    )


def command(cmd: Command) -> None:
    """Append the devices, each after its memory; enclaves are part of ``-machine``.

    :raises ValidationFailed: when the host or this QEMU lacks what a device needs.
    """
    for device in cmd.domain.devices.memories:
        piece = piece_of(device)
        add(cmd, backend(cmd, piece))
        if device.model == "sgx-epc":
            cmd.features(device)
            continue
        prealloc = (
            device.model == "virtio-mem"
            and "virtio-mem-pci.prealloc" in cmd.caps
            and preallocates(cmd, piece)
        )
        cmd.features(device)
        # Even on s390x there is no zPCI device for these.
        cmd.device(
            {
                "driver": _driver(cmd, device),
                "node": device.node,
                "label-size": (device.label_size or 0) * 1024 or None,
                "block-size": (device.block_size or 0) * 1024 or None,
                "requested-size": (device.requested_size or 0) * 1024 or None,
                "uuid": device.uuid,
                "unarmed": True if device.readonly else None,
                "memdev": piece.alias,
                "prealloc": True if prealloc else None,
                "memaddr": device.base or None,
                "dynamic-memslots": device.dynamic_memslots,
                "id": device.alias,
                **address_props(cmd.domain, device),
            },
        )


def _driver(cmd: Command, device: MemoryDevice) -> str:
    if device.model == "dimm":
        return "pc-dimm"
    if device.model == "nvdimm":
        return "nvdimm"
    return virtio_name(device.model, device, cmd.caps)


# -- what QEMU tells of it ------------------------------------------------------------------------


def locate(domain: Domain) -> Generator[MonitorCommand, Any, None]:
    """Let memory devices of a running domain say where QEMU put them and how large they are."""
    if not domain.devices.memories:
        return
    told = {each["data"].get("id"): each["data"] for each in (yield ("query-memory-devices", {}))}
    for device in domain.devices.memories:
        found = told.get(device.alias)
        if found is None:
            continue
        if device.model in _IN_SLOTS:
            device.address = DimmAddress(slot=found["slot"], base=found["addr"])
        else:
            device.base = found["memaddr"]
        if device.model == "virtio-mem":
            device.current_size = -(-found["size"] // 1024)
