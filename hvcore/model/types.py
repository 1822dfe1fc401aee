"""Value types of the model: sets of CPUs and nodes, and the aliases several families share."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from typing import ClassVar
from typing import Final
from typing import final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Iterator

_ITEM: Final = re.compile(r"\s*(\^?)([0-9]+)\s*(?:-\s*([0-9]+)\s*)?\Z")


@final
class NodeSet:
    """An immutable set of CPU or NUMA node numbers, written like ``0-3,7``.

    Stored as one integer bit mask. Numbers run from 0 to 16383, libvirt's limit.
    """

    __slots__ = ("_text", "mask")
    LIMIT: ClassVar[int] = 16384

    mask: int
    _text: str | None

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        mask = 0
        for number in numbers:
            mask |= 1 << number
        self._set(mask)

    def _set(self, mask: int) -> None:
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "_text", None)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"NodeSet is immutable: {name}")

    @classmethod
    def from_mask(cls, mask: int) -> NodeSet:
        """Return the set whose bit mask is ``mask``."""
        self = cls.__new__(cls)
        self._set(mask)
        return self

    @classmethod
    def parse(cls, text: str) -> NodeSet:
        """Return the set that ``text`` describes; it may turn out empty (``0,^0``).

        :raises ValueError: when the text does not follow libvirt's grammar, with libvirt's words.
        """
        mask = 0
        items = text.split(",")
        if len(items) > 1 and not items[-1].strip():
            items.pop()  # a comma at the end ends nothing
        for item in items:
            match = _ITEM.match(item)
            if match is None:
                raise ValueError(f"Failed to parse bitmap '{text}'")
            negated, first, last = match.groups()
            low = int(first)
            high = int(last) if last is not None else low
            if high < low or high >= cls.LIMIT or (negated and last is not None):
                raise ValueError(f"Failed to parse bitmap '{text}'")
            if negated:
                mask &= ~(1 << low)
            else:
                mask |= ((1 << (high - low + 1)) - 1) << low
        return cls.from_mask(mask)

    def __str__(self) -> str:
        text: str | None = self._text
        if text is None:
            text = ",".join(
                str(low) if low == high else f"{low}-{high}" for low, high in self._runs()
            )
            object.__setattr__(self, "_text", text)
        return text

    def _runs(self) -> Iterator[tuple[int, int]]:
        mask, base = self.mask, 0
        while mask:
            skip = (mask & -mask).bit_length() - 1
            mask >>= skip
            length = (~mask & (mask + 1)).bit_length() - 1
            yield base + skip, base + skip + length - 1
            mask >>= length
            base += skip + length

    def __repr__(self) -> str:
        return f"NodeSet({str(self)!r})"

    def __iter__(self) -> Iterator[int]:
        for low, high in self._runs():
            yield from range(low, high + 1)

    def __contains__(self, number: int) -> bool:
        return bool(self.mask >> number & 1)

    def __len__(self) -> int:
        return self.mask.bit_count()

    def __bool__(self) -> bool:
        return self.mask != 0

    def __eq__(self, other: object) -> bool:
        return self.mask == other.mask if isinstance(other, NodeSet) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.mask)

    def __and__(self, other: NodeSet) -> NodeSet:
        return NodeSet.from_mask(self.mask & other.mask)

    def __or__(self, other: NodeSet) -> NodeSet:
        return NodeSet.from_mask(self.mask | other.mask)

    def __sub__(self, other: NodeSet) -> NodeSet:
        return NodeSet.from_mask(self.mask & ~other.mask)

    def __le__(self, other: NodeSet) -> bool:
        return self.mask & ~other.mask == 0

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return NodeSet.from_mask, (self.mask,)
