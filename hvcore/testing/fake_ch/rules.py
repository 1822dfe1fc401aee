"""What Cloud Hypervisor refuses in a VM's configuration, in its words and its order.

The rules of `VmConfig::validate` (vmm/src/config.rs). They run when the VM is booted and when a
device is added, not when it is created: vm.create takes any configuration that can be read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from typing import Final

Config = dict[str, Any]

_MAX_VCPUS: Final = 8192
_MAX_SEGMENTS: Final = 96
_SHARED: Final = "Using vhost-user requires using shared memory or huge pages"
_NO_LIMITS: Final = "Rate limiting is not supported with vhost-user"
_NO_IOMMU: Final = "Device does not support being placed behind IOMMU"


class InvalidConfig(Exception):
    """The configuration is refused; the arguments are the chain of messages."""


def shared_memory(config: Config) -> bool:
    """Say whether other processes can map all of the guest's memory."""
    memory = config["memory"]
    if memory["shared"] or memory["hugepages"]:
        return True
    zones = memory["zones"] or ()
    return memory["size"] == 0 and all(zone["shared"] or zone["hugepages"] for zone in zones)


def total_memory(config: Config) -> int:
    """Return the guest's memory in bytes, with what was added to it."""
    memory = config["memory"]
    zones = memory["zones"] or ()
    total: int = (
        memory["size"]
        + sum(zone["size"] for zone in zones)
        + (memory["hotplugged_size"] or 0)
        + sum(zone["hotplugged_size"] or 0 for zone in zones)
    )
    return total


def validate(config: Config) -> None:
    """Refuse what the program refuses; turn the IOMMU on where a device asks for it.

    :raises InvalidConfig: with the program's messages
    """
    ids: set[str] = set()
    _payload(config)
    _consoles(config)
    _processors(config)
    for group in config["rate_limit_groups"] or ():
        limiter = group["rate_limiter_config"]
        if not group["id"] or (limiter["bandwidth"] is None and limiter["ops"] is None):
            raise InvalidConfig("Invalid rate-limiter group")
        _identifier(ids, group["id"])
    for check, device in _devices(config):
        check(config, device)
        config["iommu"] = config["iommu"] or device["iommu"]
        _identifier(ids, device["id"])
    _topology(config)
    _memory(config)
    _numa(config)
    for zone in config["memory"]["zones"] or ():
        _identifier(ids, zone["id"])
    _segments(config)
    for rule in config["landlock_rules"] or ():
        if not Path(rule["path"]).exists():
            raise InvalidConfig(f'Path "{rule["path"]}" provided in landlock-rules does not exist')
        if not rule["access"] or set(rule["access"]) - set("rw"):
            raise InvalidConfig(f"Invalid landlock access: {rule['access']}")


def _devices(config: Config) -> Any:
    """Yield the check of each device, in the program's order."""
    for key, check in (
        ("disks", _disk),
        ("net", _net),
        ("fs", _fs),
        ("generic_vhost_user", _generic),
        ("pmem", pci),
    ):
        for device in config[key] or ():
            yield check, device
    for key in ("rng", "rtc", "console"):
        if config[key] is not None:
            yield pci, config[key]
    for device in config["user_devices"] or ():
        yield _user_device, device
    for device in config["vdpa"] or ():
        yield pci, device
    if config["balloon"] is not None:
        yield _balloon, config["balloon"]
    for device in config["devices"] or ():
        yield _passthrough, device
    if config["vsock"] is not None:
        yield _vsock, config["vsock"]


def _identifier(ids: set[str], name: str | None) -> None:
    if name is None:
        return
    if name.startswith("__"):
        raise InvalidConfig(f"Identifier {name} is not invalid")
    if name in ids:
        raise InvalidConfig(f"Identifier {name} is not unique")
    ids.add(name)


def _payload(config: Config) -> None:
    payload = config["payload"]
    top = "Payload configuration is not bootable"
    if payload is None:
        raise InvalidConfig(top, "No bootitem provided: neither firmware nor kernel")
    if payload.get("igvm") is not None:
        if payload["firmware"] is not None:
            raise InvalidConfig(
                top, "Specifying a kernel or firmware is not supported when an igvm is provided"
            )
        return
    if payload["firmware"] is not None and payload["kernel"] is not None:
        raise InvalidConfig(top, "Specifying a kernel is not supported when a firmware is provided")
    if payload["firmware"] is not None:
        payload["cmdline"] = payload["initramfs"] = None
    elif payload["kernel"] is None:
        raise InvalidConfig(top, "No bootitem provided: neither firmware nor kernel")


def _consoles(config: Config) -> None:
    for key in ("console", "serial"):
        if config[key]["mode"] == "File" and config[key]["file"] is None:
            raise InvalidConfig("Path missing when using file console mode")


def _processors(config: Config) -> None:
    cpus = config["cpus"]
    boot, most = cpus["boot_vcpus"], cpus["max_vcpus"]
    if most < boot:
        raise InvalidConfig(f"Max CPUs ({most}) lower than boot CPUs ({boot})")
    if most > _MAX_VCPUS:
        raise InvalidConfig(f"Too many CPUs: specified {most} but {_MAX_VCPUS} is the limit")


def _topology(config: Config) -> None:
    topology = config["cpus"]["topology"]
    if topology is None:
        return
    if 0 in topology.values():
        raise InvalidConfig("No part of the CPU topology can be zero")
    if topology["threads_per_core"] > 2:
        raise InvalidConfig("CPU topology supports at most 2 threads per core")
    total = 1
    for part in topology.values():
        total *= part
    if total != config["cpus"]["max_vcpus"]:
        raise InvalidConfig("Product of CPU topology parts does not match maximum vCPU")


def _memory(config: Config) -> None:
    memory = config["memory"]
    size = memory["hugepage_size"]
    if size is not None:
        if not memory["hugepages"]:
            raise InvalidConfig("Huge page size specified but huge pages not enabled")
        if size & (size - 1) or not size:
            raise InvalidConfig(f"Huge page size is not power of 2: {size}")
    for each in (memory, *(memory["zones"] or ())):
        if each["shared"] and each["mergeable"]:
            raise InvalidConfig("Invalid to set both 'mergeable' and 'shared' for memory")


def pci(config: Config, device: Config) -> None:
    """Check what every PCI device has: its segment and its slot."""
    platform = config["platform"] or {"num_pci_segments": 1, "iommu_segments": None}
    segment, slot = device["pci_segment"], device["pci_device_id"]
    if segment >= platform["num_pci_segments"]:
        raise InvalidConfig(f"Invalid PCI segment id: {segment}")
    if segment in (platform["iommu_segments"] or ()) and not device["iommu"]:
        raise InvalidConfig(
            f"Device is on an IOMMU PCI segment ({segment}) but not placed behind IOMMU"
        )
    if slot is not None and slot >= 32:
        raise InvalidConfig(f"Given PCI device ID ({slot}) is out of the supported range of 0..32")
    if slot == 0:
        raise InvalidConfig("Given PCI device ID (0) is reserved")


def _queue_size(size: int) -> None:
    if not size or size & (size - 1):
        raise InvalidConfig(f"Queue size must be a power of 2 no greater than 32768: {size}")


def _queues(config: Config, count: int, most: int) -> None:
    if count > most:
        asked, vcpus = count, config["cpus"]["boot_vcpus"]
        raise InvalidConfig(f"Queue count ({asked}) must not exceed boot vCPUs ({vcpus})")


def _vhost_user(config: Config, device: Config) -> None:
    if not device["vhost_user"]:
        return
    if not shared_memory(config):
        raise InvalidConfig(_SHARED)
    if device["vhost_socket"] is None:
        raise InvalidConfig("No socket provided when using vhost-user")
    if device["rate_limiter_config"] is not None or device.get("rate_limit_group") is not None:
        raise InvalidConfig(_NO_LIMITS)


def _disk(config: Config, disk: Config) -> None:
    if disk["vhost_socket"] is not None and disk["path"] is not None:
        raise InvalidConfig("Disk path and vhost socket both provided")
    _vhost_user(config, disk)
    groups = {group["id"] for group in config["rate_limit_groups"] or ()}
    if disk["rate_limit_group"] is not None and disk["rate_limit_group"] not in groups:
        raise InvalidConfig("Invalid rate-limiter group")
    pci(config, disk)
    _queues(config, disk["num_queues"], config["cpus"]["boot_vcpus"])
    _queue_size(disk["queue_size"])
    if disk["queue_size"] <= 2:
        raise InvalidConfig(f"Block queue size must be greater than 2: {disk['queue_size']}")
    if disk["vhost_user"] and disk["iommu"]:
        raise InvalidConfig(_NO_IOMMU)
    if disk["rate_limiter_config"] is not None and disk["rate_limit_group"] is not None:
        raise InvalidConfig("Invalid rate-limiter group")
    length = len((disk["serial"] or "").encode())
    if length > 20:
        raise InvalidConfig(
            f"Block device serial length ({length}) exceeds maximum allowed length (20)"
        )


def _net(config: Config, net: Config) -> None:
    _vhost_user(config, net)
    pci(config, net)
    queues = net["num_queues"]
    if queues < 2:
        raise InvalidConfig(f"Number of queues ({queues}) to virtio_net should be higher than 2")
    fds = net["fds"]
    if fds is not None:
        if len(fds) * 2 != queues:
            raise InvalidConfig(
                f"Number of queues ({queues}) to virtio_net does not match "
                f"the number of FDs ({len(fds) * 2})"
            )
        for fd in fds:
            if fd <= 2:
                raise InvalidConfig(f"Reserved fd number (<= 2): {fd}")
    if queues // 2 > config["cpus"]["boot_vcpus"]:
        _queues(config, queues, 0)
    _queue_size(net["queue_size"])
    if net["vhost_user"] and net["iommu"]:
        raise InvalidConfig(_NO_IOMMU)
    if net["mtu"] is not None and net["mtu"] < 1280:
        raise InvalidConfig(
            f"Provided MTU {net['mtu']} is lower than 1280 (expected by VIRTIO specification)"
        )
    if not net["offload_csum"] and (net["offload_tso"] or net["offload_ufo"]):
        raise InvalidConfig('"offload_tso" and "offload_ufo" depend on "offload_csum"')
    if net["mask"] is not None and net["ip"] is None:
        raise InvalidConfig("Mask provided without an IP")
    if net["ip"] is not None and net["mask"] is None:
        raise InvalidConfig("IP provided without a mask")


def _fs(config: Config, fs: Config) -> None:
    if not shared_memory(config):
        raise InvalidConfig(_SHARED)
    _queues(config, fs["num_queues"], config["cpus"]["boot_vcpus"])
    _queue_size(fs["queue_size"])
    if fs["iommu"]:
        raise InvalidConfig(_NO_IOMMU)
    pci(config, fs)


def _generic(config: Config, device: Config) -> None:
    if not shared_memory(config):
        raise InvalidConfig(_SHARED)
    if device["iommu"]:
        raise InvalidConfig(_NO_IOMMU)
    for size in device["queue_sizes"]:
        _queue_size(size)
    pci(config, device)


def _user_device(config: Config, device: Config) -> None:
    if not shared_memory(config):
        raise InvalidConfig("Using user devices requires using shared memory or huge pages")
    if device["iommu"]:
        raise InvalidConfig(_NO_IOMMU)
    pci(config, device)


def _balloon(config: Config, balloon: Config) -> None:
    pci(config, balloon)
    size, ram = balloon["size"], total_memory(config)
    if size >= ram:
        raise InvalidConfig(f"Balloon size ({size}) greater than RAM ({ram})")


def _passthrough(config: Config, device: Config) -> None:
    path = device["path"]
    same = [each for each in config["devices"] if path is not None and each["path"] == path]
    if len(same) > 1:
        raise InvalidConfig(f"Duplicated device path: {path}")
    pci(config, device)
    if path is None and device["fd"] is None:
        raise InvalidConfig("VFIO device config must specify `path=` or `fd=`")
    if path is not None and device["fd"] is not None:
        raise InvalidConfig("VFIO device config must specify at most one of `path=` or `fd=`")
    platform = config["platform"] or {}
    if device["fd"] is not None and platform.get("iommufd_fd") is None:
        raise InvalidConfig("VFIO device `fd=` requires platform `iommufd_fd=<fd>`")
    if device["x_nv_gpudirect_clique"] is not None and not platform.get("vfio_p2p_dma", True):
        raise InvalidConfig("Device with x_nv_gpudirect_clique requires vfio_p2p_dma=on")
    for bar in device["x_exclude_mmap_bars"]:
        if bar > 5:
            raise InvalidConfig(f"Invalid VFIO excluded-mmap BAR index: {bar}")


def _vsock(config: Config, vsock: Config) -> None:
    if vsock["cid"] in (0xFFFF_FFFF, 0, 1, 2):
        raise InvalidConfig(f"{vsock['cid']} is a special VSOCK CID")
    pci(config, vsock)


def _numa(config: Config) -> None:
    zones: dict[str, int] = {}
    segments: dict[int, int] = {}
    count = (config["platform"] or {"num_pci_segments": 1})["num_pci_segments"]
    for node in config["numa"] or ():
        _node(node)
        number = node["guest_numa_id"]
        for zone in node["memory_zones"] or ():
            if zone in zones:
                raise InvalidConfig(
                    f"Memory zone: {zone} belongs to multiple NUMA nodes: "
                    f"{zones[zone]} and {number}"
                )
            zones[zone] = number
        for segment in node["pci_segments"] or ():
            if segment >= count:
                raise InvalidConfig(f"Invalid PCI segment id: {segment}")
            if segment == 0 and number != 0:
                raise InvalidConfig(f"Default PCI segment assigned to non-zero NUMA node {number}")
            if segment in segments:
                raise InvalidConfig(
                    f"PCI segment: {segment} belongs to multiple NUMA nodes "
                    f"{segments[segment]} and {number}"
                )
            segments[segment] = number


def _node(node: Config) -> None:
    device, cpus, zones = node["device_id"], node["cpus"], node["memory_zones"]
    problem = None
    if device is not None:
        if cpus is not None or zones is not None:
            problem = "device_id in numa config is mutually exclusive with cpus and memory_zones"
        elif not device:
            problem = "device_id in numa config cannot be empty"
    elif cpus is not None:
        if not cpus:
            problem = "cpus list in numa config cannot be empty"
    elif zones is None:
        problem = "numa config must specify either device_id or cpus/memory_zones"
    elif not zones:
        problem = "memory_zones in numa config cannot be empty"
    if problem is not None:
        raise InvalidConfig(f"Invalid NUMA configuration: {problem}")


def _segments(config: Config) -> None:
    platform = config["platform"]
    count = 1 if platform is None else platform["num_pci_segments"]
    for segment in config["pci_segments"] or ():
        if segment["pci_segment"] >= count:
            raise InvalidConfig(f"Invalid PCI segment id: {segment['pci_segment']}")
        for key in ("mmio32_aperture_weight", "mmio64_aperture_weight"):
            if segment[key] == 0:
                raise InvalidConfig("Invalid PCI segment aperture weight: 0")
    if platform is None:
        return
    if not 1 <= count <= _MAX_SEGMENTS:
        raise InvalidConfig(
            f"Number of PCI segments ({count}) not in range of 1 to {_MAX_SEGMENTS}"
        )
    for number in platform["iommu_segments"] or ():
        if number >= count:
            raise InvalidConfig(f"Invalid PCI segment id: {number}")
    width = platform["iommu_address_width_bits"]
    if width > 64:
        raise InvalidConfig(
            f"IOMMU address width in bits ({width}) should be less than or equal to 64"
        )
    if platform["iommufd_fd"] is not None and not platform["iommufd"]:
        raise InvalidConfig("Platform `iommufd_fd=<fd>` requires `iommufd=on`")
    config["iommu"] = config["iommu"] or platform["iommu_segments"] is not None
