"""The verbs that plug devices into a running QEMU, out of it, and change them."""

from __future__ import annotations

import contextlib
import time
from importlib import import_module
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs

from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import ValidationFailed
from hvcore.model.devices import VISITED
from hvcore.model.devices.base import UnassignedAddress
from hvcore_qemu.plugging import Plugging
from hvcore_qemu.plugging import Unplug
from hvcore_qemu.plugging import alone
from hvcore_qemu.tuning import Tuning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from collections.abc import Callable
    from collections.abc import Generator
    from collections.abc import Iterator
    from collections.abc import Mapping
    from pathlib import Path

    from hvcore.driver import Record
    from hvcore.model.devices.base import Device
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.hotplug import Family
    from hvcore_qemu.guest import Guest
    from hvcore_qemu.monitor import Command as MonitorCommand
    from hvcore_qemu.plugging import Plug
    from hvcore_qemu.prepare import Preparation
    from hvcore_qemu.realhost import RealHost
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
        from hvcore.rules import hotplug  # noqa: PLC0415 - see tuning
        from hvcore_qemu.hotplug_checks import check_attach  # noqa: PLC0415

        family = hotplug.family_of(self.live, self.device)
        check_attach(self.live, family, self.device)
        before = list(self.live.devices.controllers)
        hubs = len(self.live.devices.hubs)
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
        from hvcore_qemu import addresses  # noqa: PLC0415
        from hvcore_qemu import aliases  # noqa: PLC0415

        if family.members == "disks":
            self._add_scsi()
        addresses.assign(
            self.live,
            self.ctx.caps,
            new_domain=True,
            host=None if self.ctx.host is None else self.ctx.host.pci,
        )
        aliases.assign(self.live, self.ctx.caps, network_forward=self.host.network_forward)

    def _add_scsi(self) -> None:
        """Add the SCSI controllers up to that of a disk, of the model that there is."""
        from hvcore.addresses.controllers import ensure_controller  # noqa: PLC0415
        from hvcore_qemu.devices.controller import choose_scsi_model  # noqa: PLC0415
        from hvcore_qemu.machines import machine_of  # noqa: PLC0415

        controller = getattr(self.device.address, "controller", None)
        if getattr(self.device, "bus", None) != "scsi" or controller is None:
            return
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

    def _preparation(self, view: Domain) -> Preparation:
        from hvcore_qemu.prepare import Preparation  # noqa: PLC0415

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
        from hvcore_qemu.devices.controller import add  # noqa: PLC0415

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


def plan_detach(live: Domain, device: Device, behind: list[Any]) -> Unplug:
    """Return what takes a device out.

    :param behind: what has to go once it is gone.
    :raises HvError: it cannot go while the domain runs.
    """
    from hvcore.rules import hotplug  # noqa: PLC0415
    from hvcore_qemu.hotplug_checks import check_detach  # noqa: PLC0415

    check_detach(live, hotplug.family_of(live, device), device)
    return Unplug(device.alias or "", behind=_calls(behind))


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


# -- verbs -----------------------------------------------------------------------------------------


class Hotplug(Tuning):
    """The part of the QEMU driver that plugs devices in and out."""

    async def attach_device(self, record: Record, live: Domain, device: Device) -> None:
        """Plug a device in, with what it needs; what QEMU refuses is taken back.

        :raises HvError: the domain, QEMU or the host cannot have it.
        """
        guest: Guest = record.runtime
        if _changes_medium(live, device):
            await self.update_device(record, live, device, force=False)
            return
        async with self._attaching(record, live, device) as attaching:
            before = Members.of(live)
            try:
                plugs = attaching.plan()
                for plug in plugs:
                    self.registry.manager.hook.hv_amend_attach(
                        driver=self.name, domain=live, device=device, plan=plug
                    )
                    await guest.monitor.run(plug.run())
                    before.add(live, plug.alias)
            except BaseException:
                before.restore(live)
                raise
        self._remember(record, plugs)
        _show_terminals(record, live, plugs)
        await guest.monitor.run(_limits(live, device))

    @contextlib.asynccontextmanager
    async def _attaching(
        self, record: Record, live: Domain, device: Device
    ) -> AsyncIterator[Attaching]:
        """Take from the host what a device needs until QEMU has it."""
        from hvcore_qemu import launch  # noqa: PLC0415
        from hvcore_qemu.resources import Resources  # noqa: PLC0415

        ctx = await self.context(live)
        folder = str(self._folder(record))
        ctx.config = attrs.evolve(self.config, channel_target_dir=folder)
        node, fd_set = record.data.get("numbers", (0, 0))
        resources = Resources(
            short_name=launch.short_name(live),
            domain_dir=folder,
            launch_time=int(time.time()),
            last_node=node,
            first_fd_set=fd_set,
        )
        host = self._host_of(record)
        try:
            yield Attaching(live=live, device=device, ctx=ctx, host=host, resources=resources)
        finally:
            host.close()
            host.give_back_ports()
            record.data = {**record.data, "numbers": resources.numbers}

    def _host_of(self, record: Record) -> RealHost:
        """Return the host to take from what a running domain needs."""
        from hvcore.rules.placement import Advice  # noqa: PLC0415
        from hvcore_qemu.realhost import RealHost  # noqa: PLC0415

        advice = Advice.of(record.data)
        return RealHost(None if advice is None else advice.nodeset)

    def _folder(self, record: Record) -> Path:
        """Return the private directory of a running domain."""
        assert self.directory is not None  # keeps_state
        return self.directory.runtime(record.uuid)

    def _remember(self, record: Record, plugs: list[Plug]) -> None:
        """Keep what has to go once the new devices are gone."""
        behind = {plug.alias: plug.behind for plug in plugs if plug.behind}
        record.data = {**record.data, "behind": {**record.data.get("behind", {}), **behind}}

    async def detach_device(
        self, record: Record, live: Domain, device: Device, within: float
    ) -> bool:
        """Ask the guest to let a device go, and remove what stood behind it.

        :raises HvError: it cannot go, or QEMU or the guest refuses.
        """
        guest: Guest = record.runtime
        plan = plan_detach(live, device, _behind(record, device.alias))
        self._amend(live, device, plan)
        await guest.monitor.run(plan.prepare())
        try:
            gone = await self._let_go(guest, live, device, within)
        except HvError:
            await guest.monitor.run(plan.give_up())
            raise
        if gone:
            await self._clean_up(record, live, device, plan)
        else:
            guest.pending[plan.alias] = plan
        return gone

    def _amend(self, live: Domain, device: Device, plan: Unplug) -> None:
        self.registry.manager.hook.hv_amend_detach(
            driver=self.name, domain=live, device=device, plan=plan
        )

    async def _let_go(self, guest: Guest, live: Domain, device: Device, within: float) -> bool:
        assert device.alias is not None  # checked by plan_detach
        if isinstance(device.address, UnassignedAddress) or device in live.devices.leases:
            return True  # QEMU never had it
        call = without_guest(live, device)
        if call is not None:
            await guest.monitor.execute(*call)
            return True
        return await self.unplug(guest, device.alias, within=within)

    async def _clean_up(self, record: Record, live: Domain, device: Device, plan: Unplug) -> None:
        """Remove what stood behind a device, and it from the definition."""
        from hvcore.rules import hotplug  # noqa: PLC0415

        guest: Guest = record.runtime
        forwarding = without_guest(live, device) is not None
        if not forwarding:
            await guest.monitor.run(plan.clean_up())
        if hotplug.family_of(live, device).name == "chardev" and not forwarding:
            for call in leftover_sets(plan.alias, await guest.monitor.execute("query-fdsets")):
                await guest.monitor.execute(*call)
        hotplug.remove(live, device)
        for change in plan.gone:
            change(live)
        behind = {**record.data.get("behind", {})}
        behind.pop(plan.alias, None)
        record.data = {**record.data, "behind": behind}

    async def device_departed(self, record: Record, live: Domain, alias: str) -> None:
        """Clean up behind a device that the guest let go late."""
        guest: Guest = record.runtime
        device = next((each for each in live.devices.walk() if each.alias == alias), None)
        plan = guest.pending.pop(alias, None)
        if device is None:
            return
        if plan is None:
            # An earlier manager asked for it.
            plan = Unplug(alias, behind=_calls(_behind(record, alias)))
            self._amend(live, device, plan)
        await self._clean_up(record, live, device, plan)

    async def device_stays(self, guest: Guest, alias: str) -> None:
        """Take back what was done for a device that the guest keeps, as it said late."""
        plan = guest.pending.pop(alias, None)
        if plan is not None:
            await guest.monitor.run(plan.give_up())

    async def update_device(
        self, record: Record, live: Domain, device: Device, *, force: bool
    ) -> None:
        """Change what QEMU can change of a device.

        :raises HvError: the rest differs, too, or devices of its family cannot be changed.
        """
        from hvcore_qemu import updating  # noqa: PLC0415

        guest: Guest = record.runtime
        async with self._attaching(record, live, device) as attaching:
            update = updating.plan(attaching, behind=_behind(record, device.alias), force=force)
            await guest.monitor.run(update.run())
        if update.behind is not None and update.alias is not None:
            behind = {**record.data.get("behind", {}), update.alias: update.behind}
            record.data = {**record.data, "behind": behind}


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


def _changes_medium(live: Domain, device: Any) -> bool:
    """Return whether a disk is a new medium for a drive that there is, as virsh attaches them."""
    return getattr(device, "device", None) in ("cdrom", "floppy") and any(
        each.target == device.target for each in live.devices.disks
    )


def _calls(behind: list[Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(str(name), dict(arguments)) for name, arguments in behind]


def _behind(record: Record, alias: str | None) -> list[Any]:
    """Return what has to go after a device, as it was kept."""
    found: list[Any] = record.data.get("behind", {}).get(alias, [])
    return found


def _show_terminals(record: Record, live: Domain, plugs: list[Plug]) -> None:
    """Note which terminals QEMU opened for new character devices."""
    from hvcore_qemu.devices.chardev import show_terminals  # noqa: PLC0415

    opened = {alias: path for plug in plugs for alias, path in plug.terminals.items()}
    if not opened:
        return
    record.data = {**record.data, "terminals": {**record.data.get("terminals", {}), **opened}}
    show_terminals(live, opened)


def _limits(live: Domain, device: Device) -> Generator[MonitorCommand, Any, None]:
    """Set the limits of a new disk."""
    from hvcore_qemu.devices.disk import limits  # noqa: PLC0415

    if any(each is device for each in live.devices.disks):
        yield from limits(alone(live, "disks", device))
