"""What the guest sees beside its devices: who it is, memory, CPUs, machine, firmware tables."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.abi import features
from hvcore.abi.table import ANY
from hvcore.abi.table import NUMBER
from hvcore.abi.table import RAW_TEXT
from hvcore.abi.table import TEXT
from hvcore.abi.table import YES_NO
from hvcore.abi.table import Check
from hvcore.abi.table import Compared
from hvcore.abi.table import Kind
from hvcore.abi.table import Table
from hvcore.abi.table import differences
from hvcore.abi.table import listed
from hvcore.abi.table import one_of
from hvcore.errors import Issue
from hvcore.model.cpu import LOCAL_DISTANCE
from hvcore.model.cpu import Cpu
from hvcore.model.sysinfo import SmbiosInfo
from hvcore.rules.domain_memory import initial_memory
from hvcore.rules.domain_memory import numa_cells
from hvcore.rules.vcpu import max_vcpus
from hvcore.rules.vcpu import vcpu_states

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.cpu import NumaCell
    from hvcore.model.domain import Domain

REMOTE_DISTANCE: Final = 20
"""Distance of a node to another one where the document has none (ACPI 2.0, SLIT)."""


def _rows(*rows: Compared) -> Check:
    """Return a comparison of the domain itself."""
    return lambda source, target: differences(rows, source, target)


_IDENTITY: Final = (
    Compared("type", "Target domain virt type {target} does not match source {source}"),
    Compared("uuid", "Target domain uuid {target} does not match source {source}"),
)
_GENID: Final = (
    Compared(
        "genid",
        "Target domain requested genid does not match source",
        get=lambda domain: domain.genid is not None,
        decides=True,
    ),
    Compared("genid", "Target domain genid {target} does not match source {source}"),
)
_NAME: Final = Compared("name", "Target domain name '{target}' does not match source '{source}'")
_MEMORY: Final = Compared(
    "memory",
    "Target domain max memory {target} does not match source {source}",
    get=initial_memory,
)
_BALLOON: Final = Compared(
    "current_memory",
    "Target domain current memory {target} does not match source {source}",
    NUMBER,
)
_MAX_MEMORY: Final = (
    Compared(
        "max_memory",
        "Target maximum memory size '{target}' doesn't match source '{source}'",
        NUMBER,
    ),
    Compared(
        "max_memory_slots",
        "Target domain memory slots count '{target}' doesn't match source '{source}'",
        NUMBER,
    ),
)


# -- NUMA nodes and virtual CPUs ------------------------------------------------------------------


def _distance(cells: list[NumaCell], node: int, other: int) -> int:
    """Return how far one node is from another."""
    for known in cells[node].distances:
        if known.id == other:
            return known.value
    return LOCAL_DISTANCE if node == other else REMOTE_DISTANCE


def _numa(source: Domain, target: Domain) -> Iterator[Issue]:
    """Compare the nodes: their memory, CPUs and distances."""
    was, now = numa_cells(source), numa_cells(target)
    if len(was) != len(now):
        yield Issue.unsupported(
            f"Target NUMA node count '{len(now)}' doesn't match source '{len(was)}'",
            line=target.cpu.line if target.cpu is not None else None,
        )
        return
    for node, (one, other) in enumerate(zip(was, now, strict=True)):
        if one.memory != other.memory:
            yield Issue.unsupported(
                f"Size of target NUMA node {node} ({other.memory}) doesn't match source"
                f" ({one.memory})",
                line=other.line,
                path="@memory",
            )
        if one.cpus != other.cpus:
            yield Issue.unsupported(
                f"Processor mask of target NUMA node {node} doesn't match source",
                line=other.line,
                path="@cpus",
            )
        for far in range(len(was)):
            if _distance(was, node, far) != _distance(now, node, far):
                yield Issue.unsupported(
                    f"Target NUMA distance from {node} to {far} doesn't match source",
                    line=other.line,
                )


def _vcpus(source: Domain, target: Domain) -> Iterator[Issue]:
    """Compare which virtual CPUs are online, and in which order they came."""
    line = None if target.vcpu is None else target.vcpu.line
    was, now = max_vcpus(source), max_vcpus(target)
    if was != now:
        yield Issue.unsupported(
            f"Target domain vCPU max {now} does not match source {was}", line=line
        )
        return
    theirs = {state.id: state for state in vcpu_states(target)}
    for one in sorted(vcpu_states(source), key=lambda state: state.id):
        other = theirs.get(one.id)
        if other is None:
            continue  # the document of a guest lists all or none
        at = other.line if other.line is not None else line
        about = "differs between source and destination definitions"
        if one.enabled != other.enabled:
            yield Issue.unsupported(f"State of vCPU '{one.id}' {about}", line=at)
        if (one.order or 0) != (other.order or 0):
            yield Issue.unsupported(f"vcpu enable order of vCPU '{one.id}' {about}", line=at)


# -- machine, timers, CPU -------------------------------------------------------------------------

_MACHINE: Final = (
    Compared("os.type", "Target domain OS type {target} does not match source {source}"),
    Compared("os.arch", "Target domain architecture {target} does not match source {source}"),
    Compared(
        "os.machine",
        "Target domain machine type {target} does not match source {source}",
        RAW_TEXT,
    ),
    Compared(
        "os.smbios_mode",
        "Target domain SMBIOS mode {target} does not match source {source}",
        one_of("none"),
    ),
)

_TIMER: Final[Table] = (
    Compared("name", "Target timer {target} does not match source {source}", decides=True),
    Compared(
        "present", "Target timer presence '{target}' does not match source '{source}'", YES_NO
    ),
    Compared(
        "frequency",
        "Target TSC frequency {target} does not match source {source}",
        NUMBER,
        where=lambda timer: timer.name == "tsc",
    ),
    Compared(
        "mode",
        "Target TSC mode {target} does not match source {source}",
        one_of("none"),
        where=lambda timer: timer.name == "tsc",
    ),
)


def _cpu_row(what: str, name: str, kind: Kind = ANY) -> Compared:
    return Compared(name, f"Target CPU {what} {{target}} does not match source {{source}}", kind)


_CPU: Final[Table] = (
    _cpu_row("mode", "mode", one_of("custom")),
    _cpu_row("check", "check", one_of("default")),
    _cpu_row("model", "model", TEXT),
    _cpu_row("vendor", "vendor", TEXT),
    _cpu_row("vendor id", "vendor_id", TEXT),
    *(
        _cpu_row(level, level, NUMBER)
        for level in ("sockets", "dies", "clusters", "cores", "threads")
    ),
    Compared(
        "addr_mode",
        "Target CPU maxphysaddr does not match source",
        get=lambda cpu: (cpu.addr_mode, cpu.addr_bits),
    ),
    listed(
        "features",
        (
            _cpu_row("feature", "name"),
            _cpu_row("feature policy", "policy"),
        ),
        "Target CPU feature count {target} does not match source {source}",
    ),
    Compared(
        "cache_mode",
        "Target CPU cache does not match source",
        get=lambda cpu: (cpu.cache_level, cpu.cache_mode),
    ),
)


def _cpu(source: Domain, target: Domain) -> Iterator[Issue]:
    """Compare model, topology and features; a CPU of which nothing is said is none."""
    was, now = (None if cpu in (None, Cpu()) else cpu for cpu in (source.cpu, target.cpu))
    if was is not None and now is not None:
        yield from differences(_CPU, was, now)
    elif was is not now:
        yield Issue.unsupported(
            "Target CPU does not match source", line=now.line if now is not None else target.line
        )


# -- what firmware tells --------------------------------------------------------------------------

_LABELS: Final = {"manufacturer": "vendor"}


def _values(table: Any) -> dict[str, str]:
    """Return the values of a table; none where there is no such table."""
    values: dict[str, str] = table.values()
    return values


def _same_values(source: Any, target: Any, what: str) -> Iterator[Issue]:
    """Compare the values of one table."""
    was, now = _values(source), _values(target)
    for name in source.names:
        one, other = was.get(name), now.get(name)
        if one != other:
            yield Issue.unsupported(
                f"Target sysinfo {what} {_LABELS.get(name, name)} {other or '<null>'} does not"
                f" match source {one or '<null>'}",
                line=target.line,
            )


def _same_table(source: Any, target: Any, what: str, missing: str, line: int | None) -> list[Issue]:
    """Compare a table that one side may lack."""
    if source is not None and target is not None:
        return list(_same_values(source, target, what))
    if source is target:
        return []
    return [Issue.unsupported(f"Target {missing} does not match source", line=line)]


def _sysinfo_one(source: Any, target: Any) -> Iterator[Issue]:
    if source.type != target.type:
        yield Issue.unsupported(
            f"Target sysinfo {target.type} does not match source {source.type}", line=target.line
        )
        return
    if not isinstance(source, SmbiosInfo):
        return
    yield from _same_table(source.bios, target.bios, "BIOS", "sysinfo", target.line)
    yield from _same_table(source.system, target.system, "system", "sysinfo", target.line)
    was, now = source.base_boards, target.base_boards
    if len(was) != len(now):
        yield Issue.unsupported(
            f"Target sysinfo base board count '{len(now)}' does not match source '{len(was)}'",
            line=target.line,
        )
    else:
        for one, other in zip(was, now, strict=True):
            yield from _same_values(one, other, "base board")
    yield from _same_table(source.chassis, target.chassis, "chassis", "chassis", target.line)


def sections(*, volatile: bool) -> tuple[Check, ...]:
    """Return all comparisons that come before the devices, in libvirt's order.

    :param volatile: with what changes while a guest runs.
    """
    return (
        _rows(*_IDENTITY),
        _rows(*_GENID),
        _rows(_NAME, _MEMORY, *((_BALLOON,) if volatile else ()), *_MAX_MEMORY),
        _numa,
        _vcpus,
        _rows(*_MACHINE),
        features.compare,
        listed("clock.timers", _TIMER, "Target domain timers do not match source"),
        _cpu,
        listed("sysinfo", (_sysinfo_one,), "Target domain count of sysinfo does not match source"),
    )
