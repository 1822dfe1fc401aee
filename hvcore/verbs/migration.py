"""Guests that move to another host, and long jobs that can be watched and aborted.

A migration has libvirt's five phases, each a verb: the source begins, the destination prepares, the
source performs, the destination finishes and the source confirms. What comes between them, and what
is to be done when one fails, is the same for all drivers: :mod:`hvcore.migration`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

from hvcore.jobs import AsyncJob
from hvcore.jobs import Job
from hvcore.operations import Op
from hvcore.verbs.base import Handle
from hvcore.verbs.base import Verbs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hvcore.domain import Domain
    from hvcore.driver import Record
    from hvcore.host import Host
    from hvcore.jobinfo import JobInfo
    from hvcore.jobinfo import Progress


class MigrationVerbs(Verbs):
    """What a driver may override."""

    async def migrate_begin(self, record: Record) -> None:
        """Refuse a guest that cannot go, on the source; nothing has been done yet.

        :raises HvError: with the reason.
        """
        raise self.unsupported(Op.MIGRATE, record)

    async def migrate_prepare(self, record: Record) -> str:
        """Make ``record.live`` a machine that waits for its guest, on the destination.

        Its virtual CPUs stand still.

        :return: where it waits, for :meth:`migrate_perform` of the same driver.
        :raises LaunchError: it did not come up; nothing of it is left.
        """
        raise self.unsupported(Op.MIGRATE_PREPARE, record)

    async def migrate_perform(
        self, record: Record, address: str, *, live: bool, bandwidth: int | None
    ) -> Mapping[str, Any]:
        """Send the guest, on the source; return when all of it was sent and it stands still.

        Whoever sends sees it paused for :attr:`~hvcore.lifecycle.PausedReason.MIGRATION` then, and
        from the beginning on unless ``live``. Cancelling the coroutine ends the sending.

        :param address: what :meth:`migrate_prepare` returned.
        :param live: let it run meanwhile.
        :param bandwidth: MiB per second at most; None for the driver's default.
        :return: what :meth:`migrate_finish` of the same driver needs to know.
        :raises DriverError: that failed; :meth:`migrate_confirm` follows.
        """
        del address, live, bandwidth
        raise self.unsupported(Op.MIGRATE, record)

    async def migrate_finish(
        self, record: Record, cookie: Mapping[str, Any], *, paused: bool
    ) -> None:
        """See that the guest has arrived, and let it run unless ``paused``; on the destination.

        Report the transition to :attr:`~hvcore.lifecycle.RunningReason.MIGRATED`, or to
        :attr:`~hvcore.lifecycle.PausedReason.USER`.

        :param cookie: what :meth:`migrate_perform` returned.
        :raises DriverError: it has not, or does not run; the machine is ended then.
        """
        del cookie, paused
        raise self.unsupported(Op.MIGRATE_FINISH, record)

    async def migrate_confirm(self, record: Record, *, cancelled: bool, resume: bool) -> None:
        """Take note of how the migration ended, on the source.

        :param cancelled: the guest stays; otherwise its machine is ended after this.
        :param resume: it ran before, so it is to run again, for
            :attr:`~hvcore.lifecycle.RunningReason.MIGRATION_CANCELED`.
        """
        del cancelled, resume
        raise self.unsupported(Op.MIGRATE_CONFIRM, record)

    async def migrate_error(self, record: Record) -> str | None:
        """Return what the destination knows of why a guest did not arrive; nothing by default."""
        del record
        return None

    async def job_progress(self, record: Record) -> Progress:
        """Return how far the long job is that the domain is busy with."""
        raise self.unsupported(Op.JOB_INFO, record)

    async def abort_job(self, record: Record, kind: AsyncJob) -> None:
        """Let the long job fail that the domain is busy with; it is told so as ``cancelled`` says.

        :param kind: what it is; the engine lets no others through than saving, dumping and
            migrating away.
        """
        del kind
        raise self.unsupported(Op.ABORT_JOB, record)


class MigrationHandle(Handle):
    """What a handle on a domain offers."""

    __slots__ = ()

    async def migrate(
        self,
        target: Host,
        *,
        live: bool = False,
        offline: bool = False,
        persistent: bool = False,
        undefine_source: bool = False,
        paused: bool = False,
        name: str | None = None,
        xml: str | bytes | None = None,
        persistent_xml: str | bytes | None = None,
        bandwidth: int | None = None,
    ) -> Domain:
        """Move it to another host, and return it as it is there.

        If that fails it goes on here as if nothing had happened, and nothing of it is left there.

        :param target: a host of the same driver.
        :param live: let it run until the last moment.
        :param offline: move the definition of a domain that does not run.
        :param persistent: make it persistent there.
        :param undefine_source: remove its definition here.
        :param paused: leave its CPUs stopped there, as they are anyway if they are here.
        :param name: its name there; the same unless given.
        :param xml: the document of what runs there; what the guest sees must stay.
        :param persistent_xml: the document of its next start there.
        :param bandwidth: MiB per second at most.
        :raises InvalidState: it does not run, or is being migrated already.
        :raises AbiChanged: the guest would not find the hardware that it left.
        :raises StateError: there is such a domain there already.
        :raises DriverError: that failed, or was aborted.
        """
        from hvcore import migration  # noqa: PLC0415 - only who migrates needs it
        from hvcore.domain import Domain  # noqa: PLC0415 - which is made of modules like this

        request = migration.Request(
            live=live,
            offline=offline,
            persistent=persistent,
            undefine_source=undefine_source,
            paused=paused,
            name=name,
            xml=xml,
            persistent_xml=persistent_xml,
            bandwidth=bandwidth,
        )
        # The other half of a host is as near as that of the domain.
        engine = target._engine  # noqa: SLF001
        record = await migration.migrate(self._engine, self._record, engine, request)
        return Domain(engine, record)

    async def job_info(self, *, completed: bool = False, keep: bool = False) -> JobInfo:
        """Return what is known of the long job that it is busy with.

        :param completed: of the last one instead that came to its end; it is forgotten then.
        :param keep: do not forget it.
        :raises InvalidState: it does not run.
        :raises HvError: it is only just arriving: statistics are where it comes from.
        """
        from hvcore import migration  # noqa: PLC0415 - as above

        return await migration.job_info(self._engine, self._now(), completed=completed, keep=keep)

    async def abort_job(self) -> None:
        """Let the long job fail that it is busy with: a migration, a save or a dump.

        :raises InvalidState: it is busy with none that could be aborted.
        """
        from hvcore import migration  # noqa: PLC0415 - as above

        engine, operation = self._engine, Op.ABORT_JOB.api
        self._need(Op.ABORT_JOB)
        async with engine.modify(self._record, operation, Job.ABORT, active=True) as record:
            kind = migration.abortable(record)
            record.jobs.aborted = True
            await engine.driver.abort_job(record, kind)
