"""Texts kept beside the tests, to see what a change changes.

``pytest --regen`` writes them anew; what changed is then read in the version control's diff.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Final

import attrs

FOLDER: Final = "goldens"
"""Directory of the texts, beside the test's module."""


@attrs.frozen
class Golden:
    """Compares texts with those that are kept.

    :param folder: where they are.
    :param regenerate: write instead of comparing.
    """

    folder: Path
    regenerate: bool = False

    def __call__(self, name: str, text: str) -> None:
        """Compare ``text`` with the kept one called ``name``.

        :raises AssertionError: it differs, or nothing is kept under this name.
        """
        path = self.folder / name
        if self.regenerate:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            return
        if not path.is_file():
            raise AssertionError(f"{path} does not exist; pytest --regen writes it")
        kept = path.read_text()
        if kept != text:
            lines = difflib.unified_diff(
                kept.splitlines(), text.splitlines(), str(path), "now", lineterm=""
            )
            raise AssertionError("\n".join([*lines, "pytest --regen writes it anew"]))
