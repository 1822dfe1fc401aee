"""What is written behind a verb, understood as virsh does: options by name, and numbers."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import NoReturn

import click

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping
    from collections.abc import Sequence

_HELP: Final = frozenset({"-h", "--help"})

_MOST_TIMEOUT: Final = (1 << 31) / 1000
"""Milliseconds have to fit into an int of C."""


class Positional(click.Option):
    """An option that may also be given without its name, behind all arguments, as of old."""


def arranged(command: click.Command, args: Sequence[str], *, whole: bool = False) -> list[str]:
    """Return ``args`` with every argument that was given by name, as ``--domain``, in its place.

    What looks like a negative number is an argument and no option.

    :param whole: nothing is still to be written.
    :raises click.UsageError: something is missing, or nothing that the verb has; in virsh's words.
    """
    places = {
        (param.opts[-1] if isinstance(param, click.Option) else param.name or "")
        .strip("-_")
        .replace("_", "-"): param
        for param in command.params
        if isinstance(param, click.Argument | Positional)
    }
    options = {
        name: param
        for param in command.params
        if isinstance(param, click.Option) and not isinstance(param, Positional)
        for name in (*param.opts, *param.secondary_opts)
    }
    kept: list[str] = []
    found: list[tuple[str | None, str]] = []
    words = iter(args)
    for word in words:
        name, equals, value = word.partition("=")
        if word == "--":
            found += [(None, rest) for rest in words]
        elif name in options:
            wants = 0 if options[name].is_flag or equals else options[name].nargs
            kept += [word, *_values(options[name], name, words, wants, whole=whole)]
        elif name.startswith("--") and name[2:] in places:
            values = [value] if equals else _values(places[name[2:]], name, words, 1, whole=whole)
            found += [(name[2:], each) for each in values]
        elif word.startswith("-") and word != "-" and not word[1:2].isdigit():
            if whole and word not in _HELP:
                raise _unknown(command, name, options)
            kept.append(word)
        else:
            found.append((None, word))
    named, free = _placed(command, places, found, whole=whole and _HELP.isdisjoint(kept))
    return [*kept, *named, *(["--"] if any(word.startswith("-") for word in free) else []), *free]


def _values(
    param: click.Parameter, name: str, words: Iterator[str], count: int, *, whole: bool
) -> list[str]:
    """Return the values behind an option."""
    found = list(itertools.islice(words, count))
    if whole and len(found) < count:
        number = isinstance(param.type, click.types.IntParamType | Number | Timeout)
        kind = "number" if number else "string"
        raise click.UsageError(f"expected syntax: {name} <{kind}>")
    return found


def _unknown(
    command: click.Command, name: str, options: Mapping[str, click.Option]
) -> click.UsageError:
    """Return the refusal of an option, which names the nearest one that there is."""
    import difflib  # noqa: PLC0415 - only for misspelt options

    close = difflib.get_close_matches(name, options, n=1)
    hint = f"\n   hint: did you mean {close[0]}?" if close else ""
    text = f"command '{command.name}' doesn't support option {name}"
    return click.UsageError(f"{text}{hint}")


def _placed(
    command: click.Command,
    places: Mapping[str, click.Parameter],
    found: list[tuple[str | None, str]],
    *,
    whole: bool,
) -> tuple[list[str], list[str]]:
    """Return options with their values, and all arguments in their order.

    What has no name goes to the first place that has none yet, or takes any number. Text that may
    be left out and is, before something that is not, becomes empty.
    """
    named = {name for name, _ in found}
    given: dict[str, list[str]] = {name: [] for name in places}
    left: list[str] = []
    for name, value in found:
        place = name or next((p for p in places if _is_open(p, places, given, named)), None)
        (left if place is None else given[place]).append(value)
    missing = None
    options: list[str] = []
    arguments: list[str] = []
    left_out: list[str] = []
    for name, param in places.items():
        if isinstance(param, Positional):
            options += itertools.chain.from_iterable((f"--{name}", each) for each in given[name])
            continue
        if given[name]:
            if missing is not None:
                raise click.UsageError(f"command '{command.name}' requires <{missing}> option")
            arguments += [*left_out, *given[name]]
            left_out = []
        elif param.required or param.type is not click.STRING:
            missing = missing or name
            if whole and param.required:
                raise click.UsageError(f"command '{command.name}' requires <{missing}> option")
        else:
            left_out.append("")
    if whole and left:
        raise click.UsageError(f"unexpected data '{left[0]}'")
    return options, arguments + left


def _is_open(
    name: str,
    places: Mapping[str, click.Parameter],
    given: dict[str, list[str]],
    named: set[str | None],
) -> bool:
    param = places[name]
    return _many(param) or (name not in named and len(given[name]) < param.nargs)


def _many(param: click.Parameter) -> bool:
    return param.nargs < 0 or param.multiple


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
