"""Disks: virtio-blk on an image, a block device, a vhost-user process or a vDPA device."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.errors import ErrorClass
from hvcore.errors import Issue
from hvcore.model.devices.disk import Disk
from hvcore.model.devices.disk import IoTune
from hvcore.model.devices.disk import ThrottleFilter
from hvcore.model.devices.storage import BackingStore
from hvcore.model.devices.storage import BlockSource
from hvcore.model.devices.storage import FileSource
from hvcore.model.devices.storage import VhostUserSource
from hvcore.model.devices.storage import VhostVdpaSource
from hvcore.model.domain import Domain
from hvcore.model.iothread import ThrottleGroup
from hvcore.rules.base import Rules
from hvcore_ch.accepts import ANY
from hvcore_ch.accepts import one_of
from hvcore_ch.command import present
from hvcore_ch.devices.info import VIRTIO
from hvcore_ch.devices.info import behind_iommu
from hvcore_ch.devices.info import place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.pipeline import Context
    from hvcore_ch.accepts import Accepts
    from hvcore_ch.command import Command

rules = Rules()

IMAGE_TYPES: Final = {None: "Raw", "raw": "Raw", "qcow2": "Qcow2", "vpc": "FixedVhd"}
"""Kinds of images by libvirt's name. What is not said is raw: a guest can write whatever it likes
into a raw image, so that looking into it would let the guest choose files of the host."""

_SERIAL: Final = 20
_LIMITS: Final = {"total_bytes_sec": "bandwidth", "total_iops_sec": "ops"}
_SECOND: Final = 1000
_ON_IMAGE: Final = ("cache", "discard", "format", "serial", "readonly", "iotune", "backing_store")

ACCEPTS: Accepts = {
    Domain: {"throttlegroups": ANY},
    ThrottleGroup: {**dict.fromkeys(_LIMITS, ANY), "group_name": ANY},
    Disk: {
        "type": one_of("file", "block", "vhostuser", "vhostvdpa"),
        "device": one_of("disk"),
        "model": VIRTIO,
        "snapshot": ANY,
        "format": one_of("raw", "qcow2", "vpc"),
        "cache": one_of("none", "writeback"),
        "discard": ANY,
        "queues": ANY,
        "queue_size": ANY,
        "source": ANY,
        "backing_store": ANY,
        "target": ANY,
        "bus": one_of("virtio"),
        "iotune": ANY,
        "throttle_filters": ANY,
        "readonly": ANY,
        "serial": ANY,
    },
    FileSource: {"path": ANY, "startup_policy": one_of("mandatory")},
    BlockSource: {"path": ANY, "startup_policy": one_of("mandatory")},
    VhostUserSource: {"type": one_of("unix"), "path": ANY},
    VhostVdpaSource: {"dev": ANY},
    # cloud-hypervisor finds the images below in the image itself; whether it may is what is said.
    BackingStore: {"type": one_of("file", "block"), "format": ANY, "source": ANY,
                   "backing_store": ANY},
    IoTune: {**dict.fromkeys(_LIMITS, ANY), "group_name": ANY},
    ThrottleFilter: {"group": ANY},
}  # fmt: skip


@rules.check(Disk)
def _medium(domain: Domain, disk: Disk, ctx: Context) -> Iterator[Issue]:
    """There is always a medium."""
    del domain, ctx
    if disk.empty:
        yield Issue.invalid_arg("Missing disk file path in domain")


@rules.check(Disk)
def _serial(domain: Domain, disk: Disk, ctx: Context) -> Iterator[Issue]:
    """virtio-blk has room for so many bytes."""
    del domain, ctx
    if disk.serial is not None and len(disk.serial.encode()) > _SERIAL:
        yield Issue.unsupported(
            f"Cloud-Hypervisor doesn't support a serial of more than {_SERIAL} bytes", path="serial"
        )


@rules.check(Disk)
def _without_image(domain: Domain, disk: Disk, ctx: Context) -> Iterator[Issue]:
    """Refuse what is the business of the process that serves the disk."""
    del domain, ctx
    if disk.type in ("vhostuser", "vhostvdpa"):
        for name in _ON_IMAGE:
            if getattr(disk, name) not in (None, False) and (name, disk.format) != (
                "format",
                "raw",
            ):
                yield Issue.unsupported(
                    f"Cloud-Hypervisor doesn't support '{name}' for disks of type '{disk.type}'"
                )
    if disk.type == "vhostuser" and disk.iommu:
        yield Issue.unsupported("Cloud-Hypervisor puts no vhost-user device behind an IOMMU")


@rules.check(Disk)
def _throttled_once(domain: Domain, disk: Disk, ctx: Context) -> Iterator[Issue]:
    """Let a disk have limits of its own or those of one group."""
    del ctx
    groups = {group.group_name for group in domain.throttlegroups}
    ways = len(disk.throttle_filters) + (disk.iotune is not None)
    if ways > 1:
        yield Issue(
            "block throttle and throttlefilter can not be used together"
            if disk.iotune is not None
            else "Cloud-Hypervisor supports a single throttle group for a disk",
            ErrorClass.CONFIG_UNSUPPORTED,
        )
    for each in disk.throttle_filters:
        if each.group not in groups:
            yield Issue.unsupported(f"throttle group '{each.group}' not found")


def limiter(limits: IoTune | ThrottleGroup) -> dict[str, Any] | None:
    """Return the ``RateLimiterConfig``: so many tokens each second; None without limits."""
    found = {
        key: {"size": getattr(limits, name), "refill_time": _SECOND}
        for name, key in _LIMITS.items()
        if getattr(limits, name)
    }
    return found or None


def disk_config(disk: Disk) -> dict[str, Any]:
    """Return the ``DiskConfig`` of a disk."""
    members = {
        **place(disk),
        "iommu": behind_iommu(disk),
        "num_queues": disk.queues or None,
        "queue_size": disk.queue_size or None,
    }
    if isinstance(disk.source, VhostUserSource):
        return present({**members, "vhost_user": True, "vhost_socket": disk.source.path})
    assert isinstance(disk.source, FileSource | BlockSource)  # validated
    tune = disk.iotune
    shared = tune is not None and tune.group_name is not None
    group = tune.group_name if tune is not None and shared else None
    for each in disk.throttle_filters:
        group = each.group
    chained = disk.backing_store is not None and disk.backing_store.source is not None
    return present(
        {
            "path": disk.source.path,
            "image_type": IMAGE_TYPES[disk.format],
            "backing_files": chained,
            "readonly": True if disk.readonly else None,
            "direct": True if disk.cache == "none" else None,
            "sparse": False if disk.discard == "ignore" else None,
            "serial": disk.serial,
            "rate_limiter_config": limiter(tune) if tune is not None and not shared else None,
            "rate_limit_group": group,
            **members,
        }
    )


def vdpa_config(disk: Disk) -> dict[str, Any]:
    """Return the ``VdpaConfig`` of a disk that a vDPA device is."""
    assert isinstance(disk.source, VhostVdpaSource)
    return present(
        {
            "path": disk.source.dev,
            "num_queues": disk.queues or 1,
            "iommu": behind_iommu(disk),
            **place(disk),
        }
    )


def _groups(domain: Domain) -> dict[str, dict[str, Any] | None]:
    """Return the limits that disks share, by the name of the group."""
    found = {group.group_name: limiter(group) for group in domain.throttlegroups}
    for disk in domain.devices.disks:
        if disk.iotune is not None and disk.iotune.group_name:
            found.setdefault(disk.iotune.group_name, limiter(disk.iotune))
    return found


def command(vm: Command) -> None:
    """Describe the disks."""
    for name, limits in _groups(vm.domain).items():
        if limits is not None:
            vm.add("rate_limit_groups", {"id": name, "rate_limiter_config": limits})
    for disk in vm.domain.devices.disks:
        if disk.type == "vhostvdpa":
            vm.add("vdpa", vdpa_config(disk))
        else:
            vm.add("disks", disk_config(disk))
