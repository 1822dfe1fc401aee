"""A virtual machine that exists only in memory.

It does what it is told at once and remembers what it was told, so programs that manage domains can
be tested without a hypervisor. It knows nothing of libvirt: states and events are the driver's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from typing import Literal

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

Power = Literal["running", "paused", "off"]


@attrs.define
class Machine:
    """The machine of one running domain.

    :param memory: KiB.
    :param clock: nanoseconds; stands for the CPU time, as in libvirt's test driver.
    :ivar history: what it was told, in order.
    """

    memory: int
    clock: Callable[[], int] = time.time_ns
    power: Power = "running"
    history: list[str] = attrs.field(factory=list)

    def stop(self) -> None:
        """Stop the virtual CPUs."""
        self.history.append("stop")
        self.power = "paused"

    def cont(self) -> None:
        """Let the virtual CPUs run."""
        self.history.append("cont")
        self.power = "running"

    def reset(self) -> None:
        """Start the guest afresh."""
        self.history.append("reset")

    def powerdown(self) -> None:
        """Press the power button; this guest always obeys."""
        self.history.append("powerdown")
        self.power = "off"

    def quit(self) -> None:
        """Cut the power."""
        self.history.append("quit")
        self.power = "off"
