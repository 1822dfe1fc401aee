"""Variable stores of firmware on disk: made once from a template, then the guest's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final
from typing import NoReturn

import attrs

from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import HvError

_QCOW2: Final = b"QFI\xfb"


@attrs.frozen(kw_only=True)
class VariableStore:
    """What is to be there before a guest with flash starts.

    :ivar kind: ``file`` or ``block``.
    :ivar template: what a new store is made from.
    :ivar loader: path of the firmware, for messages.
    """

    path: str
    kind: str
    format: str | None
    template: str | None
    template_format: str | None
    loader: str | None


def create(store: VariableStore) -> None:
    """Make a variable store unless there is one.

    :raises HvError: when there is no template, or it cannot be used.
    """
    if store.kind == "block":
        _fill_device(store)
    elif not Path(store.path).exists():
        _copy(store)


def _refuse(message: str, kind: ErrorClass) -> NoReturn:
    raise HvError(message, kind=kind)


def _copy(store: VariableStore) -> None:
    """Copy the template; a store that is only half written never has the final name."""
    if store.template is None:
        _refuse(
            f"unable to find any master var store for loader: {store.loader}",
            ErrorClass.OPERATION_FAILED,
        )
    # The format of somebody's own template is not known: they know what they are doing.
    if store.template_format not in (None, store.format):
        _refuse(
            "conversion of the nvram template to another target format is not supported",
            ErrorClass.OPERATION_UNSUPPORTED,
        )
    path = Path(store.path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with Path(store.template).open("rb") as source:
            number, temporary = tempfile.mkstemp(dir=path.parent)  # mode 0600
            try:
                with os.fdopen(number, "wb") as target:
                    shutil.copyfileobj(source, target)
                    target.flush()
                    os.fsync(target.fileno())
                Path(temporary).replace(path)
            except BaseException:
                Path(temporary).unlink()
                raise
    except OSError as error:
        raise DriverError(
            f"Failed to open file '{error.filename or path}': {error.strerror}",
            kind=ErrorClass.SYSTEM,
        ) from error


def _fill_device(store: VariableStore) -> None:
    """Format a block device as qcow2, which alone can give flash its exact size there."""
    path = Path(store.path)
    if not path.exists():
        _refuse(
            f"'block' nvram backing device '{store.path}' doesn't exist", ErrorClass.INVALID_ARG
        )
    if store.format == "raw":
        return  # nothing tells whether it is one already
    with path.open("rb") as device:
        if device.read(len(_QCOW2)) == _QCOW2:
            return
    if store.format != "qcow2":
        _refuse(
            "only 'qcow2' formatted 'block' nvram backing can be formatted",
            ErrorClass.OPERATION_UNSUPPORTED,
        )
    if store.template is None:
        _refuse("unable to find nvram template image", ErrorClass.OPERATION_FAILED)
    done = subprocess.run(
        ["qemu-img", "convert", "-f", store.template_format or "raw", "-O", "qcow2",
         store.template, store.path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise DriverError(f"qemu-img failed: {done.stderr.strip()}", kind=ErrorClass.INTERNAL)
