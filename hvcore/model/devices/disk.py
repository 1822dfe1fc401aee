"""The <disk> element."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import Literal

import attrs

from hvcore.model.devices.base import VirtioDevice
from hvcore.model.devices.storage import DRIVER_FORMAT
from hvcore.model.devices.storage import SOURCES
from hvcore.model.devices.storage import Auth
from hvcore.model.devices.storage import BackingStore
from hvcore.model.devices.storage import Encryption
from hvcore.model.devices.storage import IOThreadMapping
from hvcore.model.devices.storage import Source
from hvcore.model.devices.storage import StorageFormat
from hvcore.model.devices.storage import StorageType
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import ONOFF
from hvcore.xml.codecs import POSITIVE
from hvcore.xml.codecs import STR
from hvcore.xml.codecs import UINT
from hvcore.xml.codecs import ULONG
from hvcore.xml.codecs import YESNO
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import child
from hvcore.xml.fields import children
from hvcore.xml.fields import choice
from hvcore.xml.fields import element
from hvcore.xml.fields import flag
from hvcore.xml.fields import scaled
from hvcore.xml.fields import text

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import FormatContext
    from hvcore.xml.context import ParseContext

DiskDevice = Literal["disk", "cdrom", "floppy", "lun"]
DiskModel = Literal["virtio", "virtio-transitional", "virtio-non-transitional"]
DiskBus = Literal["ide", "fdc", "scsi", "virtio", "xen", "usb", "uml", "sata", "sd"]
CacheMode = Literal["default", "none", "writethrough", "writeback", "directsync", "unsafe"]
ErrorPolicy = Literal["stop", "report", "ignore", "enospace"]
IoMode = Literal["native", "threads", "io_uring"]
Discard = Literal["unmap", "ignore"]
DetectZeroes = Literal["off", "on", "unmap"]
SgIo = Literal["filtered", "unfiltered"]
SnapshotLocation = Literal["no", "internal", "external", "manual"]
Translation = Literal["default", "none", "auto", "lba"]
Tray = Literal["closed", "open"]
MirrorJob = Literal["copy", "active-commit"]
MirrorState = Literal["none", "yes", "abort", "pivot"]

IOTUNE_LIMITS: Final = tuple(
    f"{which}_{what}_sec{suffix}"
    for suffix in ("", "_max", "_max_length")
    for what in ("bytes", "iops")
    for which in ("total", "read", "write")
)
"""Names of the limits without ``size_iops_sec``: rates, burst rates, seconds of a burst."""


def _limit(name: str) -> int:
    """Declare one of the limits of <iotune>; zero stands for none."""
    value: int = text(
        name, ULONG, default=0, omit=(0,), refused=f"disk iotune field '{name}' must be an integer"
    )
    return value


@element("iotune", omit_empty=True)
class IoTune(Element):
    """Limits of a disk's throughput: bytes and requests per second, bursts, their length."""

    total_bytes_sec: int = _limit("total_bytes_sec")
    read_bytes_sec: int = _limit("read_bytes_sec")
    write_bytes_sec: int = _limit("write_bytes_sec")
    total_iops_sec: int = _limit("total_iops_sec")
    read_iops_sec: int = _limit("read_iops_sec")
    write_iops_sec: int = _limit("write_iops_sec")
    total_bytes_sec_max: int = _limit("total_bytes_sec_max")
    read_bytes_sec_max: int = _limit("read_bytes_sec_max")
    write_bytes_sec_max: int = _limit("write_bytes_sec_max")
    total_iops_sec_max: int = _limit("total_iops_sec_max")
    read_iops_sec_max: int = _limit("read_iops_sec_max")
    write_iops_sec_max: int = _limit("write_iops_sec_max")
    size_iops_sec: int = _limit("size_iops_sec")
    group_name: str | None = text("group_name", omit=("",))
    total_bytes_sec_max_length: int = _limit("total_bytes_sec_max_length")
    read_bytes_sec_max_length: int = _limit("read_bytes_sec_max_length")
    write_bytes_sec_max_length: int = _limit("write_bytes_sec_max_length")
    total_iops_sec_max_length: int = _limit("total_iops_sec_max_length")
    read_iops_sec_max_length: int = _limit("read_iops_sec_max_length")
    write_iops_sec_max_length: int = _limit("write_iops_sec_max_length")

    @property
    def limited(self) -> bool:
        """Any limit is set."""
        return bool(self.size_iops_sec) or any(getattr(self, name) for name in IOTUNE_LIMITS)


@element("throttlefilter")
class ThrottleFilter(Element):
    """A throttle group that the disk's requests pass through."""

    group: str | None = attr("@group", required=True)


@element("mirror")
class Mirror(Element):
    """Where a running block job copies the disk to."""

    type: StorageType | None = attr(
        "@type", ENUM(StorageType), refused="unknown storage source type '{value}'"
    )
    file: str | None = attr("@file", doc="path, in the old notation")
    old_format: StorageFormat | None = attr("@format", ENUM(StorageFormat))
    job: MirrorJob | None = attr(
        "@job",
        ENUM(MirrorJob),
        refused="unsupported configuration: unknown mirror job type '{value}'",
    )
    ready: MirrorState | None = attr(
        "@ready", ENUM(MirrorState), omit=("none",), refused="unknown mirror ready state {value}"
    )
    format: StorageFormat | None = attr(
        "format/@type", ENUM(StorageFormat), refused="unknown storage source format '{value}'"
    )
    metadata_cache: int | None = scaled(
        "format/metadata_cache/max_size", unit="bytes", omit=(0,), doc="bytes at most"
    )
    source: Source | None = choice("source", "type", SOURCES)
    backing_store: BackingStore | None = child("backingStore", BackingStore)


def _if_complete(name: str) -> Callable[[Any, FormatContext], Any]:
    """Return what writes a part of the geometry: libvirt drops an incomplete one."""

    def part(disk: Disk, ctx: FormatContext) -> Any:
        del ctx
        complete = disk.cylinders and disk.heads and disk.sectors
        return getattr(disk, name) if complete else None

    return part


def _removable(disk: Disk, ctx: FormatContext) -> bool | None:
    """Return what is written: libvirt keeps it for USB only, although SCSI has it too."""
    del ctx
    return disk.removable if disk.bus == "usb" else None


@element("disk")
class Disk(VirtioDevice):
    """A disk, CD-ROM drive, floppy drive or LUN."""

    type: StorageType = attr("@type", ENUM(StorageType), default="file")
    device: DiskDevice = attr("@device", ENUM(DiskDevice), default="disk")
    model: DiskModel | None = attr("@model", ENUM(DiskModel))
    rawio: bool | None = attr("@rawio", YESNO, doc="the guest needs CAP_SYS_RAWIO")
    sgio: SgIo | None = attr("@sgio", ENUM(SgIo))
    snapshot: SnapshotLocation | None = attr("@snapshot", ENUM(SnapshotLocation))
    driver: str | None = attr("driver/@name", doc="backend of the hypervisor")
    format: StorageFormat | None = attr(
        "driver/@type",
        DRIVER_FORMAT,
        refused="unsupported configuration: unknown driver format value '{value}'",
    )
    cache: CacheMode | None = attr("driver/@cache", ENUM(CacheMode), omit=("default",))
    error_policy: ErrorPolicy | None = attr("driver/@error_policy", ENUM(ErrorPolicy))
    rerror_policy: ErrorPolicy | None = attr("driver/@rerror_policy", ENUM(ErrorPolicy))
    io: IoMode | None = attr("driver/@io", ENUM(IoMode))
    ioeventfd: bool | None = attr("driver/@ioeventfd", ONOFF)
    event_idx: bool | None = attr("driver/@event_idx", ONOFF)
    copy_on_read: bool | None = attr("driver/@copy_on_read", ONOFF)
    discard: Discard | None = attr("driver/@discard", ENUM(Discard))
    iothread: int | None = attr("driver/@iothread", POSITIVE)
    detect_zeroes: DetectZeroes | None = attr("driver/@detect_zeroes", ENUM(DetectZeroes))
    discard_no_unref: bool | None = attr("driver/@discard_no_unref", ONOFF)
    queues: int | None = attr("driver/@queues", UINT, omit=(0,))
    queue_size: int | None = attr("driver/@queue_size", UINT, omit=(0,))
    metadata_cache: int | None = scaled(
        "driver/metadata_cache/max_size", unit="bytes", omit=(0,), doc="bytes at most"
    )
    iothreads: list[IOThreadMapping] = children("driver/iothreads/iothread", IOThreadMapping)
    auth: Auth | None = child("auth", Auth)
    source: Source | None = choice("source", "type", SOURCES)
    backing_store: BackingStore | None = child("backingStore", BackingStore)
    backenddomain: str | None = attr("backenddomain/@name", STR, doc="Xen: the driver domain")
    cylinders: int | None = attr("geometry/@cyls", UINT, written=_if_complete("cylinders"))
    heads: int | None = attr("geometry/@heads", UINT, written=_if_complete("heads"))
    sectors: int | None = attr("geometry/@secs", UINT, written=_if_complete("sectors"))
    translation: Translation | None = attr(
        "geometry/@trans",
        ENUM(Translation),
        omit=("default",),
        written=_if_complete("translation"),
    )
    logical_block_size: int | None = attr("blockio/@logical_block_size", UINT, omit=(0,))
    physical_block_size: int | None = attr("blockio/@physical_block_size", UINT, omit=(0,))
    discard_granularity: int | None = attr("blockio/@discard_granularity", UINT, omit=(0,))
    mirror: Mirror | None = child("mirror", Mirror, show="live")
    target: str | None = attr("target/@dev", doc="name that orders the disks; a hint to the guest")
    bus: DiskBus | None = attr("target/@bus", ENUM(DiskBus))
    tray: Tray | None = attr("target/@tray", ENUM(Tray), omit=("closed",))
    removable: bool | None = attr("target/@removable", ONOFF, written=_removable)
    rotation_rate: int | None = attr("target/@rotation_rate", UINT, omit=(0,), doc="rpm; 1 is SSD")
    iotune: IoTune | None = child("iotune", IoTune)
    throttle_filters: list[ThrottleFilter] = children(
        "throttlefilters/throttlefilter", ThrottleFilter
    )
    readonly: bool = flag("readonly")
    shareable: bool = flag("shareable")
    transient: bool = flag("transient", doc="changes are thrown away")
    share_backing: bool | None = attr("transient/@shareBacking", YESNO, omit=(False,))
    serial: str | None = text("serial")
    wwn: str | None = text("wwn", doc="16 hexadecimal digits")
    vendor: str | None = text("vendor")
    product: str | None = text("product")
    encryption: Encryption | None = child("encryption", Encryption)
    node_name: str | None = attrs.field(default=None, eq=False, repr=False)
    """Of a running domain: the block node that the device reads and writes."""

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check what libvirt's parser checks, and drop what it does not keep."""
        if self.source is None:
            self.type = "file"
        if self.rerror_policy == "enospace":
            ctx.issue(
                el,
                "unsupported configuration: Invalid disk read error policy: 'enospace'",
            )
        if self.auth is not None and self.source is not None and self.source.auth is not None:
            ctx.issue(
                el,
                "unsupported configuration: an <auth> definition already found for disk source",
            )
        if self.encryption and self.source is not None and self.source.encryption:
            ctx.issue(
                el,
                "unsupported configuration: an <encryption> definition already found for disk"
                " source",
            )
        if self.snapshot == "no" and self.readonly:
            self.snapshot = None
        for name in ("target", "serial", "wwn", "vendor", "product", "backenddomain"):
            if name != "target" and getattr(self, name) == "":
                setattr(self, name, None)
        seen: set[str | None] = set()
        for each in self.throttle_filters:
            if each.group in seen:
                ctx.issue(el, f"duplicate filter name '{each.group}' found")
            seen.add(each.group)

    @property
    def source_auth(self) -> Auth | None:
        """The credentials, wherever the document has them."""
        return self.auth or (self.source.auth if self.source is not None else None)

    @property
    def source_encryption(self) -> Encryption | None:
        """How the image is encrypted, wherever the document says so."""
        return self.encryption or (self.source.encryption if self.source is not None else None)

    @property
    def empty(self) -> bool:
        """There is no medium."""
        return self.source is None or self.source.empty

    def backing_chain(self) -> Iterator[BackingStore]:
        """Yield the images below the top one that the document names."""
        if self.backing_store is not None:
            yield from self.backing_store.chain()
