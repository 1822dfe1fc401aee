"""Guest memory in QEMU: alignment, validation, ``-m`` and the objects memory comes from.

Every piece of memory (the machine's own, that of a NUMA cell, a module) comes from a memory
backend, an object described by :class:`Piece` and built by :func:`backend`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import Literal

import attrs

from hvcore.errors import Issue
from hvcore.errors import ValidationFailed
from hvcore.rules.base import Rules
from hvcore.rules.domain_memory import has_memory_hotplug
from hvcore.rules.domain_memory import hugepages
from hvcore.rules.domain_memory import initial_memory
from hvcore.rules.domain_memory import numa_cells
from hvcore.rules.numatune import memnode
from hvcore.rules.numatune import numa_mode
from hvcore.rules.numatune import numa_nodeset
from hvcore_qemu.machines import PPC64
from hvcore_qemu.machines import machine_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.model.memory import MemoryAccess
    from hvcore.model.types import NodeSet
    from hvcore.pipeline import Context
    from hvcore_qemu.capabilities import QemuCapabilities
    from hvcore_qemu.command import Command
    from hvcore_qemu.prepare import Preparation

rules = Rules()

MODULE_ALIGNMENT: Final = 2048
"""KiB; guests expect DIMMs in steps of 2 MiB."""
PPC64_ALIGNMENT: Final = 256 * 1024
"""KiB; pSeries firmware counts memory in blocks of 256 MiB."""
_ALIGNMENT: Final = 1024
_MOST_KIB: Final = (2**63 - 1) >> 10

_POLICY: Final = {"strict": "bind", "preferred": "preferred", "interleave": "interleave"}


@attrs.frozen(kw_only=True)
class Piece:
    """One piece of guest memory.

    :ivar alias: id of the object.
    :ivar name: of its file, where one is made for it; ``alias`` when None.
    :ivar size: KiB.
    :ivar node: guest NUMA node, -1 for none.
    :ivar page_size: KiB, 0 to take what <memoryBacking> says.
    :ivar nodes: host nodes, where they are chosen for this piece alone.
    :ivar path: file of memory that persists.
    :ivar align: KiB, of persistent memory.
    :ivar system: the machine's own memory, whose name in migration streams must not change.
    """

    alias: str
    name: str | None = None
    size: int
    node: int = -1
    model: Literal["dimm", "nvdimm", "virtio-pmem", "virtio-mem", "sgx-epc"] | None = None
    access: MemoryAccess | None = None
    discard: bool | None = None
    page_size: int = 0
    nodes: NodeSet | None = None
    path: str | None = None
    align: int = 0
    pmem: bool = False
    system: bool = False


@attrs.define(kw_only=True)
class Backend:
    """A memory backend object.

    :ivar props: of the object; None for those that are absent.
    :ivar nodes: the host nodes memory is taken from, None for any.
    :ivar needed: nothing but such an object can do what is wanted.
    """

    props: dict[str, Any]
    nodes: NodeSet | None
    needed: bool


@attrs.frozen
class _Pages:
    """Pages of a piece: their size (0: the system's), and what follows from the wish for them."""

    size: int = 0
    own: bool = False
    huge: bool = False


# -- alignment ----------------------------------------------------------------------------------


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


def align_nvdimm(size: int, label: int) -> int:
    """Return the size of a pSeries NVDIMM, cut so that it never reaches beyond its file.

    :param size: KiB, label included.
    :param label: KiB.
    :raises ValidationFailed: when nothing would be left.
    """
    if size - label < PPC64_ALIGNMENT:
        raise ValidationFailed(
            [Issue.xml("minimum target size for the NVDIMM must be 256MB plus the label size")]
        )
    return (size - label) // PPC64_ALIGNMENT * PPC64_ALIGNMENT + label


def align_sizes(work: Preparation) -> None:
    """Round all memory sizes up to what the machine can have, before a new start.

    :raises ValidationFailed: when a size is beyond all limits then.
    """
    if not work.new:
        return  # the other side did it already, and sizes must be equal
    domain = work.domain
    ppc64 = machine_of(domain).arch in PPC64
    step = PPC64_ALIGNMENT if ppc64 else _ALIGNMENT
    cells = numa_cells(domain)
    for number, cell in enumerate(cells):
        cell.memory = _round_up(cell.memory, step)
        _limit(cell.memory, f"memory size of NUMA node '{number}' overflowed after alignment")
    initial = sum(cell.memory for cell in cells) or _round_up(initial_memory(domain), step)
    _limit(initial, "initial memory size overflowed after alignment")
    if domain.max_memory:
        domain.max_memory = _round_up(domain.max_memory, step)
        _limit(domain.max_memory, "maximum memory size overflowed after alignment")
    for number, module in enumerate(domain.devices.memories):
        if ppc64 and module.model == "nvdimm":
            module.size = align_nvdimm(module.size, module.label_size or 0)
        else:
            module.size = _round_up(module.size, PPC64_ALIGNMENT if ppc64 else MODULE_ALIGNMENT)
        _limit(module.size, f"size of memory module '{number}' overflowed after alignment")
    domain.memory = initial + sum(module.size for module in domain.devices.memories)


def _limit(size: int, message: str) -> None:
    if size > _MOST_KIB:
        raise ValidationFailed([Issue.unsupported(message)])


# -- validation ---------------------------------------------------------------------------------


@rules.check_domain
def _backing(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Check what contradicts huge pages, and what QEMU cannot do with them."""
    if domain.memtune and domain.memtune.min_guarantee:
        yield Issue.unsupported("Parameter 'min_guarantee' not supported by QEMU.")
    backing, pages = domain.memory_backing, hugepages(domain)
    if backing is None or pages is None:
        return
    if backing.allocation == "ondemand":
        yield Issue.unsupported("hugepages are not allowed with memory allocation ondemand")
    if backing.allocation_threads and "memory-backend-file.prealloc-threads" not in ctx.caps:
        yield Issue.unsupported("preallocation threads are unsupported with this QEMU")
    if backing.source == "anonymous":
        yield Issue.unsupported("hugepages are not allowed with anonymous memory source")
    if backing.source == "memfd" and "memory-backend-memfd.hugetlb" not in ctx.caps:
        yield Issue.unsupported("hugepages is not supported with memfd memory source")
    first = pages[0].size if pages else 0
    page_size = 4 if ctx.host is None else ctx.host.page_size
    if (
        default_backend_id(domain, ctx.caps) is None
        and not numa_cells(domain)
        and first != page_size
        and backing.access == "shared"
    ):
        yield Issue.unsupported(
            f"memory access mode '{backing.access}' not supported without guest numa node"
        )


# -- backends -----------------------------------------------------------------------------------


def default_backend_id(domain: Domain, caps: QemuCapabilities) -> str | None:
    """Return the id of the object that is the machine's memory.

    None when memory belongs to NUMA cells, or when the machine has no name for it.
    """
    if numa_cells(domain) or domain.os is None:
        return None
    return caps.machine_default_ram_id(domain.type, domain.os.machine or "")


def machine_options(cmd: Command) -> str:
    """Return what ``-machine`` says of memory, every option with its leading comma."""
    domain = cmd.domain
    dump = domain.memory_dump_core
    if dump is None:
        dump = cmd.config.dump_guest_core
    text = f",dump-guest-core={'on' if dump else 'off'}"
    if domain.memory_backing and domain.memory_backing.nosharepages:
        text += ",mem-merge=off"
    nvdimm = False
    enclaves = 0
    for module in domain.devices.memories:
        if module.model == "nvdimm" and not nvdimm:
            nvdimm = True
            text += ",nvdimm=on"
        elif module.model == "sgx-epc":
            node = module.node or 0
            text += f",sgx-epc.{enclaves}.memdev=mem{module.alias},sgx-epc.{enclaves}.node={node}"
            enclaves += 1
    backend_id = default_backend_id(domain, cmd.caps)
    return text + (f",memory-backend={backend_id}" if backend_id else "")


def _wanted_page(domain: Domain, node: int) -> tuple[bool, int, bool]:
    """Return whether huge pages are wanted, their size, and whether for this node alone."""
    pages = hugepages(domain)
    if pages is None:
        return False, 0, False
    if not pages:
        return True, 0, False
    general = None
    for page in pages:
        if page.nodeset is None:
            general = page
        elif node >= 0 and node in page.nodeset:
            return True, page.size, True
    return (True, general.size, False) if general else (False, 0, False)


def _pages(cmd: Command, piece: Piece) -> _Pages:
    """Return the pages a piece is made of.

    :raises ValidationFailed: when huge pages are wanted and the host has none.
    """
    size, own = piece.page_size, piece.page_size != 0
    huge = own
    if not size:
        huge, size, own = _wanted_page(cmd.domain, piece.node)
    if size == cmd.resources.memory.page_size:
        return _Pages()  # asking for pages of the usual size is asking for nothing
    if huge and not size:
        size = _default_page_size(cmd)
    return _Pages(size, own, huge)


def _default_page_size(cmd: Command) -> int:
    mounts = cmd.resources.memory.hugepage_mounts
    if not mounts:
        raise ValidationFailed([Issue.internal(_NO_HUGETLBFS)])
    return next((mount for mount in mounts if mount.default), mounts[0]).size


_NO_HUGETLBFS: Final = "hugetlbfs filesystem is not mounted or disabled by administrator config"


def huge_page_path(cmd: Command, size: int) -> str:
    """Return the directory on hugetlbfs for pages of ``size`` KiB.

    :raises ValidationFailed: when none is mounted.
    """
    mounts = cmd.resources.memory.hugepage_mounts
    if not mounts:
        raise ValidationFailed([Issue.internal(_NO_HUGETLBFS)])
    for mount in mounts:
        if mount.size == size:
            return cmd.resources.folder(f"{mount.path}/libvirt/qemu/{cmd.resources.short_name}")
    raise ValidationFailed(
        [Issue.internal(f"Unable to find any usable hugetlbfs mount for {size} KiB")]
    )


def file_path(cmd: Command, alias: str) -> str:
    """Return the file that memory comes from where <memoryBacking> asks for files."""
    folder = f"{cmd.config.memory_backing_dir}/{cmd.resources.short_name}"
    return f"{cmd.resources.folder(folder)}/{alias}"


def _preallocates(cmd: Command, piece: Piece, pages: _Pages) -> bool:
    backing = cmd.domain.memory_backing
    if backing and backing.allocation == "immediate":
        return True
    if piece.path is not None:
        # Real persistent memory must not be worn, and virtio-pmem has nothing to allocate.
        return piece.model == "nvdimm" and not piece.pmem
    return pages.huge


def preallocates(cmd: Command, piece: Piece) -> bool:
    """Return whether the memory of ``piece`` is allocated before the guest runs."""
    return _preallocates(cmd, piece, _pages(cmd, piece))


def backend(cmd: Command, piece: Piece) -> Backend:
    """Return the object that ``piece`` comes from.

    :raises ValidationFailed: when the host or this QEMU lacks what it needs.
    """
    domain = cmd.domain
    backing = domain.memory_backing
    cells = numa_cells(domain)
    cell = cells[piece.node] if 0 <= piece.node < len(cells) else None
    access = piece.access or (cell and cell.mem_access) or (backing and backing.access) or None
    discard = piece.discard
    if discard is None and cell is not None:
        discard = cell.discard
    if discard is None and backing and backing.discard:
        discard = True
    pages = _pages(cmd, piece)
    source = backing.source if backing else None
    kind, props = _source(cmd, piece, pages, source, access, discard)
    props |= _allocation(cmd, piece, pages)
    props["size"] = piece.size * 1024
    if piece.model == "nvdimm":
        props["align"] = piece.align * 1024 or None
        if piece.pmem:
            _require(cmd, "memory-backend-file.pmem", _NO_PMEM)
            props["pmem"] = True
    nodes = _nodes(cmd, piece, props)
    needed = bool(
        pages.own
        or piece.nodes
        or memnode(domain, piece.node)
        or piece.path
        or access
        or source in ("file", "memfd")
        or piece.model
    )
    if needed and kind == "memory-backend-memfd":
        _require(cmd, "memory-backend-memfd", _NO_MEMFD)
    return Backend(props={"qom-type": kind, "id": piece.alias, **props}, nodes=nodes, needed=needed)


_NO_PMEM: Final = "nvdimm pmem property is not available with this QEMU binary"
_NO_MEMFD: Final = "this qemu doesn't support the memory-backend-memfd object"


def _require(cmd: Command, flag: str, message: str) -> None:
    if flag not in cmd.caps:
        raise ValidationFailed([Issue.unsupported(message)])


def _source(
    cmd: Command,
    piece: Piece,
    pages: _Pages,
    source: str | None,
    access: MemoryAccess | None,
    discard: bool | None,
) -> tuple[str, dict[str, Any]]:
    """Return the type of object and the properties of where its memory comes from."""
    share = {"share": access == "shared"} if access else {}
    canonical: dict[str, Any] = {}
    flag = "memory-backend-file.x-use-canonical-path-for-ramblock-id"
    if piece.system and flag in cmd.caps:
        # Migration streams call this memory by its plain id, as before QEMU 4.0.
        canonical = {"x-use-canonical-path-for-ramblock-id": False}
    if piece.model == "sgx-epc":
        return "memory-backend-epc", {}
    if piece.path is None and source == "memfd":
        huge = {"hugetlb": True, "hugetlbsize": pages.size << 10} if pages.huge else {}
        return "memory-backend-memfd", {**huge, **share, **canonical}
    if pages.huge or piece.path is not None or access or source == "file":
        if piece.path is not None:
            path, kept = piece.path, None
        elif pages.huge:
            path, kept = huge_page_path(cmd, pages.size), discard
        else:
            path, kept = file_path(cmd, piece.name or piece.alias), discard
        return "memory-backend-file", {
            "mem-path": path, "discard-data": kept, **share, **canonical,
        }  # fmt: skip
    return "memory-backend-ram", {}


def _allocation(cmd: Command, piece: Piece, pages: _Pages) -> dict[str, Any]:
    """Return the properties of when memory is allocated."""
    everything = cmd.resources.memory.preallocated
    backing = cmd.domain.memory_backing
    if piece.model == "virtio-mem":
        props: dict[str, Any] = {}
        if "virtio-mem-pci.prealloc" not in cmd.caps and everything:
            props["prealloc"] = False
        if "memory-backend-file.reserve" in cmd.caps:
            props["reserve"] = False
        return props
    if everything:
        return {}
    wanted = piece.model == "sgx-epc" or _preallocates(cmd, piece, pages)
    threads = backing.allocation_threads if backing else None
    return {"prealloc": True if wanted else None, "prealloc-threads": threads or None}


def _nodes(cmd: Command, piece: Piece, props: dict[str, Any]) -> NodeSet | None:
    """Add the host nodes to ``props`` and return them.

    :raises ValidationFailed: when the host lacks one, or numad was not asked.
    """
    domain, facts = cmd.domain, cmd.resources.memory
    mode = numa_mode(domain, piece.node) or "strict"
    nodes = piece.nodes
    if nodes is not None:
        mode = "strict"  # as in libvirt 12.0: these nodes say nothing of how others are used
    else:
        memory = domain.numatune.memory if domain.numatune else None
        if memory and memory.placement == "auto" and facts.advice is None:
            raise ValidationFailed(
                [Issue.internal("Advice from numad is needed in case of automatic numa placement")]
            )
        nodes = numa_nodeset(domain, facts.advice, piece.node)
    if nodes is None:
        return None
    facts.require_nodes(nodes)
    # Restrictive leaves binding to cgroups, which can be changed while the guest runs.
    if mode != "restrictive":
        props["host-nodes"] = list(nodes)
        props["policy"] = _POLICY[mode]
    return nodes


def add(cmd: Command, found: Backend) -> None:
    """Append a backend, preceded by the threads that allocate it on its host nodes."""
    context = _thread_context(cmd, found)
    if context is not None:
        cmd.object(context)
        found.props["prealloc-context"] = context["id"]
    cmd.object(found.props)


def _thread_context(cmd: Command, found: Backend) -> dict[str, Any] | None:
    if "thread-context" not in cmd.caps or found.nodes is None or not found.props.get("prealloc"):
        return None
    nodes = found.nodes
    near = cmd.resources.memory.emulator_nodes
    if near is not None:
        nodes &= near
        if not nodes:
            return None
    return {
        "qom-type": "thread-context",
        "id": f"tc-{found.props['id']}",
        "node-affinity": list(nodes),
    }


# -- command line -------------------------------------------------------------------------------


def memory(cmd: Command) -> None:
    """Append ``-m``, the machine's memory and ``-overcommit``."""
    domain = cmd.domain
    size = initial_memory(domain)
    parts = []
    if has_memory_hotplug(domain):
        parts.append(f"size={size}k")
        if domain.max_memory_slots:
            parts.append(f"slots={domain.max_memory_slots}")
        if domain.max_memory:
            parts.append(f"maxmem={domain.max_memory}k")
    else:
        # Once given in MiB; the rounding of that time has to stay.
        parts.append(f"size={size & ~0x1FF}k")
    cmd.option("-m", ",".join(parts))
    backend_id = default_backend_id(domain, cmd.caps)
    if backend_id is not None:
        add(cmd, backend(cmd, Piece(alias=backend_id, size=size, system=True)))
    elif not numa_cells(domain):
        old_style_path(cmd)
    locked = domain.memory_backing is not None and domain.memory_backing.locked
    cmd.option("-overcommit", f"mem-lock={'on' if locked else 'off'}")


def old_style_path(cmd: Command) -> None:
    """Append ``-mem-prealloc`` and ``-mem-path``, for machines that know no backend."""
    backing, pages = cmd.domain.memory_backing, hugepages(cmd.domain)
    facts = cmd.resources.memory
    first = pages[0].size if pages else 0
    path = None
    prealloc = backing is not None and backing.allocation == "immediate"
    if pages is not None and first != facts.page_size:
        path = huge_page_path(cmd, first or _default_page_size(cmd))
        prealloc = True
    elif backing is not None and backing.source == "file":
        path = file_path(cmd, "ram")
    if prealloc and not facts.preallocated:
        cmd.option("-mem-prealloc")
        facts.preallocated = True
    if path is not None:
        cmd.option("-mem-path", path)
