"""What cloud-hypervisor's events and states mean for a domain: libvirt's rules, without any I/O.

Each rule takes what is known and returns an :class:`Effect`: a new state, events to publish, and
what to do next. The driver carries them out.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import TypeAlias

import attrs

from hvcore import events
from hvcore.lifecycle import CrashedReason
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutdownReason
from hvcore.lifecycle import State
from hvcore.lifecycle import state_of
from hvcore_ch.monitor import Request
from hvcore_ch.monitor import another_schema

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Generator

    from hvcore.lifecycle import StateReason
    from hvcore_ch.command import ChPlan

CREATED: Final = "Created"
"""The state of a VM that was not booted so far."""

NOTHING: Final[dict[str, Any]] = {"config": {}}
"""What vm.info would tell of a VM that has not arrived so far."""

EventCall: TypeAlias = tuple[type[events.Event], dict[str, Any]]
"""An event to publish: its class and what it holds beside the domain."""


class Next(enum.Enum):
    """What the driver has to do after an event."""

    KILL = "end the process; the guest is done with it"
    KILL_CRASHED = "end the process; the guest crashed"
    BOOT = "start the guest afresh; its VM is gone"
    REBOOT = "end the VM and start the guest afresh"


@attrs.frozen
class Effect:
    """Consequences of one event.

    :param reason: of the new state; ``None`` leaves the state.
    """

    reason: StateReason | None = None
    publish: tuple[EventCall, ...] = ()
    then: Next | None = None


@attrs.define(kw_only=True)
class Course:
    """What decides how a guest's events are to be read.

    :ivar ending: the end was asked for by whoever manages; the VM that goes is no news.
    :ivar restarting: between the end of a guest and its next start.
    :ivar pausing: why the next stop of the CPUs happens.
    :ivar resuming: why they run again next.
    """

    on_poweroff: str = "destroy"
    on_reboot: str = "restart"
    on_crash: str = "destroy"
    ending: bool = False
    restarting: bool = False
    pausing: PausedReason = PausedReason.UNKNOWN
    resuming: RunningReason = RunningReason.UNPAUSED

    @property
    def stays(self) -> bool:
        """Whether the process has to outlive a guest that powers off."""
        return self.on_poweroff == "restart"


def handle(course: Course, reason: StateReason, event: dict[str, Any]) -> Effect:
    """Return what an event means for a domain that is in the state of ``reason``."""
    rule = _RULES.get((event.get("source", ""), event["event"]))
    if rule is None or course.ending:
        return Effect()
    return rule(course, reason, event.get("properties") or {})


def _shutdown(course: Course, reason: StateReason, _data: dict[str, Any]) -> Effect:
    if _is(reason, State.SHUTDOWN) or _is(reason, State.CRASHED) or course.restarting:
        return Effect()
    if course.stays:
        course.restarting = True
        return Effect(then=Next.BOOT)
    return Effect(
        ShutdownReason.UNKNOWN,
        ((events.Shutdown, {"reason": events.ShutdownDetail.GUEST}),),
        Next.KILL,
    )


def _paused(course: Course, reason: StateReason, _data: dict[str, Any]) -> Effect:
    pausing, course.pausing = course.pausing, PausedReason.UNKNOWN
    if not _is(reason, State.RUNNING):
        return Effect()
    detail = {
        PausedReason.MIGRATION: events.SuspendedDetail.MIGRATED,
        PausedReason.FROM_SNAPSHOT: events.SuspendedDetail.FROM_SNAPSHOT,
    }.get(pausing, events.SuspendedDetail.PAUSED)
    return Effect(pausing, ((events.Suspended, {"reason": detail}),))


def _resumed(course: Course, reason: StateReason, _data: dict[str, Any]) -> Effect:
    resuming, course.resuming = course.resuming, RunningReason.UNPAUSED
    if not _is(reason, State.PAUSED) or _starting(reason):
        # The end of a start is announced by whoever started it.
        return Effect()
    moved = resuming in (RunningReason.MIGRATED, RunningReason.MIGRATION_CANCELED)
    detail = events.ResumedDetail.MIGRATED if moved else events.ResumedDetail.UNPAUSED
    return Effect(resuming, ((events.Resumed, {"reason": detail}),))


def _booted(course: Course, reason: StateReason, _data: dict[str, Any]) -> Effect:
    if course.restarting:
        course.restarting = False
        return Effect(RunningReason.BOOTED, ((events.Rebooted, {}),))
    # A guest that was made and not started yet.
    if _is(reason, State.PAUSED) and not _starting(reason):
        return _resumed(course, reason, _data)
    return Effect()


def _rebooting(course: Course, _reason: StateReason, _data: dict[str, Any]) -> Effect:
    if course.on_reboot != "destroy":
        return Effect()
    return Effect(
        ShutdownReason.UNKNOWN,
        ((events.Shutdown, {"reason": events.ShutdownDetail.GUEST}),),
        Next.KILL,
    )


def _rebooted(course: Course, reason: StateReason, _data: dict[str, Any]) -> Effect:
    course.restarting = False
    rebooted: EventCall = (events.Rebooted, {})
    if _is(reason, State.RUNNING):
        return Effect(publish=(rebooted,))
    return Effect(RunningReason.BOOTED, (rebooted,))


def _panic(course: Course, _reason: StateReason, _data: dict[str, Any]) -> Effect:
    then = {"destroy": Next.KILL_CRASHED, "restart": Next.REBOOT}.get(course.on_crash)
    course.restarting = then is Next.REBOOT
    crashed: EventCall = (events.Crashed, {"reason": events.CrashedDetail.PANICKED})
    return Effect(CrashedReason.PANICKED, (crashed,), then)


def departed(event: dict[str, Any]) -> str | None:
    """Return the name of the device that an event says is gone, if it is such an event."""
    if (event.get("source"), event["event"]) != ("vm", "device-removed"):
        return None
    return str((event.get("properties") or {}).get("id") or "") or None


def made_anew(event: dict[str, Any]) -> bool:
    """Tell whether an event says that a VM was made, which then has other terminals."""
    return (event.get("source"), event["event"]) in (("vm", "booted"), ("vm", "rebooted"))


_RULES: Final[dict[tuple[str, str], Callable[[Course, Any, dict[str, Any]], Effect]]] = {
    ("vm", "shutdown"): _shutdown,
    ("vm", "paused"): _paused,
    ("vm", "resumed"): _resumed,
    ("vm", "booted"): _booted,
    ("vm", "rebooting"): _rebooting,
    ("vm", "rebooted"): _rebooted,
    ("guest", "panic"): _panic,
}

ORDERLY: Final = ("vm", "shutdown")
"""The event by which the end of a guest is told from a crash."""


def ended_in_order(found: list[dict[str, Any]]) -> bool:
    """Tell whether the last events of a process that is gone are those of a power-off."""
    return any((event.get("source"), event["event"]) == ORDERLY for event in found)


def catch_up(course: Course, reason: StateReason, state: str) -> Effect:
    """Return what happened that no event told of.

    :param reason: of the state that was written down last, or that events led to.
    :param state: of the VM, as vm.info tells it.
    """
    if state == "Running" and _is(reason, State.PAUSED):
        return _resumed(course, reason, {})
    if state == "Paused" and _is(reason, State.RUNNING):
        return _paused(course, reason, {})
    if state in (CREATED, "Shutdown") and _is(reason, State.RUNNING):
        return _shutdown(course, reason, {})
    return Effect()


def _is(reason: StateReason, state: State) -> bool:
    return state_of(reason) is state


def _starting(reason: StateReason) -> bool:
    return _is(reason, State.PAUSED) and reason == PausedReason.STARTING_UP


def start(
    plan: ChPlan, fds: dict[str, tuple[int, ...]], *, paused: bool
) -> Generator[Request, Any, dict[str, Any]]:
    """Make the VM of a plan and boot it; return what vm.info told of it before.

    :param fds: descriptors of taps, by alias of the interface.
    :param paused: only make it: what was never booted has not run.
    """
    yield Request("vm.create", plan.config)
    for call in plan.calls:
        added = yield Request(call.endpoint, call.body, fds[call.tap.alias])
        placed(call.endpoint, added)
    info: dict[str, Any] = yield Request("vm.info")
    if not paused:
        yield Request("vm.boot")
    return info


def placed(endpoint: str, answer: Any) -> Any:
    """Return the answer to a request for a device: its place, or None before the first boot.

    :raises MonitorError: the answer is another version's.
    """
    if answer is None or (isinstance(answer, dict) and "bdf" in answer):
        return answer
    raise another_schema(endpoint, answer)


def state_in(info: Any) -> str:
    """Return the state that vm.info tells.

    :raises MonitorError: it tells none: this is another version's schema.
    """
    if not isinstance(info, dict) or not isinstance(info.get("state"), str):
        raise another_schema("vm.info", info)
    return str(info["state"])


def terminals(info: dict[str, Any]) -> dict[str, str]:
    """Return the terminals that were opened, by the name of the member that has them.

    :raises MonitorError: it is another version's schema, as below.
    """
    found = {}
    try:
        for name in ("serial", "console"):
            member = info["config"].get(name) or {}
            if member.get("mode") == "Pty" and member.get("file"):
                found[name] = str(member["file"])
    except (KeyError, TypeError, AttributeError) as error:
        raise another_schema("vm.info", info) from error
    return found


def addresses(info: dict[str, Any]) -> dict[str, str]:
    """Return where devices are on the guest's PCI buses, by alias."""
    found = {}
    try:
        tree = info.get("device_tree") or {}
        for node in tree.values():
            if node.get("pci_bdf"):
                for name in (node["id"], *node.get("children", ())):
                    found[name] = str(node["pci_bdf"])
    except (KeyError, TypeError, AttributeError) as error:
        raise another_schema("vm.info", info) from error
    return found


def present(info: dict[str, Any], alias: str) -> bool:
    """Return whether a VM still has a device.

    A VM that was never booted has no tree of devices, only its configuration.
    """
    try:
        tree = info.get("device_tree")
        return alias in tree if tree is not None else configured(info, alias)
    except (TypeError, AttributeError) as error:
        raise another_schema("vm.info", info) from error


def configured(info: dict[str, Any], alias: str) -> bool:
    """Return whether a VM is to keep a device; one that the guest was asked for is not."""
    try:
        members = list(info["config"].values())
    except (KeyError, TypeError, AttributeError) as error:
        raise another_schema("vm.info", info) from error
    return any(
        isinstance(each, dict) and each.get("id") == alias
        for member in members
        for each in (member if isinstance(member, list) else [member])
    )
