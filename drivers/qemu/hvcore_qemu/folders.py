"""Directories that the memory of one domain is taken from, on a file system or hugetlbfs.

QEMU makes its files there and leaves them behind. Source: ``qemuProcessBuildDestroyMemoryPaths`` of
libvirt's qemu_process.c.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from hvcore.state import make_directory

if TYPE_CHECKING:
    from collections.abc import Collection
    from collections.abc import Iterable
    from collections.abc import Iterator

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def made(folders: Collection[str], alias: str | None = None) -> Iterator[None]:
    """Make directories for this user alone; they go again if what follows fails.

    :param alias: of the only device whose memory will be there.
    :raises DriverError: one cannot be made, or belongs to somebody else.
    """
    new = [folder for folder in folders if not Path(folder).exists()]
    try:
        for folder in folders:
            make_directory(Path(folder))
        yield
    except BaseException:
        if alias is not None:
            discard(folders, alias)
        remove(new)
        raise


def discard(folders: Iterable[str], alias: str) -> None:
    """Remove the memory of a device that is gone."""
    for folder in folders:
        Path(folder, alias).unlink(missing_ok=True)


def remove(folders: Iterable[str]) -> None:
    """Remove directories with all that is in them."""
    for folder in folders:
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            # Memory of a guest that is gone must not keep the next one from being started.
            _log.warning("cannot remove '%s': %s", folder, error)
