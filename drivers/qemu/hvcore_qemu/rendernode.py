"""The host's graphics processors, as far as QEMU needs to be told of one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from hvcore.errors import ErrorClass
from hvcore.errors import HvError

FOLDER: Final = "/dev/dri"


def first(root: Path = Path("/")) -> str:
    """Return the first DRM render node, of those that this process may use if there is one.

    :param root: of the file system that is looked at.
    :raises HvError: when there is none, in libvirt's words.
    """
    try:
        names = sorted(os.listdir(root / FOLDER[1:]))  # noqa: PTH208 - the names decide
    except OSError as error:
        raise HvError(
            f"cannot open directory '{FOLDER}': {error.strerror}", kind=ErrorClass.SYSTEM
        ) from error
    nodes = [f"{FOLDER}/{name}" for name in names if name.startswith("renderD")]
    if not nodes:
        raise HvError("No DRM render nodes available", kind=ErrorClass.INTERNAL)
    return next((node for node in nodes if os.access(node, os.R_OK | os.W_OK)), nodes[0])
