"""A driver's state on disk: definitions, statuses of running domains, and who owns them.

Layout (all files 0600, all directories 0700, names are UUIDs and never come from a document)::

    <config>/lock                        flock of the owner; says who that is
    <config>/domains/<uuid>/domain.xml   persistent definition, with secrets
    <config>/domains/<uuid>/autostart    exists when the domain is to be started with the host
    <config>/domains/<uuid>/autostart-once    the same, for the next start of the host alone
    <config>/domains/<uuid>/stopped      why it does not run any more, once it has run
    <config>/domains/<uuid>/saved        what its next start begins with (hvcore.saveimage)
    <run>/<uuid>/status.json             what runs: state, pid, live definition, driver's data
    <sockets>/<uuid>/                    sockets and key files of the running domain
    <log>/<uuid>.log                     output of the virtual machine process

Invariants: a reader sees an old or a new file, never a part of one (temporary file and rename);
only the holder of the lock writes; a status counts only while its process lives, so a reader that
cannot ask the owner still tells the truth.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import stat
import uuid as uuids
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs

from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import StateLocked
from hvcore.lifecycle import State
from hvcore.lifecycle import reason_named

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from hvcore.lifecycle import StateReason
    from hvcore.uri import Roots

_FORMAT: Final = 1


def make_directory(path: Path) -> None:
    """Make ``path`` and what is missing above it, for this user alone under any umask.

    :raises DriverError: it exists and belongs to somebody else, or cannot be made.
    """
    missing: list[Path] = []
    parent = path
    while not parent.exists():
        missing.append(parent)
        parent = parent.parent
    try:
        for directory in reversed(missing):
            with contextlib.suppress(FileExistsError):
                directory.mkdir(mode=0o700)
                directory.chmod(0o700)
        found = path.lstat()
    except OSError as error:
        raise _system_error(f"cannot create directory '{path}'", error) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise DriverError(
            f"directory '{path}' is not owned by uid {os.geteuid()}", kind=ErrorClass.SYSTEM
        )


def _system_error(message: str, error: OSError) -> DriverError:
    return DriverError(f"{message}: {error.strerror}", kind=ErrorClass.SYSTEM)


def write_file(path: Path, data: bytes, *, durable: bool) -> None:
    """Replace ``path`` by ``data`` in one step, readable by this user alone.

    :param durable: survive a crash of the host, too; costs a flush of the disk.
    :raises DriverError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(temporary, flags, 0o600)
        try:
            # The umask may have taken more than it should: 0600 is exact.
            os.fchmod(descriptor, 0o600)
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
        if durable:
            _sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise _system_error(f"cannot write '{path}'", error) from error


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def boot_id() -> str:
    """Return what tells this boot of the host from every other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def process_start(pid: int) -> int | None:
    """Return when ``pid`` started (clock ticks since boot), or ``None`` when it does not live.

    With the pid this identifies a process for as long as the host runs, even if pids wrap.
    A zombie does not live.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The second field is the program's name in parentheses and may itself contain anything.
    fields = text[text.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


@attrs.frozen(kw_only=True)
class Status:
    """What is known of a running domain; enough to find it again from another process.

    :param id: the domain's number.
    :param pid: of the virtual machine process; ``None`` before there is one, or where a driver
        has none.
    :param start: :func:`process_start` of ``pid``.
    :param live_xml: definition it was started with, with secrets.
    :param data: the driver's own, JSON.
    """

    uuid: str
    name: str
    id: int
    state: State
    reason: StateReason
    live_xml: str
    pid: int | None = None
    start: int | None = None
    boot: str = attrs.field(factory=boot_id)
    data: dict[str, Any] = attrs.field(factory=dict)

    def alive(self) -> bool:
        """Tell whether the recorded process is still the same one and lives."""
        return (
            self.pid is not None
            and self.boot == boot_id()
            and self.start is not None
            and process_start(self.pid) == self.start
        )

    def to_json(self) -> bytes:
        """Return the file's content."""
        document = {
            "format": _FORMAT,
            "uuid": self.uuid,
            "name": self.name,
            "id": self.id,
            "state": self.state.name,
            "reason": self.reason.name,
            "pid": self.pid,
            "start": self.start,
            "boot": self.boot,
            "live_xml": self.live_xml,
            "data": self.data,
        }
        return json.dumps(document, indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read a file's content.

        :raises ValueError: it is not a status.
        """
        try:
            document = json.loads(data)
            state = State.__members__.get(document["state"], State.NOSTATE)
            return cls(
                uuid=str(uuids.UUID(document["uuid"])),
                name=str(document["name"]),
                id=int(document["id"]),
                state=state,
                reason=reason_named(state, document["reason"]),
                live_xml=str(document["live_xml"]),
                pid=document["pid"],
                start=document["start"],
                boot=str(document["boot"]),
                data=dict(document["data"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a status: {error!r}") from error


@attrs.frozen
class Stored:
    """A persistent domain as found on disk.

    :param stopped: why it stopped when it last ran, if it ever has and that is known.
    """

    uuid: str
    xml: bytes
    autostart: bool
    autostart_once: bool
    stopped: StateReason


def _stopped(directory: Path) -> StateReason:
    try:
        name = (directory / "stopped").read_text(errors="replace").strip()
    except OSError:
        name = ""
    return reason_named(State.SHUTOFF, name)


@attrs.frozen
class Owner:
    """The process that owns a state root."""

    pid: int | None
    program: str | None


class StateDirectory:
    """The files of one state root; reading needs no lock, changing does."""

    def __init__(self, roots: Roots) -> None:
        self.config = Path(roots.config)
        self.run = Path(roots.run)
        self.log = Path(roots.log)
        self.cache = Path(roots.cache)
        self.sockets = Path(roots.sockets)
        self._lock: int | None = None

    @property
    def owned(self) -> bool:
        """Whether this object holds the lock."""
        return self._lock is not None

    def acquire(self) -> None:
        """Become the owner.

        :raises StateLocked: another process is; the text names its pid and program.
        :raises DriverError: the directories cannot be made.
        """
        if self._lock is not None:
            return
        for directory in (self.config / "domains", self.run, self.log, self.cache, self.sockets):
            make_directory(directory)
        path = self.config / "lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _system_error(f"cannot open '{path}'", error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise self.locked() from None
        os.fchmod(descriptor, 0o600)
        owner = json.dumps({"pid": os.getpid(), "program": _program(os.getpid())})
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, owner.encode() + b"\n", 0)
        self._lock = descriptor

    def release(self) -> None:
        """Stop being the owner."""
        if self._lock is not None:
            if self.sockets != self.run:
                # A directory outside of the root is not to be left behind; what runs keeps it.
                with contextlib.suppress(OSError):
                    self.sockets.rmdir()
            # Whoever reads the file now must not be told of an owner that is gone.
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def owner(self) -> Owner:
        """Return who wrote itself into the lock file last."""
        try:
            document = json.loads((self.config / "lock").read_bytes())
            return Owner(int(document["pid"]), str(document["program"]))
        except (OSError, ValueError, KeyError, TypeError):
            return Owner(None, None)

    def locked(self) -> StateLocked:
        """Return the refusal that names the owner."""
        owner = self.owner()
        return StateLocked(
            f"state in '{self.config}' is owned by process {owner.pid or 'unknown'}"
            f" ({owner.program or 'unknown'})",
            pid=owner.pid,
            program=owner.program,
            hint="only one process changes a state root at a time; others can look",
        )

    # -- persistent definitions ---------------------------------------------------------

    def load(self) -> Iterator[Stored]:
        """Read every persistent definition."""
        for identity, directory in _by_uuid(self.config / "domains"):
            with contextlib.suppress(FileNotFoundError):
                xml = (directory / "domain.xml").read_bytes()
                yield Stored(
                    identity,
                    xml,
                    (directory / "autostart").exists(),
                    (directory / "autostart-once").exists(),
                    _stopped(directory),
                )

    def store(self, uuid: str, xml: str) -> None:
        """Write a persistent definition.

        :raises DriverError: it cannot be written.
        """
        directory = self.config / "domains" / _checked(uuid)
        make_directory(directory)
        write_file(directory / "domain.xml", xml.encode(), durable=True)

    def remove(self, uuid: str) -> None:
        """Remove a persistent definition and its autostart mark.

        :raises DriverError: it cannot be removed.
        """
        _remove_tree(self.config / "domains" / _checked(uuid))

    def set_autostart(self, uuid: str, *, autostart: bool, once: bool = False) -> None:
        """Write or remove the autostart mark, or that for one start of the host.

        :raises DriverError: that fails.
        """
        name = "autostart-once" if once else "autostart"
        mark = self.config / "domains" / _checked(uuid) / name
        if autostart:
            write_file(mark, b"", durable=True)
        else:
            try:
                mark.unlink(missing_ok=True)
            except OSError as error:
                raise _system_error(f"cannot remove '{mark}'", error) from error

    def note_stop(self, uuid: str, reason: StateReason) -> None:
        """Remember why a persistent domain stopped, for whoever asks in a later process.

        :raises DriverError: it cannot be written.
        """
        path = self.config / "domains" / _checked(uuid) / "stopped"
        write_file(path, reason.name.encode() + b"\n", durable=False)

    def saved_file(self, uuid: str) -> Path:
        """Return the path of a domain's saved state."""
        return self.config / "domains" / _checked(uuid) / "saved"

    def snapshots(self, uuid: str) -> Path:
        """Return the path of the directory with what is known of a domain's snapshots."""
        return self.config / "snapshots" / _checked(uuid)

    # -- running domains ----------------------------------------------------------------

    def statuses(self) -> Iterator[Status]:
        """Read the status of every domain that is recorded as running."""
        for identity, directory in _by_uuid(self.run):
            # A file cut short by a crash of the host describes nothing that still runs.
            with contextlib.suppress(FileNotFoundError, ValueError):
                status = Status.from_json((directory / "status.json").read_bytes())
                if status.uuid == identity:
                    yield status

    def save_status(self, status: Status) -> None:
        """Write a running domain's status.

        It is not flushed to the disk: after a crash of the host nothing runs any more that it
        could describe, and a crash of this process loses nothing that was written.

        :raises DriverError: it cannot be written.
        """
        directory = self.run / _checked(status.uuid)
        make_directory(directory)
        write_file(directory / "status.json", status.to_json(), durable=False)

    def drop_status(self, uuid: str) -> None:
        """Remove everything recorded of a running domain: it does not run any more.

        :raises DriverError: that fails.
        """
        # The status goes first: without it the rest is nothing.
        with contextlib.suppress(FileNotFoundError):
            (self.run / _checked(uuid) / "status.json").unlink()
        _remove_tree(self.run / uuid)
        if self.sockets != self.run:
            _remove_tree(self.sockets / uuid)

    def runtime(self, uuid: str) -> Path:
        """Make and return the directory for a running domain's sockets and keys.

        :raises DriverError: it cannot be made.
        """
        directory = self.sockets / _checked(uuid)
        make_directory(directory)
        return directory

    def log_file(self, uuid: str) -> Path:
        """Return the path of a domain's log file."""
        return self.log / f"{_checked(uuid)}.log"


def _checked(uuid: str) -> str:
    """Return ``uuid`` if it is a canonical one, so that no path can be smuggled in."""
    if str(uuids.UUID(uuid)) != uuid:
        raise ValueError(f"not a canonical UUID: {uuid!r}")
    return uuid


def _by_uuid(directory: Path) -> Iterator[tuple[str, Path]]:
    try:
        names = sorted(entry.name for entry in directory.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise _system_error(f"cannot read '{directory}'", error) from error
    for name in names:
        with contextlib.suppress(ValueError):
            yield _checked(name), directory / name


def _remove_tree(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        # A directory that somebody filled meanwhile is theirs.
        if error.errno != errno.ENOTEMPTY:
            raise _system_error(f"cannot remove '{path}'", error) from error


def _program(pid: int) -> str:
    """Return the program a process runs: its script, where an interpreter runs one."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "unknown"
    names = [os.path.basename(word.decode(errors="replace")) for word in words if word]  # noqa: PTH119
    if len(names) > 1 and names[0].startswith("python") and not words[1].startswith(b"-"):
        return names[1]
    return names[0] if names else "unknown"
