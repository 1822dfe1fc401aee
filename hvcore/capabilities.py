"""What a hypervisor binary can do: a set of names, sealed.

Invariant: a value never changes. Whoever needs other capabilities (a test, a plugin that probes
further names) makes another value with `Capabilities.replace`. Drivers subclass it with the facts
of their hypervisor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import Generic
from typing import TypeVar
from typing import cast
from typing import final

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Mapping
    from typing import Self

T = TypeVar("T")
_UNSET: Final = object()


@final
class Deferred(Generic[T]):
    """A value that is made on first use and kept.

    Capability data is large (some fifteen thousand CPU facts for one QEMU) and most programs
    look at little of it, so the parts are read when they are asked for. Two are equal when their
    values are; pickling resolves.

    :param make: returns the value; called at most once in a thread.
    """

    __slots__ = ("_make", "_value")

    def __init__(self, make: Callable[[], T]) -> None:
        self._make: Callable[[], T] | None = make
        self._value: object = _UNSET

    @classmethod
    def of(cls, value: T) -> Deferred[T]:
        """Return a deferred that already has its value."""
        deferred = cls(lambda: value)
        deferred()
        return deferred

    def __call__(self) -> T:
        """Return the value, making it if this is the first time."""
        make = self._make
        if make is not None:
            self._value = make()
            self._make = None  # what it was made from can go
        return cast("T", self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Deferred):
            return NotImplemented
        return self is other or self() == other()

    def __hash__(self) -> int:
        return hash(self())

    def __reduce__(self) -> tuple[Any, ...]:
        return (Deferred.of, (self(),))

    def __repr__(self) -> str:
        return "Deferred(...)" if self._make is not None else f"Deferred({self._value!r})"


@attrs.frozen(slots=True, kw_only=True)
class Capabilities:
    """The capabilities of one hypervisor binary.

    :param names: what it can do, as flag names (``memory-backend-memfd``, ``usb-hub``).
    :param arch: the guest architecture it runs, in libvirt's spelling (``x86_64``, ``aarch64``).
    :param version: ``major * 1000000 + minor * 1000 + micro``, as libvirt counts versions.
    """

    names: frozenset[str] = frozenset()
    arch: str
    version: int = 0

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def has(self, *names: str) -> bool:
        """Return whether all of these names are there."""
        return self.names.issuperset(names)

    def missing(self, required: Iterable[str]) -> frozenset[str]:
        """Return those of the required names that are not there."""
        return frozenset(required) - self.names

    def replace(self, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Self:
        """Return the same capabilities with names added, then names removed."""
        return attrs.evolve(self, names=(self.names | frozenset(add)) - frozenset(remove))

    @property
    def version_text(self) -> str:
        """The version as people write it: ``10.0.2``."""
        return "{}.{}.{}".format(*split_version(self.version))


def join_version(major: int, minor: int, micro: int = 0) -> int:
    """Return a version as libvirt's single number."""
    return major * 1_000_000 + minor * 1_000 + micro


def split_version(version: int) -> tuple[int, int, int]:
    """Return major, minor and micro of libvirt's single number."""
    return version // 1_000_000, version // 1_000 % 1_000, version % 1_000


@final
@attrs.frozen(slots=True)
class Exchange:
    """One command and its reply.

    :param command: as sent: ``execute``, and ``arguments`` if there are any.
    :param reply: has ``return``, or ``error`` with ``class`` and ``desc``.
    """

    command: Mapping[str, Any]
    reply: Mapping[str, Any]


@final
@attrs.frozen(slots=True)
class ProbeSession:
    """What a driver asked a hypervisor binary, and what it concluded: what ``hv_probe`` is given.

    :param capabilities: what the driver found.
    :param exchanges: all that was said, in order. Where the binary was asked with several
        accelerators, the one it prefers comes first.
    """

    capabilities: Capabilities
    exchanges: tuple[Exchange, ...] = attrs.field(default=(), repr=False)

    def answers(self, command: str, **arguments: Any) -> list[Any]:
        """Return what a command returned, each time it was asked and did not fail.

        :param arguments: those it was asked with must include these.
        """
        return [
            each.reply["return"]
            for each in self.exchanges
            if each.command["execute"] == command
            and "return" in each.reply
            and arguments.items() <= (each.command.get("arguments") or {}).items()
        ]

    def answer(self, command: str, **arguments: Any) -> Any:
        """Return what a command returned first; None when it was not asked, or failed."""
        return next(iter(self.answers(command, **arguments)), None)
