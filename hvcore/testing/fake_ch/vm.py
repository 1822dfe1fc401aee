"""A VM that the fake has booted: its states and what can be done to it."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any
from typing import Final
from typing import Protocol

from hvcore.testing.fake_ch.faults import Faults
from hvcore.testing.fake_ch.rules import Config
from hvcore.testing.fake_ch.rules import InvalidConfig
from hvcore.testing.fake_ch.rules import total_memory
from hvcore.testing.fake_ch.rules import validate
from hvcore.testing.fake_ch.tree import DeviceError
from hvcore.testing.fake_ch.tree import Devices
from hvcore.testing.fake_ch.tree import os_error

#: State -> the states that may follow it (VmState::valid_transition).
TRANSITIONS: Final = {
    "Created": {"Running", "Paused", "Shutdown"},
    "Running": {"Paused", "Shutdown"},
    "Paused": {"Running", "Shutdown"},
    "Shutdown": {"Running"},
}
#: Memory that is added at once is a multiple of this, by at most so many pieces (acpi).
_DIMM: Final = 128 << 20
_DIMMS: Final = 8
_PAGE: Final = 4096
_DEVICE_MANAGER: Final = "Error from device manager"


class Failure(Exception):
    """A request fails; the arguments are the chain of messages below "Error from API"."""


class Host(Protocol):
    """What a VM needs from the process that it lives in."""

    def event(self, source: str, event: str, properties: dict[str, str] | None = None) -> None:
        """Publish an event."""

    def later(self, seconds: float, action: Any) -> None:
        """Call the action after a while, unless the process ended before."""


class Vm:
    """A VM that exists, with the guest's part played by the fake."""

    def __init__(
        self, config: Config, host: Host, faults: Faults, *, restored: bool = False
    ) -> None:
        """Make the VM's memory and devices.

        :raises Failure: as vm.boot does
        """
        try:
            validate(config)
        except InvalidConfig as error:
            raise Failure("Failed to validate config", *error.args) from None
        self.config = config
        self.host = host
        self.faults = faults
        self.state = "Paused" if restored else "Created"
        self._check_memory()
        self.boot_ram = self.current_ram = total_memory(config)
        self._dimms = 0
        self.present_vcpus: int = config["cpus"]["boot_vcpus"]
        self._leaving_vcpus = False
        self.gone = False
        self.devices = Devices(faults)
        if not restored:
            self._open_firmware()
        try:
            self.devices.build(config)
        except DeviceError as error:
            raise Failure(_DEVICE_MANAGER, *error.args) from None

    def _check_memory(self) -> None:
        memory = self.config["memory"]
        for each in (memory, *(memory["zones"] or ())):
            page = each["hugepage_size"] or (2 << 20) if each["hugepages"] else _PAGE
            if each["size"] % page:
                raise Failure(
                    "Memory manager error",
                    "Memory size is misaligned with default page size or its hugepage size",
                )

    def _open_firmware(self) -> None:
        path = self.config["payload"]["firmware"]
        if path is not None and self.faults["files"] == "check":
            _open(path, "Error manipulating firmware file")

    def _move(self, state: str, word: str) -> None:
        if state not in TRANSITIONS[self.state]:
            raise Failure(
                f"Cannot {word} VM",
                f"Failed to {word} migratable component",
                f"Invalid transition: InvalidStateTransition({self.state}, {state})",
            )
        self.state = state

    # Life ---------------------------------------------------------------------------------

    def boot(self) -> None:
        """Load the kernel and start the vCPUs.

        :raises Failure: when an image is in use or the kernel cannot be loaded
        """
        self.lock_disks()
        payload = self.config["payload"]
        if self.faults["files"] == "check":
            for key, message in (
                ("kernel", "Cannot open kernel file"),
                ("initramfs", "Cannot open initramfs file"),
            ):
                if payload[key] is not None:
                    _open(payload[key], message)
        self._move("Running", "resume")

    def lock_disks(self) -> None:
        """Take the locks of the images.

        :raises Failure: when one is in use already
        """
        for disk in self.config["disks"] or ():
            if disk["vhost_user"]:
                continue
            try:
                self.devices.lock(disk, "Cannot lock images of all block devices")
            except DeviceError as error:
                raise Failure(
                    "Error locking disk images: Another instance likely holds a lock", *error.args
                ) from None

    def pause(self) -> None:
        """Stop the vCPUs.

        :raises Failure: when they are stopped
        """
        self.host.event("vm", "pausing")
        self._move("Paused", "pause")
        self.host.event("vm", "paused")

    def resume(self) -> None:
        """Let the vCPUs go on.

        :raises Failure: when they run
        """
        self.host.event("vm", "resuming")
        self._move("Running", "resume")
        self.host.event("vm", "resumed")

    def shutdown(self) -> None:
        """End the VM; nothing of the guest happens after."""
        self.state = "Shutdown"
        self.gone = True

    def guest(self, action: Any) -> None:
        """Let the guest react after its time, if it is still there and runs then."""

        def react() -> None:
            if self.gone:
                return
            if self.state == "Paused":
                self.host.later(self.faults["guest_delay"], react)
                return
            action()

        self.host.later(self.faults["guest_delay"], react)

    # Resizing -----------------------------------------------------------------------------

    def resize(self, vcpus: int | None, memory: int | None, balloon: int | None) -> None:
        """Change the number of vCPUs, the memory (bytes) and the balloon (bytes).

        The configuration takes the wish, whatever the guest makes of it: asking for less memory
        by acpi changes nothing but the configuration. The real program does so.

        :raises Failure: when a limit is passed
        """
        self.host.event("vm", "resizing")
        if vcpus is not None:
            self._resize_vcpus(vcpus)
            self.config["cpus"]["boot_vcpus"] = vcpus
        if memory is not None:
            self._resize_memory(memory)
        if balloon is not None:
            if self.config["balloon"] is None:
                raise Failure(_DEVICE_MANAGER, "Missing virtio-balloon, can't proceed as expected")
            self.config["balloon"]["size"] = balloon
        self.host.event("vm", "resized")

    def _resize_vcpus(self, wanted: int) -> None:
        if wanted == self.present_vcpus:
            return
        if wanted < 1:
            raise Failure("Error from CPU manager", "Requested zero vCPUs")
        if self._leaving_vcpus:
            raise Failure("Error from CPU manager", "Still pending removed vCPU")
        if wanted > self.config["cpus"]["max_vcpus"]:
            raise Failure("Error from CPU manager", "Requested vCPUs exceed maximum")
        if wanted > self.present_vcpus:
            self.present_vcpus = wanted
            return
        self._leaving_vcpus = True
        if self.faults["unplug"] == "eject":
            self.guest(lambda: self._eject_vcpus(wanted))

    def _eject_vcpus(self, left: int) -> None:
        self.present_vcpus = left
        self._leaving_vcpus = False

    def _resize_memory(self, wanted: int) -> None:
        memory = self.config["memory"]
        if memory["zones"]:
            raise Failure(
                "Memory manager error",
                "Impossible to resize guest memory if it is backed by user defined memory regions",
            )
        limit = self.boot_ram + (memory["hotplug_size"] or 0)
        if memory["hotplug_method"] == "VirtioMem":
            if wanted < self.boot_ram:
                raise Failure(
                    "Memory manager error",
                    f"Invalid resize request: desired_size = {wanted} "
                    f"below boot size = {self.boot_ram}",
                )
            if wanted > limit:
                raise Failure("Memory manager error", "Failed to virtio-mem resize")
            memory["hotplugged_size"] = wanted - memory["size"] or None
            return
        if wanted > self.current_ram:
            self._add_memory(wanted - self.current_ram, limit)
            self.current_ram = wanted
        memory["size"] = wanted

    def _add_memory(self, size: int, limit: int) -> None:
        problem = None
        if self._dimms >= _DIMMS:
            problem = "No ACPI slot available"
        elif size % _DIMM:
            problem = "The requested hotplug memory addition is not a valid size"
        elif self.current_ram + size > limit:
            problem = "Not enough space in the hotplug RAM region"
        if problem is not None:
            raise Failure("Memory manager error", problem)
        self._dimms += 1

    def resize_zone(self, name: str, wanted: int) -> None:
        """Change the memory (bytes) of one zone.

        :raises Failure: for an unknown zone, and below what it was booted with
        """
        for zone in self.config["memory"]["zones"] or ():
            if zone["id"] != name:
                continue
            if wanted < zone["size"]:
                raise Failure(
                    "Memory manager error",
                    f"Invalid resize request: desired_size = {wanted} "
                    f"below boot size = {zone['size']}",
                )
            if wanted > zone["size"] + (zone["hotplug_size"] or 0):
                raise Failure("Memory manager error", "Failed to virtio-mem resize")
            zone["hotplugged_size"] = wanted - zone["size"]
            return
        raise Failure("Failed resizing a memory zone")

    def resize_disk(self, name: str, size: int) -> None:
        """Change the size (bytes) of a disk's image.

        :raises Failure: for an unknown disk
        """
        for disk in self.config["disks"] or ():
            if disk["id"] == name and not disk["vhost_user"]:
                if self.faults["files"] == "check":
                    os.truncate(disk["path"], size)
                return
        raise Failure(
            _DEVICE_MANAGER,
            f"Failed to find device corresponding to the given identifier: {name}",
        )

    # Devices ------------------------------------------------------------------------------

    def add(self, key: str, device: Config) -> dict[str, str]:
        """Plug a device of a list of the configuration; return its name and address.

        :raises Failure: when it cannot be plugged
        """
        try:
            info = self.devices.add(key, device, self.config)
        except DeviceError as error:
            raise Failure(_DEVICE_MANAGER, *error.args) from None
        if key == "vsock":
            self.config[key] = device
        else:
            self.config[key] = [*(self.config[key] or ()), device]
        return info

    def remove(self, name: str) -> None:
        """Ask the guest to give a device back.

        The configuration forgets it at once; the device tree keeps it, and so its name is taken,
        until the guest has ejected it, which "device-removed" tells.

        :raises Failure: when it is unknown, must stay, or was asked for already
        """
        if self.faults["unplug"] == "refuse":
            raise Failure(
                _DEVICE_MANAGER, "Not allowed to remove this type of device from the VM: UNKNOWN"
            )
        try:
            bus_node = self.devices.removable(name)
        except DeviceError as error:
            raise Failure(_DEVICE_MANAGER, *error.args) from None
        self.devices.locked.pop(name, None)
        for net in self.config["net"] or ():
            if net["id"] == name:
                close_all(net.get("fds"))
                net["fds"] = None
        if not remove_from_config(self.config, name):
            raise Failure(
                _DEVICE_MANAGER,
                f"Failed to find device corresponding to the given identifier: {name}",
            )
        if self.faults["unplug"] == "eject":
            self.guest(lambda: self._eject(bus_node))

    def _eject(self, bus_node: str) -> None:
        name, bdf = self.devices.eject(bus_node)
        self.host.event("vm", "device-removed", {"id": name, "bdf": bdf})

    # Images -------------------------------------------------------------------------------

    def snapshot(self, url: str, written: Config) -> None:
        """Write the VM to the directory of a file:// URL.

        :raises Failure: when it runs, or the directory cannot be written
        """
        self.host.event("vm", "snapshotting")
        if self.state != "Paused":
            raise Failure(
                "Cannot snapshot VM",
                "Failed to snapshot migratable component",
                "Trying to snapshot while VM is running",
            )
        self.host.event("vm", "snapshotted")
        top = ("Cannot send VM snapshot", "Failed to send migratable component snapshot")
        folder = directory(url, top)
        contents = {
            "config.json": (json.dumps(written), "Error creating VM config snapshot file"),
            "state.json": (json.dumps(self.portable()), "Error creating VM state snapshot file"),
            "memory-ranges": ("", "Error creating memory snapshot file"),
        }
        for name, (text, message) in contents.items():
            try:
                with Path(folder, name).open("x") as file:
                    file.write(text)
            except OSError as error:
                raise Failure(*top, message, os_error(error)) from None

    def portable(self) -> Config:
        """Return what another process needs to go on with this VM."""
        return {
            "boot_ram": self.boot_ram,
            "current_ram": self.current_ram,
            "dimms": self._dimms,
            "vcpus": self.present_vcpus,
        }

    def take_over(self, state: Config) -> None:
        """Go on where another process stopped."""
        self.boot_ram = state["boot_ram"]
        self.current_ram = state["current_ram"]
        self._dimms = state["dimms"]
        self.present_vcpus = state["vcpus"]

    def coredump(self, url: str) -> None:
        """Write a core file; a running VM is paused meanwhile, and stays so when it fails.

        :raises Failure: when the file cannot be written
        """
        self.host.event("vm", "coredumping")
        top = "Error coredumping VM"
        resume = self.state == "Running"
        if resume:
            self.pause()
        elif self.state != "Paused":
            raise Failure(top, "coredump", "Trying to coredump while VM is not running or paused")
        if not url.startswith("file://"):
            raise Failure(top, "coredump", f"Could not extract file from URL: {url}")
        try:
            with Path(url.removeprefix("file://")).open("xb") as file:
                file.write(b"\x7fELF")
        except OSError as error:
            raise Failure(top, "coredump", os_error(error)) from None
        if resume:
            self.resume()


def remove_from_config(config: Config, name: str) -> bool:
    """Drop the devices of this name from a configuration; say whether there was one."""
    removed = False
    for key in (
        "devices", "user_devices", "disks", "fs", "generic_vhost_user", "net", "pmem", "vdpa",
    ):  # fmt: skip
        if config[key] is None:
            continue
        kept = [device for device in config[key] if device["id"] != name]
        removed |= len(kept) != len(config[key])
        config[key] = kept
    if config["vsock"] is not None and config["vsock"]["id"] == name:
        config["vsock"] = None
        removed = True
    return removed


def with_device(config: Config, key: str, device: Config) -> Config:
    """Return a copy of the configuration that has the device.

    :raises Failure: when it may not have it
    """
    new = copy.deepcopy(config)
    if key == "vsock":
        if new[key] is not None:
            raise Failure("Too many virtio-vsock devices")
        new[key] = copy.deepcopy(device)
    else:
        new[key] = [*(new[key] or ()), copy.deepcopy(device)]
    try:
        validate(new)
    except InvalidConfig as error:
        raise Failure("Failed to validate config", *error.args) from None
    return new


def directory(url: str, top: tuple[str, ...]) -> str:
    """Return the directory of a file:// URL.

    :raises Failure: when it is none
    """
    if not url.startswith("file://"):
        raise Failure(*top, f"Could not extract path from URL: {url}")
    path = url.removeprefix("file://")
    if not Path(path).is_dir():
        raise Failure(*top, f'Destination is not a directory: "{path}"')
    return path


def close_all(fds: list[int] | None) -> None:
    """Close descriptors that came with a request."""
    for fd in fds or ():
        if fd > 2:
            os.close(fd)


def _open(path: str, message: str) -> None:
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError as error:
        raise Failure(message, os_error(error)) from None
