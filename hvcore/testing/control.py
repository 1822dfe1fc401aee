"""What a test can say to a host that exists only for it: its clock, and what is to fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hvcore.testing.clock import VirtualClock
    from hvcore.testing.faults import Faults


class TestControl:
    """The controls of one host, as ``host.test``."""

    __test__ = False  # pytest would take the name for a class of tests

    def __init__(self, clock: VirtualClock, faults: Faults) -> None:
        self._clock = clock
        self._faults = faults

    @property
    def clock(self) -> VirtualClock:
        """The host's clock."""
        return self._clock

    @property
    def faults(self) -> Faults:
        """What is to fail, and what has."""
        return self._faults
