"""Rules of <clock> that hold for every driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.model.clock import Clock
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.clock import Timer
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues

rules = Rules()


@rules.post_parse_early
def _complete(domain: Domain, ctx: Context) -> Issues:
    """Guests without a clock of their own have UTC."""
    del ctx
    if domain.clock is None:
        domain.clock = Clock()
    return ()


@rules.post_parse_late
def _timers(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Refuse settings that a kind of timer cannot have."""
    del ctx
    for timer in domain.clock.timers if domain.clock is not None else ():
        yield from _check(timer)


def _check(timer: Timer) -> Iterator[Issue]:
    refusal = f"timer {timer.name} doesn't support setting of timer "
    if timer.name in ("kvmclock", "hypervclock") and timer.tickpolicy:
        yield Issue.unsupported(refusal + "tickpolicy", line=timer.line)
    if timer.tickpolicy != "catchup" and (timer.threshold or timer.slew or timer.limit):
        yield Issue.xml(
            "setting of timer catchup policies is only supported with tickpolicy='catchup'",
            line=timer.line,
        )
    if timer.name != "tsc" and timer.frequency:
        yield Issue.unsupported(refusal + "frequency", line=timer.line)
    if timer.name != "tsc" and timer.mode:
        yield Issue.unsupported(refusal + "mode", line=timer.line)
    if timer.name not in ("platform", "rtc") and timer.track:
        yield Issue.unsupported(refusal + "track", line=timer.line)
