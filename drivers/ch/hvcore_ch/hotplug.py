"""The verbs that plug devices into a running guest and out of it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.driver import Driver
from hvcore.errors import MonitorError
from hvcore.errors import MonitorLost
from hvcore.errors import ValidationFailed
from hvcore_ch import lifecycle
from hvcore_ch.monitor import answered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hvcore.driver import Record
    from hvcore.errors import HvError
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
        info = await self._plug(record, guest, device, plug)
        if info is not None:
            place(device, info["bdf"])
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

    async def _plug(self, record: Record, guest: Guest, device: Device, plug: Plug) -> Any:
        """Ask for a device, with what the host has to open for it."""
        from hvcore_ch.resources import Taps  # noqa: PLC0415 - as above

        taps = Taps()
        try:
            if plug.tap is not None:
                await asyncio.to_thread(taps.open, [plug.tap])
                device.target = taps.names[plug.alias]  # type: ignore[attr-defined] # an interface
            found = await self._ask(guest, plug, taps.fds.get(plug.alias, ()))
        except BaseException:
            taps.remove()
            raise
        finally:
            # cloud-hypervisor has copies of its own; a tap goes with the last of them.
            taps.close()
        record.data = {**record.data, "macvtaps": [*record.data.get("macvtaps", ()), *taps.made]}
        return found

    async def _ask(self, guest: Guest, plug: Plug, fds: Sequence[int]) -> Any:
        try:
            found = await guest.vmm.monitor.call(plug.endpoint, plug.body, fds=fds)
            return lifecycle.placed(plug.endpoint, found)
        except (MonitorError, MonitorLost) as error:
            if answered(error):
                raise
            return await self._look_for(guest, plug.alias, error)

    async def _look_for(self, guest: Guest, alias: str, error: HvError) -> Any:
        """Return where a device is whose request was not answered; it may have come all the same.

        :raises HvError: ``error``, if it is not there or nobody knows.
        """
        try:
            info = await guest.vmm.monitor.call("vm.info")
            if lifecycle.configured(info, alias):
                return {"bdf": lifecycle.addresses(info).get(alias, "")}
        except (MonitorError, MonitorLost):
            raise error from None
        raise error

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
                await self._ask_for(guest, alias)
                guest.asked[alias] = plan
            gone = await self._left(guest, alias, waiting, within)
        finally:
            del guest.leaving[alias]
        if gone:
            await self.device_departed(record, live, alias)
        return gone

    async def _ask_for(self, guest: Guest, alias: str) -> None:
        """Ask the guest for a device; a request that was not answered may have been heard.

        :raises HvError: it was not, or is refused.
        """
        monitor = guest.vmm.monitor
        try:
            await monitor.call("vm.remove-device", {"id": alias})
        except (MonitorError, MonitorLost) as error:
            if answered(error):
                raise
            try:
                kept = lifecycle.configured(await monitor.call("vm.info"), alias)
            except (MonitorError, MonitorLost):
                raise error from None
            if kept:
                raise

    async def _left(
        self, guest: Guest, alias: str, waiting: asyncio.Future[None], within: float
    ) -> bool:
        """Return whether a device is gone in time: by an event, or by looking."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        while True:
            with contextlib.suppress(TimeoutError):
                pause = min(_LOOK_AGAIN, max(deadline - loop.time(), 0))
                await asyncio.wait_for(asyncio.shield(waiting), pause)
                return True
            info = await guest.vmm.monitor.call("vm.info")
            if not lifecycle.present(info, alias):
                return True
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
        self._forget_macvtap(record, getattr(device, "target", None))
        for change in plan.gone:
            change(live)

    @staticmethod
    def _forget_macvtap(record: Record, name: str | None) -> None:
        """Remove a macvtap that was made for a device that is gone."""
        from hvcore import macvtap  # noqa: PLC0415 - few guests have one

        made = list(record.data.get("macvtaps", ()))
        if name is not None and name in made:
            made.remove(name)
            record.data = {**record.data, "macvtaps": made}
            macvtap.remove(name)
