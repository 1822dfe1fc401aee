"""I/O threads and throttle groups in QEMU: defaults, validation and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.rules.base import Rules
from hvcore.rules.iothread import iothreads as all_iothreads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.model.iothread import DefaultIOThread
    from hvcore.model.iothread import IOThread
    from hvcore.pipeline import Context
    from hvcore_qemu.command import Command

rules = Rules()

_RATES: Final = tuple(
    f"{kind}-{way}" for kind in ("bps", "iops") for way in ("total", "read", "write")
)


def _field(name: str) -> str:
    """Return libvirt's name of one of QEMU's limits: ``bps-read-max`` is ``read_bytes_sec_max``."""
    kind, way, *rest = name.split("-")
    return "_".join([way, "bytes" if kind == "bps" else kind, "sec", *rest])


# QEMU's name, libvirt's name, and whether QEMU is told a limit of zero
LIMITS: Final[tuple[tuple[str, str, bool], ...]] = (
    *((name, _field(name), True) for name in _RATES),
    *((f"{name}-max", _field(f"{name}-max"), True) for name in _RATES),
    ("iops-size", "size_iops_sec", True),
    *(
        (f"{name}-max-length", _field(f"{name}-max").replace("-", "_") + "_length", False)
        for name in _RATES
    ),
)
"""Limits of a throttle group in QEMU's order."""


@rules.check_domain
def _pools(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Sizes of thread pools need a QEMU that has them."""
    pools: list[IOThread | DefaultIOThread] = [*domain.iothreadids]
    if domain.defaultiothread is not None:
        pools.append(domain.defaultiothread)
    if "iothread.thread-pool-max" not in ctx.caps and any(
        pool.thread_pool_min is not None or pool.thread_pool_max is not None for pool in pools
    ):
        yield Issue.unsupported(
            "thread_pool_min and thread_pool_max is not supported by this QEMU binary"
        )


def iothreads(cmd: Command) -> None:
    """Append one object for each I/O thread, and one for the limits of the main loop."""
    for thread in all_iothreads(cmd.domain):
        cmd.object(
            {
                "qom-type": "iothread",
                "id": f"iothread{thread.id}",
                "thread-pool-min": thread.thread_pool_min,
                "thread-pool-max": thread.thread_pool_max,
                "poll-max-ns": thread.poll_max,
                "poll-grow": thread.poll_grow,
                "poll-shrink": thread.poll_shrink,
            }
        )
    default = cmd.domain.defaultiothread
    if default is not None:
        cmd.object(
            {
                "qom-type": "main-loop",
                "id": "main-loop",
                "thread-pool-min": default.thread_pool_min,
                "thread-pool-max": default.thread_pool_max,
            }
        )


def throttle_groups(cmd: Command) -> None:
    """Append one object for each group that limits anything."""
    for group in cmd.domain.throttlegroups:
        values = {name: getattr(group, field) or 0 for name, field, _ in LIMITS}
        if any(values.values()):
            limits = {name: values[name] for name, _, zero in LIMITS if zero or values[name]}
            cmd.object(
                {
                    "qom-type": "throttle-group",
                    "id": f"throttle-{group.group_name}",
                    "limits": limits,
                }
            )
