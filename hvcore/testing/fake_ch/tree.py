"""The devices of a booted VM: the PCI bus, the device tree and what they are made from."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any
from typing import Final

from hvcore.testing.fake_ch.faults import Faults
from hvcore.testing.fake_ch.schemas import random_mac

Config = dict[str, Any]

#: List of the configuration -> prefix of the names that the program gives, virtio type or None.
KINDS: Final[dict[str, tuple[str, str | None]]] = {
    "disks": ("_disk", "block"),
    "net": ("_net", "net"),
    "generic_vhost_user": ("_generic_vhost_user", "UNKNOWN"),
    "fs": ("_fs", "fs"),
    "pmem": ("_pmem", "pmem"),
    "vsock": ("_vsock", "vsock"),
    "vdpa": ("_vdpa", "vdpa"),
    "devices": ("_vfio", None),
    "user_devices": ("_vfio_user", None),
}
#: What a guest may be asked to give back; the others are refused by name.
REMOVABLE: Final = frozenset({"net", "block", "pmem", "fs", "vsock", "vdpa", None})
#: Fixed name of a device -> its virtio type.
FIXED: Final = {
    "__console": "console",
    "__rng": "rng",
    "mem0": "mem",
    "__balloon": "balloon",
    "__watchdog": "watchdog",
    "__rtc": "rtc",
    "__iommu": "iommu",
}

_UNSET: Final = 0xFFFF_FFFF_FFFF_FFFF
_BLOCK_COUNTERS: Final = {
    "read_bytes": 0,
    "write_bytes": 0,
    "read_ops": 0,
    "write_ops": 0,
    "read_latency_min": _UNSET,
    "read_latency_max": _UNSET,
    "read_latency_avg": _UNSET // 10_000,
    "write_latency_min": _UNSET,
    "write_latency_max": _UNSET,
    "write_latency_avg": _UNSET // 10_000,
}
_NET_COUNTERS: Final = {"rx_bytes": 0, "rx_frames": 0, "tx_bytes": 0, "tx_frames": 0}
_SLOTS: Final = 32
_BAR: Final = 512 << 10
_MMIO64_TOP: Final = 0x3FFF_FF78_0000


class DeviceError(Exception):
    """A device could not be made or found; the arguments are the chain of messages."""


def os_error(error: OSError) -> str:
    """Say a system's error as Rust does."""
    return f"{os.strerror(error.errno or 0)} (os error {error.errno})"


class Devices:
    """The device tree of one VM."""

    def __init__(self, faults: Faults) -> None:
        self.nodes: dict[str, dict[str, Any]] = {}
        self.types: dict[str, str | None] = {}
        self.locked: dict[str, str] = {}
        self._faults = faults
        self._slots: dict[int, set[int]] = {}
        self._reserved: dict[int, set[int]] = {}
        self._count = 0
        self._bars = 0
        for name in ("__serial", "__ioapic"):
            self.nodes[name] = {"id": name, "resources": [], "children": []}

    # Building -----------------------------------------------------------------------------

    def build(self, config: Config) -> None:
        """Make the devices of a configuration, in the program's order.

        A list is taken out of the configuration while its devices are made, and is not put back
        when that fails: a VM whose boot failed on an image has lost its disks, and boots without
        them when asked again. The real program does so.

        :raises DeviceError: when a device cannot be made
        """
        self._reserve(config)
        made: list[tuple[str, Config]] = []
        if config["console"]["mode"] != "Off":
            made.append(("__console", config["console"]))
        for key in ("disks", "net"):
            self._make_list(config, key, made)
        made.append(("__rng", config["rng"]))
        for key in ("generic_vhost_user", "fs", "pmem"):
            self._make_list(config, key, made)
        if config["vsock"] is not None:
            made.append((self._make("vsock", config["vsock"]), config["vsock"]))
        memory = config["memory"]
        if memory["hotplug_method"] == "VirtioMem" and memory["hotplug_size"]:
            made.append(("mem0", {"pci_segment": 0, "pci_device_id": None}))
        if config["balloon"] is not None:
            made.append(("__balloon", config["balloon"]))
        if config["watchdog"]:
            made.append(("__watchdog", {"pci_segment": 0, "pci_device_id": None}))
        self._make_list(config, "vdpa", made)
        if config["rtc"] is not None:
            made.append(("__rtc", config["rtc"]))
        for name, device in made:
            self._attach(name, device)
        for key in ("devices", "user_devices"):
            passed: list[tuple[str, Config]] = []
            self._make_list(config, key, passed)
            for name, device in passed:
                self._attach(name, device)
        if config["iommu"]:
            self._attach("__iommu", {"pci_segment": 0, "pci_device_id": None})
        if config["pvpanic"]:
            self._place("__pvpanic", {"pci_segment": 0, "pci_device_id": None}, [])

    def _reserve(self, config: Config) -> None:
        devices = [each for key in KINDS if key != "vsock" for each in config[key] or ()]
        devices += [config[key] for key in ("console", "rng", "vsock", "balloon", "rtc")]
        for device in devices:
            if device is None or device["pci_device_id"] is None:
                continue
            taken = self._reserved.setdefault(device["pci_segment"], set())
            if device["pci_device_id"] in taken:
                raise DeviceError(
                    "Could not reserve the PCI device ID",
                    f"Valid PCI device identifier but already used: {device['pci_device_id']}",
                )
            taken.add(device["pci_device_id"])

    def _make_list(self, config: Config, key: str, made: list[tuple[str, Config]]) -> None:
        devices, config[key] = config[key], None
        made.extend((self._make(key, device), device) for device in devices or ())
        config[key] = devices

    def _make(self, key: str, device: Config) -> str:
        """Name a device and open what it needs on the host."""
        prefix, kind = KINDS[key]
        if device["id"] is None:
            device["id"] = self._next_name(prefix)
        name: str = device["id"]
        if self._faults["files"] == "check":
            self._open(key, device)
        if key == "disks" and device["image_type"] == "Unknown" and not device["vhost_user"]:
            device["image_type"] = "Raw"
        if key == "net" and device["host_mac"] is None and not device["vhost_user"]:
            device["host_mac"] = random_mac()
        self.types[name] = kind
        return name

    def _next_name(self, prefix: str) -> str:
        while True:
            name = f"{prefix}{self._count}"
            self._count += 1
            if name not in self.nodes:
                return name

    def _open(self, key: str, device: Config) -> None:
        if device.get("vhost_user"):
            self._vhost_user(device["vhost_socket"], {"disks": "block", "net": "net"}[key])
        elif key == "disks":
            _disk(device)
        elif key in {"fs", "generic_vhost_user"}:
            self._vhost_user(device["socket"], "fs" if key == "fs" else "generic vhost-user")
        elif key == "pmem":
            try:
                os.close(os.open(device["file"], os.O_RDONLY))
            except OSError as error:
                raise DeviceError("Cannot open persistent memory file", os_error(error)) from None
        elif key == "vdpa" and not Path(device["path"]).exists():
            raise DeviceError(
                "Cannot create vdpa device",
                "Failed to create vhost-vdpa",
                "failure in opening vhost file: No such file or directory (os error 2)",
            )
        elif key == "devices" and device["path"] and not Path(device["path"]).exists():
            raise DeviceError(
                "Cannot create a VFIO device",
                "failed to open /dev/vfio/vfio container: No such file or directory (os error 2)",
                "No such file or directory (os error 2)",
            )
        elif key == "user_devices":
            missing = _connect(device["socket"])
            if missing is not None:
                raise DeviceError(
                    "Failed to create vfio-user client", f"Error connecting: {missing}", missing
                )

    def _vhost_user(self, path: str, kind: str) -> None:
        """Wait for somebody to serve the socket; the whole program waits with it."""
        end = time.monotonic() + self._faults["vhost_user_timeout"]
        while (missing := _connect(path)) is not None:
            if time.monotonic() >= end:
                raise DeviceError(
                    f"Cannot create virtio-{kind} device"
                    if kind == "fs"
                    else f"Cannot create vhost-user-{kind} device",
                    "Connection to socket failed",
                    missing,
                )
            time.sleep(0.02)

    # The bus ------------------------------------------------------------------------------

    def _attach(self, name: str, device: Config) -> str:
        """Put a made device on the bus; return its address."""
        kind = self.types.setdefault(name, FIXED.get(name))
        if kind is None:
            return self._place(name, device, [])
        parent = f"_virtio-pci-{name}"
        bdf = self._place(parent, device, [name])
        resources: list[Any] = []
        if kind == "pmem":
            resources = [{"MmioAddressRange": {"base": 0x3FFF_FFB8_0000, "size": 2 << 20}}]
        node = {"id": name, "resources": resources, "parent": parent, "children": []}
        self.nodes[name] = node
        return bdf

    def _place(self, name: str, device: Config, children: list[str]) -> str:
        segment, slot = device["pci_segment"], device["pci_device_id"]
        used = self._slots.setdefault(segment, {0})
        if slot is None:
            taken = used | self._reserved.get(segment, set())
            free = [number for number in range(_SLOTS) if number not in taken]
            if not free:
                raise DeviceError(
                    "Failed to find an available PCI device ID",
                    "Could not find an available device slot on the PCI bus.",
                )
            slot = free[0]
        elif slot in used:
            raise DeviceError(
                "Failed to find an available PCI device ID",
                f"Valid PCI device identifier but already used: {slot}",
            )
        used.add(slot)
        bdf = f"{segment:04x}:00:{slot:02x}.0"
        bar = {
            "index": 0,
            "base": _MMIO64_TOP - self._bars * (8 << 20),
            "size": _BAR,
            "type_": "Mmio64",
            "prefetchable": False,
        }
        self._bars += 1
        self.nodes[name] = {
            "id": name,
            "resources": [{"PciBar": bar}],
            "children": children,
            "pci_bdf": bdf,
        }
        return bdf

    # Hotplug ------------------------------------------------------------------------------

    def add(self, key: str, device: Config, config: Config) -> dict[str, str]:
        """Plug a device; return its name and address.

        :raises DeviceError: when it cannot be plugged
        """
        name = device["id"]
        if name is not None and name in self.nodes:
            raise DeviceError(f"Invalid identifier as it is not unique: {name}")
        segments = (config["platform"] or {}).get("iommu_segments") or ()
        if device["iommu"] and device["pci_segment"] not in segments:
            raise DeviceError("Cannot hotplug device behind vIOMMU")
        if key == "user_devices" and any(
            each["socket"] == device["socket"] for each in config[key] or ()
        ):
            raise DeviceError(f'VFIO-user socket path already in use: "{device["socket"]}"')
        name = self._make(key, device)
        if key == "disks" and not device["vhost_user"]:
            self.lock(device, "Cannot lock images of all block devices")
        return {"id": name, "bdf": self._attach(name, device)}

    def lock(self, disk: Config, top: str) -> None:
        """Take the lock of a disk's image; a second writer is refused."""
        path = os.path.realpath(disk["path"] or "")
        if not disk["readonly"] and path in self.locked.values():
            raise DeviceError(
                top,
                f"Failed to get Write lock for disk image: {disk['path']}",
                "The file is already locked",
            )
        self.locked[disk["id"]] = path

    def removable(self, name: str) -> str:
        """Return the bus node of a device that may be removed.

        :raises DeviceError: when it is unknown or must stay
        """
        node = self.nodes.get(name)
        if node is None:
            raise DeviceError(
                f"Failed to find device corresponding to the given identifier: {name}"
            )
        if "pci_bdf" not in node:
            parent = node.get("parent")
            if parent is None:
                raise DeviceError("Could not find the node in the device tree")
            node = self.nodes[parent]
        child = node["children"][0] if node["children"] else name
        kind = self.types.get(child)
        if kind not in REMOVABLE:
            raise DeviceError(f"Not allowed to remove this type of device from the VM: {kind}")
        return str(node["id"])

    def eject(self, bus_node: str) -> tuple[str, str]:
        """Take a device away, as the guest's eject does; return its name and address."""
        node = self.nodes.pop(bus_node)
        bdf: str = node["pci_bdf"]
        segment, slot = int(bdf[:4], 16), int(bdf[8:10], 16)
        self._slots[segment].discard(slot)
        self._reserved.get(segment, set()).discard(slot)
        name = node["children"][0] if node["children"] else bus_node
        for child in node["children"]:
            self.nodes.pop(child, None)
        self.types.pop(name, None)
        return name, bdf

    def counters(self) -> dict[str, dict[str, int]]:
        """Return the counters of the disks and the networks that the guest still has."""
        of = {"block": _BLOCK_COUNTERS, "net": _NET_COUNTERS}
        return {name: dict(of[kind]) for name, kind in self.types.items() if kind in of}


def _disk(device: Config) -> None:
    path = device["path"]
    if path is None:
        raise DeviceError("No disk path was specified when one was expected")
    try:
        os.close(os.open(path, os.O_RDONLY if device["readonly"] else os.O_RDWR))
    except OSError as error:
        message = os_error(error)
        where = f"I/O error (path={path} op=open)"
        raise DeviceError("Cannot open disk path", where, message) from None


def _connect(path: str) -> str | None:
    """Return why nobody serves the socket, or None."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError as error:
            return os_error(error)
    return None
