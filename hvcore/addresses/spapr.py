"""Register addresses on the virtual I/O bus of pSeries guests (spapr-vio)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.errors import ValidationFailed

if TYPE_CHECKING:
    from collections.abc import Iterable

# QEMU places its own devices at these distances.
STRIDE: Final = 0x1000


class SpaprVioAddressSet:
    """The registers in use by one guest.

    :param explicit: all registers that the document gives, duplicates included.
    """

    __slots__ = ("_used",)

    def __init__(self, explicit: Iterable[int] = ()) -> None:
        self._used = Counter(explicit)

    def check(self, reg: int) -> None:
        """Check that a register of the document belongs to one device only.

        :raises ValidationFailed: when two devices claim it.
        """
        if self._used[reg] > 1:
            raise ValidationFailed([Issue.xml(f"spapr-vio address {reg:#x} already in use")])

    def reserve_next(self, default: int) -> int:
        """Reserve the first free register at or after the default of a kind of device."""
        while self._used[default]:
            default += STRIDE
        self._used[default] = 1
        return default
