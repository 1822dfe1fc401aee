"""Plans of plugging devices into a running QEMU and out of it, without any I/O.

The same functions that write a device's options for the command line are asked for them here, and
each option becomes a command of the monitor, with the one that takes it back. What has to go after
a device is told by what its options refer to; that is found when a guest is started or a device is
plugged, and kept, so that a later manager needs to know nothing else.
"""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import TypeAlias

import attrs

from hvcore.errors import MonitorError
from hvcore_qemu.command import Argument
from hvcore_qemu.command import Command
from hvcore_qemu.command import Value

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Generator
    from collections.abc import Iterable
    from collections.abc import Iterator
    from collections.abc import Mapping

    from hvcore.model.domain import Domain
    from hvcore.registry import Registry
    from hvcore_qemu.capabilities import QemuCapabilities
    from hvcore_qemu.command import QemuPlan
    from hvcore_qemu.config import QemuConfig
    from hvcore_qemu.monitor import Command as MonitorCommand
    from hvcore_qemu.resources import FdSet
    from hvcore_qemu.resources import Resources

Call: TypeAlias = "tuple[str, dict[str, Any]]"
"""A command of the monitor and its arguments."""

_JSON: Final = ("chardev.json", "device.json+hotplug", "netdev.json")
"""Capabilities that have options written as the monitor takes them."""

_COMMANDS: Final[Mapping[str, tuple[str, str, str]]] = {
    # option: command, command that takes it back, name of the identifier for both
    "-blockdev": ("blockdev-add", "blockdev-del", "node-name"),
    "-chardev": ("chardev-add", "chardev-remove", "id"),
    "-device": ("device_add", "device_del", "id"),
    "-netdev": ("netdev_add", "netdev_del", "id"),
    "-object": ("object-add", "object-del", "id"),
}

_FAMILIES: Final = frozenset({
    "disks", "filesystems", "interfaces", "memory-devices", "serials", "parallels", "channels",
    "consoles", "inputs", "redirdevs", "hostdevs", "rngs", "shmems", "vsocks",
})  # fmt: skip
"""Sections whose options belong to single devices that can be unplugged."""

PLUGGED: Final = (
    "disks", "filesystems", "interfaces", "memories", "serials", "parallels", "channels",
    "consoles", "inputs", "redirdevs", "hostdevs", "rngs", "shmems", "vsocks", "watchdogs",
)  # fmt: skip
"""Lists of devices that one plugged device is shown without."""

_ID: Final = re.compile(r"(?:^|,)id=([^,]+)")
_WORD: Final = re.compile(r"[^,:=]+")


@attrs.frozen
class Step:
    """One command of the monitor.

    :ivar undo: what takes it back; None where there is nothing to take back.
    :ivar fd: a descriptor to send along.
    """

    command: str
    arguments: Mapping[str, Any]
    undo: Call | None = None
    fd: int | None = None

    @classmethod
    def of(cls, option: str, value: Mapping[str, Any]) -> Step:
        """Return the command that does what an option of the command line would do."""
        add, take_back, key = _COMMANDS[option]
        return cls(add, dict(value), (take_back, {key: value[key]}))


@attrs.define(eq=False)
class Plug:
    """What plugs a device in.

    :ivar alias: of the device.
    :ivar steps: in order; plugins may add some.
    :ivar terminals: what QEMU opened for character devices, by the device's alias; once it ran.
    """

    alias: str
    steps: list[Step] = attrs.field(factory=list)
    terminals: dict[str, str] = attrs.field(factory=dict)

    def add(self, command: str, arguments: Mapping[str, Any], *, undo: Call | None = None) -> None:
        """Append a command of the monitor, and what takes it back if a later one fails."""
        self.steps.append(Step(command, arguments, undo))

    @property
    def behind(self) -> list[Call]:
        """What has to go once the device is gone, in order."""
        return [
            step.undo
            for step in reversed(self.steps)
            if step.undo is not None
            and self.alias not in step.undo[1].values()
            and step.command != "getfd"
        ]

    def run(self) -> Generator[MonitorCommand, Any, None]:
        """Carry out the steps; what was done is undone when one is refused."""
        for step, reply in (yield from carry_out(self.steps)):
            if step.command == "chardev-add" and "pty" in reply:
                name = str(step.arguments["id"]).removeprefix("char")
                self.terminals[name] = reply["pty"]


@attrs.define(eq=False)
class Unplug:
    """What takes a device out.

    :ivar alias: of the device.
    :ivar before: what to do before the guest is asked; taken back if the guest keeps the device.
    :ivar behind: what to do once the device is gone.
    :ivar gone: changes of the running definition beside the device itself.
    """

    alias: str
    before: list[Step] = attrs.field(factory=list)
    behind: list[Call] = attrs.field(factory=list)
    gone: list[Callable[[Domain], None]] = attrs.field(factory=list)

    def first(self, command: str, arguments: Mapping[str, Any], *, undo: Call) -> None:
        """Have a command carried out before the guest is asked for the device."""
        self.before.append(Step(command, arguments, undo))

    def afterwards(self, change: Callable[[Domain], None]) -> None:
        """Have the running definition changed when the device is gone."""
        self.gone.append(change)

    def prepare(self) -> Generator[MonitorCommand, Any, None]:
        """Do what comes first."""
        yield from carry_out(self.before)

    def give_up(self) -> Generator[MonitorCommand, Any, None]:
        """Undo what came first: the guest keeps the device."""
        yield from _undo(self.before)

    def clean_up(self) -> Generator[MonitorCommand, Any, None]:
        """Remove what stood behind the device; what is gone already is as good."""
        for call in self.behind:
            yield from _tolerant(call)


def carry_out(
    steps: Iterable[Step],
) -> Generator[MonitorCommand, Any, list[tuple[Step, Any]]]:
    """Yield the commands of ``steps`` and return the replies; undo all when one is refused."""
    done: list[tuple[Step, Any]] = []
    for step in steps:
        try:
            reply = yield step.command, step.arguments, step.fd
        except MonitorError:
            yield from _undo([step for step, _ in done])
            raise
        done.append((step, reply))
    return done


def _undo(steps: list[Step]) -> Generator[MonitorCommand, Any, None]:
    for step in reversed(steps):
        if step.undo is not None:
            yield from _tolerant(step.undo)


def _tolerant(call: Call) -> Generator[MonitorCommand, Any, None]:
    try:
        yield call
    except MonitorError:
        # It went together with something else, or QEMU still uses it; neither can be helped.
        return


class Plugging(Command):
    """The options of one device, as commands of the monitor.

    :ivar plug: the plan under construction.
    """

    def __init__(
        self,
        alias: str,
        domain: Domain,
        caps: QemuCapabilities,
        config: QemuConfig,
        resources: Resources,
        registry: Registry,
    ) -> None:
        super().__init__(domain, caps.replace(add=_JSON), config, resources, registry)
        self.plug = Plug(alias)

    def option(self, option: str, value: Value = None) -> None:
        """Append the command that does what ``option`` would do."""
        if option == "-watchdog-action":
            self.plug.steps.insert(0, Step("set-action", {"watchdog": value}))
            return
        if option not in _COMMANDS or isinstance(value, str) or value is None:
            raise TypeError(f"{option} {value} is nothing that could be plugged")
        step = Step.of(option, value)
        if step.command == "chardev-add":
            # What a device listens on must be there before the device.
            places = [n for n, each in enumerate(self.plug.steps) if each.command == "device_add"]
            self.plug.steps.insert(places[0] if places else len(self.plug.steps), step)
            return
        self.plug.steps.append(step)

    def descriptor(self, fd: int, name: str) -> str:
        """Send a descriptor to QEMU and return the name it has there."""
        closing = ("closefd", {"fdname": name})
        self.plug.steps.append(Step("getfd", {"fdname": name}, closing, fd))
        return name

    def pass_fds(self, fds: FdSet) -> None:
        """Send the descriptors that QEMU opens as ``/dev/fdset/N``."""
        removing = ("remove-fd", {"fdset-id": fds.number})
        for fd, name in fds.descriptors:
            arguments = {"fdset-id": fds.number, "opaque": name}
            self.plug.steps.append(Step("add-fd", arguments, removing, fd))


def alone(domain: Domain, members: str, device: Any) -> Domain:
    """Return ``domain`` with one device in place of all that can be plugged.

    What the device refers to stays: controllers, graphics, NUMA nodes and whatever else there is.
    """
    view = copy.copy(domain)
    view.devices = copy.copy(domain.devices)
    for name in PLUGGED:
        setattr(view.devices, name, [device] if name == members else [])
    return view


# -- what has to go with a device ------------------------------------------------------------------


def behind(plan: QemuPlan, domain: Domain) -> dict[str, list[Call]]:
    """Return what has to go after each device of a command line, by alias.

    Whatever only one device refers to, directly or not, goes with it.
    """
    aliases = [device.alias for name in PLUGGED for device in getattr(domain.devices, name)]
    found: dict[str, Argument] = {}
    for section in plan.sections():
        if section.name in _FAMILIES:
            for step in section.steps:
                name = _identity(step)
                if name is not None and isinstance(step, Argument):
                    found[name] = step
    order = {name: place for place, name in enumerate(found)}
    users: dict[str, set[str]] = {}
    for alias in aliases:
        if alias in found:
            for name in _reached(alias, found):
                users.setdefault(name, set()).add(alias)
    result: dict[str, list[Call]] = {}
    for name in sorted(users, key=lambda each: order[each], reverse=True):
        if len(users[name]) == 1:
            _, take_back, key = _COMMANDS[found[name].option]
            result.setdefault(users[name].pop(), []).append((take_back, {key: name}))
    return result


def ahead(plan: QemuPlan, domain: Domain) -> dict[str, list[dict[str, Any]]]:
    """Return the objects of a command line that refer to a device, by the device's alias.

    They have to go before it: QEMU looks for the device again later, and ends without it.
    """
    aliases = {device.alias for name in PLUGGED for device in getattr(domain.devices, name)}
    found: dict[str, list[dict[str, Any]]] = {}
    for step in plan.steps():
        if not isinstance(step, Argument) or step.option != "-object":
            continue
        props = step.value
        if props is None or isinstance(props, str):
            continue
        for key, value in props.items():
            if key not in ("id", "qom-type") and isinstance(value, str) and value in aliases:
                found.setdefault(value, []).append(dict(props))
    return found


def _reached(alias: str, found: Mapping[str, Argument]) -> set[str]:
    """Return the names of all that a device refers to, without itself."""
    seen: set[str] = set()
    waiting = [alias]
    while waiting:
        for name in _words(found[waiting.pop()].value):
            if name in found and name not in seen and name != alias:
                seen.add(name)
                waiting.append(name)
    return seen


def _identity(step: object) -> str | None:
    """Return the identifier of what an option makes; None for other options."""
    if not isinstance(step, Argument) or step.option not in _COMMANDS:
        return None
    key = _COMMANDS[step.option][2]
    if isinstance(step.value, str):
        match = _ID.search(step.value)
        return match[1] if match else None
    name = (step.value or {}).get(key)
    return name if isinstance(name, str) else None


def _words(value: object) -> Iterator[str]:
    """Yield every string in a value that may be an identifier."""
    if isinstance(value, str):
        yield value
        # As in tcp:10.0.2.1:4600-chardev:charchannel0, where a port leads to.
        yield from _WORD.findall(value)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _words(each)
    elif hasattr(value, "values"):
        for each in value.values():
            yield from _words(each)
