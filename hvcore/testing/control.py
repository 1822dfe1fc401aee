"""What a test can say to a host that exists only for it: its clock, and what is to fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.testing.faults import Faults

if TYPE_CHECKING:
    from hvcore.testing.clock import VirtualClock
    from hvcore.testing.injection import Injector
    from hvcore.testing.injection import Target


class TestControl:
    """The controls of one host, as ``host.test``."""

    __test__ = False  # pytest would take the name for a class of tests

    def __init__(self, injector: Injector) -> None:
        self._injector = injector
        self._faults = Faults(injector)

    @property
    def clock(self) -> VirtualClock:
        """The host's clock."""
        return self._injector.clock

    @property
    def faults(self) -> Faults:
        """What is to fail, and what has."""
        return self._faults

    def argv(self, domain: Target) -> tuple[str, ...]:
        """Return the command line with which a running domain would have been started.

        Empty unless the host has recorded capabilities of a hypervisor.

        :raises KeyError: no domain of that name runs.
        """
        return tuple(self._injector.running(domain).runtime.argv)

    def history(self, domain: Target) -> tuple[str, ...]:
        """Return what the machine of a running domain was told since it was started, in order.

        Of a recorded hypervisor these are the commands that its monitor would have been given.

        :raises KeyError: no domain of that name runs.
        """
        return tuple(self._injector.running(domain).runtime.history)
