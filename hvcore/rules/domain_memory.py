"""Rules of <memory>, <currentMemory>, <maxMemory>, <memtune> and <memoryBacking>."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from hvcore.errors import ErrorClass
from hvcore.errors import Issue
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.cpu import NumaCell
    from hvcore.model.domain import Domain
    from hvcore.model.memory import HugePage
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues

rules = Rules()


def numa_cells(domain: Domain) -> list[NumaCell]:
    """Return the guest's NUMA nodes in the order of their numbers."""
    if domain.cpu is None or domain.cpu.numa is None:
        return []
    return domain.cpu.numa.cells


def initial_memory(domain: Domain) -> int:
    """Return the KiB of memory without that of memory modules."""
    return (domain.memory or 0) - sum(module.size for module in domain.devices.memories)


def has_memory_hotplug(domain: Domain) -> bool:
    """Return whether memory modules can be plugged at all."""
    return bool(domain.max_memory_slots or domain.max_memory)


def hugepages(domain: Domain) -> list[HugePage] | None:
    """Return the huge pages wanted: None for none, an empty list for those of default size."""
    backing = domain.memory_backing
    if backing is None or backing.hugepages is None:
        return None
    return backing.hugepages.pages


@rules.post_parse_late
def _sizes(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Make the total agree with nodes and modules, and the rest with the total."""
    modules = sum(module.size for module in domain.devices.memories)
    nodes = 0
    if not domain.memory or ctx.abi_update:
        nodes = sum(cell.memory for cell in numa_cells(domain))
    if nodes:
        domain.memory = nodes + modules
    elif modules > (domain.memory or 0):
        yield Issue.xml("Total size of memory devices exceeds the total memory size")
        return
    if initial_memory(domain) == 0:
        yield Issue.xml("Memory size must be specified via <memory> or in the <numa> configuration")
        return
    total = domain.memory or 0
    if not domain.current_memory or domain.current_memory > total:
        domain.current_memory = total
    domain.max_memory = domain.max_memory or None
    if not domain.max_memory:
        if domain.max_memory_slots:
            yield Issue.xml(
                "maximum memory size must be specified when specifying number of memory slots"
            )
    elif domain.max_memory < total:
        yield Issue.xml("maximum memory size must be equal or greater than the actual memory size")


@rules.post_parse_late
def _page_nodes(domain: Domain, ctx: Context) -> Issues:
    """Without guest nodes, node 0 means all memory."""
    del ctx
    if not numa_cells(domain):
        for page in hugepages(domain) or ():
            if page.nodeset is not None and page.nodeset.mask >> 1 == 0:
                page.nodeset = None
    return ()


@rules.check_domain
def _hugepages(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Each node has pages of one size; nodes must exist."""
    del ctx
    pages = hugepages(domain) or []
    for first, second in combinations(pages, 2):
        if first.nodeset and second.nodeset and first.nodeset & second.nodeset:
            yield _detail(
                f"nodeset attribute of hugepages of sizes {second.size} and {first.size} intersect"
            )
        elif not first.nodeset and not second.nodeset:
            yield _detail(f"two master hugepages detected: {second.size} and {first.size}")
    count = len(numa_cells(domain))
    for page in pages:
        missing = [node for node in page.nodeset or () if node >= count]
        if missing:
            yield _detail(f"hugepages: node {missing[0]} not found")


def _detail(message: str) -> Issue:
    return Issue(message, ErrorClass.XML_DETAIL)
