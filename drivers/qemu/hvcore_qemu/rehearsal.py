"""What a QEMU of which only the capabilities are recorded would make of domains."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from typing import Any

import attrs

from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import MonitorError
from hvcore.pipeline import Context
from hvcore.rules import hotplug
from hvcore_qemu import attaching
from hvcore_qemu import domaincaps
from hvcore_qemu import launch
from hvcore_qemu import updating
from hvcore_qemu.config import QemuConfig
from hvcore_qemu.hotplug_checks import check_family
from hvcore_qemu.plugging import Unplug
from hvcore_qemu.pretend import PretendHost
from hvcore_qemu.resources import Resources

if TYPE_CHECKING:
    from collections.abc import Generator

    from hvcore.domaincaps import DomainCapabilities
    from hvcore.hostinfo import HostInfo
    from hvcore.model.devices.base import Device
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Definition
    from hvcore.pipeline import Pipeline
    from hvcore.registry import Registry
    from hvcore_qemu.capabilities import QemuCapabilities
    from hvcore_qemu.command import QemuPlan
    from hvcore_qemu.monitor import Command

_NAME = "qemu"
_ON_ISA = frozenset({"isa-serial", "isa-parallel", "isa-debugcon"})
_NO_PLUGGING = "Bus 'isa.0' does not support hotplugging"


class QemuRehearsal:
    """Implements :class:`hvcore.rehearsal.Rehearsal`.

    :param host: where the QEMU is thought to run.
    """

    def __init__(self, registry: Registry, caps: QemuCapabilities, host: HostInfo) -> None:
        self.registry = registry
        self.caps = caps
        self.host = host
        self.config = QemuConfig()
        self._pipeline = launch.pipeline(registry)
        self._numbers: dict[str | None, tuple[int, int]] = {}  # of nodes and sets, by UUID

    def pipeline(self) -> Pipeline:
        """Return the pipeline with QEMU's rules."""
        return self._pipeline

    def context(self, domain: Domain, *, new: bool) -> Context:
        """Return what QEMU's rules ask about.

        :raises HvError: the recording is of a QEMU for another architecture.
        """
        wanted = (domain.os.arch if domain.os is not None else None) or self.host.arch
        if wanted != self.caps.arch:
            raise HvError(
                f"could not find capabilities for arch={wanted} ", kind=ErrorClass.INVALID_ARG
            )
        return Context(
            registry=self.registry,
            driver=_NAME,
            caps=self.caps,
            host=self.host,
            config=self.config,
            abi_update=new,
            find_program=self._program,
        )

    def _program(self, name: str) -> str | None:
        return f"/usr/bin/{name}" if name == f"qemu-system-{self.caps.arch}" else None

    # -- starting -----------------------------------------------------------------------

    def _plan(self, domain: Domain, placed_for: QemuCapabilities | None) -> QemuPlan:
        ctx = self.context(domain, new=False)
        return launch.plan_start(domain, ctx, PretendHost(), placed_for=placed_for)

    def start(self, live: Domain) -> list[str]:
        """Complete a running definition as a start does, and return the command line."""
        plan = self._plan(live, None)
        self._numbers[live.uuid] = plan.numbers
        return plan.argv

    def lower(self, definition: Definition) -> str:
        """Return environment and command line as a line for a shell."""
        plan = self._plan(definition.domain, definition.placed_for)
        words = [f"{name}={shlex.quote(value)}" for name, value in plan.env.items()]
        return " ".join([*words, *map(shlex.quote, plan.argv)]) + "\n"

    # -- devices ------------------------------------------------------------------------

    def _attaching(self, live: Domain, device: Device) -> attaching.Attaching:
        ctx = self.context(live, new=False)
        name = launch.short_name(live)
        folder = str(PurePosixPath(self.config.lib_dir) / f"domain-{name}")
        ctx.config = attrs.evolve(self.config, channel_target_dir=folder)
        node, fd_set = self._numbers.get(live.uuid, (0, 0))
        resources = Resources(
            short_name=name,
            domain_dir=folder,
            launch_time=int(time.time()),
            last_node=node,
            first_fd_set=fd_set,
        )
        return attaching.Attaching(
            live=live, device=device, ctx=ctx, host=PretendHost(), resources=resources
        )

    def attach(self, live: Domain, device: Device) -> list[str]:
        """Put a device into a running definition, and return what the monitor would be told.

        :raises HvError: this QEMU cannot have it; the definition is as before.
        """
        if attaching.changes_medium(live, device):
            return self.update(live, device, force=False)
        hotplug.check_features(self.registry, _NAME, device)
        before = attaching.Members.of(live)
        said: list[str] = []
        try:
            work = self._attaching(live, device)
            for plug in work.plan():
                self.registry.manager.hook.hv_amend_attach(
                    driver=_NAME, domain=live, device=device, plan=plug
                )
                said += _spoken(plug.run())
        except BaseException:
            before.restore(live)
            raise
        self._numbers[live.uuid] = work.resources.numbers
        return said

    def check_detach_family(self, live: Domain, wanted: Device) -> None:
        """Refuse families that QEMU has no unplugging for."""
        check_family(hotplug.family_of(live, wanted), wanted)

    def check_detach(self, live: Domain, device: Device) -> None:
        """Refuse a device that cannot go while the domain runs."""
        self._unplug(live, device)

    def _unplug(self, live: Domain, device: Device) -> Unplug:
        plan = attaching.plan_detach(live, device, {})
        self.registry.manager.hook.hv_amend_detach(
            driver=_NAME, domain=live, device=device, plan=plan
        )
        return plan

    def depart(self, live: Domain, device: Device) -> None:
        """Take a device out of a running definition, with what plugins want to go with it."""
        plan = self._unplug(live, device)
        hotplug.remove(live, device)
        for change in plan.gone:
            change(live)

    def update(self, live: Domain, device: Device, *, force: bool) -> list[str]:
        """Change what QEMU can change of a device.

        :raises HvError: the rest differs, too, or devices of its family cannot be changed.
        """
        work = self._attaching(live, device)
        said = _spoken(updating.plan(work, {}, force=force).run())
        self._numbers[live.uuid] = work.resources.numbers
        return said

    # -- questions ----------------------------------------------------------------------

    def version(self) -> int:
        """Return the version of the recorded QEMU."""
        return self.caps.version

    def domain_capabilities(
        self,
        *,
        emulator: str | None,
        arch: str | None,
        machine: str | None,
        virt_type: str | None,
        disable_deprecated: bool,
    ) -> DomainCapabilities:
        """Return what guests of one kind can have.

        :raises HvError: this QEMU has no such guests.
        """
        del emulator  # there is but one
        domaincaps.check_names(virt_type=virt_type, arch=arch)
        guest = domaincaps.choose(
            self.caps, arch=arch or self.caps.arch, virt_type=virt_type, machine=machine
        )
        found = domaincaps.describe(
            self.caps, guest, host=self.host, config=self.config, exists=lambda _: False
        )
        return domaincaps.without_deprecated(found, self.caps) if disable_deprecated else found


def _spoken(conversation: Generator[Command, Any, None]) -> list[str]:
    """Return what QEMU would be told if it agreed to what it can.

    :raises MonitorError: it could not.
    """
    said = []
    for command in conversation:
        name, arguments = command[:2]
        message = {"execute": name, "arguments": arguments} if arguments else {"execute": name}
        if name == "device_add" and arguments["driver"] in _ON_ISA:
            problem = f"unable to execute QEMU command '{name}': {_NO_PLUGGING}"
            raise MonitorError(problem, sent=message, error_class="GenericError")
        said.append(json.dumps(message, default=str))
    return said
