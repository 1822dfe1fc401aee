"""What a host is, read from recorded trees of sysfs."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path
from typing import Any
from typing import ClassVar
from typing import Literal

import attrs

from hvcore.hostinfo import HostInfo
from hvcore.hostinfo import NumaCell
from hvcore.hostinfo import Pages
from tests.conformance.compare import expected_text
from tests.conformance.compare import same_text
from tests.conformance.suite import Progress
from tests.conformance.suite import Suite

PAGE_SIZES = (4, 2048, 1048576)


def _as_the_numa_library_says(cell: NumaCell) -> NumaCell:
    """Return a cell with the sizes that libvirt's test makes up."""
    return attrs.evolve(
        cell,
        memory=(cell.id + 1) * 1024 * 1024,
        pages=tuple(
            Pages(size, (cell.id + 1 + index) * 2048) for index, size in enumerate(PAGE_SIZES)
        ),
        distances=(),
    )


class Cases(Suite):
    """The suite ``hostcaps``."""

    name: ClassVar[str] = "hostcaps"

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self._unpacked: tempfile.TemporaryDirectory[str] | None = None

    def _root(self, case: dict[str, Any]) -> Path:
        """Return a directory that stands for ``/`` of the case's host."""
        if self._unpacked is None:
            self._unpacked = tempfile.TemporaryDirectory(prefix="hvcore-hostcaps-")
            with tarfile.open(self.folder / "sysfs-trees.tar.xz") as archive:
                archive.extractall(self._unpacked.name, filter="tar")
        trees = Path(self._unpacked.name)
        root: Path = trees / "roots" / case["id"]
        if not root.is_dir():
            (root / "sys/devices").mkdir(parents=True)
            (root / "sys/devices/system").symlink_to(trees / case["system"])
            if case["has_resctrl"]:
                (root / "sys/fs").mkdir()
                (root / "sys/fs/resctrl").symlink_to(trees / case["resctrl"])
        return root

    def check(self, case: dict[str, Any], progress: Progress) -> None:
        with progress.stage("read"):
            host = HostInfo.from_system(self._root(case))
            host = attrs.evolve(
                host,
                arch=case["arch"],
                page_sizes=(),  # libvirt asks for these elsewhere
                cells=tuple(_as_the_numa_library_says(cell) for cell in host.cells),
            )
        with progress.stage("xml"):
            migration: Literal["offline", "live"] | None = None
            if case["offline_migrate"]:
                migration = "live" if case["live_migrate"] else "offline"
            text = host.to_xml(migration=migration)
            same_text(expected_text(self.folder / case["out_xml"]), text)
