"""What a driver would make of domains, without its hypervisor.

A driver that can tell from a recording of a hypervisor's capabilities what that hypervisor would
refuse, and with what it would be started, has a :class:`Rehearsal`
(:meth:`hvcore.driver.Driver.rehearse`). Nothing is started by it and nothing of this host is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Protocol

if TYPE_CHECKING:
    from hvcore.domaincaps import DomainCapabilities
    from hvcore.model.devices.base import Device
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.pipeline import Definition
    from hvcore.pipeline import Pipeline


class Rehearsal(Protocol):
    """One hypervisor that is not there.

    Errors are those that the driver would raise, with the same words.
    """

    def pipeline(self) -> Pipeline:
        """Return the pipeline with the driver's rules."""

    def context(self, domain: Domain, *, new: bool) -> Context:
        """Return what the rules may ask about; see :meth:`hvcore.driver.Driver.context`."""

    def start(self, live: Domain) -> list[str]:
        """Complete a running definition, and return what would be run."""

    def attach(self, live: Domain, device: Device) -> list[str]:
        """Put a device into a running definition, and return what the monitor would be told."""

    def check_detach_family(self, live: Domain, wanted: Device) -> None:
        """Refuse to unplug a kind of device at all."""

    def check_detach(self, live: Domain, device: Device) -> None:
        """Refuse to unplug a device."""

    def depart(self, live: Domain, device: Device) -> None:
        """Take a device out of a running definition."""

    def update(self, live: Domain, device: Device, *, force: bool) -> list[str]:
        """Change a device of a running definition, and return what the monitor would be told."""

    def lower(self, definition: Definition) -> str:
        """Return what would be run, as text for a shell."""

    def version(self) -> int:
        """Return the version of the hypervisor."""

    def domain_capabilities(
        self,
        *,
        emulator: str | None,
        arch: str | None,
        machine: str | None,
        virt_type: str | None,
        disable_deprecated: bool,
    ) -> DomainCapabilities:
        """Return what guests of one kind can have."""
