"""Rules of <cputune> that hold for every driver."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

import attrs

from hvcore.errors import ErrorClass
from hvcore.errors import Issue
from hvcore.model.cputune import CacheTune
from hvcore.model.cputune import IOThreadSched
from hvcore.model.cputune import MemoryTune
from hvcore.model.cputune import VcpuSched
from hvcore.model.types import NodeSet
from hvcore.rules.base import Rules
from hvcore.rules.iothread import iothreads
from hvcore.rules.vcpu import max_vcpus

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Iterator

    from hvcore.model.cputune import BandwidthMonitor
    from hvcore.model.cputune import CacheMonitor
    from hvcore.model.cputune import CpuTune
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context

rules = Rules()

PERIODS: Final = ("period", "global_period", "emulator_period", "iothread_period")
QUOTAS: Final = ("quota", "global_quota", "emulator_quota", "iothread_quota")
# Limits of the kernel's CPU bandwidth control (virCgroup).
_PERIOD_RANGE: Final = (1000, 1000000)
_QUOTA_RANGE: Final = (1000, 17592186044415)

_CACHE_TYPES: Final = ("both", "code", "data")


@rules.post_parse_early
def _pins(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Pins are of threads that exist, one each, and in the order of the threads."""
    del ctx
    tune = domain.cputune
    if tune is None:
        return
    tune.vcpupins = [pin for pin in tune.vcpupins if pin.vcpu < max_vcpus(domain)]
    tune.vcpupins.sort(key=lambda pin: pin.vcpu)
    if any(pin.cpuset is None for pin in tune.vcpupins):
        yield Issue.internal("missing cpuset for vcpupin")
    for number in _repeated(pin.vcpu for pin in tune.vcpupins):
        yield Issue.internal(f"duplicate vcpupin for vcpu '{number}'")
    order = {thread.id: place for place, thread in enumerate(iothreads(domain))}
    for pin in tune.iothreadpins:
        if pin.iothread not in order:
            yield Issue.unsupported(f"Cannot find 'iothread' : {pin.iothread}", line=pin.line)
    for number in _repeated(pin.iothread for pin in tune.iothreadpins):
        yield Issue.internal(f"duplicate iothreadpin for same iothread '{number}'")
    tune.iothreadpins.sort(key=lambda pin: order.get(pin.iothread, 0))


def _repeated(numbers: Iterable[int]) -> Iterator[int]:
    seen: set[int] = set()
    for number in numbers:
        if number in seen:
            yield number
        seen.add(number)


@rules.post_parse_early
def _schedulers(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Every thread has at most one scheduler; libvirt writes one element for each thread."""
    del ctx
    tune = domain.cputune
    if tune is None:
        return
    known = range(max_vcpus(domain))
    for sched in tune.vcpuscheds:
        for number in sched.vcpus:
            if number not in known:
                yield Issue.unsupported(
                    f"vCPU '{number}' is not present in domain definition", line=sched.line
                )
    order = {thread.id: place for place, thread in enumerate(iothreads(domain))}
    for iosched in tune.iothreadscheds:
        for number in iosched.iothreads:
            if number not in order:
                yield Issue.unsupported(f"Cannot find 'iothread' : {number}", line=iosched.line)
    if _overlapping(sched.vcpus for sched in tune.vcpuscheds):
        yield _detail("'vcpusched' attributes 'vcpus' must not overlap")
    if _overlapping(sched.iothreads for sched in tune.iothreadscheds):
        yield _detail("'iothreadsched' attributes 'iothreads' must not overlap")
    vcpus = [(n, sched) for sched in tune.vcpuscheds for n in sched.vcpus]
    tune.vcpuscheds = [
        VcpuSched(vcpus=NodeSet([n]), scheduler=sched.scheduler, priority=sched.priority)
        for n, sched in sorted(vcpus, key=lambda pair: pair[0])
    ]
    threads = [(n, sched) for sched in tune.iothreadscheds for n in sched.iothreads]
    tune.iothreadscheds = [
        IOThreadSched(iothreads=NodeSet([n]), scheduler=sched.scheduler, priority=sched.priority)
        for n, sched in sorted(threads, key=lambda pair: order.get(pair[0], 0))
    ]


def _overlapping(sets: Iterable[NodeSet]) -> bool:
    mask = 0
    for numbers in sets:
        if mask & numbers.mask:
            return True
        mask |= numbers.mask
    return False


def _detail(message: str) -> Issue:
    return Issue(message, ErrorClass.XML_DETAIL)


@attrs.define(eq=False)
class _Group:
    """One resctrl group: what <cachetune> and <memorytune> say of the same virtual CPUs."""

    vcpus: NodeSet
    cache: CacheTune | None = None
    memory: MemoryTune | None = None
    monitors: list[tuple[str, NodeSet]] = attrs.field(factory=list)

    def allocates(self) -> bool:
        """Return whether it reserves anything, or only measures."""
        return bool(self.cache and self.cache.caches) or bool(self.memory and self.memory.nodes)


@rules.post_parse_early
def _resctrl(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Arrange cache and bandwidth allocations by group; groups must not overlap."""
    tune = domain.cputune
    if tune is None or not (tune.cachetunes or tune.memorytunes):
        return
    present = NodeSet.from_mask((1 << max_vcpus(domain)) - 1)
    groups: list[_Group] = []
    entries: list[CacheTune | MemoryTune] = [*tune.cachetunes, *tune.memorytunes]
    for entry in entries:
        entry.vcpus &= present
        for monitor in entry.monitors:
            monitor.vcpus &= present
        if entry.vcpus:
            yield from _add(groups, entry)
    for group in groups:
        for part in (group.cache, group.memory):
            if part is not None and not (ctx.active and part.id):
                part.id = f"vcpus_{group.vcpus}"
    _arrange(tune, groups)


def _arrange(tune: CpuTune, groups: list[_Group]) -> None:
    tune.cachetunes = [g.cache for g in groups if g.cache is not None]
    tune.memorytunes = [g.memory for g in groups if g.memory is not None]


def _add(groups: list[_Group], entry: CacheTune | MemoryTune) -> Iterator[Issue]:
    """Make ``entry`` part of the group of its virtual CPUs, a new one unless there is one."""
    group = next((g for g in groups if g.vcpus == entry.vcpus), None)
    if group is None and any(g.vcpus & entry.vcpus for g in groups):
        yield Issue.xml("Overlapping vcpus in resctrls", line=entry.line)
        return
    if isinstance(entry, CacheTune):
        if group is not None:
            yield Issue.xml("Identical vcpus in cachetunes found", line=entry.line)
            return
        group = _Group(entry.vcpus, cache=entry)
        yield from _caches(entry)
        yield from _monitors(group, "cache", entry.monitors)
        if entry.caches or entry.monitors:
            groups.append(group)
        return
    known = group is not None
    group = group or _Group(entry.vcpus)
    if group.memory is None:
        group.memory = entry
    else:
        group.memory.nodes += entry.nodes
        group.memory.monitors += entry.monitors
    for node in _repeated(node.id for node in group.memory.nodes):
        yield Issue.xml(f"Memory Bandwidth already defined for node {node}", line=entry.line)
    group.memory.nodes.sort(key=lambda node: node.id)
    yield from _monitors(group, "bandwidth", entry.monitors)
    if not known and (entry.nodes or entry.monitors):
        groups.append(group)


def _caches(entry: CacheTune) -> Iterator[Issue]:
    """Let a cache have one size, or one for code and one for data."""
    taken: set[tuple[int, int, str]] = set()
    for cache in entry.caches:
        rivals = _CACHE_TYPES if cache.type == "both" else ("both", cache.type)
        if any((cache.level, cache.id, rival) in taken for rival in rivals):
            yield Issue.xml(
                f"Colliding cache allocations for cache level '{cache.level}' id '{cache.id}', "
                f"type '{cache.type}'",
                line=cache.line,
            )
        taken.add((cache.level, cache.id, cache.type))
    entry.caches.sort(key=lambda c: (c.level, _CACHE_TYPES.index(c.type), c.id))


def _monitors(
    group: _Group, tag: str, monitors: Iterable[CacheMonitor | BandwidthMonitor]
) -> Iterator[Issue]:
    """Let monitors measure the group as a whole, or parts of it that do not overlap."""
    for monitor in monitors:
        vcpus = monitor.vcpus
        if not vcpus:
            yield Issue.invalid_arg("vcpus is empty")
            return
        if not vcpus <= group.vcpus:
            yield Issue.invalid_arg("Monitor vcpus conflicts with allocation")
            return
        overlap = partial_overlap = False
        for other_tag, other in group.monitors:
            if vcpus == other:
                if tag == other_tag:
                    yield Issue.invalid_arg("Identical vcpus found in same type monitors")
                    return
                continue
            shared = bool(vcpus & other)
            overlap = overlap or shared
            if group.vcpus not in (vcpus, other):
                partial_overlap = partial_overlap or shared
        if partial_overlap or (overlap and not group.allocates()):
            yield Issue.invalid_arg("vcpus overlaps in resctrl groups")
            return
        group.monitors.append((tag, vcpus))


@rules.check_domain
def _bandwidth(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Periods and quotas are what the kernel accepts; a negative quota means no limit."""
    del ctx
    tune = domain.cputune
    if tune is None:
        return
    for names, (low, high) in ((PERIODS, _PERIOD_RANGE), (QUOTAS, _QUOTA_RANGE)):
        for name in names:
            value = getattr(tune, name) or 0
            if value > 0 and not low <= value <= high:
                yield Issue.unsupported(
                    f"Value of cputune '{name}' must be in range [{low}, {high}]", line=tune.line
                )
