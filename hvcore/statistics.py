"""What a domain uses, as numbers: the facts, and how libvirt names them in one flat list."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs

from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.lifecycle import Labelled
from hvcore.model.types import NodeSet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping

    from hvcore.model.devices.disk import Disk
    from hvcore.model.domain import Domain

MEMORY: Final = (
    "actual", "swap_in", "swap_out", "major_fault", "minor_fault", "unused", "available",
    "usable", "last_update", "disk_caches", "hugetlb_pgalloc", "hugetlb_pgfail", "rss",
)  # fmt: skip
"""Names of memory statistics as virsh prints them, in its order. Sizes are KiB."""

GROUPS: Final = ("state", "cpu-total", "balloon", "vcpu", "interface", "block", "iothread")
"""Groups of the flat list, in libvirt's order."""

_COUNTERS: Final = {"bytes": "bytes", "pkts": "packets", "errs": "errors", "drop": "drops"}

_REQUESTS: Final = {
    "rd.reqs": "read_requests",
    "rd.bytes": "read_bytes",
    "rd.times": "read_time",
    "wr.reqs": "write_requests",
    "wr.bytes": "write_bytes",
    "wr.times": "write_time",
    "fl.reqs": "flush_requests",
    "fl.times": "flush_time",
}

_BALLOON: Final = {"last_update": "last-update"}


class VcpuState(Labelled):
    """``virVcpuState``."""

    OFFLINE = (0, "offline")
    RUNNING = (1, "running")
    BLOCKED = (2, "blocked")


@attrs.frozen(kw_only=True)
class VcpuInfo:
    """One virtual CPU of a running domain (``virVcpuInfo``).

    :param cpu_time: nanoseconds; None where nobody can tell.
    :param cpu: number of the host's CPU it was last seen on; -1 where it is on none.
    :param affinity: host CPUs it may run on; None for all.
    """

    number: int
    state: VcpuState
    cpu_time: int | None
    cpu: int
    affinity: NodeSet | None = None


@attrs.frozen(kw_only=True)
class BlockStats:
    """What was read from a disk and written to it since the guest was started.

    :param read_time: nanoseconds that all reads took together, and so below; None for what is
        not counted.
    :param errors: failed requests.
    """

    read_requests: int
    read_bytes: int
    write_requests: int
    write_bytes: int
    read_time: int | None = None
    write_time: int | None = None
    flush_requests: int | None = None
    flush_time: int | None = None
    errors: int | None = None


@attrs.frozen(kw_only=True)
class BlockInfo:
    """How large a disk is, in bytes (``virDomainBlockInfo``).

    :param capacity: what the guest sees.
    :param allocation: what is in use on the host.
    :param physical: how large the host's file or device is.
    """

    capacity: int
    allocation: int
    physical: int


@attrs.frozen(kw_only=True)
class InterfaceStats:
    """What the guest received and sent; None for what is not counted."""

    rx_bytes: int
    rx_packets: int
    rx_errors: int | None = None
    rx_drops: int | None = None
    tx_bytes: int
    tx_packets: int
    tx_errors: int | None = None
    tx_drops: int | None = None


@attrs.frozen(kw_only=True)
class IOThreadStats:
    """How an I/O thread polls.

    :param poll_max: nanoseconds at most.
    :param poll_grow: by how many times longer it polls next, if that was too short.
    :param poll_shrink: by how many times shorter, if that was too long.
    """

    number: int
    poll_max: int
    poll_grow: int
    poll_shrink: int


@attrs.frozen(kw_only=True)
class CpuStats:
    """Nanoseconds of host CPU time that a domain used.

    :param per_cpu: by number of the host's CPU; empty where nobody can tell.
    """

    cpu_time: int
    user_time: int
    system_time: int
    per_cpu: Mapping[int, int] = attrs.field(factory=dict)


def find_disk(domain: Domain, name: str) -> Disk:
    """Return the disk with this target or source.

    :raises HvError: there is none.
    """
    for disk in domain.devices.disks:
        if name and name in (disk.target, getattr(disk.source, "path", None)):
            return disk
    raise HvError(f"invalid path {name} not assigned to domain", kind=ErrorClass.INVALID_ARG)


def cpu_values(stats: CpuStats) -> Iterator[tuple[str, Any]]:
    """Yield the group ``cpu-total``."""
    yield "cpu.time", stats.cpu_time
    yield "cpu.user", stats.user_time
    yield "cpu.system", stats.system_time


def balloon_values(
    current: int, maximum: int, stats: Mapping[str, int]
) -> Iterator[tuple[str, Any]]:
    """Yield the group ``balloon``."""
    yield "balloon.current", current
    yield "balloon.maximum", maximum
    for name in MEMORY:
        if name != "actual" and name in stats:
            yield f"balloon.{_BALLOON.get(name, name)}", stats[name]


def vcpu_values(current: int, maximum: int, infos: list[VcpuInfo]) -> Iterator[tuple[str, Any]]:
    """Yield the group ``vcpu``."""
    yield "vcpu.current", current
    yield "vcpu.maximum", maximum
    for info in infos:
        yield f"vcpu.{info.number}.state", int(info.state)
        if info.cpu_time is not None:
            yield f"vcpu.{info.number}.time", info.cpu_time


def interface_values(number: int, name: str, stats: InterfaceStats) -> Iterator[tuple[str, Any]]:
    """Yield what the group ``interface`` has of one interface."""
    yield f"net.{number}.name", name
    for way in ("rx", "tx"):
        for short, long in _COUNTERS.items():
            value = getattr(stats, f"{way}_{long}")
            if value is not None:
                yield f"net.{number}.{way}.{short}", value


def block_values(
    number: int, disk: Disk, stats: BlockStats | None, info: BlockInfo | None
) -> Iterator[tuple[str, Any]]:
    """Yield what the group ``block`` has of one disk."""
    head = f"block.{number}"
    yield f"{head}.name", disk.target
    path = getattr(disk.source, "path", None)
    if path is not None:
        yield f"{head}.path", path
    if stats is not None:
        for name, field in _REQUESTS.items():
            value = getattr(stats, field)
            if value is not None:
                yield f"{head}.{name}", value
    if info is not None:
        for name in ("allocation", "capacity", "physical"):
            yield f"{head}.{name}", getattr(info, name)


def iothread_values(stats: list[IOThreadStats]) -> Iterator[tuple[str, Any]]:
    """Yield the group ``iothread``; nothing of a domain without any."""
    if stats:
        yield "iothread.count", len(stats)
    for each in stats:
        head = f"iothread.{each.number}"
        yield f"{head}.poll-max-ns", each.poll_max
        yield f"{head}.poll-grow", each.poll_grow
        yield f"{head}.poll-shrink", each.poll_shrink
