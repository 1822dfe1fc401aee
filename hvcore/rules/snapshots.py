"""Rules of snapshots: what a document means for a domain, and what is refused.

The words, and their order, are those of libvirt's ``snapshot_conf.c`` and ``qemu_snapshot.c``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hvcore.blockjobs import check_free
from hvcore.errors import ConfigError
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.model.devices.storage import FileSource
from hvcore.model.snapshot import SnapshotDisk
from hvcore.rules import chain
from hvcore.rules.chain import Image

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from hvcore.driver import Record
    from hvcore.model.devices.disk import Disk
    from hvcore.model.domain import Domain
    from hvcore.model.snapshot import Location
    from hvcore.model.snapshot import Snapshot


def _unsupported(message: str) -> HvError:
    return HvError(message, kind=ErrorClass.CONFIG_UNSUPPORTED)


# -- documents -------------------------------------------------------------------------------------


def check_document(snapshot: Snapshot, *, redefine: bool, offline: bool) -> None:
    """Refuse what no document may say, and conclude what it leaves open about memory.

    :param redefine: it was taken already, so it must say what libvirt once wrote.
    :param offline: there is no memory to be taken.
    :raises ConfigError: with libvirt's words.
    """
    if redefine:
        if snapshot.name is None:
            raise ConfigError("a redefined snapshot must have a name")
        if snapshot.creation_time is None:
            raise ConfigError(
                "missing creationTime from existing snapshot", kind=ErrorClass.INTERNAL
            )
        if snapshot.state is None:
            raise ConfigError("missing state from existing snapshot")
        offline = snapshot.state in ("shutoff", "disk-snapshot")
    if snapshot.memory == "manual":
        raise ConfigError("'manual' memory snapshot mode not supported")
    file = snapshot.memory_file
    if snapshot.memory is None and file is not None:
        snapshot.memory = "external"
    elif snapshot.memory is None and redefine:
        snapshot.memory = "no" if offline else "internal"
    if file is not None and snapshot.memory != "external":
        raise ConfigError(f"memory filename '{file}' requires external snapshot")
    if file is None and snapshot.memory == "external":
        raise ConfigError("external memory snapshots require a filename")
    if offline and snapshot.memory not in (None, "no"):
        raise ConfigError("memory state cannot be saved with offline or disk-only snapshot")
    if file is not None and not os.path.isabs(file):  # noqa: PTH117 - it is no path of this process
        raise ConfigError(f"memory snapshot file path ({file}) must be absolute")
    for disk in snapshot.disks:
        _check_disk(disk)


def _check_disk(disk: SnapshotDisk) -> None:
    if disk.type in ("volume", "dir"):
        raise ConfigError(f"unsupported disk snapshot type '{disk.type}'")
    if disk.type == "file" and disk.path is not None and not disk.path.startswith("/"):
        raise ConfigError(f"disk snapshot image path '{disk.path}' must be absolute")
    if disk.snapshot is None and (disk.path is not None or disk.format is not None):
        disk.snapshot = "external"


def check_name(name: str) -> None:
    """Refuse a name that could not be that of a file.

    :raises ConfigError: with libvirt's words.
    """
    wrong = None
    if "/" in name:
        wrong = "name can't contain '/'"
    elif name.startswith("."):
        wrong = "name can't start with '.'"
    if wrong is not None:
        raise ConfigError(f"invalid snapshot name '{name}': {wrong}", kind=ErrorClass.XML_DETAIL)


def check_family(known: Mapping[str, Snapshot], snapshot: Snapshot) -> None:
    """Refuse a parent that is not there, or would be its own descendant.

    :raises HvError: with libvirt's words.
    """
    name, parent = snapshot.label, snapshot.parent
    if parent is None:
        return
    if parent == name:
        raise HvError(f"cannot set moment {name} as its own parent", kind=ErrorClass.INVALID_ARG)
    other = known.get(parent)
    if other is None:
        raise HvError(f"parent {parent} for moment {name} not found", kind=ErrorClass.INVALID_ARG)
    while other is not None and other.parent is not None:
        if other.parent == name:
            raise HvError(
                f"parent {other.label} would create cycle to {name}", kind=ErrorClass.INVALID_ARG
            )
        other = known.get(other.parent)


def check_redefinition(snapshot: Snapshot, other: Snapshot | None, uuid: str) -> None:
    """Refuse to make of a snapshot what it is not.

    :param other: what is known of it.
    :raises HvError: with libvirt's words.
    """
    name, disks = snapshot.label, "disk-snapshot"
    message = None
    if snapshot.domain is not None and snapshot.domain.uuid != uuid:
        message = f"definition for snapshot {name} must use uuid {uuid}"
    elif other is not None and other.running != snapshot.running:
        message = f"cannot change between online and offline snapshot state in snapshot {name}"
    elif other is not None and (other.state == disks) != (snapshot.state == disks):
        message = f"cannot change between disk only and full system in snapshot {name}"
    if message is not None:
        raise HvError(message, kind=ErrorClass.INVALID_ARG)


# -- disks -----------------------------------------------------------------------------------------


def align(
    snapshot: Snapshot, domain: Domain, default: Location, is_image: Callable[[str], bool]
) -> None:
    """Say of each disk of a domain what a snapshot does with it.

    :param default: of disks about which neither document says anything.
    :raises HvError: with libvirt's words.
    """
    disks = domain.devices.disks
    if len(snapshot.disks) > len(disks):
        raise _unsupported("too many disk snapshot requests for domain")
    asked: dict[str, SnapshotDisk] = {}
    for wanted in snapshot.disks:
        found = _disk(domain, wanted.name)
        target = found.target or ""
        if target in asked:
            raise _unsupported(f"disk '{wanted.name}' specified twice")
        asked[target] = wanted
        _choose(wanted, found, default)
        wanted.name = target
    aligned = []
    for disk in disks:
        own = asked.get(disk.target or "")
        if own is None:
            location: Location = "no" if disk.empty else _own(disk) or default
            own = SnapshotDisk(name=disk.target or "", snapshot=location)
        aligned.append(own)
    snapshot.disks = aligned
    _name_images(snapshot, domain, is_image)


def _disk(domain: Domain, name: str) -> Disk:
    for disk in domain.devices.disks:
        if name in (disk.target, getattr(disk.source, "path", None)):
            return disk
    raise _unsupported(f"no disk named '{name}'")


def _own(disk: Disk) -> Location | None:
    """Return what the definition of a disk says of snapshots."""
    return disk.snapshot or ("no" if disk.readonly else None)


def _choose(wanted: SnapshotDisk, disk: Disk, default: Location) -> None:
    uniform, own = default == "internal", _own(disk)
    if wanted.snapshot is None:
        wanted.snapshot = own if own is not None and (not uniform or own == "no") else default
    elif uniform and wanted.snapshot != default and {wanted.snapshot, own} != {"no"}:
        raise _unsupported(f"disk '{wanted.name}' must use snapshot mode '{default}'")
    if wanted.path is not None and wanted.snapshot != "external":
        raise _unsupported(
            f"file '{wanted.path}' for disk '{wanted.name}' requires use of external snapshot mode"
        )


def _name_images(snapshot: Snapshot, domain: Domain, is_image: Callable[[str], bool]) -> None:
    """Name the images that are to be made and that the document does not."""
    for number, disk in enumerate(snapshot.disks):
        if disk.snapshot != "external" or disk.source is not None:
            continue
        refusal = f"cannot generate external snapshot name for disk '{disk.name}'"
        if disk.type != "file":
            raise _unsupported(f"{refusal} on a '{disk.type}' device")
        origin = getattr(domain.devices.disks[number].source, "path", None)
        if origin is None:
            raise _unsupported(f"{refusal} without source")
        if not is_image(origin):
            raise _unsupported(
                f"source for disk '{disk.name}' is not a regular file; refusing to generate "
                "external snapshot name"
            )
        folder, _, file = origin.rpartition("/")
        stem = file.rpartition(".")[0] if "." in file else file
        disk.source = FileSource(path=f"{folder}/{stem}.{snapshot.name}")
        for other in snapshot.disks[:number]:
            if other.path == disk.path:
                raise _unsupported(f"{refusal}: collision with disk '{other.name}'")


def check_disks(record: Record, domain: Domain, snapshot: Snapshot) -> None:
    """Refuse a choice of disks of which no whole snapshot can be made.

    :raises HvError: with libvirt's words.
    """
    found: set[str | None] = set()
    left_out = False
    for number, disk in enumerate(snapshot.disks):
        own = domain.devices.disks[number]
        if disk.snapshot != "no":
            _check_busy(record, own)
        if disk.snapshot == "internal" and snapshot.state == "disk-snapshot":
            raise _unsupported(
                f"active qemu domains require external disk snapshots; disk {disk.name} "
                "requested internal"
            )
        left_out |= disk.snapshot == "manual"
        left_out |= disk.snapshot == "no" and not own.empty and not own.readonly
        found.add(disk.snapshot)
    internal, external = "internal" in found, "external" in found
    message = None
    if not internal and not external and snapshot.memory == "no":
        message = "nothing selected for snapshot"
    elif (snapshot.memory == "internal" and not internal) or (internal and left_out):
        message = "internal and full system snapshots require all disks to be selected for snapshot"
    elif snapshot.state == "disk-snapshot" and not external:
        message = "disk-only snapshots require at least one disk to be selected for snapshot"
    elif len({"internal", "external"} & {*found, snapshot.memory}) > 1:
        message = "mixing internal and external targets for a snapshot is not yet supported"
    if message is not None:
        raise _unsupported(message)


def _check_busy(record: Record, disk: Disk) -> None:
    if disk.target in record.blockjobs:
        check_free(record, disk)


def put_on_top(domain: Domain, snapshot: Snapshot, before: Domain) -> None:
    """Let the disks of a definition write to the images that a snapshot has made.

    :param before: the definition of which it was taken; a disk that is another one stays.
    """
    was = {disk.target: chain.images(disk)[0] for disk in before.devices.disks}
    for made in snapshot.disks:
        if made.snapshot != "external":
            continue
        for disk in domain.devices.disks:
            if disk.target == made.name and chain.images(disk)[0].is_at(was[disk.target]):
                image = Image(made.type, made.format, made.source)
                closed = chain.closed(disk)
                chain.set_images(disk, [image, *chain.images(disk)], closed=closed)
