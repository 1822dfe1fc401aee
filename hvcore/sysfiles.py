"""Small files of ``/proc`` and ``/sys``: one value each, and often not there.

Invariant: nothing here raises for a file that is missing or says something else; what cannot be
read is None, and the caller decides what that means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def text_of(path: Path) -> str | None:
    """Return what a file says without surrounding blanks; None when it cannot be read."""
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return None


def number_of(path: Path) -> int | None:
    """Return the decimal number in a file; None when there is none."""
    try:
        return int(text_of(path) or "")
    except ValueError:
        return None


def numbered(folder: Path, prefix: str) -> tuple[int, ...]:
    """Return the numbers N, ascending, of a folder's entries that are named ``prefixN``."""
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError:
        return ()
    found = (name.removeprefix(prefix) for name in names if name.startswith(prefix))
    return tuple(sorted(int(rest) for rest in found if rest.isdecimal()))


def parse_numbers(text: str) -> tuple[int, ...]:
    """Read the kernel's list of numbers: ``0-3,8``.

    :raises ValueError: when it is none.
    """
    numbers: list[int] = []
    for part in text.replace("\n", "").split(","):
        if part.strip():
            first, _, last = part.partition("-")
            numbers += range(int(first), int(last or first) + 1)
    return tuple(numbers)


def format_numbers(numbers: Iterable[int]) -> str:
    """Write a list of numbers as the kernel does: ``0-3,8``."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)
