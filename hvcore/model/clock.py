"""The <clock> section."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final
from typing import Literal

import attrs

from hvcore.errors import ErrorClass
from hvcore.xml.codecs import EMPTY_OR_ENUM
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import LONG
from hvcore.xml.codecs import NONEMPTY
from hvcore.xml.codecs import ULONG
from hvcore.xml.codecs import YESNO
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import children
from hvcore.xml.fields import element

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import ParseContext

ClockOffset = Literal["utc", "localtime", "variable", "timezone", "absolute"]
ClockBasis = Literal["utc", "localtime"]
TimerName = Literal["platform", "pit", "rtc", "hpet", "tsc", "kvmclock", "hypervclock", "armvtimer"]
TickPolicy = Literal["delay", "catchup", "merge", "discard"]
TimerTrack = Literal["boot", "guest", "wall", "realtime"]
TimerMode = Literal["auto", "native", "emulate", "paravirt", "smpsafe"]

_NO_START: Final = "internal error: missing 'start' attribute for clock with offset='absolute'"


def _seconds(text: str) -> int | None:
    """Return a number of seconds, or None for anything else."""
    assert LONG.convert is not None
    try:
        seconds: int = LONG.convert(text)
    except ValueError:
        return None
    return seconds


@element("timer")
class Timer(Element):
    """A source of time for the guest."""

    name: TimerName = attr("@name", ENUM(TimerName), required=True)
    present: bool | None = attr("@present", YESNO)
    tickpolicy: TickPolicy | None = attr(
        "@tickpolicy", ENUM(TickPolicy), doc="what happens to ticks that came too late"
    )
    track: TimerTrack | None = attr("@track", ENUM(TimerTrack))
    frequency: int | None = attr("@frequency", ULONG, omit=(0,), doc="of the TSC, in Hz")
    mode: TimerMode | None = attr("@mode", ENUM(TimerMode))
    threshold: int | None = attr("catchup/@threshold", ULONG, omit=(0,))
    slew: int | None = attr("catchup/@slew", ULONG, omit=(0,))
    limit: int | None = attr("catchup/@limit", ULONG, omit=(0,))


@element("clock")
class Clock(Element):
    """Guest time and its timers.

    :ivar started_at: host time at which the guest started (seconds since 1970) by which the
        base of a later adjustment is known.
    """

    offset: ClockOffset = attr(
        "@offset",
        EMPTY_OR_ENUM(ClockOffset),
        default="utc",
        refused="unsupported configuration: unknown clock offset '{value}'",
    )
    adjustment: str | None = attr("@adjustment", NONEMPTY, doc="seconds, or ``reset``")
    basis: ClockBasis | None = attr(
        "@basis",
        EMPTY_OR_ENUM(ClockBasis),
        refused="unsupported configuration: unknown clock basis '{value}'",
    )
    timezone: str | None = attr("@timezone", NONEMPTY)
    start: int | None = attr("@start", ULONG, refused=_NO_START, doc="seconds since 1970")
    timers: list[Timer] = children("timer", Timer)
    started_at: int | None = attrs.field(default=None, eq=False)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Arrange the attributes that belong to each kind of offset, and drop the others."""
        if not el.get("offset"):
            self.offset = "utc"
        if self.offset in ("utc", "localtime"):
            self.basis = None
            if self.adjustment not in (None, "reset"):
                seconds = _seconds(self.adjustment)
                if seconds is None:
                    ctx.issue(el, f"unknown clock adjustment '{self.adjustment}'")
                    return
                self.adjustment = str(seconds)
                self.basis = "utc" if self.offset == "utc" else "localtime"
                self.offset = "variable"
        elif self.offset == "variable":
            self.adjustment = str(_seconds(self.adjustment or "") or 0)
            self.basis = self.basis or "utc"
        else:
            self.adjustment = self.basis = None
        if self.offset != "timezone":
            self.timezone = None
        elif self.timezone is None:
            ctx.issue(
                el,
                "missing 'timezone' attribute for clock with offset='timezone'",
                kind=ErrorClass.INTERNAL,
            )
        if self.offset != "absolute":
            self.start = None
        elif self.start is None:
            ctx.issue(el, _NO_START)
