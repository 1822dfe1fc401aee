"""Files that hold a saved guest: its document, whether it ran, and what its hypervisor wrote.

All numbers are little-endian, of four bytes::

    0   16 bytes  magic: "hvcoreSavedState", or "hvcorePartialSav" until all is written
    16  number    version of the format, 1
    20  number    1 if the guest is to run when it is restored, 0 if it is to stand still
    24  number    bytes of the document
    28  number    bytes of the notes
    32  number    bytes of the room that both have together
    36  zeros
    64  document  domain XML in UTF-8, inactive, migratable, with secrets
    ..  notes     a JSON object: "driver" names who wrote the file, the rest is the driver's own
    ..  zeros     to the end of the room
    64 + room     what the hypervisor wrote; begins at a multiple of 4096

The room is larger than what is in it, so that a document that grew a little still fits. Files are
readable by their owner alone: the memory of a guest has all of its secrets.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import struct
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs

from hvcore.errors import DriverError
from hvcore.errors import ErrorClass

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

MAGIC: Final = b"hvcoreSavedState"
PARTIAL: Final = b"hvcorePartialSav"
VERSION: Final = 1

_HEADER: Final = struct.Struct("<16s5I28x")
_BLOCK: Final = 4096
_SPARE: Final = 1024
_LIMIT: Final = 64 * 1024 * 1024


class IncompleteImage(DriverError):
    """A saved guest whose file was not written to its end."""


@attrs.frozen(kw_only=True)
class Image:
    """What a file says of the guest in it.

    :param document: domain XML.
    :param running: it is to run when it is restored.
    :param notes: JSON of the driver.
    """

    document: str
    running: bool
    driver: str
    notes: dict[str, Any] = attrs.field(factory=dict)

    def encoded(self) -> tuple[bytes, bytes]:
        """Return document and notes as they are in a file."""
        notes = json.dumps({**self.notes, "driver": self.driver})
        return self.document.encode(), notes.encode()


class SaveFile:
    """A file with a saved guest, open.

    :ivar fd: descriptor, which stands where the hypervisor's part begins.
    """

    def __init__(self, fd: int, path: str, image: Image, room: int) -> None:
        self.fd = fd
        self.path = path
        self.image = image
        self._room = room

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @classmethod
    def begin(cls, fd: int, path: str, image: Image) -> Self:
        """Write everything before the hypervisor's part into an empty file, marked as partial.

        :param fd: taken over.
        :raises DriverError: it cannot be written.
        """
        document, notes = image.encoded()
        need = _HEADER.size + len(document) + len(notes) + _SPARE
        room = -(-need // _BLOCK) * _BLOCK - _HEADER.size
        made = cls(fd, path, image, room)
        try:
            made._write_head(PARTIAL)
            os.lseek(fd, _HEADER.size + room, os.SEEK_SET)
        except OSError as error:
            made.close()
            raise _failed(f"failed to write header to domain save file '{path}'", error) from error
        return made

    @classmethod
    def read(cls, fd: int, path: str) -> Self:
        """Read everything before the hypervisor's part.

        :param fd: taken over.
        :raises IncompleteImage: it was not written to its end.
        :raises DriverError: it is no such file.
        """
        try:
            image, room = _read(fd)
            os.lseek(fd, _HEADER.size + room, os.SEEK_SET)
        except BaseException:
            os.close(fd)
            raise
        return cls(fd, path, image, room)

    def finish(self) -> None:
        """Mark it as complete, which from now on it is.

        :raises DriverError: it cannot be written.
        """
        try:
            self._write_head(MAGIC)
            os.fsync(self.fd)
        except OSError as error:
            raise _failed(f"unable to close {self.path}", error) from error

    def replace(self, image: Image) -> None:
        """Change document and whether it is to run.

        :raises DriverError: the document does not fit, or cannot be written.
        """
        document, notes = image.encoded()
        if len(document) + len(notes) > self._room:
            raise DriverError("new xml too large to fit in file")
        self.image = image
        self.finish()

    def close(self) -> None:
        """Let go of the file."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _write_head(self, magic: bytes) -> None:
        document, notes = self.image.encoded()
        running = int(self.image.running)
        numbers = (VERSION, running, len(document), len(notes), self._room)
        head = _HEADER.pack(magic, *numbers) + document + notes
        data = head.ljust(_HEADER.size + self._room, b"\0")
        offset = 0
        while offset < len(data):
            offset += os.pwrite(self.fd, data[offset:], offset)


def create(path: str, image: Image) -> SaveFile:
    """Make a file, or empty the one that is there, and write everything but the hypervisor's part.

    :raises DriverError: it cannot be written.
    """
    return SaveFile.begin(create_private(path), path, image)


def create_private(path: str) -> int:
    """Return a descriptor of a new or emptied file that only its owner can read.

    :raises DriverError: it cannot be made.
    """
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        fd = os.open(path, flags, 0o600)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.fchmod(fd, 0o600)
    except OSError as error:
        raise _failed(f"Failed to create file '{path}'", error) from error
    return fd


def close_durably(fd: int, path: str) -> None:
    """Flush a file to the disk and close it.

    :raises DriverError: not all of it can be written.
    """
    try:
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise _failed(f"unable to close file {path}", error) from error


def open_image(path: str, *, write: bool = False) -> SaveFile:
    """Open a file that was written before.

    :raises IncompleteImage: it was not written to its end.
    :raises DriverError: there is none, or it is something else.
    """
    try:
        fd = os.open(path, (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC)
    except OSError as error:
        raise _failed(f"Failed to open file '{path}'", error) from error
    return SaveFile.read(fd, path)


def discard(path: str) -> None:
    """Remove what was written of a file, if it is one."""
    with contextlib.suppress(OSError):
        if stat.S_ISREG(os.lstat(path).st_mode):
            os.unlink(path)  # noqa: PTH108 - beside the other calls of os


def _read(fd: int) -> tuple[Image, int]:
    """Return what a file says, and the size of its room."""
    head = os.pread(fd, _HEADER.size, 0)
    if len(head) != _HEADER.size:
        raise DriverError("failed to read qemu header")
    magic, version, running, document_size, notes_size, room = _HEADER.unpack(head)
    if magic == PARTIAL:
        raise IncompleteImage("save image is incomplete")
    if magic != MAGIC:
        raise DriverError("image magic is incorrect")
    if version > VERSION:
        raise DriverError(f"image version is not supported ({version} > {VERSION})")
    size = document_size + notes_size
    if not document_size or not notes_size or not size <= room <= _LIMIT:
        raise DriverError(f"invalid header data length: {size}")
    data = os.pread(fd, size, _HEADER.size)
    if len(data) != size:
        raise DriverError("failed to read domain XML")
    try:
        document = data[:document_size].decode()
        notes = json.loads(data[document_size:])
        driver = str(notes.pop("driver"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DriverError("failed to read cookie") from error
    return Image(document=document, running=bool(running), driver=driver, notes=notes), room


def _failed(message: str, error: OSError) -> DriverError:
    return DriverError(f"{message}: {error.strerror}", kind=ErrorClass.SYSTEM)
