"""A virtual machine that exists only in memory.

It does what it is told at once and remembers what it was told, so programs that manage domains can
be tested without a hypervisor. It knows nothing of libvirt: states and events are the driver's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final
from typing import Literal

import attrs

if TYPE_CHECKING:
    from hvcore.testing.clock import VirtualClock
    from hvcore_test.blockjobs import Work
    from hvcore_test.migration import Transfer

Power = Literal["running", "paused", "off"]

BOOT: Final = 1_000_000_000
"""Nanoseconds of CPU time that booting takes this guest, in no time of the clock."""


@attrs.define(eq=False)
class Machine:
    """The machine of one running domain.

    :param memory: KiB.
    :param vcpus: CPUs, all of which are always busy.
    :ivar argv: with what it would have been started; empty where nothing would be.
    :ivar history: what it was told, in order.
    :ivar transfer: its memory on the way to another host.
    :ivar work: what jobs of its disks have to do, by target of the disk.
    :ivar agent: the agent in the guest listens, where there is a channel for it.
    :ivar frozen: file systems that the agent holds still; None while it holds none.
    :ivar passwords: those that the agent was given, by user, as they were given.
    """

    memory: int
    vcpus: int
    clock: VirtualClock
    power: Power = "running"
    argv: list[str] = attrs.field(factory=list)
    history: list[str] = attrs.field(factory=list)
    transfer: Transfer | None = None
    work: dict[str, Work] = attrs.field(factory=dict)
    agent: bool = True
    frozen: list[str] | None = None
    passwords: dict[str, str] = attrs.field(factory=dict)
    _used: int = BOOT
    _since: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._since = self.clock.now_ns

    @property
    def cpu_time(self) -> int:
        """Nanoseconds of CPU time it has used: moves with the clock while it runs."""
        now = self.clock.now_ns
        if self.power == "running":
            self._used += (now - self._since) * self.vcpus
        self._since = now
        return self._used

    def stop(self) -> None:
        """Stop the virtual CPUs."""
        self._become("paused", "stop")

    def cont(self) -> None:
        """Let the virtual CPUs run."""
        self._become("running", "cont")

    def reset(self) -> None:
        """Start the guest afresh."""
        self.history.append("reset")

    def powerdown(self) -> None:
        """Press the power button; this guest always obeys."""
        self._become("off", "powerdown")

    def quit(self) -> None:
        """Cut the power."""
        self.leave()
        self._become("off", "quit")

    def leave(self) -> None:
        """Do nothing any more that takes time."""
        for work in self.work.values():
            work.stop()

    def boot(self) -> None:
        """Start the guest again after it powered off."""
        self._become("running", "boot")

    def set_vcpus(self, count: int) -> None:
        """Have another number of CPUs."""
        self._used = self.cpu_time
        self.vcpus = count
        self.history.append(f"vcpus {count}")

    def set_memory(self, size: int) -> None:
        """Have ``size`` KiB of memory."""
        self.memory = size
        self.history.append(f"memory {size}")

    def state(self) -> dict[str, int]:
        """Return what there is to know of it, for :meth:`arrive`."""
        return {"memory": self.memory, "vcpus": self.vcpus, "used": self.cpu_time}

    def arrive(self, *, memory: int, vcpus: int, used: int) -> None:
        """Be what another machine was.

        :param used: nanoseconds of CPU time.
        """
        self.memory, self.vcpus, self._used = memory, vcpus, used
        self._since = self.clock.now_ns
        self.history.append("arrive")

    def nmi(self) -> None:
        """Get a non-maskable interrupt, which this guest ignores."""
        self.history.append("nmi")

    def _become(self, power: Power, told: str) -> None:
        self._used = self.cpu_time
        self.power = power
        self.history.append(told)
