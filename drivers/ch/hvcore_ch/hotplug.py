"""The verbs that plug devices into a running guest and out of it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.driver import Driver
from hvcore.errors import ValidationFailed
from hvcore_ch.monitor import another_schema

if TYPE_CHECKING:
    from hvcore.driver import Record
    from hvcore.model.devices.base import Device
    from hvcore.model.domain import Domain
    from hvcore_ch.guest import Guest
    from hvcore_ch.plugging import Plug

_LOOK_AGAIN: Final = 0.2
"""Seconds between two looks for a device that goes without an event, as before the first boot."""


class Hotplug(Driver):
    """The part of the driver that plugs devices in and out."""

    async def attach_device(self, record: Record, live: Domain, device: Device) -> None:
        """Plug a device in; what cloud-hypervisor refuses leaves nothing behind.

        :raises HvError: the guest, cloud-hypervisor or the host cannot have it.
        """
        from hvcore.rules import hotplug  # noqa: PLC0415 - whoever only looks needs no rules
        from hvcore_ch import plugging  # noqa: PLC0415
        from hvcore_ch.live import place  # noqa: PLC0415

        guest: Guest = record.runtime
        folder = str(guest.vmm.folder)
        plug = plugging.plan(live, device, folder, record.data.get("landlock"))
        self.registry.manager.hook.hv_amend_attach(
            driver=self.name, domain=live, device=device, plan=plug
        )
        await self._check_whole(live, device)
        info = await self._plug(guest, device, plug)
        if isinstance(info, dict):
            place(device, str(info.get("bdf", "")))
        hotplug.insert(live, device)

    async def _check_whole(self, live: Domain, device: Device) -> None:
        """Refuse a device with which the guest as a whole could not be.

        :raises ValidationFailed: with all the reasons.
        """
        from hvcore.rules import hotplug  # noqa: PLC0415 - as above

        clone: Domain = self.registry.binding.clone(live)
        hotplug.insert(clone, device)
        issues = self.pipeline().validate(clone, await self.context(clone))
        if issues:
            raise ValidationFailed(issues)

    async def _plug(self, guest: Guest, device: Device, plug: Plug) -> Any:
        """Ask for a device, with what the host has to open for it."""
        from hvcore_ch.resources import Taps  # noqa: PLC0415 - as above

        taps = Taps()
        try:
            if plug.tap is not None:
                await asyncio.to_thread(taps.open, [plug.tap])
                device.target = taps.names[plug.alias]  # type: ignore[attr-defined] # an interface
            fds = taps.fds.get(plug.alias, ())
            return await guest.vmm.monitor.call(plug.endpoint, plug.body, fds=fds)
        finally:
            # cloud-hypervisor has copies of its own; a tap goes with the last of them.
            taps.close()

    def check_detach_family(self, live: Domain, wanted: Device) -> None:
        """Refuse families that cannot be unplugged.

        :raises HvError: with libvirt's words.
        """
        from hvcore_ch.plugging import check_family  # noqa: PLC0415 - as above

        check_family(live, wanted, "detach")

    async def detach_device(
        self, record: Record, live: Domain, device: Device, within: float
    ) -> bool:
        """Ask the guest to let a device go, and wait until it is not there any more.

        That the request succeeds means only that the guest was asked.

        :raises HvError: it cannot go, or cloud-hypervisor refuses.
        """
        from hvcore_ch import plugging  # noqa: PLC0415 - as above

        guest: Guest = record.runtime
        alias = plugging.check_detach(live, device)
        plan = plugging.Unplug(alias)
        self.registry.manager.hook.hv_amend_detach(
            driver=self.name, domain=live, device=device, plan=plan
        )
        waiting = guest.leaving[alias] = asyncio.get_running_loop().create_future()
        try:
            if alias not in guest.asked:
                # A second request would be an error, and is not needed.
                await guest.vmm.monitor.call("vm.remove-device", {"id": alias})
                guest.asked[alias] = plan
            gone = await self._left(guest, alias, waiting, within)
        finally:
            del guest.leaving[alias]
        if gone:
            await self.device_departed(record, live, alias)
        return gone

    async def _left(
        self, guest: Guest, alias: str, waiting: asyncio.Future[None], within: float
    ) -> bool:
        """Return whether a device is gone in time: by an event, or by looking."""
        from hvcore_ch.plugging import present  # noqa: PLC0415 - as above

        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        while True:
            with contextlib.suppress(TimeoutError):
                pause = min(_LOOK_AGAIN, max(deadline - loop.time(), 0))
                await asyncio.wait_for(asyncio.shield(waiting), pause)
                return True
            info = await guest.vmm.monitor.call("vm.info")
            try:
                if not present(info, alias):
                    return True
            except (KeyError, TypeError, AttributeError) as error:
                raise another_schema("vm.info", info) from error
            if loop.time() >= deadline:
                return False

    async def device_departed(self, record: Record, live: Domain, alias: str) -> None:
        """Take a device out of the definition that the guest has let go."""
        from hvcore.rules import hotplug  # noqa: PLC0415 - as above
        from hvcore_ch.plugging import Unplug  # noqa: PLC0415

        guest: Guest = record.runtime
        plan = guest.asked.pop(alias, None)
        device = next((each for each in live.devices.walk() if each.alias == alias), None)
        if device is None:
            return
        if plan is None:
            # An earlier manager asked for it.
            plan = Unplug(alias)
            self.registry.manager.hook.hv_amend_detach(
                driver=self.name, domain=live, device=device, plan=plan
            )
        hotplug.remove(live, device)
        for change in plan.gone:
            change(live)
