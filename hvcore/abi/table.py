"""What tables of compared values are made of, and what walks them.

A table says of an element which values the guest sees, and what libvirt says where they differ.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs

from hvcore.errors import Issue
from hvcore.xml.fields import Element
from hvcore.xml.fields import fields_of

if TYPE_CHECKING:
    from hvcore.model.domain import Domain

Check = Callable[[Any, Any], Iterable[Issue]]
"""Compares a source with its target by itself."""


@attrs.frozen
class Kind:
    """How a value is compared and shown.

    :ivar absent: what a value that is not given counts as.
    :ivar words: what single values are called in messages.
    :ivar form: how the others are written.
    """

    absent: Any = None
    words: Mapping[Any, str] = attrs.field(factory=dict)
    form: str = "{}"

    def read(self, value: Any) -> Any:
        """Return ``value`` as it is compared."""
        return self.absent if value is None else value

    def show(self, value: Any) -> str:
        """Return a value that was read, as messages have it."""
        word = self.words.get(value)
        return self.form.format(value) if word is None else word


@attrs.frozen
class Parts:
    """How several values that are compared at once are shown.

    :ivar form: places for all of them.
    :ivar kinds: what they are, one by one.
    """

    form: str
    kinds: tuple[Kind, ...]

    def read(self, values: Any) -> Any:
        """Return ``values`` as they are compared."""
        return tuple(kind.read(value) for kind, value in zip(self.kinds, values, strict=True))

    def show(self, values: Any) -> str:
        """Return values that were read, as messages have them."""
        shown = [
            kind.show(value) if kind.words else value
            for kind, value in zip(self.kinds, values, strict=True)
        ]
        return self.form.format(*shown)


ANY: Final = Kind()
NUMBER: Final = Kind(0)
HEX: Final = Kind(0, form="{:x}")
FLAG: Final = Kind(absent=False, words={True: "on", False: "default"})
SWITCH: Final = Kind(words={None: "default", True: "on", False: "off"})
YES_NO: Final = Kind(words={None: "default", True: "yes", False: "no"})
TEXT: Final = Kind(words={None: "<null>"})
"""A text that libvirt is careful with where it is not given."""
RAW_TEXT: Final = Kind(words={None: "(null)"})
"""A text that libvirt hands to the C library as it is."""


def one_of(absent: str) -> Kind:
    """Return the kind of an enumeration, whose member for nothing is ``absent``."""
    return Kind(absent)


def _always(source: Any) -> bool:
    del source
    return True


@attrs.frozen
class Compared:
    """A value that the guest sees.

    :ivar names: attributes of the element, compared as one value where there are several; with
        dots those of elements below, which need not be there.
    :ivar words: what is said, with ``{source}`` and ``{target}``.
    :ivar kind: how it is compared and shown.
    :ivar where: whether it counts at all, by the source.
    :ivar decides: what comes after it is not comparable where it differs.
    :ivar get: returns the value, where it is no attribute.
    """

    names: str
    words: str
    kind: Kind | Parts = ANY
    where: Callable[[Any], bool] = _always
    decides: bool = False
    get: Callable[[Any], Any] | None = None

    def value(self, element: Any) -> Any:
        """Return what is compared of ``element``."""
        if self.get is not None:
            return self.kind.read(self.get(element))
        found = [_reached(element, name)[1] for name in self.names.split()]
        return self.kind.read(found[0] if isinstance(self.kind, Kind) else found)

    def difference(self, source: Any, target: Any) -> Issue | None:
        """Return what is wrong with the target, or None."""
        was, now = self.value(source), self.value(target)
        if was == now:
            return None
        message = self.words.format(source=self.kind.show(was), target=self.kind.show(now))
        line, path = _place(target, self.names.partition(" ")[0])
        return Issue.unsupported(message, line=line, path=path)


Table = tuple[Compared | Check, ...]


def differences(table: Table, source: Any, target: Any) -> Iterator[Issue]:
    """Yield what differs between two elements, in the order of ``table``."""
    for each in table:
        if not isinstance(each, Compared):
            yield from each(source, target)
        elif each.where(source):
            found = each.difference(source, target)
            if found is not None:
                yield found
                if each.decides:
                    return


@attrs.frozen
class Family:
    """Devices that are compared one by one, in the order of the document.

    :ivar name: their list in :class:`~hvcore.model.devices.Devices`.
    :ivar count: what is said where one side has more, with ``{source}`` and ``{target}``.
    :ivar table: what is compared of each.
    :ivar most: how many there can be.
    :ivar find: returns them, where more than one list has them.
    """

    name: str
    count: str
    table: Table = ()
    most: int | None = None
    find: Callable[[Domain], list[Any]] | None = None

    def of(self, domain: Domain) -> list[Any]:
        """Return the devices of a domain."""
        found = getattr(domain.devices, self.name) if self.find is None else self.find(domain)
        devices: list[Any] = found[: self.most]
        return devices

    def compare(self, source: Domain, target: Domain) -> Iterator[Issue]:
        """Yield what differs; nothing is known of each one where their numbers do."""
        was, now = self.of(source), self.of(target)
        around = target.devices.line
        if len(was) != len(now):
            message = self.count.format(source=len(was), target=len(now))
            added = now[len(was)].line if len(now) > len(was) else None
            yield Issue.unsupported(message, line=added if added is not None else around)
            return
        for one, other in zip(was, now, strict=True):
            for issue in differences(self.table, one, other):
                # What the hypervisor adds by itself has no line.
                known = issue.line is not None
                yield issue if known else attrs.evolve(issue, line=around, path=None)


def listed(owner: str, table: Table, count: str) -> Check:
    """Return a comparison of the elements in the list ``owner``, one by one."""

    def compare(source: Any, target: Any) -> Iterator[Issue]:
        was, now = _reached(source, owner)[1] or [], _reached(target, owner)[1] or []
        if len(was) != len(now):
            message = count.format(source=len(was), target=len(now))
            yield Issue.unsupported(message, line=_place(target, owner)[0])
            return
        for one, other in zip(was, now, strict=True):
            yield from differences(table, one, other)

    return compare


def _reached(element: Any, name: str) -> tuple[Any, Any]:
    """Return the last element on the way along the dots of ``name``, and what is there."""
    around, value = element, element
    for step in name.split("."):
        if value is None:
            break
        around, value = value, getattr(value, step, None)
    return around, value


def _place(element: Any, name: str) -> tuple[int | None, str | None]:
    """Return the line and the path below it of an attribute."""
    around, _ = _reached(element, name)
    if not isinstance(around, Element):
        return None, None
    spec = dict(fields_of(type(around))).get(name.rpartition(".")[2])
    if spec is None:
        return around.line, None
    path = "/".join(spec.steps)
    return around.line, f"{path}/@{spec.attribute}" if spec.attribute else path or None
