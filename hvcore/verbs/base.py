"""What the two halves of every topic share."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import ClassVar
from typing import final

from hvcore.errors import UnsupportedOperation

if TYPE_CHECKING:
    from hvcore.driver import Record
    from hvcore.engine import Engine
    from hvcore.operations import Op


class Verbs:
    """Base of what drivers may override."""

    name: ClassVar[str]
    """Name in refusals and tables of features, for instance ``qemu``."""

    @final
    def unsupported(self, op: Op, record: Record | None = None) -> UnsupportedOperation:
        """Return the refusal of a verb."""
        return UnsupportedOperation(
            op.api, driver=self.name, domain=None if record is None else record.name
        )


class OnHost:
    """Base of what a host offers."""

    __slots__ = ("_engine",)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine


class Handle:
    """Base of what a handle on a domain offers."""

    __slots__ = ("_engine", "_record")

    def __init__(self, engine: Engine, record: Record) -> None:
        self._engine = engine
        self._record = record

    def _need(self, op: Op) -> None:
        """Refuse what the driver does not have, before anything else is looked at.

        :raises UnsupportedOperation: it has not.
        """
        driver = self._engine.driver
        if op not in driver.operations():
            raise driver.unsupported(op, self._record)

    def _now(self) -> Record:
        """Return the domain as it is now.

        :raises NoSuchDomain: it is gone.
        """
        self._record = self._engine.refresh(self._record)
        return self._record
