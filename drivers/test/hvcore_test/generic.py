"""The test driver's own hypervisor: what libvirt's rules for all hypervisors allow is possible."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import ValidationFailed
from hvcore.pipeline import Context
from hvcore.pipeline import Pipeline
from hvcore.pipeline import unclaimed
from hvcore.rules import hotplug as rules
from hvcore_test import aliases
from hvcore_test import hotplug
from hvcore_test.rules import RULES

if TYPE_CHECKING:
    from hvcore.hostinfo import HostInfo
    from hvcore.model.devices.base import Device
    from hvcore.model.domain import Domain
    from hvcore.registry import Registry


class Generic:
    """The part of :class:`hvcore.rehearsal.Rehearsal` that every test host has."""

    def __init__(self, registry: Registry, driver: str, host: HostInfo) -> None:
        self._registry = registry
        self._driver = driver
        self._host = host
        self._pipeline = Pipeline(registry, RULES)

    def pipeline(self) -> Pipeline:
        """Return libvirt's generic pipeline, with the defaults of its test driver."""
        return self._pipeline

    def context(self, domain: Domain, *, new: bool) -> Context:
        """Return what the generic rules ask about."""
        del domain, new
        return Context(registry=self._registry, driver=self._driver, host=self._host)

    def start(self, live: Domain) -> list[str]:
        """Give the devices names; nothing would be run.

        :raises ValidationFailed: the definition has parts that nobody knows.
        """
        issues = unclaimed(live)
        if issues:
            raise ValidationFailed(issues)
        aliases.assign(live)
        return []

    def attach(self, live: Domain, device: Device) -> list[str]:
        """Plug a device in, or put a medium into a drive.

        :raises HvError: it cannot be plugged in, or something is in its way.
        """
        if hotplug.changes_medium(live, device):
            return self.update(live, device, force=False)
        hotplug.attach(live, device)
        return [f"plug {device.alias}"]

    def check_detach_family(self, live: Domain, wanted: Device) -> None:
        """Refuse families that cannot be unplugged.

        :raises HvError: with libvirt's words.
        """
        hotplug.check_family(live, wanted)

    def check_detach(self, live: Domain, device: Device) -> None:
        """Refuse a device that no guest lets go.

        :raises HvError: with libvirt's words.
        """
        hotplug.check_detach(live, device)

    def depart(self, live: Domain, device: Device) -> None:
        """Take a device out of a running definition."""
        rules.remove(live, device)

    def update(self, live: Domain, device: Device, *, force: bool) -> list[str]:
        """Change a device.

        :raises HvError: there is none, or it cannot be changed.
        """
        del force
        hotplug.update(live, device)
        return [f"update {device.alias}"]
