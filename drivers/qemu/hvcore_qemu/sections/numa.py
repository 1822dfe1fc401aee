"""Guest NUMA in QEMU: defaults, ``-numa``, and what the host's nodes have to do with it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.errors import ValidationFailed
from hvcore.hostinfo import HugePageMount
from hvcore.model.cpu import LOCAL_DISTANCE
from hvcore.model.cpu import Cpu
from hvcore.model.cpu import Numa
from hvcore.model.cpu import NumaCell
from hvcore.model.types import NodeSet
from hvcore.rules.base import Rules
from hvcore.rules.domain_memory import has_memory_hotplug
from hvcore.rules.domain_memory import numa_cells
from hvcore.rules.numatune import numa_nodeset
from hvcore.rules.placement import wants_advice
from hvcore.rules.vcpu import max_vcpus
from hvcore.rules.vcpu import online_vcpus
from hvcore_qemu.machines import machine_of
from hvcore_qemu.resources import HostMemory
from hvcore_qemu.sections.memory import Backend
from hvcore_qemu.sections.memory import Piece
from hvcore_qemu.sections.memory import add
from hvcore_qemu.sections.memory import backend
from hvcore_qemu.sections.memory import old_style_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping

    from hvcore.model.cpu import Interconnect
    from hvcore.model.cpu import NumaCache
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues
    from hvcore_qemu.command import Command
    from hvcore_qemu.prepare import Preparation

rules = Rules()

REMOTE_DISTANCE: Final = 20
"""Distance to another node where the document gives none."""
_HIERARCHY: Final = ("memory", "first-level", "second-level", "third-level")
_ASSOCIATIVITY: Final = {"none": "none", "direct": "direct", "full": "complex"}
_CACHE_POLICY: Final = {"none": "none", "writeback": "write-back", "writethrough": "write-through"}


# -- defaults and validation --------------------------------------------------------------------


@rules.post_parse_domain
def _one_cell(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Memory modules need a cell to be in: a new guest without cells gets one."""
    if (
        not ctx.abi_update
        or not has_memory_hotplug(domain)
        or machine_of(domain).s390_ccw
        or numa_cells(domain)
    ):
        return
    size = domain.memory or 0
    for module in domain.devices.memories:
        if module.size > size:
            yield Issue.xml("Total size of memory devices exceeds the total memory size")
            return
        size -= module.size
        if module.model in ("dimm", "nvdimm", "virtio-mem") and module.node is None:
            module.node = 0
    if domain.cpu is None:
        domain.cpu = Cpu()
    domain.cpu.numa = Numa(cells=[NumaCell(id=0, memory=size)])


@rules.post_parse_domain
def _stray_cpus(domain: Domain, ctx: Context) -> Issues:
    """Every CPU is in a cell: those that the document leaves out belong to the first."""
    del ctx
    cells = numa_cells(domain)
    if not cells or sum(len(cell.cpus or ()) for cell in cells) >= max_vcpus(domain):
        return ()
    rest = NodeSet.from_mask((1 << max_vcpus(domain)) - 1)
    for cell in cells[1:]:
        rest -= cell.cpus or NodeSet()
    cells[0].cpus = rest
    return ()


def has_hmat(domain: Domain) -> bool:
    """Return whether the guest is told of caches or speeds of its memory."""
    if domain.cpu is None or domain.cpu.numa is None:
        return False
    return bool(domain.cpu.numa.interconnects) or any(cell.caches for cell in numa_cells(domain))


@rules.check_domain
def _hmat(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Refuse an HMAT where QEMU has none."""
    if has_hmat(domain) and "numa.hmat" not in ctx.caps:
        yield Issue.unsupported("HMAT is not supported with this QEMU")


@rules.check_domain
def _pinned_emulator(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Leave all placement to numad or none of it, as long as the administrator wants no mixture.

    Only of a definition that a user just gave: what is stored or comes from elsewhere may have it.
    """
    pins, vcpu = domain.cputune, domain.vcpu
    if (
        ctx.abi_update
        and not ctx.config.allow_emulatorpin_with_auto_placement
        and vcpu is not None
        and vcpu.placement == "auto"
        and pins is not None
        and pins.emulatorpin is not None
    ):
        yield Issue.unsupported(
            "'emulatorpin' cannot be used when 'placement' of 'vcpu' is 'auto'",
            line=pins.emulatorpin.line,
            hint="allow_emulatorpin_with_auto_placement = 1 in qemu.conf allows it",
        )


# -- the host -----------------------------------------------------------------------------------


def prepare(work: Preparation) -> None:
    """Find out what the host's memory is like, and ask numad where the guest wants that."""
    domain, info = work.domain, work.info
    nodes = work.host.numa_nodes()
    if nodes is None and info is not None:
        nodes = {cell.id: NodeSet(thread.id for thread in cell.cpus) for cell in info.cells} or None
    known = info.hugepage_mounts if info is not None else ()
    default = next((mount.size for mount in known if mount.default), None)
    configured = tuple(
        HugePageMount(path, size, default=size == default) for path, size in work.config.hugetlbfs
    )
    advice = None
    if wants_advice(domain):
        advice = work.host.numa_advice(
            vcpus=online_vcpus(domain), memory=-(-(domain.memory or 0) // 1024)
        )
    facts = HostMemory(hugepage_mounts=configured or known, nodes=nodes, advice=advice)
    if info is not None:
        facts.page_size = info.page_size
        work.resources.host_arch = info.arch
    facts.emulator_nodes = _emulator_nodes(domain, nodes, advice)
    work.resources.memory = facts


def _emulator_nodes(
    domain: Domain, nodes: Mapping[int, NodeSet] | None, advice: NodeSet | None
) -> NodeSet | None:
    """Return the nodes of the CPUs that QEMU's own threads may run on.

    libvirt takes numad's nodes for CPU numbers here; so do we, for equal command lines.
    """
    cpus = None
    if domain.cputune and domain.cputune.emulatorpin:
        cpus = domain.cputune.emulatorpin.cpuset
    elif domain.vcpu and domain.vcpu.placement == "auto" and advice:
        cpus = advice
    elif domain.vcpu:
        cpus = domain.vcpu.cpuset
    if cpus is None or nodes is None:
        return None
    return NodeSet(node for node, own in nodes.items() if own & cpus)


# -- command line -------------------------------------------------------------------------------


def numa(cmd: Command) -> None:
    """Append the cells with their memory, then distances, speeds and caches.

    :raises ValidationFailed: when a host node is missing, or no cell has a CPU.
    """
    domain = cmd.domain
    cells = numa_cells(domain)
    if not cells:
        return
    advice = cmd.resources.memory.advice
    for number in range(-1, len(cells)):
        wanted = numa_nodeset(domain, advice, number)
        if wanted is not None:
            cmd.resources.memory.require_nodes(wanted)
    hmat = has_hmat(domain)
    found = [
        backend(cmd, Piece(alias=f"ram-node{number}", size=cell.memory, node=number))
        for number, cell in enumerate(cells)
    ]
    assert domain.os is not None  # the rules of <os> come before
    old_style = (
        cmd.caps.machine_numa_mem_supported(domain.type, domain.os.machine or "")
        and not hmat
        and not any(one.needed for one in found)
    )
    if old_style:
        old_style_path(cmd)
    master = next((n for n, cell in enumerate(cells) if cell.cpus), None)
    if master is None:
        raise ValidationFailed([Issue.unsupported("At least one NUMA node has to have CPUs")])
    for number, cell in enumerate(cells):
        _cell(cmd, cell, found[number], old_style=old_style, master=master if hmat else None)
    _distances(cmd, cells)
    if hmat:
        assert domain.cpu is not None
        assert domain.cpu.numa is not None
        for link in domain.cpu.numa.interconnects or ():
            cmd.option("-numa", _link(link))
        # QEMU wants the caches after everything else.
        for number, cell in enumerate(cells):
            for cache in cell.caches:
                cmd.option("-numa", _cache(number, cache))


def _cell(
    cmd: Command, cell: NumaCell, found: Backend, *, old_style: bool, master: int | None
) -> None:
    number = cell.id or 0
    empty = cell.memory == 0 and not old_style
    if not old_style and not empty:
        add(cmd, found)
    text = f"node,nodeid={number}"
    if cell.cpus:
        text += "".join(f",cpus={run}" for run in str(cell.cpus).split(","))
    if master is not None:
        own = _initiator(cmd.domain, cell)
        text += f",initiator={master if own is None else own}"
    if old_style:
        text += f",mem={cell.memory // 1024}"
    elif not empty:  # QEMU has no backends without size, but cells without memory
        text += f",memdev=ram-node{number}"
    cmd.option("-numa", text)


def _initiator(domain: Domain, cell: NumaCell) -> int | None:
    """Return the node with CPUs that reaches the cell best: by latency, else by bandwidth."""
    if cell.cpus:
        return cell.id
    assert domain.cpu is not None
    assert domain.cpu.numa is not None
    links = [link for link in domain.cpu.numa.interconnects or () if link.target == cell.id]
    latencies = [link for link in links if link.kind == "latency"]
    if latencies:
        return min(latencies, key=lambda link: link.value).initiator
    bandwidths = [link for link in links if link.value > 0]
    return max(bandwidths, key=lambda link: link.value).initiator if bandwidths else None


def _distances(cmd: Command, cells: list[NumaCell]) -> None:
    """Append all distances as soon as one of them is not the usual one."""
    given = [{d.id: d.value for d in cell.distances} for cell in cells]
    usual = (LOCAL_DISTANCE, REMOTE_DISTANCE)
    if all(value in usual for one in given for value in one.values()) and not any(
        0 < len(one) < len(cells) for one in given
    ):
        return
    for source, one in enumerate(given):
        for target in range(len(cells)):
            default = LOCAL_DISTANCE if source == target else REMOTE_DISTANCE
            cmd.option("-numa", f"dist,src={source},dst={target},val={one.get(target, default)}")


def _link(link: Interconnect) -> str:
    value = f"{link.value}K" if link.kind == "bandwidth" else f"{link.value}"
    return (
        f"hmat-lb,initiator={link.initiator},target={link.target},"
        f"hierarchy={_HIERARCHY[link.cache]},data-type={link.type}-{link.kind},{link.kind}={value}"
    )


def _cache(number: int, cache: NumaCache) -> str:
    text = (
        f"hmat-cache,node-id={number},size={cache.size}K,level={cache.level}"
        f",associativity={_ASSOCIATIVITY[cache.associativity]},policy={_CACHE_POLICY[cache.policy]}"
    )
    return text + (f",line={cache.line}" if cache.line else "")
