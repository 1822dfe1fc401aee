"""Limits that several disks share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import TypeAlias

from hvcore.operations import Op
from hvcore.verbs.base import Handle
from hvcore.verbs.base import Verbs

if TYPE_CHECKING:
    from hvcore.driver import Record
    from hvcore.model.domain import Domain as Model
    from hvcore.model.iothread import ThrottleGroup


Limits: TypeAlias = Mapping[str, int]
"""Limits of a group, by libvirt's names."""


class ThrottlingVerbs(Verbs):
    """What a driver may override."""

    async def set_throttle_group(self, record: Record, live: Model, group: ThrottleGroup) -> None:
        """Make a group of ``live``, or give the one of this name these limits."""
        del live, group
        raise self.unsupported(Op.SET_THROTTLE_GROUP, record)

    async def remove_throttle_group(self, record: Record, live: Model, name: str) -> None:
        """Remove a group of ``live`` that no disk uses."""
        del live, name
        raise self.unsupported(Op.REMOVE_THROTTLE_GROUP, record)


class ThrottlingHandle(Handle):
    """What a handle on a domain offers; for ``live`` and ``config`` see ``set_vcpus``."""

    __slots__ = ()

    async def throttle_groups(
        self, *, live: bool | None = None, config: bool | None = None
    ) -> dict[str, dict[str, int]]:
        """Return the limits of each group, by the names of libvirt's document.

        :raises InvalidState: it does not run, or is not persistent.
        """
        from hvcore.rules import throttling  # noqa: PLC0415 - handles import no rules, so below

        model = await self._engine.view(self._record, live=live, config=config)
        return {group.group_name: throttling.limits(group) for group in model.throttlegroups}

    async def set_throttle_group(
        self,
        name: str,
        limits: Limits,
        *,
        live: bool | None = None,
        config: bool | None = None,
    ) -> None:
        """Make a group of disks, or change its limits; those not given stay as they are.

        :param limits: by libvirt's names, such as ``total_iops_sec``; 0 for none.
        :raises HvError: there is no such limit, or it contradicts another.
        """
        from hvcore.rules import throttling  # noqa: PLC0415

        throttling.check_limits(limits)
        driver, api = self._engine.driver, Op.SET_THROTTLE_GROUP.api
        async with self._engine.change(self._record, api, live=live, config=config) as change:
            if change.config is not None:
                throttling.put(change.config, throttling.changed(change.config, name, limits))
                await change.seal()
            if change.live is not None:
                group = throttling.changed(change.live, name, limits)
                await driver.set_throttle_group(change.record, change.live, group)
                change.tuned("blkdeviotune.group_name", name)

    async def remove_throttle_group(
        self, name: str, *, live: bool | None = None, config: bool | None = None
    ) -> None:
        """Remove a group.

        :raises HvError: there is none, or a disk uses it.
        """
        from hvcore.rules import throttling  # noqa: PLC0415

        driver, api = self._engine.driver, Op.REMOVE_THROTTLE_GROUP.api
        async with self._engine.change(self._record, api, live=live, config=config) as change:
            for model in filter(None, (change.live, change.config)):
                throttling.check_unused(model, name)
            if change.config is not None:
                throttling.remove(change.config, name)
                await change.seal()
            if change.live is not None:
                await driver.remove_throttle_group(change.record, change.live, name)
