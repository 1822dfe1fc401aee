"""The host's caches: of its CPUs, with what can be shared out of them, and in front of its memory.

Invariant: plain sealed data, read once from sysfs. CPUs that share a cache share one bank here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final
from typing import final

import attrs

from hvcore.hostresctrl import BandwidthShares
from hvcore.hostresctrl import Monitoring
from hvcore.hostresctrl import ResourceControl
from hvcore.hostresctrl import monitor_lines
from hvcore.sysfiles import format_numbers
from hvcore.sysfiles import number_of
from hvcore.sysfiles import numbered
from hvcore.sysfiles import parse_numbers
from hvcore.sysfiles import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Iterator
    from pathlib import Path

#: caches nearer to the CPU are not told, as in libvirt
_FIRST_LEVEL: Final = 2
_TYPES: Final = {"Unified": "both", "Instruction": "code", "Data": "data"}
_SCOPES: Final = ("both", "code", "data")
_FACTORS: Final = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


@final
@attrs.frozen(slots=True, kw_only=True)
class CacheControl:
    """How one cache can be shared out; sizes in bytes.

    :param minimum: 0 where a share can be as small as the granularity.
    :param scope: ``both``, ``code`` or ``data``.
    """

    granularity: int
    minimum: int = 0
    scope: str = "both"
    max_allocs: int = 0


@final
@attrs.frozen(slots=True, kw_only=True)
class CacheBank:
    """One cache.

    :param type: ``both``, ``code`` or ``data``.
    :param size: in bytes.
    :param cpus: those that use it.
    """

    id: int
    level: int
    type: str
    size: int
    cpus: tuple[int, ...]
    controls: tuple[CacheControl, ...] = ()


@final
@attrs.frozen(slots=True, kw_only=True)
class Caches:
    """All caches of the CPUs, and the memory behind them.

    :param monitor: of caches.
    :param bandwidth: how memory bandwidth can be shared out, for each cache of the last level.
    :param bandwidth_monitor: of memory bandwidth.
    """

    banks: tuple[CacheBank, ...] = ()
    monitor: Monitoring | None = None
    bandwidth: BandwidthShares | None = None
    bandwidth_monitor: Monitoring | None = None

    @property
    def memory_banks(self) -> tuple[CacheBank, ...]:
        """The caches of the last level: each has a memory controller behind it."""
        last = max((bank.level for bank in self.banks), default=0)
        return tuple(bank for bank in self.banks if bank.level == last)

    @classmethod
    def from_system(cls, root: Path, cpus: Iterable[int]) -> Caches:
        """Read the caches.

        :param root: what stands for ``/``.
        :param cpus: those that are online; others show no caches.
        """
        control = ResourceControl.from_system(root)
        monitoring = control.monitoring
        return cls(
            banks=tuple(
                attrs.evolve(bank, controls=tuple(_controls(bank, control)))
                for bank in _banks(root / "sys/devices/system/cpu", cpus)
            ),
            monitor=monitoring.only("llc_") if monitoring else None,
            bandwidth=control.bandwidth,
            bandwidth_monitor=monitoring.only("mbm_") if monitoring else None,
        )

    def lines(self) -> Iterator[str]:
        """Write ``<cache>`` and ``<memory_bandwidth>``."""
        inner = [line for bank in self.banks for line in _bank_lines(bank)]
        inner += monitor_lines(self.monitor, cache=True)
        if inner:
            yield from ("<cache>", *(f"  {line}" for line in inner), "</cache>")
        inner = []
        for bank in self.memory_banks if self.bandwidth else ():
            inner += _memory_lines(bank, self.bandwidth)
        inner += monitor_lines(self.bandwidth_monitor, cache=False)
        if inner:
            inner = [f"  {line}" for line in inner]
            yield from ("<memory_bandwidth>", *inner, "</memory_bandwidth>")


def _banks(folder: Path, cpus: Iterable[int]) -> list[CacheBank]:
    found: dict[CacheBank, None] = {}
    known: set[tuple[int, int]] = set()
    for cpu in cpus:
        caches = folder / f"cpu{cpu}/cache"
        for index in numbered(caches, "index"):
            # Hundreds of CPUs may share a cache, and five files tell of it in each of them.
            if (cpu, index) in known:
                continue
            bank = _bank(caches / f"index{index}")
            if bank is not None:
                found[bank] = None
                known.update((other, index) for other in bank.cpus)
    return sorted(found, key=lambda bank: (bank.level, bank.id))


def _bank(folder: Path) -> CacheBank | None:
    """Read one cache; None for one that is not told or not described in full."""
    level = number_of(folder / "level")
    if level is None or level < _FIRST_LEVEL:
        return None
    number = number_of(folder / "id")
    kind = _TYPES.get(text_of(folder / "type") or "")
    size = text_of(folder / "size") or ""
    cpus = text_of(folder / "shared_cpu_list")
    if number is None or kind is None or cpus is None:
        return None
    try:
        factor = _FACTORS.get(size[-1:], 1)
        return CacheBank(
            id=number,
            level=level,
            type=kind,
            size=int(size.rstrip("KMG")) * factor,
            cpus=parse_numbers(cpus),
        )
    except ValueError:
        return None


def _controls(bank: CacheBank, control: ResourceControl) -> Iterator[CacheControl]:
    shares = [share for share in control.shares if share.level == bank.level]
    for share in sorted(shares, key=lambda share: _SCOPES.index(share.scope)):
        granularity = bank.size // share.bits
        yield CacheControl(
            granularity=granularity,
            # One part is no minimum worth telling.
            minimum=share.min_bits * granularity if share.min_bits != 1 else 0,
            scope=share.scope,
            max_allocs=share.max_allocs,
        )


def _bank_lines(bank: CacheBank) -> Iterator[str]:
    unit = _unit(bank.size)
    marks = f"id='{bank.id}' level='{bank.level}' type='{bank.type}'"
    size = f"size='{bank.size >> 10 * unit}' unit='{_UNITS[unit]}'"
    start = f"<bank {marks} {size} cpus='{format_numbers(bank.cpus)}'"
    if not bank.controls:
        yield f"{start}/>"
        return
    yield f"{start}>"
    for control in bank.controls:
        # Both sizes are told in the smaller of their units.
        sizes = [size for size in (control.granularity, control.minimum) if size]
        unit = min(map(_unit, sizes), default=0)
        least = f" min='{control.minimum >> 10 * unit}'" if control.minimum else ""
        yield (
            f"  <control granularity='{control.granularity >> 10 * unit}'{least}"
            f" unit='{_UNITS[unit]}' type='{control.scope}' maxAllocs='{control.max_allocs}'/>"
        )
    yield "</bank>"


def _unit(size: int) -> int:
    """Return the largest unit of which a size in bytes is a multiple."""
    unit = 0
    while size and size % (1 << 10 * (unit + 1)) == 0 and unit + 1 < len(_UNITS):
        unit += 1
    return unit


def _memory_lines(bank: CacheBank, shares: BandwidthShares | None) -> Iterator[str]:
    assert shares is not None
    yield f"<node id='{bank.id}' cpus='{format_numbers(bank.cpus)}'>"
    yield (
        f"  <control granularity='{shares.granularity}' min='{shares.minimum}'"
        f" maxAllocs='{shares.max_allocs}'/>"
    )
    yield "</node>"
