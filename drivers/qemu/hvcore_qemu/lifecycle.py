"""What QEMU's events and status mean for a domain: libvirt's rules, without any I/O.

Each rule takes what is known and returns :class:`Effect` objects: a new state, events to publish,
and what to do next. The driver carries them out. Sources: ``qemuProcessHandle*`` and
``qemuProcessUpdateState`` of libvirt's qemu_process.c.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import TypeAlias

import attrs

from hvcore import events
from hvcore.lifecycle import CrashedReason
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import PMSuspendedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutdownReason
from hvcore.lifecycle import State
from hvcore.lifecycle import state_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from hvcore.lifecycle import StateReason
    from hvcore.model.domain import Domain
    from hvcore_qemu.monitor import Command

RESTARTS: Final = frozenset({"restart", "rename-restart", "coredump-restart"})
"""Actions after which the guest is started afresh."""


class Next(enum.Enum):
    """What the driver has to do after an event."""

    KILL = "end the process; the guest is done with it"
    KILL_CRASHED = "end the process; the guest crashed"
    RESTART = "reset the guest and let it run"


EventCall: TypeAlias = tuple[type[events.Event], dict[str, Any]]
"""An event to publish: its class and what it holds beside the domain."""


@attrs.frozen
class Effect:
    """Consequences of one event.

    :param reason: of the new state; ``None`` leaves the state.
    :param amend: how the running definition is to change.
    """

    reason: StateReason | None = None
    publish: tuple[EventCall, ...] = ()
    then: Next | None = None
    amend: Callable[[Domain], None] | None = None


@attrs.define(kw_only=True)
class Course:
    """What decides how a guest's events are to be read.

    :ivar fake_reboot: the next power-off is half of a reboot that we asked for.
    :ivar restarting: between that power-off and the reset; pauses in between are not shown.
    :ivar pausing: why the next stop of the CPUs happens.
    :ivar resuming: why they run again next.
    """

    on_poweroff: str = "destroy"
    on_reboot: str = "restart"
    on_crash: str = "destroy"
    fake_reboot: bool = False
    restarting: bool = False
    pausing: PausedReason = PausedReason.UNKNOWN
    resuming: RunningReason = RunningReason.UNPAUSED

    @property
    def restarts(self) -> bool:
        """Whether a power-off is to be followed by a fresh start."""
        return self.fake_reboot or self.on_poweroff == "restart"


def handle(course: Course, reason: StateReason, event: dict[str, Any]) -> Effect:
    """Return what an event of QMP means for a domain that is in the state of ``reason``."""
    rule = _RULES.get(event["event"])
    if rule is None:
        return Effect()
    return rule(course, reason, event.get("data", {}))


def panicked(course: Course) -> Effect:
    """Return what a panic of the guest means; also when it is found out later."""
    then = Next.KILL_CRASHED
    if course.on_crash in RESTARTS:
        course.fake_reboot = True
        course.restarting = True
        then = Next.RESTART
    return Effect(
        CrashedReason.PANICKED,
        ((events.Crashed, {"reason": events.CrashedDetail.PANICKED}),),
        None if course.on_crash == "preserve" else then,
    )


def _shutdown(course: Course, reason: StateReason, data: dict[str, Any]) -> Effect:
    if _is(reason, State.SHUTDOWN):
        return Effect()
    if course.restarts:
        course.restarting = True
        return Effect(then=Next.RESTART)
    detail = {
        True: events.ShutdownDetail.GUEST,
        False: events.ShutdownDetail.HOST,
        None: events.ShutdownDetail.FINISHED,
    }[data.get("guest")]
    return Effect(ShutdownReason.UNKNOWN, ((events.Shutdown, {"reason": detail}),), Next.KILL)


def _stop(course: Course, reason: StateReason, _data: dict[str, Any]) -> Effect:
    pausing, course.pausing = course.pausing, PausedReason.UNKNOWN
    if not _is(reason, State.RUNNING) or course.restarting:
        return Effect()
    return Effect(pausing, ((events.Suspended, {"reason": _suspended(pausing)}),))


def _resume(course: Course, reason: StateReason, _data: dict[str, Any]) -> Effect:
    resuming, course.resuming = course.resuming, RunningReason.UNPAUSED
    if _is(reason, State.RUNNING) or _starting(reason):
        # The end of a start is announced by whoever started it.
        return Effect()
    detail = _RESUMED.get(resuming, events.ResumedDetail.UNPAUSED)
    return Effect(resuming, ((events.Resumed, {"reason": detail}),))


def _reset(course: Course, reason: StateReason, _data: dict[str, Any]) -> Effect:
    if _starting(reason):
        return Effect()
    course.fake_reboot = False
    return Effect(publish=((events.Rebooted, {}),))


def _guest_panicked(course: Course, _reason: StateReason, _data: dict[str, Any]) -> Effect:
    return panicked(course)


def _crashloaded(_course: Course, _reason: StateReason, _data: dict[str, Any]) -> Effect:
    return Effect(publish=((events.Crashed, {"reason": events.CrashedDetail.CRASHLOADED}),))


def _watchdog(_course: Course, reason: StateReason, data: dict[str, Any]) -> Effect:
    action = _member(events.WatchdogAction, data.get("action"), events.WatchdogAction.NONE)
    fired: EventCall = (events.WatchdogFired, {"action": action})
    if action is events.WatchdogAction.PAUSE and _is(reason, State.RUNNING):
        suspended = (events.Suspended, {"reason": events.SuspendedDetail.WATCHDOG})
        return Effect(PausedReason.WATCHDOG, (fired, suspended))
    return Effect(publish=(fired,))


def _block_io_error(_course: Course, reason: StateReason, data: dict[str, Any]) -> Effect:
    action = {
        "stop": events.IOErrorAction.PAUSE,
        "report": events.IOErrorAction.REPORT,
    }.get(data.get("action", ""), events.IOErrorAction.NONE)
    failed: EventCall = (
        events.IOError,
        {
            "path": "",
            "alias": _alias(data),
            "action": action,
            "reason": "enospc" if data.get("nospace") else "",
        },
    )
    if action is events.IOErrorAction.PAUSE and _is(reason, State.RUNNING):
        suspended = (events.Suspended, {"reason": events.SuspendedDetail.IOERROR})
        return Effect(PausedReason.IOERROR, (failed, suspended))
    return Effect(publish=(failed,))


def _unplug_refused(_course: Course, _reason: StateReason, data: dict[str, Any]) -> Effect:
    alias = _alias(data)
    return Effect(publish=((events.DeviceRemovalFailed, {"alias": alias}),) if alias else ())


def _suspend(_course: Course, reason: StateReason, _data: dict[str, Any]) -> Effect:
    if not _is(reason, State.RUNNING):
        return Effect()
    return Effect(PMSuspendedReason.UNKNOWN, ((events.PMSuspended, {}),))


def _suspend_disk(_course: Course, reason: StateReason, _data: dict[str, Any]) -> Effect:
    if not _is(reason, State.RUNNING):
        return Effect()
    detail = events.PMSuspendedDetail.DISK
    return Effect(PMSuspendedReason.UNKNOWN, ((events.PMSuspended, {"reason": detail}),))


def _wakeup(_course: Course, reason: StateReason, _data: dict[str, Any]) -> Effect:
    woken: EventCall = (events.PMWakeup, {})
    # What did not sleep on the guest's own account does not run because of this.
    if not _is(reason, State.PMSUSPENDED):
        return Effect(publish=(woken,))
    started = (events.Started, {"reason": events.StartedDetail.WAKEUP})
    return Effect(RunningReason.WAKEUP, (woken, started))


def _rtc_change(_course: Course, _reason: StateReason, data: dict[str, Any]) -> Effect:
    return Effect(publish=((events.RtcChanged, {"offset": int(data.get("offset", 0))}),))


def _balloon_change(_course: Course, _reason: StateReason, data: dict[str, Any]) -> Effect:
    kib = int(data.get("actual", 0)) // 1024

    def amend(domain: Domain) -> None:
        domain.current_memory = kib

    return Effect(publish=((events.BalloonChanged, {"actual": kib}),), amend=amend)


def _memory_device_size_change(_course: Course, _reason: StateReason, data: Any) -> Effect:
    alias, kib = data.get("id", ""), -(-int(data.get("size", 0)) // 1024)

    def amend(domain: Domain) -> None:
        for device in domain.devices.memories:
            if device.alias == alias:
                device.current_size = kib

    changed = {"alias": alias, "size": kib}
    return Effect(publish=((events.MemoryDeviceSizeChanged, changed),), amend=amend)


def _migration_pass(_course: Course, _reason: StateReason, data: dict[str, Any]) -> Effect:
    passed = {"iteration": int(data.get("pass", 0))}
    return Effect(publish=((events.MigrationIteration, passed),))


def _tray_moved(_course: Course, _reason: StateReason, data: dict[str, Any]) -> Effect:
    moved = {"alias": _alias(data), "opened": bool(data.get("tray-open"))}
    return Effect(publish=((events.TrayMoved, moved),))


_RULES: Final[dict[str, Callable[[Course, Any, dict[str, Any]], Effect]]] = {
    "BALLOON_CHANGE": _balloon_change,
    "BLOCK_IO_ERROR": _block_io_error,
    "DEVICE_TRAY_MOVED": _tray_moved,
    "DEVICE_UNPLUG_GUEST_ERROR": _unplug_refused,
    "GUEST_CRASHLOADED": _crashloaded,
    "GUEST_PANICKED": _guest_panicked,
    "MEMORY_DEVICE_SIZE_CHANGE": _memory_device_size_change,
    "MEM_UNPLUG_ERROR": _unplug_refused,
    "MIGRATION_PASS": _migration_pass,
    "RESET": _reset,
    "RESUME": _resume,
    "RTC_CHANGE": _rtc_change,
    "SHUTDOWN": _shutdown,
    "STOP": _stop,
    "SUSPEND": _suspend,
    "SUSPEND_DISK": _suspend_disk,
    "WAKEUP": _wakeup,
    "WATCHDOG": _watchdog,
}

_PAUSED: Final[dict[str, PausedReason]] = {
    "inmigrate": PausedReason.MIGRATION,
    "postmigrate": PausedReason.MIGRATION,
    "finish-migrate": PausedReason.MIGRATION,
    "io-error": PausedReason.IOERROR,
    "paused": PausedReason.USER,
    "prelaunch": PausedReason.USER,
    "save-vm": PausedReason.SAVE,
    "shutdown": PausedReason.SHUTTING_DOWN,
    "watchdog": PausedReason.WATCHDOG,
    "guest-panicked": PausedReason.CRASHED,
}
"""Why the CPUs stand still, by QEMU's run state; what is missing here tells nothing."""

_DETAILS: Final[dict[PausedReason, events.SuspendedDetail]] = {
    PausedReason.MIGRATION: events.SuspendedDetail.MIGRATED,
    PausedReason.IOERROR: events.SuspendedDetail.IOERROR,
    PausedReason.WATCHDOG: events.SuspendedDetail.WATCHDOG,
    PausedReason.FROM_SNAPSHOT: events.SuspendedDetail.FROM_SNAPSHOT,
    PausedReason.API_ERROR: events.SuspendedDetail.API_ERROR,
    PausedReason.POSTCOPY: events.SuspendedDetail.POSTCOPY,
    PausedReason.POSTCOPY_FAILED: events.SuspendedDetail.POSTCOPY_FAILED,
}

_RESUMED: Final[dict[RunningReason, events.ResumedDetail]] = {
    RunningReason.MIGRATED: events.ResumedDetail.MIGRATED,
    RunningReason.MIGRATION_CANCELED: events.ResumedDetail.MIGRATED,
}
"""How it is told why the CPUs run again; usually that they were unpaused."""


def catch_up(course: Course, reason: StateReason, status: dict[str, Any]) -> Effect:
    """Return what happened while nobody listened.

    :param reason: of the state that was written down last.
    :param status: QEMU's answer to ``query-status``.
    """
    state = state_of(reason)
    running = bool(status["running"])
    paused = _PAUSED.get(status["status"], PausedReason.UNKNOWN)
    if running:
        if state is State.PAUSED:
            return Effect(
                RunningReason.UNPAUSED,
                ((events.Resumed, {"reason": events.ResumedDetail.UNPAUSED}),),
            )
        return Effect()
    if paused is PausedReason.SHUTTING_DOWN:
        if course.restarts:
            course.restarting = True
            return Effect(then=Next.RESTART)
        if state is State.SHUTDOWN:
            return Effect(then=Next.KILL)
        return Effect(ShutdownReason.UNKNOWN, ((events.Shutdown, {}),), Next.KILL)
    if state is State.RUNNING:
        if paused is PausedReason.CRASHED:
            return panicked(course)
        return Effect(paused, ((events.Suspended, {"reason": _suspended(paused)}),))
    return Effect()


def _suspended(reason: PausedReason) -> events.SuspendedDetail:
    return _DETAILS.get(reason, events.SuspendedDetail.PAUSED)


def _is(reason: StateReason, state: State) -> bool:
    return state_of(reason) is state


def _starting(reason: StateReason) -> bool:
    return _is(reason, State.PAUSED) and reason == PausedReason.STARTING_UP


def _alias(data: dict[str, Any]) -> str:
    """Return the alias of the device an event is about.

    Devices configured by ``-device`` have no drive name: the alias is in their QOM path, as
    ``/machine/peripheral/<alias>/...``.
    """
    if data.get("device"):
        return str(data["device"])
    parts = str(data.get("id") or data.get("qom-path") or data.get("path") or "").split("/")
    if parts[:3] == ["", "machine", "peripheral"] and len(parts) > 3:
        return parts[3]
    return parts[0]


def _member(
    enumeration: type[events.WatchdogAction], name: object, default: events.WatchdogAction
) -> events.WatchdogAction:
    wanted = str(name).replace("-", "_").upper()
    return enumeration.__members__.get(wanted, default)


def handshake(course: Course) -> Generator[Command, Any, dict[str, str]]:
    """Talk to a QEMU that was just started; return the terminals it opened, by alias."""
    if course.on_reboot == "destroy":
        # As good as -no-reboot, and can be changed while it runs.
        yield "set-action", {"reboot": "shutdown"}
    return terminals((yield "query-chardev", {}))


def terminals(chardevs: list[dict[str, Any]]) -> dict[str, str]:
    """Return the terminals among QEMU's character devices, by alias of the device."""
    found = {}
    for chardev in chardevs:
        label, filename = chardev["label"], chardev["filename"]
        if label.startswith("char") and filename.startswith("pty:"):
            found[label.removeprefix("char")] = filename.removeprefix("pty:")
    return found


def leave(course: Course) -> Generator[Command, Any, None]:
    """Prepare QEMU for a time without a manager: a guest that powers off is not to linger.

    Where more is to follow a power-off than the end, it waits for the next manager, as
    does a guest that panics: only a manager can do what its definition says.
    """
    if not course.restarts:
        yield "set-action", {"shutdown": "poweroff", "panic": "pause"}


def come_back(course: Course, reason: StateReason) -> Generator[Command, Any, Effect]:
    """Take over from an earlier manager; return what happened since."""
    yield "set-action", {"shutdown": "pause", "panic": "shutdown"}
    return catch_up(course, reason, (yield "query-status", {}))


def restart(course: Course) -> Generator[Command, Any, None]:
    """Start the guest afresh in the same process."""
    yield "system_reset", {}
    course.resuming = RunningReason.BOOTED
    yield "cont", {}
