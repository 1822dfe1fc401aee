"""What a domain can be doing: libvirt's states and reasons, by its names and numbers.

The numbers are ``virDomainState`` and the ``virDomain*Reason`` enumerations of
``libvirt-domain.h``; a label is what ``virsh domstate --reason`` prints. Nothing here does
anything: the rules of how a state changes belong to the drivers.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING
from typing import Final
from typing import TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self


class Labelled(enum.IntEnum):
    """An integer with the text a user reads."""

    label: str

    def __new__(cls, number: int, label: str) -> Self:
        """Make a member from its number and text."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.label = label
        return member

    def __str__(self) -> str:
        return self.label


class State(Labelled):
    """``virDomainState``."""

    NOSTATE = (0, "no state")
    RUNNING = (1, "running")
    BLOCKED = (2, "idle")
    PAUSED = (3, "paused")
    SHUTDOWN = (4, "in shutdown")
    SHUTOFF = (5, "shut off")
    CRASHED = (6, "crashed")
    PMSUSPENDED = (7, "pmsuspended")


class NostateReason(Labelled):
    """``virDomainNostateReason``."""

    UNKNOWN = (0, "unknown")


class RunningReason(Labelled):
    """``virDomainRunningReason``."""

    UNKNOWN = (0, "unknown")
    BOOTED = (1, "booted")
    MIGRATED = (2, "migrated")
    RESTORED = (3, "restored")
    FROM_SNAPSHOT = (4, "from snapshot")
    UNPAUSED = (5, "unpaused")
    MIGRATION_CANCELED = (6, "migration canceled")
    SAVE_CANCELED = (7, "save canceled")
    WAKEUP = (8, "event wakeup")
    CRASHED = (9, "crashed")
    POSTCOPY = (10, "post-copy")
    POSTCOPY_FAILED = (11, "post-copy failed")


class BlockedReason(Labelled):
    """``virDomainBlockedReason``."""

    UNKNOWN = (0, "unknown")


class PausedReason(Labelled):
    """``virDomainPausedReason``."""

    UNKNOWN = (0, "unknown")
    USER = (1, "user")
    MIGRATION = (2, "migrating")
    SAVE = (3, "saving")
    DUMP = (4, "dumping")
    IOERROR = (5, "I/O error")
    WATCHDOG = (6, "watchdog")
    FROM_SNAPSHOT = (7, "from snapshot")
    SHUTTING_DOWN = (8, "shutting down")
    SNAPSHOT = (9, "creating snapshot")
    CRASHED = (10, "crashed")
    STARTING_UP = (11, "starting up")
    POSTCOPY = (12, "post-copy")
    POSTCOPY_FAILED = (13, "post-copy failed")
    API_ERROR = (14, "api error")


class ShutdownReason(Labelled):
    """``virDomainShutdownReason``."""

    UNKNOWN = (0, "unknown")
    USER = (1, "user")


class ShutoffReason(Labelled):
    """``virDomainShutoffReason``."""

    UNKNOWN = (0, "unknown")
    SHUTDOWN = (1, "shutdown")
    DESTROYED = (2, "destroyed")
    CRASHED = (3, "crashed")
    MIGRATED = (4, "migrated")
    SAVED = (5, "saved")
    FAILED = (6, "failed")
    FROM_SNAPSHOT = (7, "from snapshot")
    DAEMON = (8, "daemon")


class CrashedReason(Labelled):
    """``virDomainCrashedReason``."""

    UNKNOWN = (0, "unknown")
    PANICKED = (1, "panicked")


class PMSuspendedReason(Labelled):
    """``virDomainPMSuspendedReason``."""

    UNKNOWN = (0, "unknown")


StateReason: TypeAlias = (
    NostateReason
    | RunningReason
    | BlockedReason
    | PausedReason
    | ShutdownReason
    | ShutoffReason
    | CrashedReason
    | PMSuspendedReason
)

REASONS: Final[dict[State, type[StateReason]]] = {
    State.NOSTATE: NostateReason,
    State.RUNNING: RunningReason,
    State.BLOCKED: BlockedReason,
    State.PAUSED: PausedReason,
    State.SHUTDOWN: ShutdownReason,
    State.SHUTOFF: ShutoffReason,
    State.CRASHED: CrashedReason,
    State.PMSUSPENDED: PMSuspendedReason,
}
"""Which reasons belong to which state."""

STATE_OF: Final[dict[type[Labelled], State]] = {
    reasons: state for state, reasons in REASONS.items()
}
"""The state that a class of reasons belongs to: a reason alone says both."""


def state_of(reason: StateReason) -> State:
    """Return the state that ``reason`` is a reason for."""
    return STATE_OF[type(reason)]


def reason_named(state: State, name: object) -> StateReason:
    """Return the reason for ``state`` called ``name``, or its unknown one.

    Status files may come from a newer version; a word it does not know must not lose a domain.
    """
    reasons = REASONS[state]
    members: Mapping[str, StateReason] = reasons.__members__
    return members.get(str(name)) or next(iter(members.values()))
