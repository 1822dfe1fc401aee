"""Devices that come, go and change, while a domain runs and for its next start."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

from hvcore import events
from hvcore.errors import ValidationFailed
from hvcore.operations import Op
from hvcore.verbs.base import Handle
from hvcore.verbs.base import Verbs

if TYPE_CHECKING:
    from hvcore.change import Change
    from hvcore.driver import Record
    from hvcore.model.devices.base import Device
    from hvcore.model.domain import Domain as Model
    from hvcore.rules.hotplug import Action
    from hvcore.xml.fields import Element


class DeviceVerbs(Verbs):
    """What a driver may override.

    Each verb gets ``live``, a copy of the running definition, which becomes the definition when
    the verb returns or raises: change it as the guest changes, with :mod:`hvcore.rules.hotplug`.
    """

    async def attach_device(self, record: Record, live: Model, device: Device) -> None:
        """Plug a device in and put it into ``live``, with its alias.

        :param device: complete and valid, without an address unless its document has one.
        :raises HvError: the hypervisor refuses, and nothing of it is left.
        """
        del live, device
        raise self.unsupported(Op.ATTACH_DEVICE, record)

    def check_detach_family(self, live: Model, wanted: Device) -> None:
        """Refuse to unplug a kind of device at all; nothing is refused unless overridden.

        :param wanted: describes a device that ``live`` need not have.
        :raises HvError: with the reason.
        """
        del live, wanted

    async def detach_device(
        self, record: Record, live: Model, device: Device, within: float
    ) -> bool:
        """Unplug a device of ``live`` and take it out; return whether it is gone by then.

        One that goes later is reported with :meth:`~hvcore.driver.Reports.departed`.

        :param within: seconds to wait for the guest.
        :raises HvError: the hypervisor or the guest refuses; everything is as before.
        """
        del live, device, within
        raise self.unsupported(Op.DETACH_DEVICE, record)

    async def update_device(
        self, record: Record, live: Model, device: Device, *, force: bool
    ) -> None:
        """Change a device of ``live`` to what ``device`` says.

        :param force: open a tray that the guest keeps locked.
        :raises HvError: that cannot be changed while the domain runs.
        """
        del live, device, force
        raise self.unsupported(Op.UPDATE_DEVICE, record)

    async def device_departed(self, record: Record, live: Model, alias: str) -> None:
        """Clean up behind a device that went without anybody waiting, and take it out of ``live``.

        Nothing is cleaned up unless overridden; an alias that is no device's is no error.
        """
        del record, live, alias


class DeviceHandle(Handle):
    """What a handle on a domain offers.

    ``live`` changes what runs, ``config`` the next start, both can be asked for at once; neither
    means what runs if it does and the next start otherwise.
    """

    __slots__ = ()

    async def attach_device(
        self, xml: str | bytes, *, live: bool | None = None, config: bool | None = None
    ) -> None:
        """Add a device, described by its element of the domain document.

        :raises ConfigError: the document is refused.
        :raises HvError: something is in its way, or the hypervisor refuses.
        """
        from hvcore.rules import hotplug  # noqa: PLC0415 - handles import no rules, so below

        driver, api = self._engine.driver, Op.ATTACH_DEVICE.api
        async with self._engine.change(self._record, api, live=live, config=config) as change:
            mac = None
            if change.config is not None:
                device = await self._device(xml, change.config, "attach", live=False)
                mac = getattr(device, "mac", None)
                hotplug.check_compatible(change.config, device, live=False, attach=True)
                hotplug.check_config(change.config, device, "attach")
                hotplug.add(change.config, device)
                await change.seal()
                _updated(change)
            if change.live is not None:
                device = await self._device(xml, change.live, "attach", live=True)
                if mac is not None:
                    device.mac = mac  # it is the same interface, also if its address was drawn
                hotplug.check_compatible(change.live, device, live=True, attach=True)
                self._check_features(device)
                await driver.attach_device(change.record, change.live, device)
                if device.alias is not None:
                    ref = change.record.ref()
                    change.happened.append(events.DeviceAdded(domain=ref, alias=device.alias))

    async def detach_device(
        self,
        xml: str | bytes,
        *,
        live: bool | None = None,
        config: bool | None = None,
        within: float = 5.0,
    ) -> bool:
        """Take away the device that an element of the domain document describes.

        :param within: seconds that the guest has for letting it go; five are libvirt's figure.
        :returns: whether it is gone. If not, the guest has been asked and may still let it go,
            which an event will tell.
        :raises HvError: there is no such device, or the hypervisor or the guest refuses.
        """
        from hvcore.rules import hotplug  # noqa: PLC0415

        async def found(model: Model, *, live: bool) -> Device:
            wanted = await self._device(xml, model, "detach", live=live)
            if live:
                self._engine.driver.check_detach_family(model, wanted)
            else:
                hotplug.check_config(model, wanted, "detach")
            device: Device = hotplug.find(model, wanted, live=live)
            return device

        return await self._detach(found, live=live, config=config, within=within)

    async def detach_device_alias(
        self,
        alias: str,
        *,
        live: bool | None = None,
        config: bool | None = None,
        within: float = 5.0,
    ) -> bool:
        """Take away the device with an alias; see :meth:`detach_device`.

        :raises HvError: there is no such device, or the hypervisor or the guest refuses.
        """
        from hvcore.rules import hotplug  # noqa: PLC0415

        async def found(model: Model, *, live: bool) -> Device:
            device = hotplug.by_alias(model, alias)
            if not live:
                hotplug.check_config(model, device, "detach")
            return device

        return await self._detach(found, live=live, config=config, within=within)

    async def _detach(
        self, found: Any, *, live: bool | None, config: bool | None, within: float
    ) -> bool:
        from hvcore.rules import hotplug  # noqa: PLC0415

        gone = True
        api = Op.DETACH_DEVICE.api
        async with self._engine.change(self._record, api, live=live, config=config) as change:
            if change.config is not None:
                device = await found(change.config, live=False)
                self._check_detach(change.config, device, live=False)
                hotplug.remove(change.config, device)
                await change.seal()
                _updated(change)
            if change.live is not None:
                device = await found(change.live, live=True)
                self._check_detach(change.live, device, live=True)
                alias = device.alias
                driver, record = self._engine.driver, change.record
                gone = await driver.detach_device(record, change.live, device, within)
                if gone and alias is not None:
                    removed = events.DeviceRemoved(domain=record.ref(), alias=alias)
                    change.happened.append(removed)
        return gone

    async def update_device(
        self,
        xml: str | bytes,
        *,
        live: bool | None = None,
        config: bool | None = None,
        force: bool = False,
    ) -> None:
        """Change a device to what an element of the domain document says.

        :param force: open a tray that the guest keeps locked.
        :raises ConfigError: the document is refused.
        :raises HvError: there is no such device, or it cannot be changed so.
        """
        from hvcore.rules import hotplug  # noqa: PLC0415

        driver, api = self._engine.driver, Op.UPDATE_DEVICE.api
        async with self._engine.change(self._record, api, live=live, config=config) as change:
            if change.config is not None:
                device = await self._device(xml, change.config, "update", live=False)
                old = hotplug.find_for_update(change.config, device)
                hotplug.check_compatible(change.config, device, old, live=False, attach=False)
                hotplug.replace(change.config, old, device)
                await change.seal()
                _updated(change)
            if change.live is not None:
                device = await self._device(xml, change.live, "update", live=True)
                await driver.update_device(change.record, change.live, device, force=force)

    async def _device(self, xml: str | bytes, model: Model, action: Action, *, live: bool) -> Any:
        """Return the device of a document, without what is only filled in to be added.

        :raises HvError: it is an element of a plugin, which cannot come and go.
        """
        from hvcore.model.devices.base import Device  # noqa: PLC0415
        from hvcore.rules import hotplug  # noqa: PLC0415

        driver = self._engine.driver
        device = driver.pipeline().parse_device(xml)
        if not isinstance(device, Device):
            raise hotplug.unsupported(action, device.spec.tag, live=live)
        mac = getattr(device, "mac", None)
        await driver.complete_device(model, device, new=action != "detach")
        if action == "attach":
            hotplug.forget_alias(device)
        elif hasattr(device, "mac"):
            device.mac = mac  # one that was drawn would be nobody's
        return device

    def _check_features(self, device: Element) -> None:
        """Refuse a device with a feature that cannot come while the domain runs.

        :raises Unsupported: with the reason.
        """
        from hvcore.rules import hotplug  # noqa: PLC0415

        driver = self._engine.driver
        hotplug.check_features(driver.registry, driver.name, device)

    def _check_detach(self, model: Model, device: Device, *, live: bool) -> None:
        """Ask the plugins whether a device may go.

        :raises HvError: one of them says why not.
        """
        issues = [
            issue
            for found in self._engine.registry.each(
                "hv_validate_detach", domain=model, device=device, live=live
            )
            for issue in found or ()
        ]
        if issues:
            raise ValidationFailed(issues)


def _updated(change: Change) -> None:
    """Have it announced that the definition of the next start is another."""
    detail = events.DefinedDetail.UPDATED
    change.happened.append(events.Defined(domain=change.record.ref(), reason=detail))
