"""Variable stores of firmware are made once, from a template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from hvcore.errors import HvError
from hvcore_qemu.nvram import VariableStore
from hvcore_qemu.nvram import create


def store_in(folder: Path, **changes: Any) -> VariableStore:
    template = folder / "VARS.fd"
    template.write_bytes(b"fresh")
    store = VariableStore(
        path=str(folder / "nvram" / "n_VARS.fd"),
        kind="file",
        format="raw",
        template=str(template),
        template_format="raw",
        loader="/CODE.fd",
    )
    return attrs.evolve(store, **changes)


def test_new_store_is_private_and_kept(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    create(store)
    path = Path(store.path)
    assert path.read_bytes() == b"fresh"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"used")
    create(store)
    assert path.read_bytes() == b"used"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"template": None},
            "operation failed: unable to find any master var store for loader: /CODE.fd",
        ),
        (
            {"template_format": "qcow2"},
            (
                "Operation not supported: "
                "conversion of the nvram template to another target format is not supported"
            ),
        ),
        (
            {"template": "/nowhere/VARS.fd"},
            "Failed to open file '/nowhere/VARS.fd': No such file or directory",
        ),
        (
            {"kind": "block", "path": "/nowhere/disk"},
            "invalid argument: 'block' nvram backing device '/nowhere/disk' doesn't exist",
        ),
    ],
)
def test_what_cannot_be_made(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(HvError) as caught:
        create(store_in(tmp_path, **changes))
    assert str(caught.value) == message


def test_formatted_device_is_left_alone(tmp_path: Path) -> None:
    device = tmp_path / "device"
    device.write_bytes(b"QFI\xfbdata")
    create(store_in(tmp_path, kind="block", path=str(device), format="qcow2"))
    assert device.read_bytes() == b"QFI\xfbdata"


def test_device_in_another_format_is_refused(tmp_path: Path) -> None:
    device = tmp_path / "device"
    device.write_bytes(b"")
    with pytest.raises(HvError, match="only 'qcow2' formatted 'block' nvram backing"):
        create(store_in(tmp_path, kind="block", path=str(device), format=None))
