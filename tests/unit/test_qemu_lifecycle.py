"""libvirt's rules for QEMU's events, applied to no QEMU at all."""

from __future__ import annotations

import pytest

from hvcore import events
from hvcore.lifecycle import CrashedReason
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import PMSuspendedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutdownReason
from hvcore_qemu import lifecycle
from hvcore_qemu.lifecycle import Course
from hvcore_qemu.lifecycle import Effect
from hvcore_qemu.lifecycle import Next

BOOTED = RunningReason.BOOTED
NOTHING = Effect()


def handle(event, reason=BOOTED, course=None, **data):
    return lifecycle.handle(course or Course(), reason, {"event": event, "data": data})


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        ({"guest": True}, events.ShutdownDetail.GUEST),
        ({"guest": False}, events.ShutdownDetail.HOST),
        ({}, events.ShutdownDetail.FINISHED),
    ],
)
def test_a_power_off_ends_the_process(data, detail):
    assert handle("SHUTDOWN", **data) == Effect(
        ShutdownReason.UNKNOWN, ((events.Shutdown, {"reason": detail}),), Next.KILL
    )


def test_a_second_power_off_changes_nothing():
    assert handle("SHUTDOWN", ShutdownReason.UNKNOWN, guest=True) == NOTHING


@pytest.mark.parametrize("course", [Course(fake_reboot=True), Course(on_poweroff="restart")])
def test_a_power_off_that_is_half_of_a_reboot_is_not_shown(course):
    assert handle("SHUTDOWN", course=course, guest=True) == Effect(then=Next.RESTART)
    assert handle("STOP", course=course) == NOTHING
    steps = lifecycle.restart(course)
    assert [command for command, _ in steps] == ["system_reset", "cont"]
    assert handle("RESUME", course=course) == NOTHING


def test_a_stop_has_the_reason_it_was_caused_for_once():
    course = Course(pausing=PausedReason.USER)
    suspended = ((events.Suspended, {"reason": events.SuspendedDetail.PAUSED}),)
    assert handle("STOP", course=course) == Effect(PausedReason.USER, suspended)
    assert handle("STOP", course=course) == Effect(PausedReason.UNKNOWN, suspended)
    assert handle("STOP", PausedReason.IOERROR) == NOTHING


def test_cpus_that_run_again():
    resumed = ((events.Resumed, {"reason": events.ResumedDetail.UNPAUSED}),)
    assert handle("RESUME", PausedReason.USER) == Effect(RunningReason.UNPAUSED, resumed)
    assert handle("RESUME", BOOTED) == NOTHING
    assert handle("RESUME", PausedReason.STARTING_UP) == NOTHING


def test_a_reset_is_a_reboot_unless_it_is_part_of_the_start():
    course = Course(fake_reboot=True)
    assert handle("RESET", PausedReason.STARTING_UP, course) == NOTHING
    assert course.fake_reboot
    assert handle("RESET", course=course) == Effect(publish=((events.Rebooted, {}),))
    assert not course.fake_reboot


@pytest.mark.parametrize(
    ("on_crash", "then"),
    [
        ("destroy", Next.KILL_CRASHED),
        ("coredump-destroy", Next.KILL_CRASHED),
        ("restart", Next.RESTART),
        ("preserve", None),
    ],
)
def test_a_panic_is_followed_by_on_crash(on_crash, then):
    effect = handle("GUEST_PANICKED", course=Course(on_crash=on_crash))
    crashed = ((events.Crashed, {"reason": events.CrashedDetail.PANICKED}),)
    assert effect == Effect(CrashedReason.PANICKED, crashed, then)
    assert handle("STOP", CrashedReason.PANICKED) == NOTHING


def test_devices_that_go_or_stay():
    # The end of a device is told once the definition is without it.
    assert handle("DEVICE_DELETED", device="net0", path="/x") == NOTHING
    for data in ({"device": "net0"}, {"path": "/machine/peripheral/net0/x"}):
        assert handle("DEVICE_UNPLUG_GUEST_ERROR", **data) == Effect(
            publish=((events.DeviceRemovalFailed, {"alias": "net0"}),)
        )


def test_a_failed_disk_pauses_only_if_it_says_so():
    data = {
        "device": "",
        "qom-path": "/machine/peripheral/virtio-disk0/virtio-backend",
        "nospace": True,
    }
    effect = handle("BLOCK_IO_ERROR", action="stop", **data)
    assert effect.reason is PausedReason.IOERROR
    (kind, fields), (second, _) = effect.publish
    assert (kind, second) == (events.IOError, events.Suspended)
    assert (fields["alias"], fields["reason"]) == ("virtio-disk0", "enospc")
    effect = handle("BLOCK_IO_ERROR", action="report", **data)
    assert effect.reason is None
    assert [kind for kind, _ in effect.publish] == [events.IOError]


def test_a_watchdog_that_pauses():
    effect = handle("WATCHDOG", action="pause")
    assert effect.reason is PausedReason.WATCHDOG
    assert handle("WATCHDOG", action="inject-nmi").publish[0][1] == {
        "action": events.WatchdogAction.INJECT_NMI
    }


def test_sleep_and_waking():
    asleep = handle("SUSPEND")
    assert asleep.reason is PMSuspendedReason.UNKNOWN
    assert handle("SUSPEND", PausedReason.USER) == NOTHING
    awake = handle("WAKEUP", PMSuspendedReason.UNKNOWN)
    assert awake.reason is RunningReason.WAKEUP
    assert [kind for kind, _ in awake.publish] == [events.PMWakeup, events.Started]
    assert handle("WAKEUP", PausedReason.USER) == Effect(publish=((events.PMWakeup, {}),))


def test_units():
    assert handle("BALLOON_CHANGE", actual=1 << 30).publish[0][1] == {"actual": 1 << 20}
    sized = handle("MEMORY_DEVICE_SIZE_CHANGE", id="virtiomem0", size=(1 << 20) + 1)
    assert sized.publish[0][1] == {"alias": "virtiomem0", "size": 1025}
    assert handle("RTC_CHANGE", offset=-5).publish[0][1] == {"offset": -5}


@pytest.mark.parametrize("event", ["NIC_RX_FILTER_CHANGED", "POWERDOWN", "X_NEW"])
def test_events_without_a_rule_mean_nothing(event):
    assert handle(event) == NOTHING


@pytest.mark.parametrize(
    ("reason", "status", "running", "expected", "then"),
    [
        (BOOTED, "running", True, None, None),
        (PausedReason.USER, "running", True, RunningReason.UNPAUSED, None),
        (PausedReason.USER, "paused", False, None, None),
        (BOOTED, "paused", False, PausedReason.USER, None),
        (BOOTED, "io-error", False, PausedReason.IOERROR, None),
        (BOOTED, "internal-error", False, PausedReason.UNKNOWN, None),
        (BOOTED, "shutdown", False, ShutdownReason.UNKNOWN, Next.KILL),
        (ShutdownReason.UNKNOWN, "shutdown", False, None, Next.KILL),
        (PausedReason.USER, "shutdown", False, ShutdownReason.UNKNOWN, Next.KILL),
        (BOOTED, "guest-panicked", False, CrashedReason.PANICKED, Next.KILL_CRASHED),
    ],
)
def test_what_happened_while_nobody_listened(reason, status, running, expected, then):
    effect = lifecycle.catch_up(Course(), reason, {"status": status, "running": running})
    assert (effect.reason, effect.then) == (expected, then)
    assert bool(effect.publish) == (expected is not None)


def test_a_reboot_that_nobody_finished_is_finished():
    effect = lifecycle.catch_up(
        Course(fake_reboot=True), BOOTED, {"status": "shutdown", "running": False}
    )
    assert effect == Effect(then=Next.RESTART)


def test_the_first_conversation():
    steps = lifecycle.handshake(Course(on_reboot="destroy"))
    assert next(steps) == ("set-action", {"reboot": "shutdown"})
    assert steps.send({}) == ("query-chardev", {})
    with pytest.raises(StopIteration) as end:
        steps.send(
            [
                {"label": "charmonitor", "filename": "unix:/x,server=on"},
                {"label": "charserial0", "filename": "pty:/dev/pts/3"},
            ]
        )
    assert end.value.value == {"serial0": "/dev/pts/3"}


def test_a_guest_left_alone_may_power_off_by_itself_unless_more_is_to_follow():
    assert list(lifecycle.leave(Course())) == [
        ("set-action", {"shutdown": "poweroff", "panic": "pause"})
    ]
    assert list(lifecycle.leave(Course(on_poweroff="restart"))) == []
    assert list(lifecycle.leave(Course(fake_reboot=True))) == []
