"""The agent in a guest that exists only in memory.

Every guest whose domain has the channel has one. What it says follows from the definition: a file
system on each disk, an interface for each network card, and a name like the domain's.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.agent import channel_of
from hvcore.driver import Driver
from hvcore.model.devices.base import PciAddress

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from hvcore.driver import Record
    from hvcore.model.devices.chardev import Channel
    from hvcore.model.devices.disk import Disk
    from hvcore.model.domain import Domain
    from hvcore_test.monitor import Machine

_SIZE: Final = 10 << 30
"""Bytes of every file system."""
_ALWAYS: Final = frozenset(
    {"guest-ping", "guest-sync", "guest-info", "guest-fsfreeze-status", "guest-fsfreeze-thaw"}
)
"""What an agent does while its file systems stand still."""


class Refusal(Exception):
    """The agent does not do that."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def show_agent(domain: Domain, *, listens: bool) -> bool:
    """Say in a running definition whether the agent listens; return whether it could."""
    channel = channel_of(domain)
    if channel is not None:
        channel.state = "connected" if listens else "disconnected"
    return channel is not None


class Agent(Driver):
    """The part of the test driver that is inside of guests."""

    async def agent_connected(self, record: Record, channel: Channel) -> bool:
        """Return true, unless a test has stopped the agent."""
        del channel
        machine: Machine = record.runtime
        return machine.agent

    async def agent_command(
        self, record: Record, channel: Channel, command: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Do as the agent would."""
        del channel
        name, arguments = str(command["execute"]), command.get("arguments", {})
        record.runtime.history.append(f"agent {name}")
        if name == "guest-shutdown" and record.runtime.frozen is None:
            await (self.reboot if arguments.get("mode") == "reboot" else self.shutdown)(record)
            return {"return": {}}
        try:
            return {"return": _answer(record, name, arguments)}
        except Refusal as error:
            return {"error": {"class": error.kind, "desc": str(error)}}


def _answer(record: Record, name: str, arguments: Mapping[str, Any]) -> Any:
    machine: Machine = record.runtime
    found = _COMMANDS.get(name)
    if found is None:
        raise Refusal("CommandNotFound", f"The command {name} has not been found")
    if machine.frozen is not None and name not in _ALWAYS:
        text = f"Command {name} has been disabled: the command is not allowed"
        raise Refusal("CommandNotFound", text)
    return found(record, arguments)


def _disks(record: Record) -> list[Disk]:
    disks = record.definition.domain.devices.disks
    return [disk for disk in disks if disk.device == "disk" and not disk.empty]


def _place(disk: Disk) -> dict[str, Any]:
    """Return where the guest finds a disk."""
    pci = disk.address if isinstance(disk.address, PciAddress) else PciAddress()
    found = {
        "bus-type": disk.bus or "virtio",
        "bus": 0,
        "target": 0,
        "unit": 0,
        "dev": f"/dev/{disk.target}",
        "pci-controller": {
            "domain": pci.domain or 0,
            "bus": pci.bus or 0,
            "slot": pci.slot or 0,
            "function": pci.function or 0,
        },
    }
    return found | ({"serial": disk.serial} if disk.serial else {})


def _filesystems(record: Record, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    del arguments
    return [
        {
            "name": f"{disk.target}1",
            "mountpoint": f"/mnt/{disk.target}" if number else "/",
            "type": "ext4",
            "total-bytes": _SIZE,
            "used-bytes": _SIZE // 2,
            "disk": [_place(disk)],
        }
        for number, disk in enumerate(_disks(record))
    ]


def _block_devices(record: Record, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    del arguments
    found: list[dict[str, Any]] = []
    for disk in _disks(record):
        whole = f"/dev/{disk.target}"
        found.append({"name": whole, "partition": False, "address": _place(disk)})
        found.append({"name": f"{whole}1", "partition": True, "dependencies": [whole]})
    return found


def _interfaces(record: Record, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    del arguments
    found: list[dict[str, Any]] = [
        {
            "name": "lo",
            "hardware-address": "00:00:00:00:00:00",
            "ip-addresses": [_address("127.0.0.1", 8), _address("::1", 128)],
        }
    ]
    for number, interface in enumerate(record.definition.domain.devices.interfaces):
        # The same guest has the same address on every host.
        host = zlib.crc32((interface.mac or "").encode()) % 253 + 2
        entry: dict[str, Any] = {"name": f"eth{number}", "hardware-address": interface.mac}
        entry["ip-addresses"] = [_address(f"192.168.122.{host}", 24)]
        found.append(entry)
    return found


def _address(text: str, prefix: int) -> dict[str, Any]:
    kind = "ipv6" if ":" in text else "ipv4"
    return {"ip-address-type": kind, "ip-address": text, "prefix": prefix}


def _freeze(record: Record, arguments: Mapping[str, Any]) -> int:
    places = [each["mountpoint"] for each in _filesystems(record, {})]
    wanted = arguments.get("mountpoints", places)
    frozen = [place for place in places if place in wanted]
    record.runtime.frozen = frozen
    return len(frozen)


def _thaw(record: Record, arguments: Mapping[str, Any]) -> int:
    del arguments
    machine: Machine = record.runtime
    frozen, machine.frozen = machine.frozen or [], None
    return len(frozen)


def _frozen(record: Record, arguments: Mapping[str, Any]) -> str:
    del arguments
    return "thawed" if record.runtime.frozen is None else "frozen"


def _password(record: Record, arguments: Mapping[str, Any]) -> dict[str, Any]:
    user = arguments.get("username")
    if user not in _USERS:
        raise Refusal("GenericError", f"user '{user}' does not exist")
    record.runtime.passwords[user] = arguments.get("password", "")
    return {}


def _load(record: Record, arguments: Mapping[str, Any]) -> dict[str, float]:
    del arguments
    busy = float(record.runtime.vcpus)
    return {"load1m": busy, "load5m": busy, "load15m": busy}


_USERS: Final = ("root", "user")
_OS: Final = {
    "id": "hvcore",
    "name": "Guest of a test",
    "pretty-name": "Guest of a test 1",
    "version": "1",
    "version-id": "1",
    "machine": "x86_64",
    "kernel-release": "1.0",
    "kernel-version": "#1",
}


def _nothing(record: Record, arguments: Mapping[str, Any]) -> dict[str, Any]:
    del record, arguments
    return {}


def _commands(record: Record, arguments: Mapping[str, Any]) -> dict[str, Any]:
    frozen = record.runtime.frozen is not None
    del arguments
    return {
        "version": "10.0.2",
        "supported_commands": [
            {"name": name, "enabled": not frozen or name in _ALWAYS, "success-response": True}
            for name in sorted(_COMMANDS)
        ],
    }


_COMMANDS: Final[dict[str, Callable[[Record, Mapping[str, Any]], Any]]] = {
    "guest-fsfreeze-freeze": _freeze,
    "guest-fsfreeze-freeze-list": _freeze,
    "guest-fsfreeze-status": _frozen,
    "guest-fsfreeze-thaw": _thaw,
    "guest-fstrim": lambda record, _: {
        "paths": [{"path": each["mountpoint"]} for each in _filesystems(record, {})]
    },
    "guest-get-disks": _block_devices,
    "guest-get-fsinfo": _filesystems,
    "guest-get-host-name": lambda record, _: {"host-name": record.name},
    "guest-get-load": _load,
    "guest-get-osinfo": lambda *_: dict(_OS),
    "guest-get-timezone": lambda *_: {"zone": "UTC", "offset": 0},
    "guest-get-users": lambda *_: [{"user": "root", "login-time": 0.0}],
    "guest-info": _commands,
    "guest-network-get-interfaces": _interfaces,
    "guest-ping": _nothing,
    "guest-set-user-password": _password,
    "guest-sync": lambda _, arguments: arguments.get("id", 0),
}
"""What the agent can do, beside shutting down."""
