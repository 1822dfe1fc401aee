"""What is known of the long job that a domain is busy with, or was: libvirt's job statistics.

A driver says how far it is (:class:`Progress`); what kind of job it is and how long it has taken
are the engine's. Numbers and names are libvirt's (``virDomainJobType``, ``virDomainJobOperation``
and the fields of ``virDomainGetJobStats``).
"""

from __future__ import annotations

from typing import Final

import attrs

from hvcore.jobs import AsyncJob
from hvcore.lifecycle import Labelled


class JobType(Labelled):
    """``virDomainJobType``."""

    NONE = (0, "None")
    BOUNDED = (1, "Bounded")
    UNBOUNDED = (2, "Unbounded")
    COMPLETED = (3, "Completed")
    FAILED = (4, "Failed")
    CANCELLED = (5, "Cancelled")


class JobOperation(Labelled):
    """``virDomainJobOperation``."""

    UNKNOWN = (0, "Unknown")
    START = (1, "Start")
    SAVE = (2, "Save")
    RESTORE = (3, "Restore")
    MIGRATION_IN = (4, "Incoming migration")
    MIGRATION_OUT = (5, "Outgoing migration")
    SNAPSHOT = (6, "Snapshot")
    SNAPSHOT_REVERT = (7, "Snapshot revert")
    DUMP = (8, "Dump")
    BACKUP = (9, "Backup")
    SNAPSHOT_DELETE = (10, "Snapshot delete")


OPERATIONS: Final = {
    AsyncJob.START: JobOperation.START,
    AsyncJob.SAVE: JobOperation.SAVE,
    AsyncJob.DUMP: JobOperation.DUMP,
    AsyncJob.SNAPSHOT: JobOperation.SNAPSHOT,
    AsyncJob.BACKUP: JobOperation.BACKUP,
    AsyncJob.MIGRATION_IN: JobOperation.MIGRATION_IN,
    AsyncJob.MIGRATION_OUT: JobOperation.MIGRATION_OUT,
}
"""What users are told a job is."""


@attrs.frozen(kw_only=True)
class Progress:
    """How far a long job is; bytes unless said otherwise, ``None`` where it is not known.

    :param memory_bps: bytes per second.
    :param memory_dirty_rate: pages per second that the guest writes to.
    :param memory_iteration: how often memory has been gone through, from 1.
    :param memory_constant: pages that were all the same byte.
    :param memory_normal: pages that were sent whole.
    :param downtime: milliseconds that the guest stood still, or is expected to.
    :param setup_time: milliseconds that getting ready took.
    """

    memory_total: int = 0
    memory_processed: int = 0
    memory_remaining: int = 0
    memory_bps: int | None = None
    memory_dirty_rate: int | None = None
    memory_page_size: int | None = None
    memory_iteration: int | None = None
    memory_constant: int | None = None
    memory_normal: int | None = None
    memory_normal_bytes: int | None = None
    disk_total: int = 0
    disk_processed: int = 0
    disk_remaining: int = 0
    disk_bps: int | None = None
    downtime: int | None = None
    setup_time: int | None = None


@attrs.frozen(kw_only=True)
class JobInfo:
    """A long job.

    :param type: ``NONE`` where there is none.
    :param elapsed: milliseconds since it began; all that it took once it is completed.
    """

    type: JobType = JobType.NONE
    operation: JobOperation = JobOperation.UNKNOWN
    elapsed: int = 0
    progress: Progress = Progress()

    @property
    def data_total(self) -> int:
        """Bytes to be transferred, memory and disks."""
        return self.progress.memory_total + self.progress.disk_total

    @property
    def data_processed(self) -> int:
        """Bytes that were transferred, memory and disks."""
        return self.progress.memory_processed + self.progress.disk_processed

    @property
    def data_remaining(self) -> int:
        """Bytes that are left, memory and disks."""
        return self.progress.memory_remaining + self.progress.disk_remaining

    def parameters(self) -> dict[str, int]:
        """Return the numbers by libvirt's names of them; those that are not known are left out."""
        if self.type is JobType.NONE:
            return {}
        found = {
            "operation": int(self.operation),
            "time_elapsed": self.elapsed,
            "data_total": self.data_total,
            "data_processed": self.data_processed,
            "data_remaining": self.data_remaining,
        }
        own = attrs.asdict(self.progress)
        return {**found, **{name: value for name, value in own.items() if value is not None}}
