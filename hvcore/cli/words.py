"""What is written behind a verb, understood as virsh does: options by name, and numbers."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import NoReturn

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_TIMEOUT: Final = (1 << 31) / 1000
"""Milliseconds have to fit into an int of C."""


def arranged(command: click.Command, args: Sequence[str]) -> list[str]:
    """Return ``args`` with every argument that was given by name, as ``--domain``, in its place.

    What looks like a negative number is an argument and no option.
    """
    places = {
        (param.name or "").strip("_").replace("_", "-"): param
        for param in command.params
        if isinstance(param, click.Argument)
    }
    options = {
        name: param
        for param in command.params
        if isinstance(param, click.Option)
        for name in (*param.opts, *param.secondary_opts)
    }
    given: dict[str, list[str]] = {}
    kept: list[str] = []
    free: list[str] = []
    words = iter(args)
    for word in words:
        name, equals, value = word.partition("=")
        if word == "--":
            free += words
        elif name in options:
            wants = 0 if options[name].is_flag or equals else options[name].nargs
            kept += [word, *itertools.islice(words, wants)]
        elif name.startswith("--") and name[2:] in places:
            given.setdefault(name[2:], []).extend([value] if equals else itertools.islice(words, 1))
        elif word.startswith("-") and word != "-" and not word[1:2].isdigit():
            kept.append(word)  # for click to refuse, or to help
        else:
            free.append(word)
    if given:
        free = _placed(command, places, given, free)
    return [*kept, *(["--"] if any(word.startswith("-") for word in free) else []), *free]


def _placed(
    command: click.Command,
    places: dict[str, click.Argument],
    given: dict[str, list[str]],
    free: list[str],
) -> list[str]:
    """Return all arguments in their order; those without a name go where none was given.

    Text that may be left out and is, before something that is not, becomes empty.
    """
    found: list[str] = []
    left_out: list[str] = []
    missing = None
    for name, param in places.items():
        here = given.get(name, [])
        if not here:
            count = len(free) if param.nargs < 0 else param.nargs
            here, free = free[:count], free[count:]
        if here and missing is not None:
            raise click.UsageError(f"command '{command.name}' requires <{missing}> option")
        if here:
            found += [*left_out, *here]
            left_out = []
        elif param.required or param.type is not click.STRING:
            missing = missing or name
        else:
            left_out.append("")
    return found + free


def malformed(
    value: object,
    param: click.Parameter | None,
    ctx: click.Context | None,
    kind: str = "Numeric",
    why: str = "",
) -> NoReturn:
    """Refuse a number, with virsh's words."""
    name = param.opts[0].lstrip("-") if param is not None else ""
    text = f"{kind} value '{value}' for <{name}> option is malformed or out of range"
    raise click.UsageError(f"{text}\nError: {why}" if why else text, ctx)


class Number(click.ParamType[int]):
    """A whole number.

    :param signed: whether it may be less than zero.
    :param wide: whether it may be as large as 64 bits allow.
    """

    name = "NUMBER"

    def __init__(self, *, signed: bool = False, wide: bool = False) -> None:
        bits = 64 if wide else 32
        self._range = range(-(1 << bits - 1), 1 << bits - 1) if signed else range(1 << bits)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        text = str(value)
        digits = text.removeprefix("-")
        if digits.isascii() and digits.isdigit() and len(digits) <= 20 and int(text) in self._range:
            return int(text)
        malformed(value, param, ctx)


class Timeout(click.ParamType[float]):
    """A number of seconds, more than none; unlike virsh's it may have a fraction."""

    name = "SECONDS"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds."""
        try:
            seconds = float(value)
        except ValueError:
            malformed(value, param, ctx)
        if not 0 < seconds < _MOST_TIMEOUT:
            malformed(value, param, ctx)
        return seconds
