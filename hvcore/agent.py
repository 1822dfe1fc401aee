"""What is asked of the agent in a guest, and what its answers mean: the same for all drivers.

The agent is QEMU's: it is told by JSON through a channel of the domain. A driver carries one
command and its answer; who may ask, what is asked, and libvirt's words for what goes wrong are
here.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs

from hvcore.errors import AgentRefused
from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.lifecycle import State
from hvcore.model.devices.base import DriveAddress
from hvcore.model.devices.base import PciAddress
from hvcore.operations import Op

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Iterator
    from collections.abc import Mapping
    from collections.abc import Sequence

    from hvcore.driver import Record
    from hvcore.engine import Engine
    from hvcore.model.devices.chardev import Channel
    from hvcore.model.domain import Domain

NAME: Final = "org.qemu.guest_agent.0"
"""Name of the agent's channel in the guest."""
WAIT: Final = 5.0
"""Seconds that a command given by hand may take; libvirt's."""
_FAREWELL: Final = 1.0
"""Seconds for an agent to refuse to shut its guest down: one that obeys does not answer."""
_UNKNOWN: Final = frozenset({"CommandNotFound", "CommandDisabled"})


@attrs.frozen(kw_only=True)
class Filesystem:
    """A file system that is mounted in a guest.

    :param name: of its device in the guest.
    :param disks: targets of the disks that it is on.
    :param total: bytes; None where the agent does not say.
    """

    mountpoint: str
    name: str
    type: str
    disks: tuple[str, ...] = ()
    total: int | None = None
    used: int | None = None
    devices: tuple[Mapping[str, Any], ...] = attrs.field(default=(), repr=False)


@attrs.frozen(kw_only=True)
class GuestAddress:
    """An IP address.

    :param type: ``ipv4`` or ``ipv6``.
    """

    type: str
    address: str
    prefix: int


@attrs.frozen(kw_only=True)
class GuestInterface:
    """A network interface as a guest sees it."""

    name: str
    mac: str | None
    addresses: tuple[GuestAddress, ...] = ()


# -- commands --------------------------------------------------------------------------------------


def channel_of(domain: Domain) -> Channel | None:
    """Return the channel of the agent; None where there is none."""
    for channel in domain.devices.channels:
        if channel.target_type == "virtio" and channel.target_name == NAME:
            return channel
    return None


@contextlib.asynccontextmanager
async def asking(engine: Engine, known: Record, operation: str) -> AsyncIterator[Agent]:
    """Hold the agent of a domain that runs.

    :raises InvalidState: it does not run.
    :raises HvError: it has no agent, or that does not listen.
    """
    driver = engine.driver
    if Op.AGENT_COMMAND not in driver.operations():
        raise driver.unsupported(Op.AGENT_COMMAND, known)
    await engine.own()
    record = engine.refresh(known)
    engine.authorize(operation, record.definition)
    async with record.jobs.agent_job(operation, check=record.check_active):
        if record.state is not State.RUNNING:
            raise InvalidState("domain is not running", domain=record.name)
        channel = channel_of(record.definition.domain)
        if channel is None:
            raise HvError(
                "QEMU guest agent is not configured",
                kind=ErrorClass.ARGUMENT_UNSUPPORTED,
                domain=record.name,
            )
        with engine.boundary(record):
            if not await driver.agent_connected(record, channel):
                raise HvError(
                    "QEMU guest agent is not connected",
                    kind=ErrorClass.AGENT_UNRESPONSIVE,
                    domain=record.name,
                )
            yield Agent(engine, record, channel)


class Agent:
    """The agent of one domain, while it is held."""

    def __init__(self, engine: Engine, record: Record, channel: Channel) -> None:
        self._driver = engine.driver
        self.record = record
        self._channel = channel

    async def exchange(
        self, command: Mapping[str, Any], within: float | None
    ) -> Mapping[str, Any] | None:
        """Return the answer to a command; None if there is none in time."""
        driver = self._driver
        answering = asyncio.ensure_future(driver.agent_command(self.record, self._channel, command))
        waiting = {answering}
        if within is not None:
            waiting.add(asyncio.ensure_future(_sleep(driver.sleep, within)))
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            return answering.result() if answering.done() else None
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def ask(self, name: str, *, within: float | None = None, **arguments: Any) -> Any:
        """Return what a command returns.

        :raises DriverError: the agent refuses, or does not answer.
        """
        command: dict[str, Any] = {"execute": name}
        if arguments:
            command["arguments"] = arguments
        reply = await self.exchange(command, within)
        if reply is None:
            raise _late(within, self.record)
        return checked(name, reply, self.record)


async def _sleep(sleep: Callable[[float], Any], seconds: float) -> Mapping[str, Any]:
    await sleep(seconds)
    return {}


def _late(within: float | None, record: Record) -> DriverError:
    return DriverError(
        f"guest agent didn't respond to command within '{within or 0:.0f}' seconds",
        kind=ErrorClass.AGENT_COMMAND_TIMEOUT,
        domain=record.name,
    )


def checked(name: str, reply: Mapping[str, Any], record: Record) -> Any:
    """Return what an answer says was returned.

    :raises AgentRefused: the agent refused.
    """
    error = reply.get("error")
    if error is not None:
        kind = error.get("class")
        raise AgentRefused(
            f"unable to execute QEMU agent command '{name}': {error.get('desc', kind)}",
            unknown=kind in _UNKNOWN,
            domain=record.name,
        )
    if "return" not in reply:
        raise DriverError(
            f"QEMU agent command '{name}' returned neither error nor success",
            kind=ErrorClass.INTERNAL,
            domain=record.name,
        )
    return reply["return"]


async def by_hand(engine: Engine, known: Record, command: str, *, within: float | None) -> str:
    """Give the agent a command, and return its answer, both as text."""
    try:
        parsed = json.loads(command)
    except ValueError as error:
        raise HvError(f"cannot parse json {command}: {error}") from None
    if not isinstance(parsed, dict) or "execute" not in parsed:
        raise HvError("agent command is no object with an 'execute'", kind=ErrorClass.INVALID_ARG)
    async with asking(engine, known, Op.AGENT_COMMAND.api) as agent:
        reply = await agent.exchange(parsed, within)
        if reply is None:
            raise _late(within, agent.record)
        checked(str(parsed["execute"]), reply, agent.record)
        return json.dumps(reply, separators=(",", ":"))


# -- disks and interfaces --------------------------------------------------------------------------


def disk_at(domain: Domain, device: Mapping[str, Any]) -> str | None:
    """Return the target of the disk that a guest sees at an address; None where there is none."""
    place = device.get("pci-controller", {})
    pci = tuple(place.get(part, 0) for part in ("domain", "bus", "slot", "function"))
    drive = tuple(device.get(part, 0) for part in ("bus", "target", "unit"))
    controllers = {
        (each.type, each.index) for each in domain.devices.controllers if _pci(each.address) == pci
    }
    for disk in domain.devices.disks:
        address = disk.address
        if _pci(address) == pci:
            return disk.target
        if not isinstance(address, DriveAddress):
            continue
        place_of = (address.bus or 0, address.target or 0, address.unit or 0)
        if (disk.bus, address.controller or 0) in controllers and place_of == drive:
            return disk.target
    return None


def _pci(address: object) -> tuple[int, ...] | None:
    if not isinstance(address, PciAddress):
        return None
    parts = (address.domain, address.bus, address.slot, address.function)
    return tuple(part or 0 for part in parts)


def filesystems(domain: Domain, found: Sequence[Mapping[str, Any]]) -> list[Filesystem]:
    """Return what the agent says of file systems."""
    result = []
    for entry in found:
        devices = entry.get("disk", ())
        targets = (disk_at(domain, device) for device in devices)
        result.append(
            Filesystem(
                mountpoint=entry["mountpoint"],
                name=entry["name"],
                type=entry["type"],
                disks=tuple(target for target in targets if target is not None),
                total=entry.get("total-bytes"),
                used=entry.get("used-bytes"),
                devices=tuple(devices),
            )
        )
    return result


def interfaces(found: Sequence[Mapping[str, Any]]) -> list[GuestInterface]:
    """Return what the agent says of interfaces; addresses of ``eth0:1`` are those of ``eth0``."""
    made: dict[str, GuestInterface] = {}
    for entry in found:
        name = entry["name"].partition(":")[0]
        before = made.get(name)
        addresses = tuple(
            GuestAddress(
                type=address["ip-address-type"],
                address=address["ip-address"],
                prefix=address["prefix"],
            )
            for address in entry.get("ip-addresses", ())
        )
        made[name] = GuestInterface(
            name=name,
            mac=entry.get("hardware-address") if before is None else before.mac,
            addresses=(() if before is None else before.addresses) + addresses,
        )
    return list(made.values())


# -- everything ------------------------------------------------------------------------------------

TYPES: Final = (
    "user",
    "os",
    "timezone",
    "hostname",
    "filesystem",
    "disk",
    "interface",
    "load",
)
"""What can be asked for, in libvirt's order."""

_COMMANDS: Final = {
    "user": "guest-get-users",
    "os": "guest-get-osinfo",
    "timezone": "guest-get-timezone",
    "hostname": "guest-get-host-name",
    "filesystem": "guest-get-fsinfo",
    "disk": "guest-get-disks",
    "interface": "guest-network-get-interfaces",
    "load": "guest-get-load",
}
_OS: Final = (
    "id",
    "name",
    "pretty-name",
    "version",
    "version-id",
    "machine",
    "variant",
    "variant-id",
    "kernel-release",
    "kernel-version",
)


async def info(agent: Agent, types: Iterable[str]) -> dict[str, Any]:
    """Return what the agent knows, by libvirt's names.

    :param types: of :data:`TYPES`; all that the agent can say, if empty.
    :raises HvError: there is no such type, or the agent does not know what was asked for.
    """
    wanted = set(types)
    unknown = wanted - set(TYPES)
    if unknown:
        raise HvError(
            f"unsupported guest information types '{', '.join(sorted(unknown))}'",
            kind=ErrorClass.INVALID_ARG,
        )
    found: dict[str, Any] = {}
    for kind in TYPES:
        if wanted and kind not in wanted:
            continue
        try:
            answer = await agent.ask(_COMMANDS[kind])
        except AgentRefused as error:
            if wanted or not error.unknown:
                raise
            continue
        found.update(_FACTS[kind](agent.record.definition.domain, answer))
    return found


def _users(domain: Domain, answer: Any) -> Iterator[tuple[str, Any]]:
    del domain
    yield "user.count", len(answer)
    for number, user in enumerate(answer):
        yield f"user.{number}.name", user["user"]
        if "domain" in user:
            yield f"user.{number}.domain", user["domain"]
        yield f"user.{number}.login-time", int(user["login-time"] * 1000)


def _os(domain: Domain, answer: Any) -> Iterator[tuple[str, Any]]:
    del domain
    for name in _OS:
        if name in answer:
            yield f"os.{name}", answer[name]


def _timezone(domain: Domain, answer: Any) -> Iterator[tuple[str, Any]]:
    del domain
    if "zone" in answer:
        yield "timezone.name", answer["zone"]
    yield "timezone.offset", answer["offset"]


def _hostname(domain: Domain, answer: Any) -> Iterator[tuple[str, Any]]:
    del domain
    yield "hostname", answer["host-name"]


def _filesystems(domain: Domain, answer: Any) -> Iterator[tuple[str, Any]]:
    found = filesystems(domain, answer)
    yield "fs.count", len(found)
    for number, each in enumerate(found):
        prefix = f"fs.{number}"
        yield f"{prefix}.name", each.name
        yield f"{prefix}.mountpoint", each.mountpoint
        yield f"{prefix}.fstype", each.type
        if each.total is not None:
            yield f"{prefix}.total-bytes", each.total
        if each.used is not None:
            yield f"{prefix}.used-bytes", each.used
        yield f"{prefix}.disk.count", len(each.devices)
        for place, device in enumerate(each.devices):
            target = disk_at(domain, device)
            facts = (("alias", target), ("serial", device.get("serial")))
            for name, value in (*facts, ("device", device.get("dev"))):
                if value:
                    yield f"{prefix}.disk.{place}.{name}", value


def _disks(domain: Domain, answer: Any) -> Iterator[tuple[str, Any]]:
    yield "disk.count", len(answer)
    for number, disk in enumerate(answer):
        prefix, address = f"disk.{number}", disk.get("address")
        yield f"{prefix}.name", disk["name"]
        yield f"{prefix}.partition", disk["partition"]
        dependencies = disk.get("dependencies", ())
        if dependencies:
            yield f"{prefix}.dependency.count", len(dependencies)
        for place, name in enumerate(dependencies):
            yield f"{prefix}.dependency.{place}.name", name
        if address is not None:
            target = disk_at(domain, address)
            facts = (("serial", address.get("serial")), ("alias", target))
            for name, value in (*facts, ("guest_bus", address.get("bus-type"))):
                if value:
                    yield f"{prefix}.{name}", value
        if disk.get("alias"):
            yield f"{prefix}.guest_alias", disk["alias"]


def _interfaces(domain: Domain, answer: Any) -> Iterator[tuple[str, Any]]:
    del domain
    found = interfaces(answer)
    yield "if.count", len(found)
    for number, each in enumerate(found):
        prefix = f"if.{number}"
        yield f"{prefix}.name", each.name
        if each.mac is not None:
            yield f"{prefix}.hwaddr", each.mac
        yield f"{prefix}.addr.count", len(each.addresses)
        for place, address in enumerate(each.addresses):
            yield f"{prefix}.addr.{place}.type", address.type
            yield f"{prefix}.addr.{place}.addr", address.address
            yield f"{prefix}.addr.{place}.prefix", address.prefix


def _load(domain: Domain, answer: Any) -> Iterator[tuple[str, Any]]:
    del domain
    for name in ("1m", "5m", "15m"):
        yield f"load.{name}", float(answer[f"load{name}"])


_FACTS: Final[dict[str, Callable[[Domain, Any], Iterator[tuple[str, Any]]]]] = {
    "user": _users,
    "os": _os,
    "timezone": _timezone,
    "hostname": _hostname,
    "filesystem": _filesystems,
    "disk": _disks,
    "interface": _interfaces,
    "load": _load,
}
"""What an answer says, by what was asked for."""


# -- what changes the guest ------------------------------------------------------------------------


async def freeze(engine: Engine, known: Record, mountpoints: Sequence[str] | None) -> int:
    """Let the guest write down what it holds back, and hold its file systems still."""
    async with asking(engine, known, "virDomainFSFreeze") as agent:
        if mountpoints:
            places = list(mountpoints)
            return int(await agent.ask("guest-fsfreeze-freeze-list", mountpoints=places))
        return int(await agent.ask("guest-fsfreeze-freeze"))


async def thaw(engine: Engine, known: Record) -> int:
    """Let the guest write to its file systems again."""
    async with asking(engine, known, "virDomainFSThaw") as agent:
        return int(await agent.ask("guest-fsfreeze-thaw"))


async def set_password(
    engine: Engine, known: Record, user: str, password: str, *, encrypted: bool
) -> None:
    """Change the password of a user of the guest."""
    async with asking(engine, known, "virDomainSetUserPassword") as agent:
        encoded = base64.b64encode(password.encode()).decode()
        await agent.ask(
            "guest-set-user-password", crypted=encrypted, username=user, password=encoded
        )


async def shut_down(engine: Engine, known: Record, mode: str, operation: str) -> None:
    """Have the agent shut its guest down.

    :param mode: ``powerdown`` or ``reboot``.
    :raises DriverError: it refuses; one that obeys does not answer.
    """
    async with asking(engine, known, operation) as agent:
        command = {"execute": "guest-shutdown", "arguments": {"mode": mode}}
        reply = await agent.exchange(command, _FAREWELL)
        if reply is not None:
            checked("guest-shutdown", reply, agent.record)


async def listens(engine: Engine, record: Record) -> bool:
    """Tell whether a domain has an agent that could be asked."""
    driver = engine.driver
    if Op.AGENT_COMMAND not in driver.operations() or record.state is not State.RUNNING:
        return False
    channel = channel_of(record.definition.domain)
    return channel is not None and await driver.agent_connected(record, channel)
