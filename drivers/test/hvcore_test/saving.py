"""Saving, restoring and dumping machines that exist only in memory."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from hvcore import events
from hvcore.driver import Driver
from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import Unsupported
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import State

if TYPE_CHECKING:
    from hvcore.driver import Record

MAGIC = b"TestGuestMagic\0"
"""How dumps of libvirt's test driver begin."""


class Saving(Driver):
    """A machine is saved as what there is to know of it."""

    async def save(self, record: Record, fd: int) -> None:
        """Write the machine down."""
        self._stand_still(record, PausedReason.SAVE)
        machine = record.runtime
        # There may be a disk without room, or a pipe without a reader.
        try:
            os.write(fd, json.dumps({"memory": machine.memory}).encode())
        except OSError as error:
            raise DriverError(
                f"failed to write domain state: {error.strerror}", kind=ErrorClass.SYSTEM
            ) from error

    async def save_failed(self, record: Record, *, resume: bool) -> None:
        """Let the machine go on."""
        if resume:
            self._go_on(record, RunningReason.SAVE_CANCELED)

    async def load(self, record: Record, fd: int, *, paused: bool) -> None:
        """Make a machine from what was written.

        :raises DriverError: it was not written by :meth:`save`.
        """
        try:
            saved = json.loads(os.read(fd, 1 << 20))
            memory = int(saved["memory"])
        except (ValueError, KeyError, TypeError) as error:
            raise DriverError("load of migration failed: Invalid argument") from error
        await self.start(record, paused=paused)
        record.runtime.memory = memory

    async def dump(self, record: Record, fd: int, *, kind: str | None, live: bool) -> None:
        """Write what libvirt's test driver writes.

        :raises Unsupported: for every format but its own.
        """
        if kind is not None:
            raise Unsupported(
                "kdump-compressed format is not supported here",
                kind=ErrorClass.OPERATION_UNSUPPORTED,
            )
        if not live:
            self._stand_still(record, PausedReason.DUMP)
        os.write(fd, MAGIC)

    async def dump_done(self, record: Record, *, reset: bool, resume: bool) -> None:
        """Let the machine go on."""
        if reset:
            await self.reset(record)
        if resume:
            self._go_on(record, RunningReason.UNPAUSED)

    def _stand_still(self, record: Record, reason: PausedReason) -> None:
        if record.state is State.RUNNING:
            record.runtime.stop()
            suspended = events.Suspended(domain=record.ref())
            self.reports.transition(record, reason, suspended)

    def _go_on(self, record: Record, reason: RunningReason) -> None:
        if record.state is State.PAUSED:
            record.runtime.cont()
            self.reports.transition(record, reason, events.Resumed(domain=record.ref()))
