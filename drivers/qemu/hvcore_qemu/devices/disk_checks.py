"""What QEMU's disks can and cannot do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import ErrorClass
from hvcore.errors import Issue
from hvcore.model.devices.base import DriveAddress
from hvcore.model.devices.base import UsbAddress
from hvcore.model.devices.disk import IOTUNE_LIMITS
from hvcore.model.devices.disk import Disk
from hvcore.model.devices.disk import IoTune
from hvcore.model.devices.storage import DirSource
from hvcore.model.devices.storage import FileSource
from hvcore.model.devices.storage import NetworkSource
from hvcore.model.devices.storage import VolumeSource
from hvcore.rules.base import Rules
from hvcore.rules.iothread import iothread_ids
from hvcore_qemu.blockdev import Image
from hvcore_qemu.blockdev import is_luks
from hvcore_qemu.devices.controller_checks import check_iothread_mapping
from hvcore_qemu.sharing import shared_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.devices.storage import Encryption
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore_qemu.capabilities import QemuCapabilities

rules = Rules()

_SAFE_SERIAL: Final = re.compile(r"[a-zA-Z0-9_ .+\-]*")
_TARGET: Final = re.compile(r"(?:fd|hd|vd|sd|xvd|ubd)[a-z]+([0-9]*)", re.ASCII)
_IOTUNE_MAX: Final = 1000000000000000
_DRIVE_BUSES: Final = frozenset({"scsi", "ide", "fdc", "sata"})
_PRODUCT_BUSES: Final = frozenset({"ide", "sata", "scsi"})
_SHARED_BACKING_BUSES: Final = frozenset({"usb", "virtio", "scsi"})
_NEEDED_BY_LUN: Final = {
    "scsi": ("scsi-block", "This QEMU doesn't support scsi-block for lun passthrough"),
    "virtio": (
        "virtio-blk-pci.scsi",
        "This QEMU doesn't support SCSI emulation with 'virtio-blk' device",
    ),
}
_REFUSED_FORMATS: Final = {
    "cow": "'cow' storage format is not supported",
    "dir": "'directory' storage format is not directly supported by QEMU, use 'dir' disk type"
    " instead",
    "iso": "storage format 'iso' is not directly supported by QEMU, use 'raw' instead",
}
_DIRECT: Final = frozenset({"directsync", "none"})


# --- the device ---


@rules.check(Disk)
def _geometry(domain: Domain, device: Disk, ctx: Context) -> Iterator[Issue]:
    """Check geometry, serial number and whether media can be changed."""
    del domain, ctx
    bus = device.bus
    if device.cylinders and device.heads and device.sectors:
        if bus in ("usb", "sd"):
            yield Issue.unsupported(f"CHS geometry can not be set for '{bus}' bus")
        elif device.translation not in (None, "default") and bus != "ide":
            yield Issue.unsupported(
                f"CHS translation mode can only be set for 'ide' bus not '{bus}'"
            )
    if device.serial and bus == "sd":
        yield Issue.internal(f"Serial property not supported for drive bus '{bus}'")
    if device.device == "cdrom" and bus in ("virtio", "sd"):
        yield Issue.unsupported(
            f"disk type of '{device.target}' does not support ejectable media", line=device.line
        )
    if device.copy_on_read and device.readonly:
        yield Issue.unsupported(
            f"copy_on_read is not compatible with read-only disk '{device.target}'"
        )
    elif device.copy_on_read and device.device in ("cdrom", "floppy"):
        yield Issue.unsupported(
            f"copy_on_read is not supported with removable disk '{device.target}'"
        )


@rules.check(Disk)
def _identity(domain: Domain, device: Disk, ctx: Context) -> Iterator[Issue]:
    """Check who may have names, and what LUNs may have."""
    del domain
    if device.wwn and device.bus not in ("ide", "scsi"):
        yield Issue.unsupported("Only ide and scsi disk support wwn", line=device.line)
    if device.vendor and device.bus != "scsi":
        yield Issue.unsupported("Only scsi disk supports 'vendor'", line=device.line)
    if device.product and device.bus not in _PRODUCT_BUSES:
        yield Issue.unsupported("Only ide, sata and scsi disk supports 'product'", line=device.line)
    if device.device != "lun":
        return
    needed = _NEEDED_BY_LUN.get(device.bus or "")
    if needed is None:
        yield Issue.unsupported(f"disk device='lun' is not supported for bus='{device.bus}'")
    elif needed[0] not in ctx.caps:
        yield Issue.unsupported(needed[1])
    if device.copy_on_read:
        yield Issue.unsupported(f"copy_on_read is not compatible with 'lun' disk '{device.target}'")
    if device.wwn:
        yield Issue.unsupported("Setting wwn is not supported for lun device")
    if device.vendor or device.product:
        yield Issue.unsupported("Setting vendor or product is not supported for lun device")


@rules.check(Disk)
def _bus(domain: Domain, device: Disk, ctx: Context) -> Iterator[Issue]:
    """Check rotation rate, address and what each bus needs."""
    del domain
    bus = device.bus or ""
    if device.rotation_rate:
        if bus not in _PRODUCT_BUSES:
            yield Issue.internal("rotation rate is only valid for SCSI/IDE/SATA bus")
        elif device.device != "disk":
            yield Issue.internal("rotation rate is only valid for disk device")
        elif "rotation-rate" not in ctx.caps:
            yield Issue.internal("rotation rate is not supported with this QEMU")
    if bus in _DRIVE_BUSES and not isinstance(device.address, DriveAddress):
        yield Issue.internal(f"unexpected address type for {bus} disk", line=device.line)
    elif bus == "virtio" and device.queue_size and "virtio-blk.queue-size" not in ctx.caps:
        yield Issue.unsupported("queue-size property isn't supported by this QEMU binary")
    elif bus == "usb":
        if "usb-storage" not in ctx.caps:
            yield Issue.unsupported("This QEMU doesn't support '-device usb-storage'")
        elif device.empty:
            yield Issue.unsupported("'usb' disk must not be empty", line=device.line)
        elif not isinstance(device.address, UsbAddress | None):
            yield Issue.internal("unexpected address type for usb disk", line=device.line)
    if device.readonly and device.device == "disk" and bus in ("ide", "sata"):
        yield Issue.unsupported(f"readonly {bus} disks are not supported", line=device.line)


@rules.check(Disk)
def _io(domain: Domain, device: Disk, ctx: Context) -> Iterator[Issue]:
    """Check how requests are made, serial numbers again, and I/O threads."""
    if device.io == "native" and device.cache not in _DIRECT:
        yield Issue.unsupported(
            "io='native' needs either no disk cache or directsync cache mode", line=device.line
        )
    elif device.io == "io_uring" and "aio.io_uring" not in ctx.caps:
        yield Issue.unsupported("io uring is not supported by this QEMU binary")
    if device.serial and device.bus == "scsi" and device.device == "lun":
        yield Issue.unsupported("scsi-block 'lun' devices do not support the serial property")
    if device.serial and not _SAFE_SERIAL.fullmatch(device.serial):
        yield Issue.internal(f"driver serial '{device.serial}' contains unsafe characters")
    if not device.iothread and not device.iothreads:
        return
    if device.bus != "virtio":
        yield Issue.unsupported(
            f"IOThreads not available for bus {device.bus} target {device.target}"
        )
        return
    if device.iothreads and "virtio-blk.iothread-mapping" not in ctx.caps:
        yield Issue.unsupported(
            f"IOThread mapping for disk '{device.target}' is not available with this QEMU binary"
        )
        return
    yield from check_iothread_mapping(domain, device.iothreads, device.queues or 0)
    if device.iothread and device.iothread not in iothread_ids(domain):
        yield Issue.unsupported(f"Disk iothread '{device.iothread}' not defined in iothreadid")


# --- limits, transience ---


@rules.check(Disk)
def _limits(domain: Domain, device: Disk, ctx: Context) -> Iterator[Issue]:
    """Check that limits are possible and equal within a group."""
    del ctx
    tune = device.iotune
    if tune is None:
        return
    if tune.group_name and not tune.limited:
        yield Issue.unsupported("group_name can be configured only together with settings")
    if device.bus == "sd" and (tune.group_name or tune.limited):
        yield Issue.unsupported("<iotune> is not supported with bus='sd'")
    for other in domain.devices.disks if tune.group_name else ():
        theirs = other.iotune
        if other.target == device.target or theirs is None:
            continue
        if theirs.group_name == tune.group_name and _rates(theirs) != _rates(tune):
            yield Issue.unsupported(
                f"different iotunes for disks {device.target} and {other.target}"
            )
            break
    lengths = [name for name in IOTUNE_LIMITS if name.endswith("_length")]
    rates = [name for name in IOTUNE_LIMITS if name not in lengths]
    if any(getattr(tune, name) > _IOTUNE_MAX for name in (*rates, "size_iops_sec")):
        yield Issue(
            f"block I/O throttle limit must be no more than {_IOTUNE_MAX} using QEMU",
            ErrorClass.ARGUMENT_UNSUPPORTED,
        )


def _rates(tune: IoTune) -> list[int]:
    return [getattr(tune, name) for name in (*IOTUNE_LIMITS, "size_iops_sec")]


@rules.check(Disk)
def _transient(domain: Domain, device: Disk, ctx: Context) -> Iterator[Issue]:
    """Check which disks can throw away what was written."""
    del domain, ctx
    if not device.transient:
        return
    if device.empty:
        yield Issue.unsupported(f"transient disk '{device.target}' must not be empty")
    elif device.readonly:
        yield Issue.unsupported(f"transient disk '{device.target}' must not be read-only")
    elif device.type != "file":
        yield Issue.unsupported(f"transient disk supported only with 'file' type ({device.target})")
    elif device.device != "disk":
        yield Issue.unsupported(
            f"transient disk supported only with 'disk' device ({device.target})"
        )
    elif device.share_backing and device.bus not in _SHARED_BACKING_BUSES:
        yield Issue.unsupported(
            f"disk bus '{device.bus}' doesn't support transiend disk backing image sharing"
        )


# --- the images ---


@rules.check(Disk)
def _backend(domain: Domain, device: Disk, ctx: Context) -> Iterator[Issue]:
    """Check what is below the device."""
    encryption = device.source_encryption
    raw = device.format == "raw" and not is_luks(encryption)
    if device.shareable and not device.readonly and not raw:
        yield Issue.unsupported(
            f"shared access for disk '{device.target}' requires use of supported storage format"
        )
    if device.driver not in (None, "qemu"):
        yield Issue.unsupported(
            f"unsupported driver name '{device.driver}' for disk '{device.target}'"
        )
    target = _TARGET.fullmatch(device.target or "")
    if target is None:
        yield Issue.unsupported(f"invalid disk target '{device.target}'", line=device.line)
    elif target[1]:
        yield Issue.unsupported(
            f"invalid disk target '{device.target}', partitions can't appear in disk targets",
            line=device.line,
        )
    if device.discard_no_unref is not None and "qcow2-discard-no-unref" not in ctx.caps:
        yield Issue.unsupported("'discard_no_unref' is not supported by this QEMU binary")
    for image in _defined_images(device):
        yield from check_image(image, ctx.caps)
    if device.bus == "sd" and encryption is not None and len(encryption.secrets) > 1:
        yield Issue.unsupported(
            f"sd card '{device.target}' does not support multiple encryption secrets"
        )
    yield from _vhost(domain, device, ctx)


def _defined_images(disk: Disk) -> Iterator[Image]:
    """Yield the images as the document has them."""
    yield Image(
        source=disk.source or FileSource(),
        storage="",
        format=disk.format or "",
        encryption=disk.source_encryption,
        readonly=disk.readonly,
        metadata_cache=disk.metadata_cache,
    )
    for layer in disk.backing_chain():
        if layer.source is not None:
            yield Image(
                source=layer.source,
                storage="",
                format=layer.format or "",
                encryption=layer.source.encryption,
                readonly=True,
                metadata_cache=layer.metadata_cache,
            )


def _vhost(domain: Domain, disk: Disk, ctx: Context) -> Iterator[Issue]:
    needed = {"vhostuser": "vhost-user-blk", "vhostvdpa": "virtio-blk-vhost-vdpa"}.get(disk.type)
    if needed is None:
        return
    if needed not in ctx.caps:
        yield Issue.unsupported(f"{disk.type} disk is not supported with this QEMU binary")
        return
    yield from shared_memory(domain, disk.type)
    if disk.type == "vhostvdpa" and disk.cache not in _DIRECT:
        yield Issue.unsupported(
            f"disk type '{disk.type}' requires cache mode 'directsync' or 'none'"
        )


def check_image(image: Image, caps: QemuCapabilities) -> Iterator[Issue]:
    """Yield what QEMU cannot do with an image (qemuDomainValidateStorageSource).

    :param image: its format is empty where the document does not tell.
    """
    source, form = image.source, image.format
    if form in _REFUSED_FORMATS:
        yield Issue.unsupported(_REFUSED_FORMATS[form], line=source.line)
    if form == "fat" and not isinstance(source, VolumeSource | DirSource):
        yield Issue.unsupported("storage format 'fat' is supported only with 'dir' storage type")
    if isinstance(source, DirSource):
        if form not in ("", "fat"):
            yield Issue.unsupported("storage type 'dir' requires use of storage format 'fat'")
        if not image.readonly:
            yield Issue.unsupported("virtual FAT storage can't be accessed in read-write mode")
    if source.reservations is not None and "pr-manager-helper" not in caps:
        yield Issue.unsupported("reservations not supported with this QEMU binary")
    if isinstance(source, NetworkSource):
        yield from _check_network(source)
    if image.metadata_cache and form != "qcow2":
        yield Issue.unsupported(
            "metadata cache max size control is supported only with qcow2 images"
        )
    if image.encryption is not None:
        yield from _check_encryption(image, image.encryption, caps)
    if isinstance(source, NetworkSource) and source.tls_hostname:
        if source.protocol != "nbd":
            yield Issue.unsupported("'tlsHostname' field is supported only with NBD disks")
        elif "blockdev.nbd.tls-hostname" not in caps:
            yield Issue.unsupported("'tlsHostname' field is not supported by this QEMU")


def _check_network(source: NetworkSource) -> Iterator[Issue]:
    if source.protocol == "tftp":
        yield Issue.unsupported("'tftp' protocol is not supported with this QEMU binary")
    if source.protocol != "nfs":
        return
    if len(source.hosts) != 1:
        yield Issue.unsupported("'nfs' protocol requires the usage of exactly one host")
    elif source.hosts[0].transport not in (None, "tcp"):
        yield Issue.unsupported("'nfs' host must use TCP protocol")
    elif source.hosts[0].port:
        yield Issue.unsupported("port cannot be specified in 'nfs' protocol host")


def _check_encryption(
    image: Image, encryption: Encryption, caps: QemuCapabilities
) -> Iterator[Issue]:
    if encryption.format in ("default", "qcow"):
        yield Issue.unsupported("old qcow/qcow2 encryption is not supported")
    elif encryption.engine == "librbd":
        yield from _check_librbd(image, encryption, caps)
    elif encryption.format != "luks":
        yield Issue.unsupported(
            f"'{encryption.format}' is currently not supported by the qemu encryption engine"
        )
    elif image.format not in ("qcow2", "raw"):
        yield Issue.unsupported("encryption is supported only with 'raw' and 'qcow2' image format")
    elif len(encryption.secrets) > 1:
        yield Issue.unsupported("qemu encryption engine expects only a single secret")


def _check_librbd(image: Image, encryption: Encryption, caps: QemuCapabilities) -> Iterator[Issue]:
    if "rbd-encryption" not in caps:
        yield Issue.unsupported("librbd encryption is not supported by this QEMU binary")
    elif not isinstance(image.source, NetworkSource):
        yield Issue.unsupported("librbd encryption is supported only with RBD backed disks")
    elif len(encryption.secrets) > 1 and "rbd-encryption-layering" not in caps:
        yield Issue.unsupported("librbd encryption layering is not supported by this QEMU binary")
    elif encryption.format == "luks-any" and "rbd-encryption-luks-any" not in caps:
        yield Issue.unsupported("luks-any encryption is not supported by this QEMU binary")
