"""Control groups of running domains: what to make and write, as data, and its execution.

Names, files and their order are libvirt's (vircgroup*.c, ``qemuProcessSetupPid``), so that tools
which know a guest by its groups find it: ``/machine/qemu-1-NAME.libvirt-qemu`` with a group for the
emulator, each virtual CPU and each I/O thread. Only the controllers that a domain document can
speak of are used. Groups are made when something needs one: moving a thread into a cpuset waits for
the other CPUs of the host, which costs milliseconds each time.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Final

import attrs

from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import Unsupported
from hvcore.model.memory import UNLIMITED

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Iterator
    from typing import Self

    from hvcore.model.domain import Domain
    from hvcore.rules.placement import ThreadPlace

PARTITION: Final = "/machine"
"""Where groups are unless ``<resource><partition>`` says otherwise."""

CONTROLLERS: Final = ("cpu", "cpuset", "memory")
"""Controllers that settings of a document need, in libvirt's order."""

_THREADED: Final = frozenset({"cpu", "cpuset"})
_INHERITED: Final = ("cpuset.cpus", "cpuset.mems", "cpuset.memory_migrate")
_WEIGHTS: Final = (1, 10000)
_NOT_OURS: Final = frozenset({errno.ENXIO, errno.EPERM, errno.EACCES, errno.EROFS})
"""Errors of making the first group that mean that somebody else manages groups here."""


# -- what is done ---------------------------------------------------------------------------------


@attrs.frozen
class Make:
    """Make a group, unless there is one."""

    path: Path


@attrs.frozen
class Write:
    """Write a value into a file of a group."""

    path: Path
    value: str


@attrs.frozen
class Inherit:
    """Copy the settings without which no task can enter a new group of version 1."""

    path: Path


Action = Make | Write | Inherit


def carry_out(actions: Iterable[Action]) -> None:
    """Do all of ``actions`` in order; a group that is there already inherits nothing.

    :raises DriverError: the kernel refuses one; with libvirt's words.
    """
    fresh: set[Path] = set()
    for action in actions:
        match action:
            case Make(path):
                if _make(path):
                    fresh.add(path)
            case Write(path, value):
                _write(path, value)
            case Inherit(path):
                for name in _INHERITED if path in fresh else ():
                    _write(path / name, _read(path.parent / name))


def _make(path: Path) -> bool:
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return False
    except OSError as error:
        raise _failed(f"Failed to create control group '{path}'", error) from error
    return True


def _write(path: Path, value: str) -> None:
    try:
        # The file is the kernel's: it is not to be made where it is missing.
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_TRUNC)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _failed(f"Unable to write to '{path}'", error) from error


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except OSError as error:
        raise _failed(f"Unable to read from '{path}'", error) from error


def _failed(what: str, error: OSError) -> DriverError:
    failure = DriverError(f"{what}: {error.strerror}", kind=ErrorClass.SYSTEM)
    failure.__cause__ = error
    return failure


def ignorable(error: DriverError) -> bool:
    """Tell whether making a group failed only because groups are not ours to make here."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in _NOT_OURS


# -- where ----------------------------------------------------------------------------------------


@attrs.frozen
class Tree:
    """One mounted hierarchy.

    :param mount: where it is mounted.
    :param version: 1 or 2.
    :param controllers: those of :data:`CONTROLLERS` that it has.
    """

    mount: Path
    version: int
    controllers: frozenset[str]


def trees(root: Path = Path("/")) -> tuple[Tree, ...]:
    """Return the hierarchies with controllers that matter here, in libvirt's order.

    :param root: of the host's file system.
    """
    try:
        mounts = (root / "proc/mounts").read_text("ascii", "replace").splitlines()
    except OSError:
        return ()
    found: dict[Path, Tree] = {}
    for line in mounts:
        _, where, kind, options, *_ = line.split(" ")
        mount = root / where.lstrip("/")
        if kind == "cgroup":
            tree = Tree(mount, 1, frozenset(options.split(",")) & set(CONTROLLERS))
        elif kind == "cgroup2":
            tree = Tree(mount, 2, _offered(mount) & set(CONTROLLERS))
        else:
            continue
        if tree.controllers:
            found.setdefault(mount, tree)
    return tuple(sorted(found.values(), key=_rank))


def _offered(mount: Path) -> frozenset[str]:
    try:
        return frozenset((mount / "cgroup.controllers").read_text("ascii").split())
    except OSError:
        return frozenset()


def _rank(tree: Tree) -> int:
    return min(CONTROLLERS.index(name) for name in tree.controllers)


def machine_name(driver: str, number: int, name: str, *, user: str = "", root: str = "") -> str:
    """Return the name of a domain for control groups, made of characters of host names alone.

    :param number: of the running domain.
    :param user: name of the user, for an unprivileged manager.
    :param root: the state root, for one of its own.
    """
    if root:
        import hashlib  # noqa: PLC0415 - seldom needed

        prefix = f"{driver}-embed-{hashlib.sha256(root.encode()).hexdigest()[:8]}"
    else:
        prefix = f"{driver}-{user}" if user else driver
    text, separated = f"{prefix}-{number}-", True
    for character in name:
        if len(text) >= _NAME_LIMIT:
            break
        if character in ".-":
            if not separated:
                text, separated = text + character, True
        elif character.isascii() and character.isalnum():
            text, separated = text + character, False
    return text.rstrip("-.")


_NAME_LIMIT: Final = 64


def group_path(partition: str, machine: str, driver: str) -> str:
    """Return the path of a domain's group below each mount.

    :raises Unsupported: the partition is no absolute path, or leads out of the hierarchy.
    """
    parts = partition.split("/")[1:]
    if not partition.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise Unsupported(
            f"Resource partition '{partition}' must start with '/'",
            kind=ErrorClass.CONFIG_UNSUPPORTED,
        )
    first, *below = parts
    nested = [part if "." in part else f"{part}.partition" for part in below]
    return "/".join(map(_escaped, [first, *nested, f"{machine}.libvirt-{driver}"]))


def _escaped(part: str) -> str:
    """Return a name that no file of the kernel can have."""
    files = ("cgroup.", "_", ".", *(f"{name}." for name in (*CONTROLLERS, "cpuacct", "devices")))
    return f"_{part}" if part.startswith(files) else part


# -- the groups of one domain ---------------------------------------------------------------------


@attrs.frozen
class Groups:
    """The groups of one domain.

    :param path: below each mount.
    :param trees: the hierarchies they are in.
    """

    path: str
    trees: tuple[Tree, ...]

    @classmethod
    def here(cls, path: str, root: Path = Path("/")) -> Self | None:
        """Return the groups of a domain on this host; None where it offers none."""
        found = trees(root)
        return cls(path, found) if found else None

    def has(self, controller: str) -> bool:
        """Tell whether a controller can be used."""
        return any(controller in tree.controllers for tree in self.trees)

    def exist(self) -> bool:
        """Tell whether they have been made."""
        return all((tree.mount / self.path).is_dir() for tree in self.trees)

    def file(self, controller: str, name: str, group: str = "") -> Path:
        """Return the path of a file of a controller.

        :raises LookupError: the host does not have the controller.
        """
        for tree in self.trees:
            if controller in tree.controllers:
                return tree.mount / self.path / group / name
        raise LookupError(controller)

    def version(self, controller: str) -> int:
        """Return the version of the hierarchy that has a controller; 0 where none has."""
        return next((tree.version for tree in self.trees if controller in tree.controllers), 0)

    def make(self) -> Iterator[Action]:
        """Yield what makes the group of the domain, and those above it."""
        above = Path()
        for part in Path(self.path).parts:
            for tree in self.trees:
                yield Make(tree.mount / above / part)
                if tree.version == 2:
                    yield from _enable(tree.mount / above, tree.controllers)
                elif "cpuset" in tree.controllers:
                    yield Inherit(tree.mount / above / part)
            above /= part

    def enter(self, pid: int) -> Iterator[Action]:
        """Yield what moves a process, with all its threads, into the group of the domain."""
        assert pid > 0  # 0 would be this process
        for tree in self.trees:
            yield Write(tree.mount / self.path / "cgroup.procs", str(pid))

    def limit(self, domain: Domain) -> Iterator[Action]:
        """Yield what sets the limits of the domain as a whole.

        :raises Unsupported: the host lacks a controller that one of them needs.
        """
        yield from self._memory(domain)
        tune = domain.cputune
        if tune is not None and tune.shares is not None:
            if not self.has("cpu"):
                raise Unsupported(
                    "CPU tuning is not available on this host", kind=ErrorClass.CONFIG_UNSUPPORTED
                )
            yield self._shares(tune.shares)
        if self.version("cpuset") == 1:
            # What is moved to other nodes takes its memory along; version 2 always does so.
            yield Write(self.file("cpuset", "cpuset.memory_migrate"), "1")
        if tune is not None:
            yield from self._bandwidth("", tune.global_period, tune.global_quota)

    def thread(self, name: str, tid: int, place: ThreadPlace) -> Iterator[Action]:
        """Yield what puts a thread into a group of its own below that of the domain.

        :param name: of the group, such as ``vcpu0``.
        """
        yield from self._sub_group(name)
        for tree in self._threaded():
            entry = "tasks" if tree.version == 1 else "cgroup.threads"
            yield Write(tree.mount / self.path / name / entry, str(tid))
        yield from self._confine(name, place)

    def emulator(self, pid: int, place: ThreadPlace) -> Iterator[Action]:
        """Yield what puts all threads of a process that was just started into one group.

        Those that it makes later are born there.
        """
        assert pid > 0  # as above
        yield from self._sub_group("emulator")
        for tree in self._threaded():
            yield Write(tree.mount / self.path / "emulator" / "cgroup.procs", str(pid))
        yield from self._confine("emulator", place)

    def move_memory(self, name: str, nodes: str) -> Write:
        """Return what lets the memory of a group come from other host nodes."""
        return Write(self.file("cpuset", "cpuset.mems", name), nodes)

    def move_thread(self, name: str, cpus: str) -> Write:
        """Return what lets a group run on other host CPUs."""
        return Write(self.file("cpuset", "cpuset.cpus", name), cpus)

    def remove(self, name: str = "") -> None:
        """Remove a group and those below it; nothing runs in them any more."""
        for tree in self.trees:
            _remove(tree.mount / self.path / name)

    # -- parts --------------------------------------------------------------------------

    def _threaded(self) -> Iterator[Tree]:
        """Yield the hierarchies in which threads have groups of their own."""
        return (tree for tree in self.trees if tree.controllers & _THREADED)

    def _sub_group(self, name: str) -> Iterator[Action]:
        for tree in self._threaded():
            group = tree.mount / self.path / name
            yield Make(group)
            if tree.version == 2:
                yield Write(group / "cgroup.type", "threaded")
                yield from _enable(group.parent, tree.controllers & _THREADED)
            elif "cpuset" in tree.controllers:
                yield Inherit(group)

    def _confine(self, name: str, place: ThreadPlace) -> Iterator[Action]:
        if self.has("cpuset"):
            if place.cpus is not None:
                yield self.move_thread(name, str(place.cpus))
            if place.nodes is not None:
                yield self.move_memory(name, str(place.nodes))
        yield from self._bandwidth(name, place.period, place.quota)

    def _bandwidth(self, name: str, period: int | None, quota: int | None) -> Iterator[Action]:
        if not period and not quota:
            return
        version = self.version("cpu")
        if not version:
            raise Unsupported(
                "cgroup cpu is required for scheduler tuning", kind=ErrorClass.CONFIG_UNSUPPORTED
            )
        if version == 1:
            if period:
                yield Write(self.file("cpu", "cpu.cfs_period_us", name), str(period))
            if quota:
                yield Write(self.file("cpu", "cpu.cfs_quota_us", name), str(max(quota, -1)))
            return
        most = str(quota) if quota and quota > 0 else "max"
        yield Write(self.file("cpu", "cpu.max", name), f"{most} {period}" if period else most)

    def _shares(self, shares: int) -> Write:
        if self.version("cpu") == 1:
            return Write(self.file("cpu", "cpu.shares"), str(shares))
        low, high = _WEIGHTS
        if not low <= shares <= high:
            raise DriverError(
                f"shares '{shares}' must be in range [{low}, {high}]", kind=ErrorClass.INVALID_ARG
            )
        return Write(self.file("cpu", "cpu.weight"), str(shares))

    def _memory(self, domain: Domain) -> Iterator[Action]:
        """Yield the limits of ``<memtune>``; in libvirt's order, since swap includes memory."""
        tune = domain.memtune
        if tune is None:
            return
        limits = (tune.hard_limit, tune.soft_limit, tune.swap_hard_limit)
        wanted = [None if limit in (None, UNLIMITED) else limit for limit in limits]
        if wanted == [None] * len(wanted):
            return
        version = self.version("memory")
        if not version:
            raise Unsupported(
                "Memory cgroup is not available on this host", kind=ErrorClass.CONFIG_UNSUPPORTED
            )
        for name, limit in zip(_MEMORY_FILES[version], wanted, strict=True):
            if limit is None:
                continue
            if name == "memory.swap.max":
                # Version 2 counts swap alone, the document swap and memory together.
                limit -= wanted[0] or 0  # noqa: PLW2901 - KiB, as before
            yield Write(self.file("memory", name), str(limit * 1024))


_MEMORY_FILES: Final = {
    1: ("memory.limit_in_bytes", "memory.soft_limit_in_bytes", "memory.memsw.limit_in_bytes"),
    2: ("memory.max", "memory.high", "memory.swap.max"),
}
"""Files of the hard limit, the soft limit and that of swap, by version."""


def _enable(parent: Path, controllers: frozenset[str]) -> Iterator[Action]:
    for name in CONTROLLERS:
        if name in controllers:
            yield Write(parent / "cgroup.subtree_control", f"+{name}")


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        for entry in path.iterdir():
            if entry.is_dir():
                _remove(entry)
        path.rmdir()
