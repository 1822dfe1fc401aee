"""Where the threads of a domain may run and where their memory may be: one rule for all of them.

A pin of its own comes first, then numad's advice where the virtual CPUs are placed automatically,
then the CPUs that ``<vcpu>`` names; what none of them says may run everywhere. Pins are inherited
when they are used and never written down, so the document keeps saying what its author said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from hvcore.model.cputune import CpuTune
from hvcore.model.types import NodeSet
from hvcore.rules.domain_memory import numa_cells
from hvcore.rules.numatune import memnode

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Mapping
    from typing import Any
    from typing import Self

    from hvcore.model.cputune import IOThreadSched
    from hvcore.model.cputune import Scheduler
    from hvcore.model.cputune import VcpuSched
    from hvcore.model.domain import Domain
    from hvcore.model.numatune import NumaMemory
    from hvcore.model.numatune import NumaMode


@attrs.frozen
class Advice:
    """Where an advisor wants a domain, asked once at its start.

    :param nodeset: host nodes for its memory.
    :param cpuset: host CPUs for its threads.
    """

    nodeset: NodeSet
    cpuset: NodeSet

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self | None:
        """Return the advice in what a driver keeps of a running domain; None without one."""
        kept = data.get("numad")
        if kept is None:
            return None
        return cls(NodeSet.parse(kept["nodeset"]), NodeSet.parse(kept["cpuset"]))

    def kept(self) -> dict[str, Any]:
        """Return what :meth:`of` reads."""
        return {"numad": {"nodeset": str(self.nodeset), "cpuset": str(self.cpuset)}}


def wants_advice(domain: Domain) -> bool:
    """Tell whether an advisor chooses where the guest runs or where its memory comes from."""
    memory = domain.numatune.memory if domain.numatune else None
    return bool(
        (domain.vcpu and domain.vcpu.placement == "auto") or (memory and memory.placement == "auto")
    )


def _inherited(domain: Domain, advice: Advice | None) -> NodeSet | None:
    """Return the CPUs of a thread without a pin; None for all."""
    vcpu = domain.vcpu
    if vcpu is None:
        return None
    if vcpu.placement == "auto":
        return None if advice is None else advice.cpuset
    return vcpu.cpuset


def vcpu_cpus(domain: Domain, number: int, advice: Advice | None) -> NodeSet | None:
    """Return the host CPUs that one virtual CPU may run on; None for all."""
    for pin in domain.cputune.vcpupins if domain.cputune is not None else ():
        if pin.vcpu == number:
            return pin.cpuset
    return _inherited(domain, advice)


def emulator_cpus(domain: Domain, advice: Advice | None) -> NodeSet | None:
    """Return the host CPUs that the hypervisor's own threads may run on; None for all."""
    if domain.cputune is not None and domain.cputune.emulatorpin is not None:
        return domain.cputune.emulatorpin.cpuset
    return _inherited(domain, advice)


def iothread_cpus(domain: Domain, number: int, advice: Advice | None) -> NodeSet | None:
    """Return the host CPUs that one I/O thread may run on; None for all."""
    for pin in domain.cputune.iothreadpins if domain.cputune is not None else ():
        if pin.iothread == number:
            return pin.cpuset
    return _inherited(domain, advice)


# -- memory ---------------------------------------------------------------------------------------


def memory_nodes(domain: Domain, advice: Advice | None) -> NodeSet | None:
    """Return the host nodes that a control group confines the hypervisor's memory to; None for all.

    Strict binding is done by the hypervisor for each part of the memory, so its threads need all
    the nodes; restrictive leaves everything to the group; the other modes are no confinement.
    """
    tune = domain.numatune
    memory = tune.memory if tune is not None else None
    if tune is None or memory is None or memory.mode not in ("strict", "restrictive"):
        return None
    nodes = _general_nodes(memory, advice)
    if memory.mode == "strict":
        for node in tune.memnodes:
            nodes = node.nodeset if nodes is None else nodes | node.nodeset
    return nodes


def _general_nodes(memory: NumaMemory, advice: Advice | None) -> NodeSet | None:
    if memory.placement == "auto":
        return None if advice is None else advice.nodeset
    return memory.nodeset


def vcpu_nodes(domain: Domain, number: int, advice: Advice | None) -> NodeSet | None:
    """Return the host nodes that a control group confines one virtual CPU to; None for all.

    A virtual CPU of a guest node with restrictive placement of its own is confined to that.
    """
    for index, cell in enumerate(numa_cells(domain)):
        if cell.cpus is not None and number in cell.cpus:
            own = memnode(domain, index)
            if own is not None and own.mode == "restrictive":
                return own.nodeset
            break
    return memory_nodes(domain, advice)


@attrs.frozen
class MemoryPolicy:
    """Where the kernel takes a process's memory from, for lack of a group that confines it."""

    mode: NumaMode
    nodes: NodeSet


def memory_policy(domain: Domain, advice: Advice | None, *, confined: bool) -> MemoryPolicy | None:
    """Return the policy that the hypervisor is started with; None for the usual one.

    :param confined: a control group confines its memory.
    """
    memory = domain.numatune.memory if domain.numatune is not None else None
    if memory is None or memory.mode in (None, "restrictive"):
        return None
    nodes = _general_nodes(memory, advice)
    if nodes is None or (memory.mode == "strict" and confined):
        return None
    return MemoryPolicy(memory.mode, nodes)


def initial_cpus(
    domain: Domain, advice: Advice | None, cpus_of: Callable[[NodeSet], NodeSet]
) -> NodeSet | None:
    """Return the host CPUs to start the hypervisor on, so that its first memory is near; or None.

    :param cpus_of: the CPUs of some host nodes.
    """
    memory = domain.numatune.memory if domain.numatune is not None else None
    if memory is not None and memory.mode == "strict" and len(numa_cells(domain)) <= 1:
        nodes = _general_nodes(memory, advice)
        return None if nodes is None else cpus_of(nodes)
    pin = domain.cputune.emulatorpin if domain.cputune is not None else None
    return None if pin is None else pin.cpuset


# -- threads ---------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class ThreadPlace:
    """Where one thread belongs, and how much of it may run.

    :param cpus: host CPUs; None for all.
    :param nodes: host nodes of its memory; None for all.
    :param period: microseconds in which ``quota`` of run time is given; None or 0 as it is.
    :param quota: microseconds; negative for no limit.
    :param scheduler: and the priority, where it is not the usual one.
    """

    cpus: NodeSet | None = None
    nodes: NodeSet | None = None
    period: int | None = None
    quota: int | None = None
    scheduler: tuple[Scheduler, int] | None = None


def _scheduler(
    entries: Iterable[tuple[VcpuSched | IOThreadSched, NodeSet]], number: int
) -> tuple[Scheduler, int] | None:
    """Return scheduler and priority of a thread, of entries with the threads they are for."""
    for entry, numbers in entries:
        if number in numbers:
            return entry.scheduler, entry.priority or 0
    return None


def emulator_place(domain: Domain, advice: Advice | None) -> ThreadPlace:
    """Return where the hypervisor's own threads belong; their scheduler stays what it is."""
    tune = domain.cputune or CpuTune()
    return ThreadPlace(
        cpus=emulator_cpus(domain, advice),
        nodes=memory_nodes(domain, advice),
        period=tune.emulator_period,
        quota=tune.emulator_quota,
    )


def vcpu_place(domain: Domain, number: int, advice: Advice | None) -> ThreadPlace:
    """Return where the thread of a virtual CPU belongs."""
    tune = domain.cputune or CpuTune()
    return ThreadPlace(
        cpus=vcpu_cpus(domain, number, advice),
        nodes=vcpu_nodes(domain, number, advice),
        period=tune.period,
        quota=tune.quota,
        scheduler=_scheduler(((each, each.vcpus) for each in tune.vcpuscheds), number),
    )


def iothread_place(domain: Domain, number: int, advice: Advice | None) -> ThreadPlace:
    """Return where an I/O thread belongs."""
    tune = domain.cputune or CpuTune()
    return ThreadPlace(
        cpus=iothread_cpus(domain, number, advice),
        nodes=memory_nodes(domain, advice),
        period=tune.iothread_period,
        quota=tune.iothread_quota,
        scheduler=next(
            ((e.scheduler, e.priority or 0) for e in tune.iothreadscheds if number in e.iothreads),
            None,
        ),
    )


def is_placed(domain: Domain, advice: Advice | None) -> bool:
    """Tell whether anything about the threads of a domain differs from those of any process."""
    tune = domain.cputune
    return bool(
        tune is not None
        or domain.memtune is not None
        or emulator_cpus(domain, advice)
        or memory_nodes(domain, advice)
    )
