"""The VMM: which request is possible when, and what it does.

The state machine of `Vmm` (vmm/src/lib.rs). There is a configuration or none, and a VM that is
owned, lent to a migration, or none; every request says what it does for each.
"""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any
from typing import Final
from typing import Protocol

from hvcore.testing.fake_ch import migration
from hvcore.testing.fake_ch.faults import Faults
from hvcore.testing.fake_ch.rules import Config
from hvcore.testing.fake_ch.rules import total_memory
from hvcore.testing.fake_ch.tree import os_error
from hvcore.testing.fake_ch.vm import Failure
from hvcore.testing.fake_ch.vm import Host
from hvcore.testing.fake_ch.vm import Vm
from hvcore.testing.fake_ch.vm import close_all
from hvcore.testing.fake_ch.vm import directory
from hvcore.testing.fake_ch.vm import remove_from_config
from hvcore.testing.fake_ch.vm import with_device
from hvcore.testing.fake_ch.wire import Codec
from hvcore.testing.fake_ch.wire import DecodeError
from hvcore.testing.fake_ch.wire import Named

NOT_RUNNING: Final = "VM is not running"
NOT_CREATED: Final = "VM is not created"
ALREADY_CREATED: Final = "VM is already created"
MIGRATING: Final = "VM is currently migrating and can't be modified"
_SEND: Final = "Failed to send migratable component snapshot"
_RECEIVE: Final = "Failed to receive migratable component snapshot"
#: The list of the configuration that each vm.add-* adds to.
ADDS: Final = {
    "vm.add-device": "devices",
    "vm.add-disk": "disks",
    "vm.add-fs": "fs",
    "vm.add-generic-vhost-user": "generic_vhost_user",
    "vm.add-net": "net",
    "vm.add-pmem": "pmem",
    "vm.add-user-device": "user_devices",
    "vm.add-vdpa": "vdpa",
    "vm.add-vsock": "vsock",
}


class Process(Host, Protocol):
    """What the VMM needs from its process besides what a VM needs."""

    def open_consoles(self, config: Config) -> None:
        """Create the consoles of a configuration, and write their paths into it."""

    def close_consoles(self) -> None:
        """Close them."""

    def stop(self, code: int, *messages: str) -> None:
        """End the process, with the messages on standard error when it failed."""


class Vmm:
    """The one VMM of a process."""

    def __init__(
        self, process: Process, faults: Faults, codec: Codec, *, no_shutdown: bool = False
    ) -> None:
        self.process = process
        self.faults = faults
        self.codec = codec
        self.no_shutdown = no_shutdown
        self.config: Config | None = None
        self.vm: Vm | None = None
        self.lent: Vm | None = None
        self._frozen: Config = {}

    # Who owns the VM ----------------------------------------------------------------------

    def _not_lent(self) -> None:
        if self.lent is not None:
            raise Failure(MIGRATING)

    def _owned(self, missing: str = NOT_RUNNING) -> Vm:
        self._not_lent()
        if self.vm is None:
            raise Failure(missing)
        return self.vm

    def _configured(self) -> Config:
        if self.config is None:
            raise Failure(NOT_CREATED)
        return self.config

    # Life ---------------------------------------------------------------------------------

    def ping(self) -> Config:
        """Answer vmm.ping."""
        return {
            "build_version": self.faults["build_version"],
            "version": self.faults["version"],
            "pid": os.getpid(),
            "features": sorted(self.faults["features"]),
        }

    def create(self, config: Config) -> None:
        """Take a configuration; nothing of it is checked yet.

        When a console cannot be created the request fails and the configuration stays: only
        vm.delete makes another vm.create possible. The real program does so.

        :raises Failure: when there is one
        """
        self._not_lent()
        if self.config is not None:
            raise Failure(ALREADY_CREATED)
        # Descriptors come with no vm.create; numbers in the text mean nothing here.
        for net in config["net"] or ():
            net["fds"] = None
        for device in config["devices"] or ():
            device["fd"] = None
        self.config = config
        self.process.open_consoles(config)

    def boot(self) -> None:
        """Make the VM of the configuration and start it.

        A VM whose kernel cannot be loaded is there, in state "Created", and must be shut down or
        deleted before it can be booted again. The real program does so.

        :raises Failure: when it cannot be
        """
        self._not_lent()
        if self.vm is not None:
            raise Failure(ALREADY_CREATED)
        self.process.event("vm", "booting")
        if self.config is None:
            raise Failure("VM config is missing")
        self.process.open_consoles(self.config)
        self.vm = Vm(self.config, self.process, self.faults)
        self.vm.boot()
        self.process.event("vm", "booted")

    def pause(self) -> None:
        """Pause the VM."""
        self._owned().pause()

    def resume(self) -> None:
        """Resume the VM."""
        self._owned().resume()

    def shutdown(self) -> None:
        """End the VM; the configuration and the VMM stay.

        :raises Failure: when there is none
        """
        vm = self._owned()
        self.vm = None
        self.process.close_consoles()
        vm.shutdown()
        self.process.event("vm", "shutdown")

    def delete(self) -> None:
        """Forget the configuration; without one this is no error."""
        if self.config is None:
            return
        self._not_lent()
        if self.vm is not None:
            self.shutdown()
        self.config = None
        self.process.event("vm", "deleted")

    def reboot(self) -> None:
        """End the VM and make it again.

        :raises Failure: when there is none, or when making it fails: then there is none after
        """
        self.process.event("vm", "rebooting")
        vm = self._owned(NOT_CREATED)
        self.vm = None
        vm.shutdown()
        self.process.close_consoles()
        self.process.open_consoles(vm.config)
        new = Vm(vm.config, self.process, self.faults)
        new.boot()
        self.vm = new
        self.process.event("vm", "rebooted")

    def vmm_shutdown(self) -> None:
        """Forget the VM and end the process."""
        self.delete()
        self.process.event("vmm", "shutdown")
        self.process.stop(0)

    def terminate(self) -> None:
        """Do what SIGTERM and SIGINT ask for."""
        try:
            self.vmm_shutdown()
        except Failure as error:
            messages = ("VMM thread exited with error", "Error shutting down VMM", *error.args)
            self.process.stop(1, *messages)

    def guest_poweroff(self) -> None:
        """Do what the guest's power-off asks for."""
        try:
            if self.no_shutdown:
                self.shutdown()
            else:
                self.vmm_shutdown()
        except Failure as error:
            messages = ("VMM thread exited with error", "Error shutting down VM", *error.args)
            self.process.stop(1, *messages)

    def guest_reset(self) -> None:
        """Do what the guest's reset asks for; when it fails the process ends."""
        try:
            self.reboot()
        except Failure as error:
            messages = ("VMM thread exited with error", "Error rebooting VM", *error.args)
            self.process.stop(1, *messages)

    def guest_panic(self) -> None:
        """Tell that the guest's pvpanic device was written."""
        if self.config is not None and self.config["pvpanic"]:
            self.process.event("guest", "panic")

    def power_button(self) -> None:
        """Press the power button; what comes of it is the guest's."""
        vm = self._owned()
        if self.faults["power_button"] == "shutdown":
            vm.guest(self.guest_poweroff)

    def nmi(self) -> None:
        """Send the guest an NMI."""
        self._owned()

    # Looking ------------------------------------------------------------------------------

    def info(self) -> Config:
        """Answer vm.info; during a migration the answer of its beginning."""
        if self.lent is not None:
            return self._frozen
        config = self._configured()
        memory = config["memory"]
        size = total_memory(config)
        answer = {
            "config": self.codec.encode(Named("VmConfig"), config),
            "state": "Created" if self.vm is None else self.vm.state,
            "memory_actual_size": size,
        }
        if self.vm is None:
            plugged = (memory["hotplugged_size"] or 0) + sum(
                zone["hotplugged_size"] or 0 for zone in memory["zones"] or ()
            )
            answer["memory_actual_size"] = size - plugged
        else:
            if config["balloon"] is not None:
                answer["memory_actual_size"] = max(0, size - config["balloon"]["size"])
            answer["device_tree"] = copy.deepcopy(self.vm.devices.nodes)
        for name in self.faults["drop"]:
            answer.pop(name, None)
        return answer

    def counters(self) -> Config:
        """Answer vm.counters."""
        return self._owned().devices.counters()

    # Changing -----------------------------------------------------------------------------

    def resize(self, body: Config) -> None:
        """Resize what is asked for; before the boot only the configuration changes."""
        config = self._configured()
        self._not_lent()
        wanted = (body["desired_vcpus"], body["desired_ram"], body["desired_balloon"])
        if self.vm is not None:
            self.vm.resize(*wanted)
            return
        vcpus, memory, balloon = wanted
        if vcpus is not None:
            config["cpus"]["boot_vcpus"] = vcpus
        if memory is not None:
            config["memory"]["size"] = memory
        if balloon is not None and config["balloon"] is not None:
            config["balloon"]["size"] = balloon

    def resize_disk(self, body: Config) -> None:
        """Resize a disk of a running VM."""
        self._configured()
        self._owned("Failed resizing a disk image").resize_disk(body["id"], body["desired_size"])

    def resize_zone(self, body: Config) -> None:
        """Resize a memory zone."""
        config = self._configured()
        self._not_lent()
        if self.vm is not None:
            self.vm.resize_zone(body["id"], body["desired_ram"])
            return
        for zone in config["memory"]["zones"] or ():
            if zone["id"] == body["id"]:
                zone["size"] = body["desired_ram"]
                return
        raise Failure("Failed resizing a memory zone")

    def add(self, key: str, device: Config) -> Config | None:
        """Add a device: plug it where the VM runs (and say where), else note it."""
        new = with_device(self._configured(), key, device)
        self._not_lent()
        if self.vm is not None:
            return self.vm.add(key, device)
        assert self.config is not None
        self.config[key] = new[key]
        return None

    def remove_device(self, body: Config) -> None:
        """Ask for a device back, or forget it where nothing runs."""
        self._not_lent()
        if self.vm is not None:
            self.vm.remove(body["id"])
        elif not remove_from_config(self._configured(), body["id"]):
            raise Failure(f'No device with id "{body["id"]}" to remove')

    # Images -------------------------------------------------------------------------------

    def snapshot(self, body: Config) -> None:
        """Write a paused VM into a directory."""
        vm = self._owned()
        vm.snapshot(body["destination_url"], self.codec.encode(Named("VmConfig"), vm.config))

    def coredump(self, body: Config) -> None:
        """Write a core file."""
        self._owned().coredump(body["destination_url"])

    def restore(self, body: Config, fds: list[int]) -> None:
        """Make a VM from a directory; it is paused unless `resume` is asked for.

        :raises Failure: when there is a VM, or the directory holds none that can be restored
        """
        self._not_lent()
        if self.vm is not None or self.config is not None:
            raise Failure(ALREADY_CREATED)
        folder = directory(body["source_url"], ("Cannot restore VM", _SEND))
        config = self._read_config(folder)
        self._take_fds(config, body, fds)
        try:
            state = json.loads(_read(folder, "state.json", "VM state"))
            self.config = config
            self.process.open_consoles(config)
            vm = Vm(config, self.process, self.faults, restored=True)
            vm.take_over(state)
            self.process.event("vm", "restoring")
            vm.lock_disks()
            self.process.event("vm", "restored")
            self.vm = vm
            if body["resume"]:
                vm.resume()
        except Failure:
            self.delete()
            raise

    def _read_config(self, folder: str) -> Config:
        text = _read(folder, "config.json", "VM config")
        try:
            config: Config = self.codec.decode(Named("VmConfig"), json.loads(text))
        except (DecodeError, ValueError) as error:
            raise Failure(
                "Cannot restore VM",
                _RECEIVE,
                "Error deserialising VM config snapshot",
                str(error),
            ) from None
        return config

    def _take_fds(self, config: Config, body: Config, fds: list[int]) -> None:
        """Give each network that had descriptors its new ones."""
        given = {net["id"]: net["num_fds"] for net in body["net_fds"] or ()}
        left = list(fds)
        parts = {name: [left.pop(0) for _ in range(count)] for name, count in given.items()}
        if body["prefault"] and body["memory_restore_mode"] == "OnDemand":
            raise Failure(
                "Failed to validate config",
                "'prefault' cannot be combined with 'memory_restore_mode=ondemand'",
            )
        for net in config["net"] or ():
            if net["fds"] is None:
                continue
            if net["id"] not in parts:
                raise Failure(
                    "Failed to validate config",
                    f"Net id {net['id']} is associated with FDs and is required",
                )
            if len(parts[net["id"]]) != len(net["fds"]):
                raise Failure(
                    "Failed to validate config",
                    f"Number of Net FDs passed for '{net['id']}' during Restore: "
                    f"{len(parts[net['id']])}. Expected: {len(net['fds'])}",
                )
            net["fds"] = parts[net["id"]]

    # Migration ----------------------------------------------------------------------------

    def send_migration(self, body: Config, start: Any) -> None:
        """Lend the VM to a migration and return; events tell what becomes of it.

        :raises Failure: when it cannot be begun
        """
        if self.lent is not None:
            raise Failure(_SEND, "There is already an ongoing migration")
        if self.vm is None:
            raise Failure(_SEND, NOT_RUNNING)
        problem = migration.send_problem(body)
        if problem is not None:
            raise Failure(_SEND, "Invalid send migration configuration", problem)
        vm = self.vm
        memory = vm.config["memory"]
        if body["local"] and not (memory["shared"] or memory["hugepages"]):
            raise Failure(_SEND, "Local migration requires shared memory or hugepages enabled")
        if vm.state not in {"Running", "Paused"}:
            raise Failure(_SEND, f"VM is not running or paused: {vm.state}")
        self._frozen = self.info()
        self.lent, self.vm = vm, None
        document = {
            "config": self.codec.encode(Named("VmConfig"), vm.config),
            "state": vm.portable(),
            "running": vm.state == "Running",
        }
        start(body["destination_url"], document, vm.pause if document["running"] else None)

    def migration_done(self, *, failed: bool) -> None:
        """Take the VM back, or end with it gone."""
        vm, self.lent = self.lent, None
        assert vm is not None
        if failed:
            if self._frozen["state"] == "Running" and vm.state == "Paused":
                vm.resume()
            self.vm = vm
            return
        vm.shutdown()
        self.terminate()

    def receive_migration(self, body: Config) -> None:
        """Wait for a VM; nothing else is answered, and SIGTERM waits, until it is here.

        :raises Failure: when none comes
        """
        if self.vm is not None:
            raise Failure(_RECEIVE, "Can't receive a migration when a VM is already created")
        if self.lent is not None:
            raise Failure(_RECEIVE, "There is already an ongoing migration")
        problem = migration.receive_problem(body)
        if problem is not None:
            raise Failure(_RECEIVE, "Invalid receive migration configuration", problem)
        with migration.Receiver(body["receiver_url"]) as receiver:
            self.process.event("vm", "migration-receive-ready")
            receiver.accept()
            self.process.event("vm", "migration-receive-started")
            document = receiver.read()
            try:
                self._arrive(document)
            except (Failure, DecodeError):
                receiver.answer(accepted=False)
                self.process.event("vm", "migration-receive-failed")
                self.vm = self.config = None
                raise Failure(
                    "Failed to complete migration for migratable component",
                    "Migration was aborted",
                ) from None
            receiver.answer(accepted=True)
        self.process.event("vm", "migration-receive-finished")

    def _arrive(self, document: Config) -> None:
        self.config = self.codec.decode(Named("VmConfig"), document["config"])
        assert self.config is not None
        self.process.open_consoles(self.config)
        vm = Vm(self.config, self.process, self.faults, restored=True)
        vm.take_over(document["state"])
        self.process.event("vm", "restoring")
        vm.lock_disks()
        self.process.event("vm", "restored")
        self.vm = vm
        if document["running"]:
            vm.resume()

    def close(self) -> None:
        """Close what came with requests."""
        for net in (self.config or {"net": None})["net"] or ():
            close_all(net["fds"])


def _read(folder: str, name: str, what: str) -> str:
    path = Path(folder, name)
    try:
        return path.read_text()
    except OSError as error:
        raise Failure(
            "Cannot restore VM",
            _RECEIVE,
            f'Error opening {what} snapshot file "{path}"',
            os_error(error),
        ) from None
