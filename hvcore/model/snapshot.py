"""Documents of snapshots: ``<domainsnapshot>``, as libvirt reads and writes them."""

from __future__ import annotations

from typing import Any
from typing import Literal

from hvcore.model.devices.storage import SOURCES
from hvcore.model.devices.storage import Source
from hvcore.model.devices.storage import StorageFormat
from hvcore.model.devices.storage import StorageType
from hvcore.model.domain import Domain
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import INT
from hvcore.xml.context import FormatContext
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import child
from hvcore.xml.fields import children
from hvcore.xml.fields import choice
from hvcore.xml.fields import element
from hvcore.xml.fields import text

Location = Literal["no", "internal", "external", "manual"]
SnapshotState = Literal[
    "nostate",
    "running",
    "blocked",
    "paused",
    "shutdown",
    "shutoff",
    "crashed",
    "pmsuspended",
    "disk-snapshot",
]


def _type(disk: SnapshotDisk, ctx: FormatContext) -> Any:
    """Return what is written: only of images that the document says something about."""
    del ctx
    named = disk.source is not None and not disk.source.empty
    return disk.type if named or disk.format is not None else None


@element("disk")
class SnapshotDisk(Element):
    """What a snapshot does with one disk."""

    name: str = attr(
        "@name", required=True, missing="internal error: missing name from disk snapshot element"
    )
    snapshot: Location | None = attr("@snapshot", ENUM(Location))
    type: StorageType = attr("@type", ENUM(StorageType), default="file", written=_type)
    format: StorageFormat | None = attr(
        "driver/@type",
        ENUM(StorageFormat),
        refused="unsupported configuration: unknown disk snapshot driver '{value}'",
    )
    source: Source | None = choice("source", "type", SOURCES)

    @property
    def path(self) -> str | None:
        """The path of the new image, where the document names one."""
        return getattr(self.source, "path", None)


@element("domainsnapshot")
class Snapshot(Element):
    """A snapshot: what was taken, and of which domain."""

    name: str | None = text("name")
    description: str | None = text("description")
    state: SnapshotState | None = text(
        "state",
        ENUM(SnapshotState),
        refused="unsupported configuration: Invalid state '{value}' in domain snapshot XML",
    )
    parent: str | None = text("parent/name")
    creation_time: int | None = text("creationTime", INT, doc="seconds since the epoch")
    memory: Location | None = attr("memory/@snapshot", ENUM(Location))
    memory_file: str | None = attr("memory/@file")
    disks: list[SnapshotDisk] = children("disks/disk", SnapshotDisk)
    domain: Domain | None = child("domain", Domain)
    inactive: Domain | None = child("inactiveDomain", Domain, doc="the next start, while it ran")

    @property
    def label(self) -> str:
        """The name; every snapshot that was taken has one."""
        assert self.name is not None
        return self.name

    @property
    def running(self) -> bool:
        """Whether it holds the memory of a guest."""
        return self.state in ("running", "paused")

    @property
    def external(self) -> bool:
        """Whether something of it is outside the images of the domain."""
        return self.memory == "external" or any(disk.snapshot == "external" for disk in self.disks)
