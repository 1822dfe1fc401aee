"""Plans of plugging a device into a running QEMU and out of it, made with what a start does.

A device that is plugged in goes through the steps of a start that its family has, alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs

from hvcore.addresses.controllers import ensure_controller
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import ValidationFailed
from hvcore.model.devices import VISITED
from hvcore.model.devices.base import UnassignedAddress
from hvcore.rules import hotplug
from hvcore_qemu import addresses
from hvcore_qemu import aliases
from hvcore_qemu.devices.controller import add
from hvcore_qemu.devices.controller import choose_scsi_model
from hvcore_qemu.devices.disk import limits
from hvcore_qemu.hotplug_checks import check_attach
from hvcore_qemu.hotplug_checks import check_detach
from hvcore_qemu.machines import machine_of
from hvcore_qemu.plugging import Plugging
from hvcore_qemu.plugging import Unplug
from hvcore_qemu.plugging import alone
from hvcore_qemu.prepare import Preparation

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Generator
    from collections.abc import Iterator
    from collections.abc import Mapping

    from hvcore.model.devices.base import Device
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.hotplug import Family
    from hvcore_qemu.monitor import Command as MonitorCommand
    from hvcore_qemu.plugging import Plug
    from hvcore_qemu.resources import Host
    from hvcore_qemu.resources import Resources


@attrs.frozen(kw_only=True)
class Way:
    """How devices of a family are made ready and described.

    :ivar prepare: ``module:function`` of what makes a device ready, as at a start.
    :ivar command: ``module:function`` of what writes its options.
    """

    prepare: tuple[str, ...] = ()
    command: tuple[str, ...]


def _chardev(command: str) -> Way:
    return Way(prepare=("chardev:prepare", "chardev:prepare_host"), command=(command,))


WAYS: Final[Mapping[str, Way]] = {
    "disks": Way(
        prepare=("images:prepare", "images:prepare_host"), command=("devices.disk:command",)
    ),
    "interfaces": Way(
        prepare=(
            "devices.hostdev:prepare",
            "devices.interface:prepare",
            "devices.hostdev:prepare_host",
            "devices.interface:prepare_host",
        ),
        command=("devices.interface:command", "devices.hostdev:command"),
    ),
    "hostdevs": Way(
        prepare=("devices.hostdev:prepare", "devices.hostdev:prepare_host"),
        command=("devices.hostdev:command",),
    ),
    "redirdevs": _chardev("devices.redirdev:command"),
    "serials": _chardev("devices.chardev:serials"),
    "parallels": _chardev("devices.chardev:parallels"),
    "channels": _chardev("devices.chardev:channels"),
    "consoles": _chardev("devices.chardev:consoles"),
    "rngs": _chardev("devices.rng:command"),
    "memories": Way(
        prepare=("sections.numa:prepare", "sections.memory:align_sizes"),
        command=("devices.memory:command",),
    ),
    "shmems": Way(prepare=("devices.shmem:prepare",), command=("devices.shmem:command",)),
    "watchdogs": Way(command=("devices.watchdog:command",)),
    "inputs": Way(command=("devices.input:command",)),
    "vsocks": Way(prepare=("devices.vsock:prepare",), command=("devices.vsock:command",)),
    "filesystems": Way(
        prepare=("devices.filesystem:prepare",), command=("devices.filesystem:command",)
    ),
}
"""By the list of the family. Leases have nothing in QEMU, and controllers are described alone."""

_FULL: Final[Mapping[str, str]] = {
    "pci": "No more available PCI slots",
    "virtio-serial": "Unable to find a free virtio-serial port",
    "usb": "No free USB ports",
}
"""What is said when a device would need another controller of a type."""


def _function(target: str) -> Callable[[Any], None]:
    module, _, name = target.partition(":")
    found: Callable[[Any], None] = getattr(import_module(f"hvcore_qemu.{module}"), name)
    return found


# -- planning --------------------------------------------------------------------------------------


@attrs.define(kw_only=True)
class Attaching:
    """A device that is being plugged in.

    :ivar live: the running definition, which gets the device.
    :ivar resources: with the numbers that the next nodes and sets of descriptors get.
    """

    live: Domain
    device: Device
    ctx: Context
    host: Host
    resources: Resources

    def plan(self) -> list[Plug]:
        """Put the device into the definition and return what plugs it in, controllers first.

        :raises HvError: the domain, QEMU or the host cannot have it.
        """
        family = hotplug.family_of(self.live, self.device)
        check_attach(self.live, family, self.device)
        before = list(self.live.devices.controllers)
        hubs = len(self.live.devices.hubs)
        hotplug.number(self.live, self.device)
        hotplug.insert(self.live, self.device)
        self._place(family)
        controllers = [
            each
            for each in self.live.devices.controllers
            if each is not self.device and all(each is not old for old in before)
        ]
        for controller in controllers:
            if controller.type != "scsi":
                raise HvError(_FULL.get(controller.type, f"No free {controller.type} port"))
        if len(self.live.devices.hubs) != hubs:
            raise HvError(_FULL["usb"])
        plugs = [self._controller(each) for each in controllers]
        if family.members == "controllers":
            plugs.append(self._controller(self.device))
        elif family.members in WAYS:
            plugs.append(self.plug(family))
        return plugs

    def _place(self, family: Family) -> None:
        """Give the device, and SCSI controllers that it needs, address and alias."""
        plugged = [self.device]
        if family.members == "disks":
            plugged += self._add_scsi()
        addresses.assign(
            self.live,
            self.ctx.caps,
            new_domain=True,
            host=None if self.ctx.host is None else self.ctx.host.pci,
            plugged=plugged,
        )
        aliases.assign(self.live, self.ctx.caps, network_forward=self.host.network_forward)

    def _add_scsi(self) -> list[Device]:
        """Add and return the SCSI controllers up to that of a disk, of the model that there is."""
        added: list[Device] = []
        controller = getattr(self.device.address, "controller", None)
        if getattr(self.device, "bus", None) != "scsi" or controller is None:
            return added
        controllers = self.live.devices.controllers
        models = [each.model for each in controllers if each.type == "scsi"]
        for index in range(controller + 1):
            new = ensure_controller(controllers, "scsi", index)
            if new is None:
                continue
            new.model = models[0] if models else None
            issues = list(choose_scsi_model(new, machine_of(self.live), self.ctx))
            if issues:
                raise ValidationFailed(issues)
            added.append(new)
        return added

    def _preparation(self, view: Domain) -> Preparation:

        return Preparation(
            domain=view,
            caps=self.ctx.caps,
            config=self.ctx.config,
            host=self.host,
            registry=self.ctx.registry,
            resources=self.resources,
            info=self.ctx.host,
        )

    def plug(self, family: Family) -> Plug:
        """Make the device ready and return what plugs it in; it has its address and alias.

        :raises HvError: the host does not have what it needs.
        """
        view = alone(self.live, family.members, self.device)
        way = WAYS[family.members]
        work = self._preparation(view)
        for step in way.prepare:
            _function(step)(work)
        if not getattr(view.devices, family.members):
            raise HvError("the medium of the device is missing", kind=ErrorClass.OPERATION_FAILED)
        command = Plugging(
            self.device.alias or "",
            view,
            self.ctx.caps,
            self.ctx.config,
            self.resources,
            self.ctx.registry,
        )
        for step in way.command:
            _function(step)(command)
        plug = command.plug
        if len(self.live.devices.watchdogs) > 1:
            # All of them have the action that the first one brought.
            plug.steps = [step for step in plug.steps if step.command != "set-action"]
        return plug

    def _controller(self, controller: Any) -> Plug:

        command = Plugging(
            controller.alias or "",
            self.live,
            self.ctx.caps,
            self.ctx.config,
            self.resources,
            self.ctx.registry,
        )
        add(command, controller)
        return command.plug


def plan_detach(live: Domain, device: Device, data: Mapping[str, Any]) -> Unplug:
    """Return what takes a device out.

    :param data: what the driver kept when the guest was started and devices were plugged.
    :raises HvError: it cannot go while the domain runs.
    """
    check_detach(live, hotplug.family_of(live, device), device)
    alias = device.alias or ""
    plan = Unplug(alias, behind=calls(kept(data, "behind", alias)))
    for props in kept(data, "ahead", alias):
        plan.first("object-del", {"id": props["id"]}, undo=("object-add", dict(props)))
    return plan


def without_guest(live: Domain, device: Any) -> tuple[str, dict[str, Any]] | None:
    """Return the command that removes what the guest is not asked for; None for true devices."""
    if device in live.devices.inputs and device.type == "evdev":
        return "object-del", {"id": device.alias}
    if device in live.devices.channels and device.target_type == "guestfwd":
        # The character device goes with it.
        return "netdev_del", {"id": device.alias}
    return None


def leftover_sets(alias: str, sets: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what removes the descriptors that a character device of QEMU left behind.

    :param sets: what ``query-fdsets`` told.
    """
    names = {f"{alias}-source", f"{alias}-log"}
    for each in sets:
        if any(fd.get("opaque") in names for fd in each["fds"]):
            yield "remove-fd", {"fdset-id": each["fdset-id"]}


def changes_medium(live: Domain, device: Any) -> bool:
    """Return whether a disk is a new medium for a drive that there is, as virsh attaches them."""
    return getattr(device, "device", None) in ("cdrom", "floppy") and any(
        each.target == device.target for each in live.devices.disks
    )


def calls(behind: list[Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return commands as they were before they were kept."""
    return [(str(name), dict(arguments)) for name, arguments in behind]


def kept(data: Mapping[str, Any], what: str, alias: str) -> list[Any]:
    """Return what was kept about a device."""
    found: list[Any] = data.get(what, {}).get(alias, [])
    return found


def never_there(live: Domain, device: Device) -> bool:
    """Return whether QEMU knows nothing of a device."""
    return isinstance(device.address, UnassignedAddress) or device in live.devices.leases


def limits_of(live: Domain, device: Device) -> Generator[MonitorCommand, Any, None]:
    """Set the limits of a new disk."""
    if any(each is device for each in live.devices.disks):
        yield from limits(alone(live, "disks", device))


@attrs.define(eq=False)
class Members:
    """Who is in a definition, to put back what was there."""

    lists: dict[str, list[Any]]
    memory: tuple[int | None, int | None]

    @classmethod
    def of(cls, domain: Domain) -> Members:
        """Note who is in ``domain``."""
        lists = {name: list(getattr(domain.devices, name)) for name in VISITED}
        return cls(lists, (domain.memory, domain.current_memory))

    def add(self, domain: Domain, alias: str) -> None:
        """Note a controller that came to stay."""
        old = self.lists["controllers"]
        self.lists["controllers"] = [
            each
            for each in domain.devices.controllers
            if each.alias == alias or any(each is known for known in old)
        ]

    def restore(self, domain: Domain) -> None:
        """Let ``domain`` have those that were noted, and no others."""
        for name, members in self.lists.items():
            getattr(domain.devices, name)[:] = members
        domain.memory, domain.current_memory = self.memory
