"""Comparing texts and command lines, and saying briefly what is different."""

from __future__ import annotations

import difflib
import json
import re
import shlex
from typing import TYPE_CHECKING
from typing import Any

from tests.conformance.suite import CaseFailedError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_SHOWN = 12
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*=", re.ASCII)


def expected_text(path: Path) -> str:
    """Return a file of the data, with its wrapped lines joined."""
    return path.read_text("utf-8").replace("\\\n", "")


def _lines_differ(expected: Sequence[str], actual: Sequence[str]) -> None:
    changed = [
        line
        for line in difflib.unified_diff(expected, actual, "expected", "actual", "", "", 0, "")
        if not line.startswith(("---", "+++", "@@"))
    ]
    shown = changed[:_SHOWN]
    if len(changed) > _SHOWN:
        shown.append(f"... {len(changed) - _SHOWN} more lines differ")
    kinds = tuple(dict.fromkeys(line[0] + " " + line[1:].strip() for line in changed))
    raise CaseFailedError("\n".join(shown) or "line ends differ", kinds)


def same_text(expected: str, actual: str) -> None:
    """Compare two texts byte by byte; a newline missing at the end of ``actual`` is added.

    :raises CaseFailedError: with the lines that differ.
    """
    if not actual.endswith("\n"):
        actual += "\n"
    if expected != actual:
        _lines_differ(expected.splitlines(), actual.splitlines())


def parse_command(text: str) -> tuple[list[str], list[str]]:
    """Return environment (``NAME=value``) and arguments of a file with a command line."""
    words = shlex.split(text.replace("\\\n", ""))
    first = next((i for i, word in enumerate(words) if not _VARIABLE.match(word)), len(words))
    return words[:first], words[first:]


def _canonical(word: str) -> str:
    """Return JSON in one spelling, its members in their order; other words as they are."""
    if not word.startswith("{"):
        return word
    try:
        pairs = json.loads(word, object_pairs_hook=_Members)
    except ValueError:
        return word
    return json.dumps(pairs, separators=(",", ":"), ensure_ascii=False)


class _Members(dict[str, Any]):
    """An object that keeps the order of its members and refuses a repeated one."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        if len(self) != len(pairs):
            raise ValueError("repeated member")


def _options(words: Sequence[str]) -> list[str]:
    """Return each option with its values as one line."""
    lines: list[str] = []
    for word in words:
        if word.startswith("-") or not lines or not lines[-1].startswith("-"):
            lines.append(_canonical(word))
        else:
            lines[-1] += " " + _canonical(word)
    return lines


def same_command(
    expected: tuple[list[str], list[str]], environment: Sequence[str], arguments: Sequence[str]
) -> None:
    """Compare a command word by word, with JSON compared as values in their order.

    :raises CaseFailedError: with the options that differ.
    """
    wanted_environment, wanted = expected
    if wanted_environment != list(environment):
        _lines_differ(wanted_environment, list(environment))
    if [_canonical(word) for word in wanted] != [_canonical(word) for word in arguments]:
        _lines_differ(_options(wanted), _options(arguments))
