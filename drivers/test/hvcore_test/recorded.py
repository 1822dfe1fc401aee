"""Test hosts with the recorded capabilities of a real hypervisor.

``test:///?caps=qemu-10.0.0-x86_64`` refuses what that QEMU would refuse, and shows with what it
would be started. Whose recording it is, the beginning of its name says; a file is QEMU's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.rehearsal import Rehearsal
from hvcore_test.driver import TestDriver

if TYPE_CHECKING:
    from hvcore.domaincaps import DomainCapabilities
    from hvcore.driver import Setup
    from hvcore.pipeline import Definition


class RecordedDriver(TestDriver):
    """Domains without a hypervisor, of which all is known that has to be."""

    hypervisor: Rehearsal

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        recording = setup.uri.parameters["caps"]
        scheme = "qemu" if "/" in recording else recording.partition("-")[0]
        rehearse = setup.registry.driver(scheme).rehearse
        self.hypervisor = rehearse(setup.registry, recording, self.given)

    async def lower(self, definition: Definition) -> str:
        """Return with what the recorded hypervisor would be started."""
        return self.hypervisor.lower(definition)

    async def version(self) -> int:
        """Return the version of the recorded hypervisor."""
        return self.hypervisor.version()

    async def domain_capabilities(
        self,
        *,
        emulator: str | None,
        arch: str | None,
        machine: str | None,
        virt_type: str | None,
        disable_deprecated: bool,
    ) -> DomainCapabilities:
        """Return what guests of the recorded hypervisor can have.

        :raises HvError: it has no such guests.
        """
        return self.hypervisor.domain_capabilities(
            emulator=emulator,
            arch=arch,
            machine=machine,
            virt_type=virt_type,
            disable_deprecated=disable_deprecated,
        )
