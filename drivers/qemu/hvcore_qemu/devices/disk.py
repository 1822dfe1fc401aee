"""<disk> in QEMU: defaults and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.addresses.drive import disk_index
from hvcore.errors import Issue
from hvcore.model.devices.disk import IOTUNE_LIMITS
from hvcore.model.devices.disk import Disk
from hvcore.model.devices.storage import BlockSource
from hvcore.model.devices.storage import DirSource
from hvcore.model.devices.storage import FileSource
from hvcore.model.devices.storage import NetworkSource
from hvcore.model.devices.storage import VhostUserSource
from hvcore.rules.base import Rules
from hvcore_qemu.aliases import disk_object
from hvcore_qemu.blockdev import CACHE
from hvcore_qemu.blockdev import add_chain
from hvcore_qemu.blockdev import credentials
from hvcore_qemu.blockdev import detect_zeroes
from hvcore_qemu.blockdev import storage_props
from hvcore_qemu.chardev import socket_at
from hvcore_qemu.command import escape_comma
from hvcore_qemu.command import present
from hvcore_qemu.devices.controller import iothread_mapping
from hvcore_qemu.devices.disk_checks import rules as checks
from hvcore_qemu.images import MANAGED_HELPER
from hvcore_qemu.images import managed_helper_socket
from hvcore_qemu.machines import machine_of
from hvcore_qemu.props import Props
from hvcore_qemu.props import add_device
from hvcore_qemu.props import address_props
from hvcore_qemu.props import boot_index
from hvcore_qemu.props import positive
from hvcore_qemu.props import refuse
from hvcore_qemu.props import switch
from hvcore_qemu.props import virtio_props

if TYPE_CHECKING:
    from collections.abc import Generator
    from collections.abc import Iterator
    from collections.abc import Mapping

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore_qemu.blockdev import DiskBackend
    from hvcore_qemu.blockdev import Image
    from hvcore_qemu.command import Command
    from hvcore_qemu.monitor import Command as MonitorCommand

rules = Rules.merged([checks])


_DRIVERS: Final[Mapping[tuple[str | None, str | None], str]] = {
    # bus and kind of disk; None for all others
    ("ide", "cdrom"): "ide-cd",
    ("ide", None): "ide-hd",
    ("sata", "cdrom"): "ide-cd",
    ("sata", None): "ide-hd",
    ("scsi", "lun"): "scsi-block",
    ("scsi", "cdrom"): "scsi-cd",
    ("scsi", None): "scsi-hd",
    ("usb", None): "usb-storage",
    ("fdc", None): "floppy",
}


@rules.post_parse(Disk)
def _defaults(domain: Domain, device: Disk, ctx: Context) -> None:
    """Fill in QEMU's own backend, raw images and QEMU's own encryption."""
    del domain, ctx
    if device.driver is None:
        device.driver = "qemu"
    # What a volume contains is known by its pool.
    if device.format is None and device.type != "volume":
        device.format = "raw"
    if device.mirror is not None and device.mirror.format is None:
        device.mirror.format = "raw"
    for encryption in (
        device.source_encryption,
        *(layer.source.encryption for layer in device.backing_chain() if layer.source is not None),
    ):
        if encryption is not None and encryption.engine is None:
            encryption.engine = "qemu"


# --- command line ---


def pr_manager(cmd: Command) -> None:
    """Append the helper for persistent reservations that the disks share."""
    for disk in cmd.domain.devices.disks:
        sources = [disk.source, *(layer.source for layer in disk.backing_chain())]
        for source in sources:
            wanted = source.reservations if source is not None else None
            if wanted is not None and wanted.managed:
                path = managed_helper_socket(cmd.resources.domain_dir)
                cmd.object({"qom-type": "pr-manager-helper", "id": MANAGED_HELPER, "path": path})
                return


def command(cmd: Command) -> None:
    """Append images and devices, floppy controllers first."""
    _floppy_boot(cmd)
    for disk in cmd.domain.devices.disks:
        # Disks that share their transient image with other guests are added while QEMU waits.
        if disk.transient and disk.share_backing:
            continue
        backend = cmd.resources.disks[disk.alias or ""]
        _add_backend(cmd, disk, backend)
        if disk.bus != "sd":
            add_device(cmd, disk, device_props(cmd, disk, backend))


def _floppy_boot(cmd: Command) -> None:
    """Append the places of floppies in the boot order, which are their controller's."""
    floppies = [disk for disk in cmd.domain.devices.disks if disk.bus == "fdc"]
    if not floppies:
        return
    places: dict[str, int | None] = {"A": None, "B": None}
    for disk in floppies:
        unit = getattr(disk.address, "unit", 0)
        places["B" if unit else "A"] = disk.effective_boot_order or disk.boot_order
    if machine_of(cmd.domain).q35:
        # These machines have no controller of their own.
        names = {f"bootindex{unit}": place for unit, place in places.items()}
        cmd.device({"driver": "isa-fdc", **names})
        return
    for unit, place in places.items():
        if place:
            cmd.option("-global", f"isa-fdc.bootindex{unit}={place}")


def _add_backend(cmd: Command, disk: Disk, backend: DiskBackend) -> None:
    if isinstance(disk.source, VhostUserSource):
        _vhost_user(cmd, disk, disk.source)
    elif disk.bus == "sd":
        _drive(cmd, disk, backend.images[0] if backend.images else None)
    elif backend.images:
        add_chain(cmd, backend.images, ends=backend.ends)
        if backend.copy_on_read is not None:
            cmd.option(
                "-blockdev",
                {
                    "driver": "copy-on-read",
                    "node-name": backend.copy_on_read,
                    "file": backend.images[0].node,
                    "discard": "unmap",
                },
            )
    below = backend.copy_on_read or (backend.images[0].node if backend.images else None)
    for group, node in backend.filters:
        cmd.option(
            "-blockdev",
            {
                "driver": "throttle",
                "node-name": node,
                "throttle-group": f"throttle-{group}",
                "file": below,
            },
        )
        below = node


def _vhost_user(cmd: Command, disk: Disk, source: VhostUserSource) -> None:
    seconds = None
    if source.reconnect is not None:
        seconds = source.reconnect_timeout or 0 if source.reconnect else 0
    socket_at(cmd, f"chr-vu-{disk.alias}", source.path or "", reconnect=seconds)


# --- SD cards, which have no -device ---


def _drive(cmd: Command, disk: Disk, image: Image | None) -> None:
    options: list[str] = []
    if image is not None:
        credentials(cmd, image)
        options += _drive_source(disk, image)
    options.append(f"if=sd,index={disk_index(disk.target or '')}")
    if disk.readonly:
        options.append("readonly=on")
    if image is not None:
        zeroes = detect_zeroes(disk.discard, disk.detect_zeroes)
        options += [
            f"{name}={value}"
            for name, value in (
                ("cache", disk.cache if disk.cache != "default" else None),
                ("copy-on-read", switch(disk.copy_on_read)),
                ("discard", disk.discard),
                ("detect-zeroes", zeroes),
                ("aio", disk.io),
            )
            if value
        ]
    cmd.option("-drive", ",".join(options))


def _drive_source(disk: Disk, image: Image) -> Iterator[str]:
    source = image.source
    if isinstance(source, NetworkSource):
        yield from _flat("file", present(storage_props(image, legacy=True)))
    elif isinstance(source, FileSource | BlockSource | DirSource):
        prefix = ""
        if isinstance(source, DirSource):
            prefix = "fat:floppy:" if disk.device == "floppy" else "fat:"
        yield f"file={prefix}{escape_comma(source.path or '')}"
    else:
        refuse(Issue.internal("unsupported storage type for this code path"))
    if image.luks:
        yield f"key-secret={image.secrets[0].alias}"
    elif image.secrets and image.format == "qcow2":
        yield "encrypt.format=luks"
        yield f"encrypt.key-secret={image.secrets[0].alias}"
    if not isinstance(source, DirSource):
        yield f"format={'luks' if image.luks else image.format}"


def _flat(name: str, value: Any) -> Iterator[str]:
    """Yield JSON as options with dots."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _flat(f"{name}.{position}", inner)
    elif isinstance(value, bool):
        yield f"{name}={switch(value)}"
    else:
        yield f"{name}={escape_comma(str(value))}"


# --- while QEMU waits ---

_THROTTLES: Final = (
    # QEMU's names in the order of the limits
    "bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr", "bps_max", "bps_rd_max",
    "bps_wr_max", "iops_max", "iops_rd_max", "iops_wr_max",
)  # fmt: skip
_LENGTHS: Final = tuple(f"{name}_length" for name in _THROTTLES[6:])


def limits(domain: Domain) -> Generator[MonitorCommand, Any, None]:
    """Set the limits of <iotune>, which the command line cannot express for nodes."""
    for disk in domain.devices.disks:
        tune = disk.iotune
        if disk.empty or tune is None or not tune.limited:
            continue
        values = [getattr(tune, name) for name in IOTUNE_LIMITS]
        count = len(_THROTTLES)
        yield (
            "block_set_io_throttle",
            present(
                {
                    "id": disk_object(disk),
                    **dict(zip(_THROTTLES, values[:count], strict=True)),
                    "iops_size": tune.size_iops_sec,
                    "group": tune.group_name or None,
                    **{
                        name: positive(value)
                        for name, value in zip(_LENGTHS, values[count:], strict=True)
                    },
                }
            ),
        )


# --- the device ---


def device_props(cmd: Command, disk: Disk, backend: DiskBackend) -> Props:
    """Return ``-device`` of a disk.

    :raises ValidationFailed: when QEMU has no such device, or its place does not exist.
    """
    floppy = disk.device == "floppy"
    loadparm = disk.boot_loadparm if "virtio-ccw.loadparm" in cmd.caps else None
    wpolicy, rpolicy = _error_policies(disk)
    cache = CACHE.get(disk.cache or "") if disk.device != "lun" else None
    return {
        **_by_bus(cmd, disk, backend),
        **address_props(cmd.domain, disk),
        "device_id": _device_id(disk),
        "share-rw": True if disk.shareable else None,
        "drive": backend.node,
        "chardev": f"chr-vu-{disk.alias}" if backend.vhost_user else None,
        "id": disk.alias,
        "bootindex": None if floppy else boot_index(disk),
        "loadparm": None if floppy else loadparm,
        "logical_block_size": positive(disk.logical_block_size),
        "physical_block_size": positive(disk.physical_block_size),
        "discard_granularity": positive(disk.discard_granularity),
        "wwn": int(disk.wwn, 16) if disk.wwn else None,
        "rotation_rate": positive(disk.rotation_rate),
        "vendor": disk.vendor,
        "product": disk.product if disk.bus == "scsi" else None,
        "model": disk.product if disk.bus in ("ide", "sata") else None,
        "removable": _removable(disk),
        "write-cache": switch(cache[0]) if cache is not None else None,
        "cyls": positive(disk.cylinders),
        "heads": positive(disk.heads),
        "secs": positive(disk.sectors),
        "bios-chs-trans": disk.translation if disk.translation != "default" else None,
        "serial": disk.serial.replace("\\", "\\\\").replace(" ", "\\ ") if disk.serial else None,
        "werror": wpolicy,
        "rerror": rpolicy,
    }


def _by_bus(cmd: Command, disk: Disk, backend: DiskBackend) -> Props:
    if disk.bus == "virtio":
        return _virtio(cmd, disk, backend)
    driver = _DRIVERS.get((disk.bus, disk.device)) or _DRIVERS.get((disk.bus, None))
    if driver is None:
        refuse(Issue.internal(f"unsupported disk bus '{disk.bus}' with device setup"))
    return {"driver": driver}


def _virtio(cmd: Command, disk: Disk, backend: DiskBackend) -> Props:
    scsi = None
    if not backend.vhost_user and "virtio-blk-pci.scsi" in cmd.caps:
        if disk.device == "lun":
            scsi = True
        elif "virtio-blk-pci.scsi.default.disabled" not in cmd.caps:
            scsi = False
    base = "vhost-user-blk" if backend.vhost_user else "virtio-blk"
    return {
        **virtio_props(base, disk, cmd.caps),
        "iothread": f"iothread{disk.iothread}" if disk.iothread else None,
        "ioeventfd": disk.ioeventfd,
        "event_idx": disk.event_idx,
        "scsi": scsi,
        "num-queues": positive(disk.queues),
        "queue-size": positive(disk.queue_size),
        "iothread-vq-mapping": iothread_mapping(disk.iothreads),
    }


def _device_id(disk: Disk) -> str | None:
    """Return the identifier in the SCSI vital product data.

    Without a serial number it is what QEMU took when it named drives itself, as guests may have
    stored it.
    """
    if disk.bus != "scsi" or disk.device == "lun":
        return None
    return disk.serial or f"drive-{disk.alias}"


def _removable(disk: Disk) -> bool | None:
    if disk.bus == "usb":
        return bool(disk.removable)
    return disk.removable if disk.bus == "scsi" and disk.device == "disk" else None


def _error_policies(disk: Disk) -> tuple[str | None, str | None]:
    """Return what happens on failed writes and reads."""
    if disk.error_policy == "enospace":
        return "enospc", disk.rerror_policy
    return disk.error_policy, disk.rerror_policy or disk.error_policy
