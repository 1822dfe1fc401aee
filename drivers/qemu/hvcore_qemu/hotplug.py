"""The verbs that plug devices into a running QEMU, out of it, and change them."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import attrs

from hvcore.errors import HvError
from hvcore_qemu.folders import discard
from hvcore_qemu.folders import made
from hvcore_qemu.tuning import Tuning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from hvcore.driver import Record
    from hvcore.model.devices.base import Device
    from hvcore.model.domain import Domain
    from hvcore_qemu.attaching import Attaching
    from hvcore_qemu.guest import Guest
    from hvcore_qemu.plugging import Plug
    from hvcore_qemu.plugging import Unplug
    from hvcore_qemu.realhost import RealHost


class Hotplug(Tuning):
    """The part of the QEMU driver that plugs devices in and out."""

    async def attach_device(self, record: Record, live: Domain, device: Device) -> None:
        """Plug a device in, with what it needs; what QEMU refuses is taken back.

        :raises HvError: the domain, QEMU or the host cannot have it.
        """
        from hvcore_qemu import attaching as plans  # noqa: PLC0415 - see tuning

        guest: Guest = record.runtime
        if plans.changes_medium(live, device):
            await self.update_device(record, live, device, force=False)
            return
        async with self._attaching(record, live, device) as attaching:
            before = plans.Members.of(live)
            try:
                plugs = attaching.plan()
                folders = attaching.resources.folders
                with made(folders, device.alias):
                    for plug in plugs:
                        self.registry.manager.hook.hv_amend_attach(
                            driver=self.name, domain=live, device=device, plan=plug
                        )
                        await guest.monitor.run(plug.run())
                        before.add(live, plug.alias)
            except BaseException:
                before.restore(live)
                raise
        self._keep_folders(record, folders)
        self._remember(record, plugs)
        _show_terminals(record, live, plugs)
        await guest.monitor.run(plans.limits_of(live, device))
        if device in live.devices.memories:
            from hvcore_qemu.devices.memory import locate  # noqa: PLC0415

            await guest.monitor.run(locate(live))

    @contextlib.asynccontextmanager
    async def _attaching(
        self, record: Record, live: Domain, device: Device
    ) -> AsyncIterator[Attaching]:
        """Take from the host what a device needs until QEMU has it."""
        from hvcore_qemu import launch  # noqa: PLC0415
        from hvcore_qemu.attaching import Attaching  # noqa: PLC0415
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

    def _keep_folders(self, record: Record, folders: list[str]) -> None:
        """Note directories that go with the domain from now on."""
        guest: Guest = record.runtime
        new = [folder for folder in folders if folder not in guest.folders]
        if new:
            guest.folders += new
            record.data = {**record.data, "folders": guest.folders}

    def _remember(self, record: Record, plugs: list[Plug]) -> None:
        """Keep what has to go once the new devices are gone."""
        behind = {plug.alias: plug.behind for plug in plugs if plug.behind}
        record.data = {**record.data, "behind": {**record.data.get("behind", {}), **behind}}

    def check_detach_family(self, live: Domain, wanted: Device) -> None:
        """Refuse families that QEMU has no unplugging for.

        :raises HvError: with libvirt's words.
        """
        from hvcore.rules import hotplug  # noqa: PLC0415
        from hvcore_qemu.hotplug_checks import check_family  # noqa: PLC0415

        check_family(hotplug.family_of(live, wanted), wanted)

    async def detach_device(
        self, record: Record, live: Domain, device: Device, within: float
    ) -> bool:
        """Ask the guest to let a device go, and remove what stood behind it.

        :raises HvError: it cannot go, or QEMU or the guest refuses.
        """
        from hvcore_qemu import attaching as plans  # noqa: PLC0415

        guest: Guest = record.runtime
        plan = plans.plan_detach(live, device, record.data)
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
        from hvcore_qemu import attaching as plans  # noqa: PLC0415

        assert device.alias is not None  # checked by plan_detach
        if plans.never_there(live, device):
            return True
        call = plans.without_guest(live, device)
        if call is not None:
            await guest.monitor.execute(*call)
            return True
        return await self.unplug(guest, device.alias, within=within)

    async def _clean_up(self, record: Record, live: Domain, device: Device, plan: Unplug) -> None:
        """Remove what stood behind a device, and it from the definition."""
        from hvcore.rules import hotplug  # noqa: PLC0415
        from hvcore_qemu import attaching as plans  # noqa: PLC0415

        guest: Guest = record.runtime
        forwarding = plans.without_guest(live, device) is not None
        if not forwarding:
            await guest.monitor.run(plan.clean_up())
        if hotplug.family_of(live, device).name == "chardev" and not forwarding:
            for call in plans.leftover_sets(
                plan.alias, await guest.monitor.execute("query-fdsets")
            ):
                await guest.monitor.execute(*call)
        discard(guest.folders, plan.alias)
        hotplug.remove(live, device)
        for change in plan.gone:
            change(live)
        left = {
            name: {
                alias: entry
                for alias, entry in record.data.get(name, {}).items()
                if alias != plan.alias
            }
            for name in ("ahead", "behind", "terminals")
        }
        record.data = {**record.data, **left}

    async def device_departed(self, record: Record, live: Domain, alias: str) -> None:
        """Clean up behind a device that the guest let go late."""
        from hvcore_qemu.attaching import calls  # noqa: PLC0415
        from hvcore_qemu.attaching import kept  # noqa: PLC0415
        from hvcore_qemu.plugging import Unplug  # noqa: PLC0415

        guest: Guest = record.runtime
        device = next((each for each in live.devices.walk() if each.alias == alias), None)
        plan = guest.pending.pop(alias, None)
        if device is None:
            return
        if plan is None:
            # An earlier manager asked for it.
            plan = Unplug(alias, behind=calls(kept(record.data, "behind", alias)))
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
            update = updating.plan(attaching, record.data, force=force)
            await guest.monitor.run(update.run())
        if update.behind is not None and update.alias is not None:
            behind = {**record.data.get("behind", {}), update.alias: update.behind}
            record.data = {**record.data, "behind": behind}


def _show_terminals(record: Record, live: Domain, plugs: list[Plug]) -> None:
    """Note which terminals QEMU opened for new character devices."""
    from hvcore_qemu.devices.chardev import show_terminals  # noqa: PLC0415

    opened = {alias: path for plug in plugs for alias, path in plug.terminals.items()}
    if not opened:
        return
    record.data = {**record.data, "terminals": {**record.data.get("terminals", {}), **opened}}
    show_terminals(live, opened)
