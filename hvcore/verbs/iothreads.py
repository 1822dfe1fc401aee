"""I/O threads, added and removed, and how they poll."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.operations import Op
from hvcore.verbs.base import Handle
from hvcore.verbs.base import Verbs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hvcore.driver import Record
    from hvcore.model.domain import Domain as Model
    from hvcore.statistics import IOThreadStats


class IOThreadVerbs(Verbs):
    """What a driver may override.

    Each verb gets ``live``, a copy of the running definition, and changes it as the guest changes,
    with ``hvcore.rules.iothread``.
    """

    async def add_iothread(self, record: Record, live: Model, number: int) -> None:
        """Start an I/O thread."""
        del live, number
        raise self.unsupported(Op.ADD_IOTHREAD, record)

    async def remove_iothread(self, record: Record, live: Model, number: int) -> None:
        """End an I/O thread that no device uses."""
        del live, number
        raise self.unsupported(Op.REMOVE_IOTHREAD, record)

    async def set_iothread(
        self, record: Record, live: Model, number: int, settings: Mapping[str, int]
    ) -> None:
        """Let an I/O thread work in another way.

        :param settings: what changes, by field of :class:`hvcore.model.iothread.IOThread`.
        :raises HvError: it cannot.
        """
        del live, number, settings
        raise self.unsupported(Op.SET_IOTHREAD, record)

    async def iothread_stats(self, record: Record) -> list[IOThreadStats]:
        """Return how the I/O threads of a running domain poll, by their numbers."""
        raise self.unsupported(Op.IOTHREAD_STATS, record)


class IOThreadHandle(Handle):
    """What a handle on a domain offers; for ``live`` and ``config`` see ``set_vcpus``."""

    __slots__ = ()

    async def add_iothread(
        self, number: int, *, live: bool | None = None, config: bool | None = None
    ) -> None:
        """Add an I/O thread.

        :raises HvError: there is one of this number.
        """
        from hvcore.rules import iothread as rules  # noqa: PLC0415 - handles import no rules, so below

        rules.check_number(number)
        driver, api = self._engine.driver, Op.ADD_IOTHREAD.api
        async with self._engine.change(self._record, api, live=live, config=config) as change:
            for model in filter(None, (change.live, change.config)):
                rules.check_new(model, number)
            if change.config is not None:
                rules.add(change.config, number)
                await change.seal()
            if change.live is not None:
                await driver.add_iothread(change.record, change.live, number)

    async def remove_iothread(
        self, number: int, *, live: bool | None = None, config: bool | None = None
    ) -> None:
        """Remove an I/O thread, and its pin.

        :raises HvError: there is none of this number, or a device uses it.
        """
        from hvcore.rules import iothread as rules  # noqa: PLC0415

        rules.check_number(number)
        driver, api = self._engine.driver, Op.REMOVE_IOTHREAD.api
        async with self._engine.change(self._record, api, live=live, config=config) as change:
            for model in filter(None, (change.live, change.config)):
                rules.check_unused(model, number)
            if change.config is not None:
                rules.remove(change.config, number)
                await change.seal()
            if change.live is not None:
                await driver.remove_iothread(change.record, change.live, number)

    async def set_iothread(
        self,
        number: int,
        *,
        poll_max: int | None = None,
        poll_grow: int | None = None,
        poll_shrink: int | None = None,
        thread_pool_min: int | None = None,
        thread_pool_max: int | None = None,
        live: bool | None = None,
        config: bool | None = None,
    ) -> None:
        """Let an I/O thread work in another way; what is not given stays as it is.

        :param poll_max: nanoseconds for which it polls at most.
        :param poll_grow: by how many times longer it polls next, if that was too short.
        :param poll_shrink: by how many times shorter, if that was too long.
        :param thread_pool_min: workers that it always keeps.
        :param thread_pool_max: workers that it has at most.
        :raises HvError: there is none of this number, or it cannot have so many workers.
        """
        from hvcore.rules import iothread as rules  # noqa: PLC0415

        rules.check_number(number)
        given = {
            "poll_max": poll_max,
            "poll_grow": poll_grow,
            "poll_shrink": poll_shrink,
            "thread_pool_min": thread_pool_min,
            "thread_pool_max": thread_pool_max,
        }
        settings = {name: value for name, value in given.items() if value is not None}
        driver, api = self._engine.driver, Op.SET_IOTHREAD.api
        async with self._engine.change(self._record, api, live=live, config=config) as change:
            if change.live is not None:
                rules.check_there(change.live, number)
            if change.config is not None:
                rules.adjust(change.config, number, settings)
                await change.seal()
            if change.live is not None:
                await driver.set_iothread(change.record, change.live, number, settings)
