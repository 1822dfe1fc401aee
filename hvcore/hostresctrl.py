"""What the kernel's resource control can share out: caches and memory bandwidth.

Invariant: plain sealed data, read from ``/sys/fs/resctrl/info`` (the kernel's
``Documentation/arch/x86/resctrl.rst``). What it says is per kind of cache; how much of a certain
cache that is, only the cache's size tells (`hvcore.hostcache`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from typing import Final
from typing import final

import attrs

from hvcore.sysfiles import number_of
from hvcore.sysfiles import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: how libvirt calls what the kernel writes behind a level: ``L3`` has a mask for everything, with
#: code and data prioritization there are ``L3CODE`` and ``L3DATA``; in libvirt's order
_SCOPES: Final = {"": "both", "CODE": "code", "DATA": "data"}
_LEVEL: Final = re.compile(r"L([0-9]+)(CODE|DATA|)")

#: the only level whose caches the kernel monitors
_MONITORED_LEVEL: Final = 3


@final
@attrs.frozen(slots=True, kw_only=True)
class CacheShares:
    """How caches of one level can be shared out.

    :param scope: ``both``, ``code`` or ``data``.
    :param bits: into how many equal parts.
    :param min_bits: of how many parts a share consists at least.
    :param max_allocs: how many shares there can be.
    """

    level: int
    scope: str
    bits: int
    min_bits: int
    max_allocs: int


@final
@attrs.frozen(slots=True, kw_only=True)
class BandwidthShares:
    """How the bandwidth of memory can be shared out.

    :param granularity: percents.
    :param minimum: percents.
    :param max_allocs: how many shares there can be.
    """

    granularity: int
    minimum: int
    max_allocs: int


@final
@attrs.frozen(slots=True, kw_only=True)
class Monitoring:
    """What can be watched.

    :param max_monitors: at a time.
    :param reuse_threshold: bytes that a monitor's former user may still occupy in the cache when
        the monitor is given to another; 0 where cache occupancy is not monitored.
    :param features: by the kernel's names.
    """

    max_monitors: int
    reuse_threshold: int = 0
    features: tuple[str, ...] = ()

    def only(self, prefix: str) -> Monitoring | None:
        """Return it with the features of one kind (``llc_``, ``mbm_``); None without any."""
        features = tuple(name for name in self.features if name.startswith(prefix))
        return attrs.evolve(self, features=features) if features else None


@final
@attrs.frozen(slots=True, kw_only=True)
class ResourceControl:
    """All of it; without anything on hosts that have no resource control, or not mounted."""

    shares: tuple[CacheShares, ...] = ()
    bandwidth: BandwidthShares | None = None
    monitoring: Monitoring | None = None

    @classmethod
    def from_system(cls, root: Path) -> ResourceControl:
        """Read what can be shared out and monitored.

        :param root: what stands for ``/``.
        """
        info = root / "sys/fs/resctrl/info"
        return cls(
            shares=tuple(_shares(info)), bandwidth=_bandwidth(info), monitoring=_monitoring(info)
        )


def _shares(info: Path) -> Iterator[CacheShares]:
    try:
        names = sorted(path.name for path in info.iterdir())
    except OSError:
        return
    for name in names:
        match = _LEVEL.fullmatch(name)
        if match is None:
            continue
        try:
            # The kernel writes masks as hexadecimal numbers, with a comma after each 32 bits.
            mask = int((text_of(info / name / "cbm_mask") or "").replace(",", ""), 16)
        except ValueError:
            continue
        minimum = number_of(info / name / "min_cbm_bits")
        if mask and minimum is not None:
            yield CacheShares(
                level=int(match[1]),
                scope=_SCOPES[match[2]],
                bits=mask.bit_count(),
                min_bits=minimum,
                max_allocs=number_of(info / name / "num_closids") or 0,
            )


def _bandwidth(info: Path) -> BandwidthShares | None:
    names = ("bandwidth_gran", "min_bandwidth", "num_closids")
    granularity, minimum, allocs = (number_of(info / "MB" / name) for name in names)
    if granularity is None or minimum is None or allocs is None:
        return None
    return BandwidthShares(granularity=granularity, minimum=minimum, max_allocs=allocs)


def _monitoring(info: Path) -> Monitoring | None:
    folder = info / f"L{_MONITORED_LEVEL}_MON"
    monitors = number_of(folder / "num_rmids")
    features = tuple((text_of(folder / "mon_features") or "").split())
    if monitors is None or not features:
        return None
    return Monitoring(
        max_monitors=monitors,
        reuse_threshold=number_of(folder / "max_threshold_occupancy") or 0,
        features=features,
    )


def monitor_lines(monitoring: Monitoring | None, *, cache: bool) -> Iterator[str]:
    """Write a ``<monitor>``.

    :param cache: whether caches are monitored, and not memory bandwidth.
    """
    if monitoring is None:
        return
    marks = f" level='{_MONITORED_LEVEL}' reuseThreshold='{monitoring.reuse_threshold}'"
    yield f"<monitor{marks if cache else ''} maxMonitors='{monitoring.max_monitors}'>"
    for name in monitoring.features:
        yield f"  <feature name='{name}'/>"
    yield "</monitor>"
