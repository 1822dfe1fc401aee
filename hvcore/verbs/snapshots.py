"""States of domains to which they can return."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hvcore.operations import Op
from hvcore.verbs.base import Handle
from hvcore.verbs.base import Verbs

if TYPE_CHECKING:
    from hvcore.driver import Record
    from hvcore.model.domain import Domain as Model
    from hvcore.model.snapshot import Snapshot
    from hvcore.snapshots import SnapshotInfo


class SnapshotVerbs(Verbs):
    """What a driver may override."""

    def is_image(self, path: str) -> bool:
        """Tell whether an image is a regular file, beside which another can be made."""
        return Path(path).is_file()

    async def snapshot_create(
        self, record: Record, domain: Model, snapshot: Snapshot, *, live: bool, reuse: bool
    ) -> None:
        """Take a snapshot, as its memory and disks say; the domain may run or not.

        :param domain: the definition of what runs, or of the next start; whoever calls changes
            the disks in it.
        :param live: let the guest run while its memory is written.
        :param reuse: the new images are there already.
        :raises HvError: that cannot be; nothing has changed.
        """
        del domain, snapshot, live, reuse
        raise self.unsupported(Op.SNAPSHOT_CREATE, record)

    async def snapshot_revert(
        self, record: Record, snapshot: Snapshot, *, paused: bool | None
    ) -> None:
        """Let a domain that does not run be what it was.

        :param paused: bring ``record.live`` to life with the guest's memory, and leave its CPUs
            stopped or not; None where only disks are to be what they were.
        :raises HvError: that cannot be.
        """
        del snapshot, paused
        raise self.unsupported(Op.SNAPSHOT_REVERT, record)

    async def snapshot_delete(self, record: Record, snapshot: Snapshot) -> None:
        """Forget the data of a snapshot; the domain may run or not.

        :raises HvError: that cannot be; it is still there.
        """
        del snapshot
        raise self.unsupported(Op.SNAPSHOT_DELETE, record)


class SnapshotHandle(Handle):
    """What a handle on a domain offers."""

    __slots__ = ()

    async def create_snapshot(
        self,
        xml: str | bytes | None = None,
        *,
        disk_only: bool = False,
        reuse: bool = False,
        quiesce: bool = False,
        live: bool = False,
        halt: bool = False,
        metadata: bool = True,
        redefine: bool = False,
        current: bool = False,
        strict: bool = False,
    ) -> SnapshotInfo:
        """Take a snapshot, and return what it is.

        :param xml: a ``<domainsnapshot>`` that says what is to be taken; the memory of what runs
            and all disks unless given.
        :param disk_only: leave the memory out, as if power was cut.
        :param reuse: the new images are there already.
        :param quiesce: have the agent in the guest hold its file systems still meanwhile.
        :param live: let the guest run while its memory is written to a file.
        :param halt: end the domain afterwards.
        :param metadata: remember it; it is for others to know of otherwise.
        :param redefine: only remember what was taken by others, or change what is known.
        :param current: with ``redefine``: it is the current one.
        :param strict: refuse elements and attributes that nothing claims.
        :raises ConfigError: the document is refused.
        :raises HvError: that cannot be.
        """
        from hvcore import snapshots  # noqa: PLC0415 - few programs need it, and so below

        request = snapshots.Request(
            disk_only=disk_only,
            reuse=reuse,
            quiesce=quiesce,
            live=live,
            halt=halt,
            metadata=metadata,
            redefine=redefine,
            current=current,
            strict=strict,
        )
        document = "<domainsnapshot/>" if xml is None else xml
        return await snapshots.create(self._engine, self._record, document, request)

    async def snapshots(self) -> list[SnapshotInfo]:
        """Return the snapshots, by name.

        :raises UnsupportedOperation: the driver has none.
        """
        from hvcore import snapshots  # noqa: PLC0415

        return snapshots.listed(self._engine, self._now())

    async def snapshot(self, name: str | None = None) -> SnapshotInfo:
        """Return one snapshot.

        :param name: the current one unless given.
        :raises HvError: there is none.
        """
        from hvcore import snapshots  # noqa: PLC0415

        return snapshots.one(self._engine, self._now(), name)

    async def snapshot_xml(self, name: str | None = None, *, secure: bool = False) -> str:
        """Return the document of a snapshot.

        :param name: the current one unless given.
        :param secure: with passwords.
        :raises HvError: there is none.
        """
        from hvcore import snapshots  # noqa: PLC0415

        return snapshots.show(self._engine, self._now(), name, secure=secure)

    async def revert_to_snapshot(
        self,
        name: str | None = None,
        *,
        running: bool = False,
        paused: bool = False,
        force: bool = False,
    ) -> None:
        """Let the domain be what it was when a snapshot was taken.

        What it does at the moment is lost; what runs is ended, and started again as it was.

        :param name: the current one unless given.
        :param running: let it run afterwards; as it did unless given.
        :param paused: leave its CPUs stopped afterwards.
        :param force: also where something would be lost that could be of worth.
        :raises HvError: there is none, or that cannot be.
        """
        from hvcore import snapshots  # noqa: PLC0415

        await snapshots.revert(
            self._engine, self._record, name, running=running, paused=paused, force=force
        )

    async def delete_snapshot(
        self,
        name: str | None = None,
        *,
        children: bool = False,
        children_only: bool = False,
        metadata: bool = False,
    ) -> None:
        """Forget a snapshot; those that were taken after it are then children of its parent.

        :param name: the current one unless given.
        :param children: and all that were taken after it.
        :param children_only: only those.
        :param metadata: only what is remembered, and not what was taken.
        :raises HvError: there is none, or that cannot be.
        """
        from hvcore import snapshots  # noqa: PLC0415

        await snapshots.delete(
            self._engine,
            self._record,
            name,
            children=children,
            children_only=children_only,
            metadata=metadata,
        )
