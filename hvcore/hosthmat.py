"""How fast memory is, and what is cached of it: the firmware's HMAT as far as sysfs shows it.

Invariant: plain sealed data. The kernel shows no more of the table than the best way from CPUs to
each node (``access1``; ``access0`` counts devices as well) and the caches in front of a node
(``memory_side_cache``); see its ``Documentation/admin-guide/mm/numaperf.rst``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final
from typing import final

import attrs

from hvcore.sysfiles import number_of
from hvcore.sysfiles import numbered

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Iterator
    from pathlib import Path

#: the kernel's ``enum cache_indexing`` and ``enum cache_write_policy``
_ASSOCIATIVITY: Final = {0: "direct", 1: "full", 2: "none"}
_POLICY: Final = {0: "writeback", 1: "writethrough", 2: "none"}
_ACCESSES: Final = ("read", "write")
_KIB_PER_MIB: Final = 1024


@final
@attrs.frozen(slots=True, kw_only=True)
class MemoryCache:
    """A cache in front of a node's memory.

    :param associativity: ``direct``, ``full`` or ``none``.
    :param policy: ``writeback``, ``writethrough`` or ``none``.
    :param size: in KiB.
    :param line: in bytes, 0 when not known.
    """

    level: int
    associativity: str
    policy: str
    size: int
    line: int = 0

    def lines(self) -> Iterator[str]:
        """Write ``<cache>``."""
        marks = f"level='{self.level}' associativity='{self.associativity}' policy='{self.policy}'"
        yield f"<cache {marks}>"
        yield f"  <size value='{self.size}' unit='KiB'/>"
        if self.line:
            yield f"  <line value='{self.line}' unit='B'/>"
        yield "</cache>"


@final
@attrs.frozen(slots=True, kw_only=True)
class Interconnect:
    """The way from the CPUs of one node to the memory of another.

    :param access: ``read`` or ``write``.
    :param latency: in nanoseconds.
    :param bandwidth: in KiB a second.
    """

    initiator: int
    target: int
    access: str
    latency: int
    bandwidth: int


def read_memory_caches(node: Path) -> tuple[MemoryCache, ...]:
    """Read the caches in front of a node, given its folder; without those that make no sense."""
    folder = node / "memory_side_cache"
    return tuple(
        cache
        for level in numbered(folder, "index")
        if (cache := _memory_cache(folder / f"index{level}", level)) is not None
    )


def _memory_cache(folder: Path, level: int) -> MemoryCache | None:
    size = number_of(folder / "size")
    line = number_of(folder / "line_size")
    associativity = _ASSOCIATIVITY.get(_or_none(number_of(folder / "indexing")))
    policy = _POLICY.get(_or_none(number_of(folder / "write_policy")))
    if size is None or line is None or associativity is None or policy is None:
        return None
    return MemoryCache(
        level=level, associativity=associativity, policy=policy, size=size // 1024, line=line
    )


def _or_none(number: int | None) -> int:
    """Return a number of an enumeration, or one that no enumeration has."""
    return -1 if number is None else number


def read_interconnects(nodes: Path) -> tuple[Interconnect, ...]:
    """Read the best ways to each node, given the folder of the nodes."""
    found = [
        way for target in numbered(nodes, "node") for way in _ways(nodes / f"node{target}", target)
    ]
    return tuple(sorted(found, key=lambda w: (w.initiator, w.target, w.access)))


def _ways(node: Path, target: int) -> Iterator[Interconnect]:
    folder = node / "access1/initiators"
    for access in _ACCESSES:
        latency = number_of(folder / f"{access}_latency")
        bandwidth = number_of(folder / f"{access}_bandwidth")
        if latency is None or bandwidth is None:
            return
        for initiator in numbered(folder, "node"):
            yield Interconnect(
                initiator=initiator,
                target=target,
                access=access,
                latency=latency,
                bandwidth=bandwidth * _KIB_PER_MIB,
            )


def interconnect_lines(ways: Iterable[Interconnect]) -> Iterator[str]:
    """Write ``<interconnects>``: first all latencies, then all bandwidths."""
    ways = tuple(ways)
    if not ways:
        return
    yield "<interconnects>"
    for way in ways:
        yield f"  <latency {_marks(way)} value='{way.latency}'/>"
    for way in ways:
        yield f"  <bandwidth {_marks(way)} value='{way.bandwidth}' unit='KiB'/>"
    yield "</interconnects>"


def _marks(way: Interconnect) -> str:
    return f"initiator='{way.initiator}' target='{way.target}' type='{way.access}'"
