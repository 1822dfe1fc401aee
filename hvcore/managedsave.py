"""The saved states that the next start of a domain begins with, one for each domain."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.saveimage import SaveFile
from hvcore.saveimage import create
from hvcore.saveimage import open_image

if TYPE_CHECKING:
    from hvcore.saveimage import Image
    from hvcore.state import StateDirectory


class ManagedSaves:
    """Saved states below a state directory, or in memory where there is none."""

    def __init__(self, directory: StateDirectory | None) -> None:
        self._directory = directory
        self._memory: dict[str, int] = {}

    def path(self, uuid: str) -> str:
        """Return where the saved state of a domain is, or would be."""
        if self._directory is None:
            return f"memory:{uuid}"
        return str(self._directory.saved_file(uuid))

    def has(self, uuid: str) -> bool:
        """Tell whether a domain has a saved state."""
        if self._directory is None:
            return uuid in self._memory
        return self._directory.saved_file(uuid).exists()

    def create(self, uuid: str, image: Image) -> SaveFile:
        """Begin a new saved state; one that is there already is lost.

        :raises DriverError: it cannot be written.
        """
        if self._directory is not None:
            return create(self.path(uuid), image)
        self.remove(uuid, missing_ok=True)
        fd = os.memfd_create(uuid, os.MFD_CLOEXEC)
        self._memory[uuid] = fd
        return SaveFile.begin(os.dup(fd), self.path(uuid), image)

    def open(self, uuid: str, *, write: bool = False) -> SaveFile:
        """Open a saved state.

        :raises IncompleteImage: it was not written to its end.
        :raises DriverError: there is none, or it cannot be read.
        """
        if uuid in self._memory:
            return SaveFile.read(os.dup(self._memory[uuid]), self.path(uuid))
        return open_image(self.path(uuid), write=write)

    def remove(self, uuid: str, *, missing_ok: bool = False) -> None:
        """Remove a saved state.

        :raises DriverError: there is none, or it cannot be removed.
        """
        path = self.path(uuid)
        try:
            if self._directory is not None:
                os.unlink(path)  # noqa: PTH108 - the path is for messages, too
            elif uuid in self._memory:
                os.close(self._memory.pop(uuid))
            else:
                raise FileNotFoundError(2, os.strerror(2))
        except OSError as error:
            if not (missing_ok and isinstance(error, FileNotFoundError)):
                raise DriverError(
                    f"Failed to remove managed save file '{path}': {error.strerror}",
                    kind=ErrorClass.SYSTEM,
                ) from error

    def close(self) -> None:
        """Forget what is in memory."""
        for fd in self._memory.values():
            os.close(fd)
        self._memory.clear()
