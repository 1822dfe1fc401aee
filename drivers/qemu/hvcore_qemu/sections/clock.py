"""The <clock> section in QEMU: validation of timers, ``-rtc``."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.model.clock import Clock
from hvcore.rules.base import Rules
from hvcore.rules.os import os_of
from hvcore_qemu.machines import X86
from hvcore_qemu.machines import machine_of
from hvcore_qemu.props import refuse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.clock import Timer
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore_qemu.command import Command
    from hvcore_qemu.prepare import Preparation

rules = Rules()

START_MAX: Final = 253402300799
"""9999-12-31T23:59:59, the last time that can be written with four digits for the year."""

_PARAVIRTUAL: Final = frozenset({"tsc", "kvmclock", "hypervclock"})
_RTC_TRACK: Final = {"guest": "vm", "wall": "host", "realtime": "rt"}


# -- validation -------------------------------------------------------------------------------


@rules.check_domain
def _check_timers(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Refuse timers that the machine does not have or QEMU cannot run that way."""
    clock = domain.clock
    if clock is None or ctx.caps is None:
        return
    for timer in clock.timers:
        message = _refusal(domain, timer, ctx)
        if message is not None:
            yield Issue.unsupported(message, line=timer.line)
            return
    if clock.offset == "absolute" and (clock.start or 0) > START_MAX:
        yield Issue.unsupported(
            f"The maximum 'start' value for <clock offset='absolute'> is {START_MAX}"
        )


def _refusal(domain: Domain, timer: Timer, ctx: Context) -> str | None:
    """Return why QEMU cannot have this timer, or None."""
    name, policy = timer.name, timer.tickpolicy
    if name == "platform":
        return f"unsupported timer type (name) '{name}'"
    if name in _PARAVIRTUAL and timer.present and os_of(domain).arch not in X86:
        return _unavailable(domain, name)
    if name == "rtc":
        if timer.track == "boot":
            return f"unsupported rtc timer track '{timer.track}'"
        if policy in ("merge", "discard"):
            return f"unsupported rtc timer tickpolicy '{policy}'"
    if name == "pit" and (
        policy == "merge" or (policy == "catchup" and "kvm-pit-lost-tick-policy" not in ctx.caps)
    ):
        return f"unsupported pit tickpolicy '{policy}'"
    if name == "hpet" and timer.present and os_of(domain).arch not in X86:
        return "hpet timer is not supported by this architecture"
    return _arm_refusal(domain, timer, ctx) if name == "armvtimer" else None


def _arm_refusal(domain: Domain, timer: Timer, ctx: Context) -> str | None:
    """Return why the virtual timer of ARM cannot be configured, or None."""
    name = timer.name
    if domain.type != "kvm" or not machine_of(domain).arm_virt:
        return _unavailable(domain, name)
    if timer.present is False:
        return f"The '{name}' timer can't be disabled"
    if "cpu.kvm-no-adjvtime" not in ctx.caps:
        return f"Configuring the '{name}' timer is not supported with this QEMU binary"
    if timer.tickpolicy in ("catchup", "merge"):
        return f"The '{name}' timer does not support tickpolicy '{timer.tickpolicy}'"
    return None


def _unavailable(domain: Domain, name: str) -> str:
    os = os_of(domain)
    return (
        f"Configuring the '{name}' timer is not supported for "
        f"virtType={domain.type} arch={os.arch} machine={os.machine} guests"
    )


# -- preparation ------------------------------------------------------------------------------


def prepare(work: Preparation) -> None:
    """Check the TSC, and make a clock relative to local time one relative to UTC.

    The guest's clock must not jump with the host's time zone, so the difference at the start
    holds until the end.
    """
    clock = work.domain.clock
    if clock is None:
        return
    _check_tsc(clock, work)
    if clock.offset != "variable":
        return
    if clock.basis == "localtime":
        clock.adjustment = str(int(clock.adjustment or 0) + work.host.utc_offset())
        clock.basis = "utc"
    clock.started_at = work.resources.launch_time


def _check_tsc(section: Clock, work: Preparation) -> None:
    """Refuse a frequency that the host's CPUs cannot give their guests."""
    wanted = next((t.frequency for t in section.timers if t.name == "tsc" and t.frequency), None)
    host = work.host.tsc() if wanted is not None else None
    message = host.refusal(wanted) if wanted is not None and host is not None else None
    if message is not None:
        refuse(Issue.unsupported(message))


# -- command line -----------------------------------------------------------------------------


def clock(cmd: Command) -> None:
    """Add ``-rtc`` and the policies of timers that are devices."""
    section = cmd.domain.clock or Clock()
    rtc = [f"base={_base(cmd, section)}"]
    for timer in section.timers:
        if timer.name == "rtc":
            rtc += _rtc(timer)
            break
    cmd.option("-rtc", ",".join(rtc))
    if section.offset == "timezone" and section.timezone:
        cmd.env("TZ", section.timezone)
    for timer in section.timers:
        if timer.name == "pit" and "kvm-pit-lost-tick-policy" in cmd.caps:
            # QEMU's own default is to catch up where KVM has the timer.
            policy = timer.tickpolicy or "delay"
            if policy != "catchup":
                cmd.option("-global", f"kvm-pit.lost_tick_policy={policy}")
        if (
            timer.name == "hpet"
            and timer.present is False
            and "machine-hpet" not in cmd.caps
            and os_of(cmd.domain).arch in X86
        ):
            cmd.option("-no-hpet")


def _rtc(timer: Timer) -> Iterator[str]:
    """Yield what the timer ``rtc`` says about the real-time clock."""
    if timer.track in _RTC_TRACK:
        yield f"clock={_RTC_TRACK[timer.track]}"
    if timer.tickpolicy == "catchup":
        yield "driftfix=slew"


def _base(cmd: Command, section: Clock) -> str:
    """Return the time at which the guest's clock starts."""
    if section.offset == "utc":
        return "utc"
    if section.offset in ("localtime", "timezone"):
        return "localtime"  # the time zone comes by the environment
    if section.offset == "absolute":
        seconds = section.start or 0
    else:
        seconds = cmd.resources.launch_time + int(section.adjustment or 0)
    try:
        moment = dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(seconds=seconds)
    except OverflowError:
        refuse(Issue.unsupported("the guest's clock would start before year 1 or after 9999"))
    return moment.strftime("%Y-%m-%dT%H:%M:%S")
