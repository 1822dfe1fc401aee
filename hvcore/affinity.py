"""What the kernel is told of one thread: on which CPUs it runs, how, and where its memory is.

The calls are made for the calling thread or for any other by its number. Whoever starts a process
sets its own thread first, and the child inherits that: a function between fork and exec would need
a real fork.
"""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.model.types import NodeSet
from hvcore.sysfiles import parse_numbers
from hvcore.sysfiles import text_of

if TYPE_CHECKING:
    from hvcore.model.cputune import Scheduler
    from hvcore.rules.placement import MemoryPolicy

_CPUS: Final = Path("/sys/devices/system/cpu")

_SET_MEMPOLICY: Final = {
    "x86_64": 238,
    "aarch64": 237,
    "riscv64": 237,
    "s390x": 270,
    "ppc64le": 261,
}
"""Number of the system call, by machine."""

_POLICIES: Final = {"preferred": 1, "strict": 2, "interleave": 3}
_PREFERRED_MANY: Final = 5

_SCHEDULERS: Final[dict[Scheduler, int]] = {
    "batch": os.SCHED_BATCH,
    "idle": os.SCHED_IDLE,
    "fifo": os.SCHED_FIFO,
    "rr": os.SCHED_RR,
}


def host_cpus() -> NodeSet:
    """Return the CPUs of the host that are online and not kept from ordinary processes."""
    online = parse_numbers(text_of(_CPUS / "online") or "")
    isolated = parse_numbers(text_of(_CPUS / "isolated") or "")
    return NodeSet(set(online) - set(isolated))


def set_affinity(tid: int, cpus: NodeSet | None) -> None:
    """Let a thread run on ``cpus`` only; None lets it run everywhere, as far as that is possible.

    :param tid: of the thread; 0 is the calling one.
    :raises DriverError: the host has none of them.
    """
    if cpus is None:
        cpus = host_cpus()
        try:
            os.sched_setaffinity(tid, cpus)
        except OSError:
            # In a container whose CPUs are pinned themselves nobody asked for more than those.
            return
        return
    try:
        os.sched_setaffinity(tid, cpus)
    except OSError as error:
        process = tid or threading.get_native_id()
        raise DriverError(
            f"cannot set CPU affinity on process {process}: {error.strerror}",
            kind=ErrorClass.SYSTEM,
        ) from error


def set_scheduler(tid: int, scheduler: Scheduler, priority: int) -> None:
    """Give a thread another scheduler.

    :raises DriverError: the host refuses.
    """
    try:
        os.sched_setscheduler(tid, _SCHEDULERS[scheduler], os.sched_param(priority))
    except OSError as error:
        raise DriverError(
            f"Cannot set scheduler parameters for pid {tid}: {error.strerror}",
            kind=ErrorClass.SYSTEM,
        ) from error


def set_memory_policy(policy: MemoryPolicy) -> None:
    """Let the calling thread, and what it starts, take memory from some nodes.

    :raises DriverError: the host refuses, or cannot prefer several nodes.
    """
    mode = _POLICIES[policy.mode]
    several = policy.mode == "preferred" and len(policy.nodes) > 1
    number = _SET_MEMPOLICY.get(platform.machine())
    if number is None:
        raise DriverError(
            f"the memory policy of processes cannot be set on {platform.machine()}",
            kind=ErrorClass.CONFIG_UNSUPPORTED,
        )
    width = ctypes.sizeof(ctypes.c_ulong) * 8
    words = policy.nodes.mask.bit_length() // width + 1
    mask = (ctypes.c_ulong * words)(
        *(policy.nodes.mask >> width * index & ((1 << width) - 1) for index in range(words))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    wanted = _PREFERRED_MANY if several else mode
    # The kernel takes the highest bit for a terminator.
    if libc.syscall(number, wanted, ctypes.byref(mask), ctypes.c_ulong(words * width + 1)) == 0:
        return
    if several:
        raise DriverError(
            "NUMA memory tuning in 'preferred' mode only supports single node",
            kind=ErrorClass.INTERNAL,
        )
    raise DriverError(
        f"unable to set the memory policy: {os.strerror(ctypes.get_errno())}",
        kind=ErrorClass.SYSTEM,
    )
