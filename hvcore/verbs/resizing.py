"""Memory and disks of a running guest, made larger and smaller, and a nudge for one that hangs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import InvalidState
from hvcore.operations import Op
from hvcore.verbs.base import Handle
from hvcore.verbs.base import Verbs

if TYPE_CHECKING:
    from hvcore.driver import Record
    from hvcore.model.devices.disk import Disk
    from hvcore.model.domain import Domain as Model


class ResizingVerbs(Verbs):
    """What a driver may override."""

    async def set_memory(self, record: Record, live: Model, size: int) -> None:
        """Leave the guest ``size`` KiB of what it has, and note it in ``live``.

        :raises HvError: there is nothing that could take memory from it.
        """
        del live, size
        raise self.unsupported(Op.SET_MEMORY, record)

    async def resize_disk(self, record: Record, live: Model, disk: Disk, size: int) -> None:
        """Make a disk of ``live`` that has an image ``size`` bytes large, and tell the guest.

        :raises HvError: this disk cannot be resized.
        """
        del live, disk, size
        raise self.unsupported(Op.RESIZE_DISK, record)

    async def inject_nmi(self, record: Record) -> None:
        """Send the guest a non-maskable interrupt."""
        raise self.unsupported(Op.INJECT_NMI, record)


class ResizingHandle(Handle):
    """What a handle on a domain offers."""

    __slots__ = ()

    async def set_memory(
        self, size: int, *, live: bool | None = None, config: bool | None = None
    ) -> None:
        """Change how much of its memory the guest has.

        :param size: KiB, at most what the definition says.
        :param live: of what runs.
        :param config: of the next start.
        :raises HvError: it is more than there is, or nothing can take memory from the guest.
        """
        from hvcore.rules import resizing  # noqa: PLC0415 - handles import no rules, so below

        resizing.check_size(size)
        driver, api = self._engine.driver, Op.SET_MEMORY.api
        async with self._engine.change(self._record, api, live=live, config=config) as change:
            for model in (change.live, change.config):
                if model is not None:
                    resizing.check_memory(model, size)
            if change.live is not None:
                await driver.set_memory(change.record, change.live, size)
            if change.config is not None:
                change.config.current_memory = size

    async def set_max_memory(
        self, size: int, *, live: bool | None = None, config: bool | None = None
    ) -> None:
        """Change how much memory the guest has from its next start on.

        :param size: KiB; a guest that was to have more of it from the beginning has all of it.
        :param live: of what runs, which is always refused.
        :raises InvalidState: it runs and the next start is not meant, or its nodes have the memory.
        """
        from hvcore.rules import resizing  # noqa: PLC0415

        resizing.check_size(size)
        api = Op.SET_MEMORY.api
        async with self._engine.change(self._record, api, live=live, config=config) as change:
            if change.live is not None:
                raise InvalidState("cannot resize the maximum memory on an active domain")
            assert change.config is not None  # one of them is
            resizing.set_max_memory(change.config, size)

    async def resize_disk(self, disk: str, size: int) -> None:
        """Change the size of a disk while the guest runs.

        :param disk: its target, such as ``vda``, or the path of its image.
        :param size: bytes.
        :raises InvalidState: the domain does not run.
        :raises HvError: there is no such disk, or it cannot be resized.
        """
        from hvcore.rules import resizing  # noqa: PLC0415

        driver, api = self._engine.driver, Op.RESIZE_DISK.api
        async with self._engine.change(self._record, api, live=True) as change:
            assert change.live is not None  # that is what was asked for
            found = resizing.resizable(change.live, disk)
            await driver.resize_disk(change.record, change.live, found, size)

    async def inject_nmi(self) -> None:
        """Send the guest a non-maskable interrupt, by which many can be made to dump themselves.

        :raises InvalidState: the domain does not run.
        """
        async with self._engine.modify(self._record, Op.INJECT_NMI.api, active=True) as record:
            await self._engine.driver.inject_nmi(record)
