"""Answers of hypervisor binaries, kept on disk so that a second start need not ask again.

Invariant: an answer is only ever returned for the very file that gave it (path, size, times and
inode all match), written by the same version of the prober, under the same circumstances of the
host. Anything else, an unreadable or damaged file included, is a miss and never an error: asking
again is always right, a wrong answer never is.

Asking takes a lock beside the file, so that two who want to know the same at once do the work once.

A file has one line of header and then its sections, each a JSON text. Sections are decoded when
they are looked at, since a QEMU's answer is some hundred kilobytes and a program that starts one
guest needs a tenth of them.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
import threading
import zlib
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from collections.abc import Iterable
    from collections.abc import Iterator
    from collections.abc import Mapping

FORMAT: Final = 1


@final
class Sections:
    """What was stored for one binary: named JSON values, decoded when looked up."""

    __slots__ = ("_body", "_spans")

    def __init__(self, body: bytes, spans: Mapping[str, tuple[int, int]]) -> None:
        self._body = body
        self._spans = spans

    def __getitem__(self, name: str) -> Any:
        start, length = self._spans[name]
        return json.loads(self._body[start : start + length])

    def __iter__(self) -> Iterator[str]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)


@final
class ProbeCache:
    """A directory of answers, one file for each binary.

    :param directory: made with mode 0700 on the first store; files have mode 0600.
    :param version: version of whoever writes the answers; another version is a miss.
    :param participants: who else adds to the answers, each with its own version. Programs with
        other participants have files of their own, so that they do not drive each other's out.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        version: str,
        participants: Iterable[str] = (),
    ) -> None:
        self.directory: Final = Path(directory)
        self.version: Final = version
        self.participants: Final = tuple(sorted(participants))

    def file_of(self, binary: str | os.PathLike[str]) -> Path:
        """Return the file in which the answer of a binary is kept."""
        path = os.path.abspath(binary)  # noqa: PTH100 - Path.absolute keeps '..'
        name = b"\0".join(map(os.fsencode, (path, *self.participants)))
        return self.directory / f"{hashlib.sha256(name).hexdigest()}.probe"

    @contextlib.asynccontextmanager
    async def lock(self, binary: str | os.PathLike[str], *, seconds: float) -> AsyncIterator[None]:
        """Keep others, in this process and elsewhere, from asking a binary meanwhile.

        The lock ends with the process that holds it. It saves work and guards nothing: where it
        cannot be had (no place for its file, or held for longer than ``seconds``) everybody asks.
        """
        handle = await _locked(self.file_of(binary).with_suffix(".lock"), seconds)
        try:
            yield
        finally:
            if handle is not None:
                os.close(handle)

    def load(
        self, binary: str | os.PathLike[str], *, circumstances: Mapping[str, Any] | None = None
    ) -> Sections | None:
        """Return what is stored for a binary, or None when it has to be asked.

        :param circumstances: facts beside the binary that the answer depends on (whether KVM is
            usable, the kernel's release); they must equal the stored ones.
        """
        try:
            key = self.key(binary, circumstances=circumstances)
            content = self.file_of(binary).read_bytes()
        except OSError:
            return None
        head, newline, body = content.partition(b"\n")
        try:
            header = json.loads(head)
            if not newline or header["key"] != key or header["crc"] != zlib.crc32(body):
                return None
            spans = {name: (start, length) for name, start, length in header["sections"]}
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        return Sections(body, spans)

    def store(self, key: Mapping[str, Any], sections: Mapping[str, Any]) -> None:
        """Keep the answer of a binary, replacing an older one in one step.

        :param key: what `key` returned before the binary was asked: one that was replaced in the
            meantime is then asked again.
        :raises OSError: when the directory cannot be written.
        """
        texts = {
            name: json.dumps(value, separators=(",", ":")).encode()
            for name, value in sections.items()
        }
        spans, start = [], 0
        for name, text in texts.items():
            spans.append((name, start, len(text)))
            start += len(text)
        body = b"".join(texts.values())
        header = {
            "key": dict(key),
            "crc": zlib.crc32(body),
            "sections": spans,
        }
        content = json.dumps(header, separators=(",", ":")).encode() + b"\n" + body
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(self.file_of(key["path"]), content)

    def forget(self, binary: str | os.PathLike[str]) -> None:
        """Drop what is stored for a binary, if anything."""
        with contextlib.suppress(OSError):
            self.file_of(binary).unlink()

    def key(
        self, binary: str | os.PathLike[str], *, circumstances: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return what an answer of the binary, given now, is good for.

        :raises OSError: when there is no such file.
        """
        path = os.path.abspath(binary)  # noqa: PTH100 - see file_of
        status = os.stat(path)  # noqa: PTH116 - the path is a string already
        return {
            "format": FORMAT,
            "version": self.version,
            "participants": list(self.participants),
            "path": path,
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
            "ctime_ns": status.st_ctime_ns,
            "inode": status.st_ino,
            "circumstances": dict(circumstances or {}),
        }


async def _locked(path: Path, seconds: float) -> int | None:
    """Return a descriptor that holds the lock until it is closed; None when it cannot be had."""
    import asyncio  # noqa: PLC0415 - whoever only looks into the cache does without

    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass
    except OSError:
        os.close(handle)
        return None
    else:
        return handle
    # A thread of its own: it may outlast the wait, and neither the loop nor the interpreter are
    # to wait for it in their end.
    loop = asyncio.get_running_loop()
    taken: asyncio.Future[None] = loop.create_future()

    def settle() -> None:
        if not taken.done():
            taken.set_result(None)
        else:
            os.close(handle)  # nobody waits for it any more

    def wait() -> None:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            loop.call_soon_threadsafe(settle)
        except RuntimeError:  # the loop has ended
            os.close(handle)

    threading.Thread(target=wait, daemon=True, name="probe lock").start()
    try:
        await asyncio.wait_for(taken, seconds)
    except (TimeoutError, asyncio.CancelledError) as error:
        if not taken.cancelled():  # then nobody else will close it
            os.close(handle)
        if isinstance(error, TimeoutError):
            return None
        raise
    return handle


def _replace(path: Path, content: bytes) -> None:
    # mkstemp makes the file with mode 0600. No fsync: after a power cut an empty or short file
    # is a miss, which is what the checksum is for.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
