"""Rules of <numatune>: where the memory of the guest and of its nodes comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.model.numatune import NumaMemory
from hvcore.model.numatune import NumaTune
from hvcore.rules.base import Rules
from hvcore.rules.domain_memory import numa_cells

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.model.numatune import NumaMemnode
    from hvcore.model.numatune import NumaMode
    from hvcore.model.types import NodeSet
    from hvcore.pipeline import Context

rules = Rules()


def memnode(domain: Domain, cell: int) -> NumaMemnode | None:
    """Return what is said of the memory of one guest node; ``cell`` -1 is none of them."""
    for found in domain.numatune.memnodes if domain.numatune else ():
        if found.cellid == cell:
            return found
    return None


def numa_mode(domain: Domain, cell: int = -1) -> NumaMode | None:
    """Return how the memory of a guest node (-1: any other memory) is bound, None for not."""
    found = memnode(domain, cell) or (domain.numatune.memory if domain.numatune else None)
    return found.mode if found else None


def numa_nodeset(domain: Domain, advice: NodeSet | None, cell: int = -1) -> NodeSet | None:
    """Return the host nodes that memory of a guest node (-1: any other memory) comes from.

    :param advice: numad's, for automatic placement.
    """
    memory = domain.numatune.memory if domain.numatune else None
    if memory is not None and memory.placement == "auto":
        return advice
    found = memnode(domain, cell) or memory
    return found.nodeset if found else None


@rules.post_parse_early
def _placement(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Decide between a static set and numad's advice, for memory and for the virtual CPUs."""
    del ctx
    assert domain.vcpu is not None  # the rules of <vcpu> come before
    static_cpus = domain.vcpu.placement == "static"
    tune = domain.numatune
    if tune is None or tune.memory is None:
        if not static_cpus:
            tune = domain.numatune = tune or NumaTune()
            tune.memory = NumaMemory(mode="strict", placement="auto")
    elif not (tune.memory.mode or tune.memory.placement or tune.memory.nodeset):
        tune.memory = None
    else:
        yield from _memory(tune.memory, static_cpus=static_cpus)
    if tune is None:
        return
    auto = tune.memory is not None and tune.memory.placement == "auto"
    if tune.memnodes:
        yield from _memnodes(tune, len(numa_cells(domain)), auto=auto)
    pins = domain.cputune
    if (
        auto
        and domain.vcpu.cpuset is None
        and not (pins and (pins.vcpupins or pins.emulatorpin or pins.iothreadpins))
    ):
        domain.vcpu.placement = "auto"
    if tune.memory is None and not tune.memnodes:
        domain.numatune = None


def _memory(memory: NumaMemory, *, static_cpus: bool) -> Iterator[Issue]:
    memory.mode = memory.mode or "strict"
    if memory.placement in (None, "default"):
        memory.placement = "static" if memory.nodeset or static_cpus else "auto"
    if memory.placement == "auto":
        memory.nodeset = None
    elif memory.nodeset is None:
        yield Issue.unsupported(
            "nodeset for NUMA memory tuning must be set if 'placement' is 'static'",
            line=memory.line,
        )


def _memnodes(tune: NumaTune, cells: int, *, auto: bool) -> Iterator[Issue]:
    if auto:
        yield Issue.unsupported(
            "Per-node binding is not compatible with automatic NUMA placement.", line=tune.line
        )
        return
    if not cells:
        yield Issue.xml("Element 'memnode' is invalid without any guest NUMA cells", line=tune.line)
        return
    seen: set[int] = set()
    for node in tune.memnodes:
        if node.cellid >= cells:
            yield Issue.xml(
                "Argument 'cellid' in memnode element must correspond to existing guest's NUMA "
                "cell",
                line=node.line,
            )
        elif node.cellid in seen:
            yield Issue.xml(f"Multiple memnode elements with cellid {node.cellid}", line=node.line)
        seen.add(node.cellid)
    tune.memnodes.sort(key=lambda node: node.cellid)


@rules.check_domain
def _restrictive(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Mode restrictive is for all memory or for none: it leaves binding to cgroups."""
    del ctx
    tune = domain.numatune
    if tune is None:
        return
    general = tune.memory is not None and tune.memory.mode == "restrictive"
    for node in tune.memnodes:
        own = node.mode == "restrictive"
        if general and not own:
            yield Issue.xml(
                "'restrictive' mode is required in memnode element when mode is 'restrictive' in "
                "memory element",
                line=node.line,
            )
        if own and not general:
            yield Issue.xml(
                "'restrictive' mode is required in memory element when mode is 'restrictive' in "
                "memnode element",
                line=node.line,
            )
