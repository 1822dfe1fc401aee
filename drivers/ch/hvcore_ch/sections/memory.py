"""Memory: how much, how much there may be later, and what backs it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.errors import Issue
from hvcore.model.domain import Domain
from hvcore.model.memory import HugePage
from hvcore.model.memory import HugePages
from hvcore.model.memory import MemoryBacking
from hvcore.rules.base import Rules
from hvcore.rules.domain_memory import hugepages
from hvcore.rules.domain_memory import initial_memory
from hvcore.rules.domain_memory import numa_cells
from hvcore_ch.accepts import ANY
from hvcore_ch.accepts import one_of
from hvcore_ch.command import present

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.pipeline import Context
    from hvcore_ch.accepts import Accepts
    from hvcore_ch.command import Command

rules = Rules()

SLOTS: Final = 8
"""Pieces of memory that can be added while a guest runs."""

ACCEPTS: Accepts = {
    Domain: {
        "memory": ANY,
        "current_memory": ANY,
        "max_memory": ANY,
        "max_memory_slots": one_of(*range(1, SLOTS + 1)),
        "memory_backing": ANY,
    },
    MemoryBacking: {
        "hugepages": ANY,
        "nosharepages": one_of(True),
        "source": one_of("anonymous", "memfd"),
        "access": ANY,
        "allocation": ANY,
    },
    HugePages: {"pages": ANY},
    HugePage: {"size": ANY, "nodeset": ANY},
}


@rules.check_domain
def _hotplug(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Memory that may come later is one region behind the rest, which zones do not have."""
    del ctx
    if domain.max_memory and numa_cells(domain):
        yield Issue.unsupported(
            "Cloud-Hypervisor doesn't support adding memory to a guest with NUMA cells",
            path="maxMemory",
        )


@rules.check_domain
def _source(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Private memory is anonymous, and shared memory has a descriptor: nothing else is there."""
    del ctx
    backing = domain.memory_backing
    if backing is None or backing.source is None or backing.hugepages is not None:
        return
    shared = any(shares(domain))
    if (backing.source == "memfd") != shared:
        kind = "shared" if backing.source == "memfd" else "private"
        yield Issue.unsupported(
            f"Cloud-Hypervisor supports memory of source '{backing.source}' with access mode "
            f"'{kind}' only",
            path="source/@type",
            line=backing.line,
        )


def system_memory(domain: Domain) -> int:
    """Return the KiB of memory that are no device to cloud-hypervisor: modules are none."""
    modules = (each.size for each in domain.devices.memories if each.model == "dimm")
    return initial_memory(domain) + sum(modules)


def shares(domain: Domain) -> list[bool]:
    """Return whether the host's processes can share memory: for each cell, or the one of all."""
    backing = domain.memory_backing
    general = backing is not None and backing.access == "shared"
    cells = numa_cells(domain)
    if not cells:
        return [general]
    return [cell.mem_access == "shared" if cell.mem_access else general for cell in cells]


def reachable(domain: Domain) -> bool:
    """Return whether other processes can reach all memory of the guest."""
    return hugepages(domain) is not None or all(shares(domain))


def pages(domain: Domain, node: int | None = None) -> dict[str, Any]:
    """Return the members that say which pages a node, or all memory, consists of."""
    found = hugepages(domain)
    if found is None:
        return {}
    own = [page for page in found if node is not None and page.nodeset and node in page.nodeset]
    general = [page for page in found if page.nodeset is None]
    chosen = next(iter(own + general), None)
    if found and chosen is None:
        return {}
    size = None if chosen is None else chosen.size * 1024
    return present({"hugepages": True, "hugepage_size": size})


def prefault(domain: Domain) -> bool | None:
    """Return whether the host has to have the memory at once."""
    backing = domain.memory_backing
    return True if backing is not None and backing.allocation == "immediate" else None


def command(vm: Command) -> None:
    """Describe the memory; that of cells is in zones, which :mod:`hvcore_ch.sections.numa` adds."""
    domain = vm.domain
    if numa_cells(domain):
        vm.set("memory", {"size": 0})
        return
    initial = system_memory(domain)
    later = (domain.max_memory or 0) - (domain.memory or 0)
    members = {
        "size": initial * 1024,
        "hotplug_size": later * 1024 if later > 0 else None,
        "shared": True if any(shares(domain)) else None,
        "prefault": prefault(domain),
        **pages(domain),
    }
    vm.set("memory", present(members))
