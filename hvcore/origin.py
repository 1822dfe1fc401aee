"""What a virtual machine begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from hvcore.events import StartedDetail
from hvcore.events import SuspendedDetail
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from collections.abc import Callable

    from hvcore.driver import Record


@attrs.frozen(kw_only=True)
class Origin:
    """How a virtual machine is brought up, and how that is told; a boot unless said otherwise.

    :param begin: brings ``record.live`` to life; None for the driver's ``start``.
    :param running: its state's reason if it runs afterwards.
    :param paused: the same if it stands still.
    :param suspended: how it is told that it does; None for not at all.
    """

    begin: Callable[[Record], Awaitable[None]] | None = None
    running: RunningReason = RunningReason.BOOTED
    paused: PausedReason = PausedReason.USER
    started: StartedDetail = StartedDetail.BOOTED
    suspended: SuspendedDetail | None = SuspendedDetail.PAUSED
