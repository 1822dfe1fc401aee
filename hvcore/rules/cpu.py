"""Rules of <cpu>: topology and NUMA cells agree with the count of virtual CPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.rules.base import Rules
from hvcore.rules.domain_memory import numa_cells
from hvcore.rules.vcpu import max_vcpus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.cpu import Cpu
    from hvcore.model.cpu import Interconnect
    from hvcore.model.cpu import NumaCell
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context

rules = Rules()

_MOST_CPUS = 2**32 - 1


def has_model(cpu: Cpu | None) -> bool:
    """Return whether ``cpu`` says which CPU it is, not only how many cores and nodes."""
    return cpu is not None and (cpu.mode not in (None, "custom") or cpu.model is not None)


def topology_vcpus(cpu: Cpu | None) -> int | None:
    """Return how many virtual CPUs the topology has, None where there is no topology."""
    if cpu is None or not cpu.sockets:
        return None
    return (
        cpu.sockets * (cpu.dies or 1) * (cpu.clusters or 1) * (cpu.cores or 1) * (cpu.threads or 1)
    )


@rules.post_parse_early
def _cells(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Cells hold virtual CPUs that there are."""
    del ctx
    cpus = [cell.cpus for cell in numa_cells(domain) if cell.cpus]
    if sum(len(numbers) for numbers in cpus) > max_vcpus(domain):
        yield Issue.internal("Number of CPUs in <numa> exceeds the <vcpu> count")
    elif not max_vcpus(domain) or any(numbers.mask >> max_vcpus(domain) for numbers in cpus):
        # To libvirt CPU 0 is the least that can be named, and a guest without CPUs lacks it.
        yield Issue.internal("CPU IDs in <numa> exceed the <vcpu> count")


@rules.post_parse_late
def _modeless(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Without a model there is nothing that attributes of the model could say."""
    del ctx
    cpu = domain.cpu
    if cpu is None or has_model(cpu):
        return
    if cpu.check is not None:
        yield Issue.unsupported("check attribute specified for CPU with no model", line=cpu.line)
    cpu.mode = cpu.match = cpu.deprecated_features = None


@rules.check_domain
def _topology(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Refuse a topology whose product is no number of CPUs."""
    del ctx
    if (topology_vcpus(domain.cpu) or 0) > _MOST_CPUS:
        yield Issue.unsupported(f"cpu topology results in more than {_MOST_CPUS} cpus")


@rules.check_domain
def _memory_side(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Check that caches have levels and interconnects ends that exist."""
    del ctx
    cells = numa_cells(domain)
    for cell in cells:
        levels: set[int] = set()
        for cache in cell.caches:
            if cache.level > 3:
                yield Issue.xml("Ain't nobody heard of that much cache level", line=cache.line)
            elif cache.level in levels:
                yield Issue.xml(f"Cache level '{cache.level}' already defined", line=cache.line)
            levels.add(cache.level)
    if cells and domain.cpu is not None and domain.cpu.numa is not None:
        before: list[Interconnect] = []
        for link in domain.cpu.numa.interconnects or ():
            yield from _link(link, cells, before)
            before.append(link)


def _link(link: Interconnect, cells: list[NumaCell], before: list[Interconnect]) -> Iterator[Issue]:
    if link.initiator >= len(cells):
        yield Issue.xml("'initiator' refers to a non-existent NUMA node")
        return
    if link.target >= len(cells):
        yield Issue.xml("'target' refers to a non-existent NUMA node")
        return
    if cells[link.initiator].cpus is None:
        yield Issue.xml("NUMA nodes without CPUs can't be initiator")
    if link.cache and all(link.cache != cache.level for cache in cells[link.target].caches):
        yield Issue.xml("'cache' refers to a non-existent NUMA node cache")
    for other in before:
        same = (link.kind, link.cache, link.type) == (other.kind, other.cache, other.type)
        ends = (link.initiator, link.target)
        if same and ends == (other.initiator, other.target):
            yield Issue.xml("Duplicate info for NUMA latencies")
        if link.initiator != link.target and ends == (other.target, other.initiator):
            yield Issue.xml("Link already defined")
