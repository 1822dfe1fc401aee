"""NUMA nodes of the guest, and the nodes of the host that their memory comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.errors import ValidationFailed
from hvcore.model.cpu import Numa
from hvcore.model.cpu import NumaCell
from hvcore.model.cpu import NumaDistance
from hvcore.model.domain import Domain
from hvcore.model.numatune import NumaMemnode
from hvcore.model.numatune import NumaMemory
from hvcore.model.numatune import NumaTune
from hvcore.rules.base import Rules
from hvcore.rules.domain_memory import numa_cells
from hvcore_ch.accepts import ANY
from hvcore_ch.accepts import one_of
from hvcore_ch.command import present
from hvcore_ch.sections.memory import pages
from hvcore_ch.sections.memory import prefault
from hvcore_ch.sections.memory import shares

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.types import NodeSet
    from hvcore.pipeline import Context
    from hvcore_ch.accepts import Accepts
    from hvcore_ch.command import Command

rules = Rules()

ACCEPTS: Accepts = {
    Domain: {"numatune": ANY},
    Numa: {"cells": ANY},
    NumaCell: {"id": ANY, "cpus": ANY, "memory": ANY, "mem_access": ANY, "distances": ANY},
    NumaDistance: {"id": ANY, "value": ANY},
    NumaTune: {"memory": ANY, "memnodes": ANY},
    NumaMemory: {"mode": one_of("strict"), "nodeset": ANY},
    NumaMemnode: {"cellid": ANY, "mode": one_of("strict"), "nodeset": ANY},
}


def zone_id(number: int) -> str:
    """Return the name of the memory of a node."""
    return f"mem{number}"


def host_nodes(domain: Domain, number: int) -> NodeSet | None:
    """Return the nodes of the host that the memory of a node comes from; None for all."""
    tune = domain.numatune
    if tune is None:
        return None
    for node in tune.memnodes:
        if node.cellid == number:
            return node.nodeset
    return tune.memory.nodeset if tune.memory is not None else None


@rules.check_domain
def _one_host_node(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Bind a zone to one node of the host, and nothing but zones."""
    del ctx
    cells = numa_cells(domain)
    if not cells and host_nodes(domain, 0) is not None:
        yield Issue.unsupported(
            "Cloud-Hypervisor binds the memory of NUMA cells only", path="numatune"
        )
    for number in range(len(cells)):
        nodes = host_nodes(domain, number)
        if nodes is not None and len(nodes) != 1:
            yield Issue.unsupported(
                f"Cloud-Hypervisor binds the memory of NUMA cell {number} to a single host node",
                path="numatune",
            )


def command(vm: Command) -> None:
    """Describe the nodes, with a zone of memory for each that has some."""
    shared = shares(vm.domain)
    for number, cell in enumerate(numa_cells(vm.domain)):
        node = vm.numa_node(number)
        node.settings["cpus"] = list(cell.cpus) if cell.cpus else None
        node.settings["distances"] = [
            {"destination": far.id, "distance": far.value} for far in cell.distances
        ] or None
        if not cell.memory:
            continue
        node.settings["memory_zones"] = [zone_id(number)]
        nodes = host_nodes(vm.domain, number)
        zone = {
            "id": zone_id(number),
            "size": cell.memory * 1024,
            "shared": True if shared[number] else None,
            "host_numa_node": None if nodes is None else next(iter(nodes)),
            "prefault": prefault(vm.domain),
            **pages(vm.domain, number),
        }
        vm.memory_zone(present(zone))


def check_nodes(vm: Command) -> None:
    """Refuse nodes that nothing belongs to, once plugins had their say.

    :raises ValidationFailed: there is one.
    """
    for number, cell in enumerate(numa_cells(vm.domain)):
        if not cell.memory and not cell.cpus and vm.numa_node(number).device_id is None:
            raise ValidationFailed(
                [
                    Issue.unsupported(
                        f"Cloud-Hypervisor doesn't support NUMA cell {number} without CPUs, memory "
                        "and device",
                        line=cell.line,
                    )
                ]
            )
