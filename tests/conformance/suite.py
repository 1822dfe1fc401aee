"""What all suites have in common: where the data is, how a case fails, and how results are told.

A suite is one module of ``tests/conformance/suites`` with a class ``Cases``. A case that raises
anything unforeseen has failed at the stage it was in; the harness itself goes on.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import traceback
from abc import ABC
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from typing import ClassVar
from typing import Final

import attrs

ROOT: Final = Path(__file__).parents[2]
VARIABLE: Final = "HVCORE_CONFORMANCE_DATA"
DEFAULT: Final = ROOT.parent / "shared" / "libvirt-11.3.0"
GAPS: Final = Path(__file__).parent / "known_gaps"


def data_folder() -> Path:
    """Return where libvirt's test data is looked for; it need not exist."""
    return Path(os.environ.get(VARIABLE) or DEFAULT)


def suite_names() -> list[str]:
    """Return the names of all suites."""
    folder = str(Path(__file__).parent / "suites")
    return sorted(module.name for module in pkgutil.iter_modules([folder]))


def data_of(name: str) -> Path:
    """Return where the data of the suite ``name`` is looked for; it need not exist."""
    return _class_of(name).default_data()


def has_data(name: str, data: Path) -> bool:
    """Return whether there is data for the suite ``name``."""
    kind = _class_of(name)
    return (kind.folder_in(data) / kind.listing).is_file()


def _class_of(name: str) -> type[Suite]:
    found: type[Suite] = importlib.import_module(f"tests.conformance.suites.{name}").Cases
    return found


def open_suite(name: str, data: Path | None = None) -> Suite:
    """Return the suite ``name`` with the cases in ``data``, or where they are expected.

    :raises FileNotFoundError: when the data is not there.
    """
    kind = _class_of(name)
    return kind(kind.default_data() if data is None else data)


def known_gaps(name: str) -> set[str]:
    """Return the ids of a suite's cases that are known to fail."""
    path = GAPS / f"{name}.txt"
    if not path.is_file():
        return set()
    lines = (line.strip() for line in path.read_text("utf-8").splitlines())
    return {line for line in lines if line and not line.startswith("#")}


def write_known_gaps(name: str, failed: list[str]) -> None:
    """Replace the list of a suite's known gaps; comments, which say why, stay at its head."""
    path = GAPS / f"{name}.txt"
    heading = f"# Cases of the suite {name} that fail; the list may only shrink."
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    comments = [line for line in lines if line.startswith("#") and line != heading]
    path.write_text("".join(f"{line}\n" for line in (heading, *comments, *sorted(failed))), "utf-8")


class CaseFailedError(Exception):
    """A case did not do what its row says.

    :param detail: what is different, in a few lines.
    :param differences: each single difference; what the summary counts.
    """

    def __init__(self, detail: str, differences: tuple[str, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.differences = differences or (detail.splitlines() or [""])[:1]


@attrs.frozen
class Outcome:
    """What became of one case.

    :ivar stage: the first step that failed; empty for a case that passed.
    :ivar detail: what is different; of a case that passed, what does not count.
    """

    ok: bool
    stage: str = ""
    detail: str = ""
    differences: tuple[str, ...] = ()


class Progress:
    """The stage a case is in, and what there is to say of it.

    :ivar remarks: differences that do not count.
    """

    def __init__(self) -> None:
        self.current = "start"
        self.remarks: list[str] = []

    def remark(self, text: str) -> None:
        """Tell of a difference that does not count."""
        self.remarks.append(text)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Name the stage of everything below."""
        before, self.current = self.current, name
        yield  # after an exception the name stays, which is what it is for
        self.current = before


class Suite(ABC):
    """The cases of one folder of the data."""

    name: ClassVar[str]
    listing: ClassVar[str] = "cases.json"

    def __init__(self, data: Path) -> None:
        self.data = data
        self.folder = self.folder_in(data)
        self.cases = self.rows()

    @classmethod
    def default_data(cls) -> Path:
        """Return where the data is looked for; it need not exist."""
        return data_folder()

    @classmethod
    def folder_in(cls, data: Path) -> Path:
        """Return the folder of this suite in ``data``."""
        return data / cls.name

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the rows of the data's list by id."""
        rows = json.loads((self.folder / self.listing).read_text("utf-8"))
        return {row.get("id") or row["name"]: row for row in rows}

    def notes(self) -> list[str]:
        """Return what is to be known of cases that are not run."""
        return []

    @abstractmethod
    def check(self, case: dict[str, Any], progress: Progress) -> None:
        """Run one case.

        :raises CaseFailedError: when something is not as expected.
        """

    def run(self, case_id: str) -> Outcome:
        """Return what became of the case ``case_id``."""
        progress = Progress()
        try:
            self.check(self.cases[case_id], progress)
        except CaseFailedError as failed:
            return Outcome(False, progress.current, failed.detail, tuple(failed.differences))
        except Exception as error:  # noqa: BLE001 - whatever happens belongs to the case
            last = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            detail = f"in {progress.current}: {Path(last.filename).name}:{last.lineno}: {what}"
            return Outcome(False, "crash", detail, (detail,))
        return Outcome(True, detail="\n".join(progress.remarks))
