"""Guests that go into files and come out of them, and dumps of their memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import InvalidFlags
from hvcore.operations import Op
from hvcore.verbs.base import Handle
from hvcore.verbs.base import OnHost
from hvcore.verbs.base import Verbs

if TYPE_CHECKING:
    from hvcore.domain import Domain
    from hvcore.driver import Record

DUMP_FORMATS = ("elf", "kdump-zlib", "kdump-lzo", "kdump-snappy", "win-dmp")
"""Formats of dumps that hold memory alone."""


class SavingVerbs(Verbs):
    """What a driver may override."""

    async def save(self, record: Record, fd: int) -> None:
        """Stop the virtual CPUs and write what :meth:`load` needs; the machine is ended later.

        Whoever saves sees it paused for ``PausedReason.SAVE`` meanwhile.

        :param fd: of a file, which stands where to write.
        :raises DriverError: that fails; :meth:`save_failed` follows.
        """
        del fd
        raise self.unsupported(Op.SAVE, record)

    async def save_failed(self, record: Record, *, resume: bool) -> None:
        """Undo :meth:`save`.

        :param resume: let the virtual CPUs run again.
        """
        del resume
        raise self.unsupported(Op.SAVE, record)

    async def load(self, record: Record, fd: int, *, paused: bool) -> None:
        """Bring ``record.live`` to life as :meth:`save` wrote it.

        :param fd: of a file, which stands where to read.
        :param paused: leave the virtual CPUs stopped.
        :raises LaunchError: it did not come up; nothing of it is left.
        """
        del fd, paused
        raise self.unsupported(Op.RESTORE, record)

    async def dump(self, record: Record, fd: int, *, kind: str | None, live: bool) -> None:
        """Write the memory of a guest; :meth:`dump_done` follows.

        :param kind: one of :data:`DUMP_FORMATS`; None for the hypervisor's own format.
        :param live: let the virtual CPUs run meanwhile.
        :raises DriverError: that fails.
        """
        del fd, kind, live
        raise self.unsupported(Op.DUMP, record)

    async def dump_done(self, record: Record, *, reset: bool, resume: bool) -> None:
        """Go on after a dump.

        :param reset: press the reset button.
        :param resume: let the virtual CPUs run if they do not.
        """
        del reset, resume
        raise self.unsupported(Op.DUMP, record)


class SavingHandle(Handle):
    """What a handle on a domain offers."""

    __slots__ = ()

    async def save(
        self, path: str, *, xml: str | bytes | None = None, running: bool | None = None
    ) -> None:
        """Write the guest into a file, readable by this user alone, and end it.

        :param xml: the document to restore it with; what the guest sees must stay.
        :param running: whether it is to run when restored; as it does now unless given.
        :raises InvalidState: it does not run.
        :raises DriverError: that fails; the guest goes on.
        """
        from hvcore import saving  # noqa: PLC0415 - only who saves needs it, and so below

        await saving.save(self._engine, self._record, path, xml=xml, running=running)

    async def managed_save(self, *, running: bool | None = None) -> None:
        """Write the guest where its next start finds it, and end it.

        :param running: whether that start is to let it run; as it does now unless given.
        :raises InvalidState: it does not run, or is transient.
        :raises DriverError: that fails; the guest goes on.
        """
        from hvcore import saving  # noqa: PLC0415

        await saving.save(self._engine, self._record, None, xml=None, running=running)

    @property
    def has_managed_save(self) -> bool:
        """Whether its next start begins with a saved state."""
        return self._engine.saves.has(self._now().uuid)

    async def managed_save_remove(self) -> None:
        """Remove the saved state, so that the next start boots.

        :raises DriverError: there is none.
        """
        operation = "virDomainManagedSaveRemove"
        async with self._engine.modify(self._record, operation) as record:
            self._engine.saves.remove(record.uuid)

    async def managed_save_xml(self, *, secure: bool = False) -> str:
        """Return the document in the saved state.

        :param secure: with passwords.
        :raises HvError: there is none.
        """
        from hvcore import saving  # noqa: PLC0415

        with self._engine.saves.open(self._saved()) as file:
            return saving.show(file, self._engine, secure=secure)

    async def managed_save_define(self, xml: str | bytes, *, running: bool | None = None) -> None:
        """Change the document in the saved state; what the guest sees must stay.

        :param running: change whether the next start lets it run.
        :raises HvError: there is none, or it cannot be changed so.
        """
        from hvcore import saving  # noqa: PLC0415

        operation = "virDomainManagedSaveDefineXML"
        async with self._engine.modify(self._record, operation):
            with self._engine.saves.open(self._saved(), write=True) as file:
                await saving.define(self._engine, file, xml, running=running)

    async def dump(
        self,
        path: str,
        *,
        kind: str | None = None,
        crash: bool = False,
        live: bool = False,
        reset: bool = False,
    ) -> None:
        """Write the guest's memory into a file, readable by this user alone.

        :param kind: one of :data:`DUMP_FORMATS` for a file that debuggers read; the hypervisor's
            own format unless given.
        :param crash: end the guest afterwards, as crashed.
        :param live: let it run meanwhile.
        :param reset: reset it afterwards.
        :raises InvalidState: it does not run.
        :raises HvError: two of the flags exclude each other.
        :raises DriverError: that fails.
        """
        from hvcore import saving  # noqa: PLC0415

        if kind is not None and kind not in DUMP_FORMATS:
            raise HvError(f"unknown dumpformat '{kind}'", kind=ErrorClass.INVALID_ARG)
        for first, second, taken in (
            ("CRASH", "LIVE", crash and live),
            ("CRASH", "RESET", crash and reset),
            ("LIVE", "RESET", live and reset),
        ):
            if taken:
                raise InvalidFlags.exclusive(f"VIR_DUMP_{first}", f"VIR_DUMP_{second}")
        await saving.dump(
            self._engine, self._record, path, kind=kind, crash=crash, live=live, reset=reset
        )

    def _saved(self) -> str:
        uuid = self._now().uuid
        if not self._engine.saves.has(uuid):
            raise HvError("no managed save image", kind=ErrorClass.OPERATION_INVALID)
        return uuid


class SavingHost(OnHost):
    """What a host offers."""

    __slots__ = ()

    async def restore(
        self, path: str, *, xml: str | bytes | None = None, running: bool | None = None
    ) -> Domain:
        """Start the guest that was saved in a file; the file stays.

        :param xml: the document to start it with; what the guest sees must stay.
        :param running: whether it is to run; as the file says unless given.
        :raises DriverError: there is no such file, or it is damaged.
        :raises StateError: it runs already, or its name belongs to another domain.
        :raises LaunchError: it did not come up.
        """
        from hvcore import saving  # noqa: PLC0415
        from hvcore.domain import Domain  # noqa: PLC0415 - which is made of modules like this
        from hvcore.saveimage import open_image  # noqa: PLC0415

        with open_image(path) as file:
            record = await saving.restore(self._engine, file, xml=xml, running=running)
        return Domain(self._engine, record)

    async def save_image_xml(self, path: str, *, secure: bool = False) -> str:
        """Return the document of a guest that was saved in a file.

        :param secure: with passwords.
        :raises DriverError: there is no such file, or it is damaged.
        """
        from hvcore import saving  # noqa: PLC0415
        from hvcore.saveimage import open_image  # noqa: PLC0415

        with open_image(path) as file:
            return saving.show(file, self._engine, secure=secure)

    async def save_image_define(
        self, path: str, xml: str | bytes, *, running: bool | None = None
    ) -> None:
        """Change the document of a guest that was saved in a file; what it sees must stay.

        :param running: change whether it is to run when restored.
        :raises HvError: there is no such file, or it cannot be changed so.
        """
        from hvcore import saving  # noqa: PLC0415
        from hvcore.saveimage import open_image  # noqa: PLC0415

        with open_image(path, write=True) as file:
            await saving.define(self._engine, file, xml, running=running)
