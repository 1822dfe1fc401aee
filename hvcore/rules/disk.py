"""Rules of <disk> that hold for every driver."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING
from typing import Final

from hvcore.addresses.drive import disk_index
from hvcore.addresses.drive import drive_place
from hvcore.errors import ErrorClass
from hvcore.errors import Issue
from hvcore.model.devices.base import VIRTIO_OPTIONS
from hvcore.model.devices.base import DriveAddress
from hvcore.model.devices.disk import Disk
from hvcore.model.devices.disk import IoTune
from hvcore.model.devices.storage import FileSource
from hvcore.model.devices.storage import NetworkSource
from hvcore.model.devices.storage import NvmeSource
from hvcore.model.devices.storage import Source
from hvcore.model.devices.storage import VolumeSource
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping

    from hvcore.model.devices.disk import DiskBus
    from hvcore.model.devices.storage import Auth
    from hvcore.model.devices.storage import DeviceSeclabel
    from hvcore.model.devices.storage import Encryption
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context

rules = Rules()

_BUS_OF_NAME: Final[tuple[tuple[str, DiskBus], ...]] = (
    ("hd", "ide"), ("sd", "scsi"), ("vd", "virtio"), ("xvd", "xen"), ("ubd", "uml"),
)  # fmt: skip
_HARD_DISKS: Final = tuple(prefix for prefix, _ in _BUS_OF_NAME)
_DRIVE_BUSES: Final = frozenset({"ide", "fdc", "scsi", "sata"})
_LOCAL: Final = frozenset({"file", "block", "dir"})
_IN_POOLS: Final = frozenset({"rbd", "gluster"})  # whose names begin with that of a pool
_SECRET_USAGES: Final = frozenset({"none", "volume", "ceph", "iscsi", "tls", "vtpm"})
_WITH_AUTH: Final = frozenset({"iscsi", "http", "https", "ftp", "ftps", "ssh", "rbd"})
_USAGE_OF_PROTOCOL: Final[Mapping[str, str]] = {"iscsi": "iscsi", "rbd": "ceph"}
_VENDOR_LENGTH: Final = 8
_PRODUCT_LENGTH: Final = {"scsi": 16}
_ATA_PRODUCT_LENGTH: Final = 40
_WWN_LENGTH: Final = 16
_PRINTABLE: Final = frozenset(chr(code) for code in range(0x20, 0x7F))

# What a vhost-user process decides for itself: what it is called, and whether a disk has it.
_NOT_VHOST_USER: Final = (
    ("cache", lambda d: d.cache not in (None, "default")),
    ("error_policy", lambda d: d.error_policy or d.rerror_policy),
    ("io", lambda d: d.io),
    ("ioeventfd", lambda d: d.ioeventfd is not None),
    ("copy_on_read", lambda d: d.copy_on_read is not None),
    ("discard", lambda d: d.discard),
    ("iothread", lambda d: d.iothread),
    ("detect_zeroes", lambda d: d.detect_zeroes),
    ("metadata_cache", lambda d: d.metadata_cache),
    ("iotune", lambda d: d.iotune and (d.iotune.group_name or d.iotune.limited)),
    ("backingStore", lambda d: d.backing_store),
    ("encryption", lambda d: d.source_encryption),
    ("readonly", lambda d: d.readonly),
    ("shareable", lambda d: d.shareable),
    ("transient", lambda d: d.transient),
    ("serial", lambda d: d.serial),
    ("wwn", lambda d: d.wwn),
    ("vendor", lambda d: d.vendor),
    ("product", lambda d: d.product),
    ("auth", lambda d: d.source_auth),
    ("geometry", lambda d: d.cylinders or d.heads or d.sectors or d.translation),
    (
        "blockio",
        lambda d: d.logical_block_size or d.physical_block_size or d.discard_granularity,
    ),
)


# --- post-parse ---


@rules.post_parse_early
def _order(domain: Domain, ctx: Context) -> None:
    """Sort the disks of each bus by the number in their name."""
    del ctx
    disks: list[Disk] = []
    for disk in domain.devices.disks:
        disks.insert(_place(disks, disk), disk)
    domain.devices.disks = disks


def _place(disks: list[Disk], new: Disk) -> int:
    """Return where a disk goes; those of its bus that have a name are in order already."""
    place = None
    number = _number(new)
    for position in range(len(disks) - 1, -1, -1):
        present = disks[position]
        if present.bus != new.bus:
            continue
        named = present.target and new.target
        if named and _number(present) > number:
            place = position
            continue
        if place is None:
            place = position + 1
        if named:
            break
    return len(disks) if place is None else place


def _number(disk: Disk) -> int:
    index = disk_index(disk.target or "")
    return -1 if index is None else index


@rules.post_parse(Disk)
def _run_time(domain: Domain, device: Disk, ctx: Context) -> None:
    """Forget what describes a running domain in the document of one that is not."""
    del domain
    if ctx.active:
        return
    device.mirror = None
    layers = list(device.backing_chain())
    for layer in layers:
        layer.index = None
    for source in (device.source, *(layer.source for layer in layers)):
        if source is not None:
            source.index = None
            forget_skipped_labels(source.seclabels)


def forget_skipped_labels(labels: list[DeviceSeclabel]) -> None:
    """Drop what labelling left out for one run."""
    for label in labels:
        if label.labelskip:
            label.labelskip, label.relabel = None, True
    labels[:] = [label for label in labels if not label.empty]


@rules.post_parse(Disk)
def _defaults(domain: Domain, device: Disk, ctx: Context) -> Iterator[Issue]:
    """Fill in what follows from the kind of disk and its name."""
    del ctx
    if device.target is not None:
        device.target = device.target.removeprefix("ioemu:")  # once written for Xen
    if device.device == "cdrom":
        device.readonly = True
    if device.bus is None:
        device.bus = _guess_bus(device)
    source = device.source
    if isinstance(source, NetworkSource) and source.protocol == "iscsi":
        # A target without a LUN means the first.
        if source.name is not None and "/" not in source.name:
            source.name += "/0"
    elif isinstance(source, NvmeSource) and source.managed is None:
        source.managed = True
    elif device.type == "vhostuser" and device.snapshot is None and not device.readonly:
        device.snapshot = "no"
    if device.address is None and device.target is not None:
        yield from _assign_address(domain, device)
    _share_limits(domain, device)


def _guess_bus(disk: Disk) -> DiskBus:
    if disk.device == "floppy":
        return "fdc"
    name = disk.target or ""
    return next((bus for prefix, bus in _BUS_OF_NAME if name.startswith(prefix)), "ide")


def _assign_address(domain: Domain, disk: Disk) -> Iterator[Issue]:
    name = disk.target or ""
    index = disk_index(name)
    if index is None:
        yield Issue.xml(f"Unknown disk name '{name}' and no address specified", line=disk.line)
        return
    place = drive_place(disk.bus or "", index)
    if place is None:
        return
    if disk.bus == "scsi" and _taken_by_hostdev(domain, place):
        yield Issue.unsupported(
            f"using disk target name '{name}' conflicts with SCSI host device address"
            f" controller='{place.controller}' bus='0' target='0' unit='{place.unit}",
            line=disk.line,
        )
        return
    disk.address = DriveAddress(
        controller=place.controller, bus=place.bus, target=place.target, unit=place.unit
    )


def _taken_by_hostdev(domain: Domain, place: tuple[int, int, int, int]) -> bool:
    for hostdev in domain.devices.hostdevs:
        address = hostdev.address
        if (
            hostdev.mode == "subsystem"
            and hostdev.type == "scsi"
            and isinstance(address, DriveAddress)
            and _numbers(address) == place
        ):
            return True
    return False


def _numbers(address: DriveAddress) -> tuple[int, int, int, int]:
    return (
        address.controller or 0, address.bus or 0, address.target or 0, address.unit or 0
    )  # fmt: skip


def _share_limits(domain: Domain, disk: Disk) -> None:
    """Copy the limits of the disk's throttle group from the first member that states them."""
    tune = disk.iotune
    if tune is None or not tune.group_name or tune.limited:
        return
    for other in domain.devices.disks:
        found = other.iotune
        if found is not None and found.group_name == tune.group_name and found.limited:
            disk.iotune = IoTune(
                **{attribute: getattr(found, attribute) for attribute in IoTune.__annotations__}
            )
            return


# --- validation: the source chain ---


@rules.check(Disk)
def _target(domain: Domain, device: Disk, ctx: Context) -> Iterator[Issue]:
    """Require a target; everything about disks is told by its name."""
    del domain, ctx
    if device.target is None:
        source = device.source
        if isinstance(source, VolumeSource):
            what = f" pool = '{source.pool}', volume = '{source.volume}'"
        else:
            path = getattr(source, "path", None) or getattr(source, "name", None)
            what = f" {path}" if path else ""
        yield Issue(
            f"missing target information for device{what}", ErrorClass.NO_TARGET, line=device.line
        )


@rules.check(Disk)
def _chain(domain: Domain, device: Disk, ctx: Context) -> Iterator[Issue]:
    """Check every image of the chain."""
    del domain, ctx
    if device.source is not None:
        yield from check_source(
            device.source, device.source_auth, device.source_encryption, device.format
        )
    for layer in device.backing_chain():
        if layer.source is not None:
            yield from check_source(
                layer.source, layer.source.auth, layer.source.encryption, layer.format
            )


def check_source(
    source: Source, auth: Auth | None, encryption: Encryption | None, image: str | None
) -> Iterator[Issue]:
    """Yield what is wrong with one image, whoever uses it.

    :param auth: its credentials, wherever the document has them.
    :param encryption: how it is encrypted, likewise.
    :param image: the format of the image.
    """
    if isinstance(source, NetworkSource):
        if source.protocol == "sheepdog":
            yield Issue.unsupported(
                "'sheepdog' protocol is no longer supported by any hypervisor driver"
            )
        if auth is not None:
            yield from _check_auth(source, auth)
    if encryption is not None and encryption.format == "luks" and encryption.cipher:
        yield Issue.unsupported(
            "supplying <cipher> for domain disk definition is unnecessary", line=source.line
        )
    store = source.data_store
    if store is not None:
        if image != "qcow2":
            yield Issue.unsupported("<dataStore> feature available only with qcow2 images")
        elif store.format not in (None, "raw"):
            yield Issue.unsupported("only 'raw' images supported as <dataStore>")
        if store.source is not None and store.source.data_store is not None:
            yield Issue.xml(
                "The <source> of <dataStore> can't have another nested <dataStore> or"
                " <backingStore> element"
            )
        elif store.source is not None and store.source.slice is not None:
            yield Issue.xml("slices are not supported for <dataStore>")


def _check_auth(source: NetworkSource, auth: Auth) -> Iterator[Issue]:
    if source.protocol not in _WITH_AUTH:
        yield Issue.unsupported(
            f"authentication is not supported for protocol '{source.protocol}'", line=auth.line
        )
        return
    usage = auth.secret.type if auth.secret is not None else None
    if usage not in _SECRET_USAGES:
        yield Issue.unsupported(f"unknown secret type '{usage or '<null>'}'", line=auth.line)
    elif usage != _USAGE_OF_PROTOCOL.get(source.protocol, usage):
        yield Issue.unsupported(f"invalid secret type '{usage}'", line=auth.line)


# --- validation: the disk ---


@rules.check(Disk)
def _lun(domain: Domain, device: Disk, ctx: Context) -> Iterator[Issue]:
    """Check what only LUNs may have and what they may not."""
    del domain, ctx
    if device.sgio == "unfiltered":
        yield Issue.unsupported("unfiltered sgio is no longer supported", line=device.line)
    if device.device == "lun":
        yield from _lun_source(device)
        return
    if device.source is not None and device.source.reservations is not None:
        yield Issue.unsupported("<reservations/> allowed only for lun devices")
    for name in ("rawio", "sgio"):
        if getattr(device, name) is not None:
            yield Issue.unsupported(f"{name} can be used only with device='lun'")


def _lun_source(disk: Disk) -> Iterator[Issue]:
    source, encryption = disk.source, disk.source_encryption
    if isinstance(source, NetworkSource):
        if source.protocol != "iscsi":
            yield Issue.unsupported(
                f"disk device='lun' is not supported for protocol='{source.protocol}'"
            )
    elif disk.type not in ("block", "volume"):
        yield Issue.unsupported("disk device='lun' is only valid for block type disk source")
    if disk.format not in (None, "raw"):
        yield Issue.unsupported("disk device 'lun' must use 'raw' format")
    if source is not None and source.slice is not None:
        yield Issue.unsupported("disk device 'lun' doesn't support storage slice")
    if encryption is not None and encryption.format != "default":
        yield Issue.unsupported("disk device 'lun' doesn't support encryption")


@rules.check(Disk)
def _limits(domain: Domain, device: Disk, ctx: Context) -> Iterator[Issue]:
    """Refuse limits for all requests beside limits for some."""
    del domain, ctx
    tune = device.iotune
    if tune is None:
        return
    for what in ("bytes_sec", "iops_sec", "bytes_sec_max", "iops_sec_max"):
        if getattr(tune, f"total_{what}") and (
            getattr(tune, f"read_{what}") or getattr(tune, f"write_{what}")
        ):
            yield Issue.xml(
                f"total and read/write {what} cannot be set at the same time", line=tune.line
            )


@rules.check(Disk)
def _bus(domain: Domain, device: Disk, ctx: Context) -> Iterator[Issue]:
    """Check address and options against the bus."""
    del domain, ctx
    address = device.address
    if device.bus in _DRIVE_BUSES and not isinstance(address, DriveAddress | None):
        yield Issue.unsupported(
            f"Invalid address type '{address.type}' for the disk '{device.target}' with the bus"
            f" type '{device.bus}'",
            line=device.line,
        )
    if device.bus == "virtio":
        return
    if device.model is not None:
        yield Issue.unsupported(f"disk model '{device.model}' not supported for bus '{device.bus}'")
    if device.queues:
        yield Issue.unsupported(
            "queues attribute in disk driver element is only supported for virtio bus"
        )
    if device.queue_size:
        yield Issue.unsupported(
            "queue_size attribute in disk driver is only supported for virtio bus"
        )
    for name in ("event_idx", "ioeventfd"):
        if getattr(device, name) is not None:
            yield Issue.unsupported(f"disk {name} mode supported only for virtio bus")
    for name in VIRTIO_OPTIONS:
        if getattr(device, name) is not None:
            what = name if name == "page_per_vq" else f"{name} driver"
            yield Issue.unsupported(f"{what} option is only supported for virtio devices")


@rules.check(Disk)
def _kinds(domain: Domain, device: Disk, ctx: Context) -> Iterator[Issue]:
    """Check what some types of source require, and the labels of all."""
    del ctx
    if isinstance(device.source, NvmeSource) and device.source.namespace == 0:
        yield Issue.unsupported("NVMe namespace can't be zero")
    if device.type == "vhostuser":
        yield from _vhost_user(device)
    fixed = {label.model for label in domain.seclabels if not label.relabel}
    sources = [device.source, *(layer.source for layer in device.backing_chain())]
    for source in sources:
        for seclabel in source.seclabels if source is not None else ():
            if seclabel.model in fixed:
                yield Issue.unsupported(
                    "label overrides require relabeling to be enabled at the domain level"
                )
    if device.tray not in (None, "closed") and device.device not in ("floppy", "cdrom"):
        yield Issue.unsupported("tray is only valid for cdrom and floppy", line=device.line)


def _vhost_user(disk: Disk) -> Iterator[Issue]:
    if disk.bus != "virtio":
        yield Issue.unsupported("vhostuser disk supports only virtio bus")
    if disk.snapshot != "no" and not disk.readonly:
        yield Issue.unsupported("only snapshot=no is supported with vhostuser disk")
    for name, present in _NOT_VHOST_USER:
        if present(disk):
            yield Issue.unsupported(f"{name} is not supported with vhostuser disk")


@rules.check(Disk)
def _identity(domain: Domain, device: Disk, ctx: Context) -> Iterator[Issue]:
    """Check what the guest sees of vendor and product, and the fit of kind and bus."""
    del domain, ctx
    product_length = _PRODUCT_LENGTH.get(device.bus or "", _ATA_PRODUCT_LENGTH)
    for name, length in (("vendor", _VENDOR_LENGTH), ("product", product_length)):
        value = getattr(device, name)
        if value and not _PRINTABLE.issuperset(value):
            yield Issue.xml(f"disk {name} is not printable string", line=device.line)
        elif value and len(value) > length:
            yield Issue.unsupported(
                f"disk {name} is more than {length} characters", line=device.line
            )
    if device.device == "floppy" and device.bus != "fdc":
        yield Issue.internal(f"Invalid bus type '{device.bus}' for floppy disk")
    elif device.device != "floppy" and device.bus == "fdc":
        yield Issue.internal(f"Invalid bus type '{device.bus}' for disk")
    if (
        device.removable is not None
        and device.bus != "usb"
        and not (device.bus == "scsi" and device.device == "disk")
    ):
        yield Issue.xml("removable is only valid for usb or scsi disks", line=device.line)


@rules.check(Disk)
def _medium(domain: Domain, device: Disk, ctx: Context) -> Iterator[Issue]:
    """Check names, and whether there may be no medium."""
    del domain, ctx
    source, kind, name = device.source, device.device, device.target or ""
    policy = source.startup_policy if source is not None else None
    if policy is not None:
        if device.type not in _LOCAL and not isinstance(source, VolumeSource):
            yield Issue.xml(
                f"disk startupPolicy '{policy}' is not allowed for disk of '{device.type}' type"
            )
        elif policy == "requisite" and kind not in ("cdrom", "floppy"):
            yield Issue.xml("disk startupPolicy 'requisite' is allowed only for cdrom or floppy")
    if device.wwn:
        digits = device.wwn.removeprefix("0x")
        if len(digits) != _WWN_LENGTH or not set(digits) <= set(string.hexdigits):
            yield Issue.internal(f"Malformed wwn: {device.wwn}", line=device.line)
    if kind in ("disk", "lun") and not name.startswith(_HARD_DISKS):
        yield Issue.internal(f"Invalid harddisk device name: {name}", line=device.line)
    elif kind == "floppy" and not name.startswith("fd"):
        yield Issue.internal(f"Invalid floppy device name: {name}", line=device.line)
    if kind == "disk" and device.empty and not isinstance(source, VolumeSource):
        yield Issue(
            f"missing source information for device {name}", ErrorClass.NO_SOURCE,
            line=device.line,
        )  # fmt: skip


@rules.check(Disk)
def _options(domain: Domain, device: Disk, ctx: Context) -> Iterator[Issue]:
    """Check options that exclude others."""
    del ctx
    if device.discard_no_unref:
        if device.format != "qcow2":
            yield Issue.unsupported("'discard_no_unref' only works with qcow2 disk format")
        elif device.readonly:
            yield Issue.unsupported("'discard_no_unref' is not compatible with read-only disk")
    if device.iothread and device.iothreads:
        yield Issue.xml(
            "disk driver 'iothread' attribute can't be used together with 'iothreads' subelement"
        )
    if not device.throttle_filters:
        return
    tune = device.iotune
    if tune is not None and (tune.group_name or tune.limited):
        yield Issue(
            "block 'throttlefilters' can't be used together with 'iotune' for disk"
            f" '{device.target}'",
            ErrorClass.OPERATION_UNSUPPORTED,
        )
    if device.device == "cdrom":
        yield Issue(
            "cdrom device with throttle filters isn't supported",
            ErrorClass.OPERATION_UNSUPPORTED,
        )
    known = {group.group_name for group in domain.throttlegroups}
    for each in device.throttle_filters:
        if each.group not in known:
            yield Issue.xml(f"throttle group '{each.group}' not found", line=device.line)


@rules.check_domain
def _unique(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Refuse two disks of one name."""
    del ctx
    seen: dict[str | None, Disk] = {}
    for disk in domain.devices.disks:
        first = seen.setdefault(disk.target, disk)
        if first is not disk:
            yield duplicate(first, disk)


def duplicate(first: Disk, second: Disk) -> Issue:
    """Return the issue of two disks of one name."""
    return Issue.xml(
        f"target '{second.target}' duplicated for disk sources '{_path(first)}' and"
        f" '{_path(second)}'",
        line=second.line,
    )


def _path(disk: Disk) -> str:
    source = disk.source
    if isinstance(source, NetworkSource):
        name = source.name or "<null>"
        if source.protocol in _IN_POOLS:
            return name.partition("/")[2] or name
        return name
    found = source.path if isinstance(source, FileSource) else getattr(source, "path", None)
    return found or "<null>"


@rules.check_domain
def _places(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Refuse two drives at one place of a bus, disks and SCSI host devices."""
    del ctx
    first: dict[tuple[str | None, tuple[int, int, int, int]], str | None] = {}
    for disk in domain.devices.disks:
        if isinstance(disk.address, DriveAddress):
            key = disk.bus, _numbers(disk.address)
            if key in first:
                controller, bus, target, unit = key[1]
                yield Issue.unsupported(
                    f"Found duplicate drive address for disk with target name '{first[key]}'"
                    f" controller='{controller}' bus='{bus}' target='{target}' unit='{unit}'",
                    line=disk.line,
                )
            first.setdefault(key, disk.target)
    used: set[tuple[int, int, int, int]] = set()
    for hostdev in domain.devices.hostdevs:
        address = hostdev.address
        if hostdev.mode != "subsystem" or hostdev.type != "scsi":
            continue
        if not isinstance(address, DriveAddress):
            continue
        place = _numbers(address)
        kind = "host device" if place in used else "disk"
        if place in used or ("scsi", place) in first:
            controller, bus, target, unit = place
            # libvirt puts bus and controller the wrong way round here.
            yield Issue.unsupported(
                f"SCSI host address controller='{bus}' bus='{controller}' target='{target}'"
                f" unit='{unit}' in use by another SCSI {kind}",
                line=hostdev.line,
            )
        used.add(place)
