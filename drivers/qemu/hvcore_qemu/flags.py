"""libvirt's capability flags and how each is found: the reader of ``flags.txt``.

The table is data so that a new flag is one line there and nothing here. It is read on first use:
a program that starts guests from cached capabilities never needs it.
"""

from __future__ import annotations

import functools
from importlib import resources
from typing import TYPE_CHECKING
from typing import Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

#: kinds of ways that no answer of the binary can satisfy
UNASKED: Final = frozenset({"derived", "manual", "retired"})


@attrs.frozen
class Way:
    """One way to find a flag.

    :param kind: ``type``, ``device``, ``object``, ``machine``, ``schema``, ``option``,
        ``migration``, ``tpm-model``, ``tpm-type``, or one of `UNASKED`.
    :param subjects: names, one of which has to be there.
    :param detail: the property or parameter it has to have, if any.
    :param default_off: the property's default value has to be false.
    """

    kind: str
    subjects: tuple[str, ...] = ()
    detail: str = ""
    default_off: bool = False


@functools.cache
def flags() -> Mapping[str, tuple[Way, ...]]:
    """Return every flag with its ways, in libvirt's order."""
    text = resources.files(__package__ or "hvcore_qemu").joinpath("flags.txt").read_text("utf-8")
    table: dict[str, list[Way]] = {}
    name = ""
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        words = line.split()
        if not line.startswith(" "):
            name = words.pop(0)
        table.setdefault(name, []).append(_way(*words))
    return {name: tuple(ways) for name, ways in table.items()}


def _way(kind: str, subjects: str = "", detail: str = "") -> Way:
    names = tuple(subjects.split(",")) if subjects else ()
    if detail.endswith("=false"):
        return Way(kind, names, detail.removesuffix("=false"), default_off=True)
    return Way(kind, names, detail)


@functools.cache
def order() -> Mapping[str, int]:
    """Return every flag's number in libvirt's order."""
    return {name: number for number, name in enumerate(flags())}
