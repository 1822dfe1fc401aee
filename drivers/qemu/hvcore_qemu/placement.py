"""Where the threads of one running QEMU are: in which control groups, and on which CPUs.

Everything here blocks and is run in a thread; which threads there are is asked of QEMU by the
driver. What a guest says nothing about is left alone, and groups are made when something first
needs them: entering one costs milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs

from hvcore.affinity import set_affinity
from hvcore.affinity import set_scheduler
from hvcore.cgroup import PARTITION
from hvcore.cgroup import Groups
from hvcore.cgroup import carry_out
from hvcore.cgroup import group_path
from hvcore.cgroup import ignorable
from hvcore.cgroup import machine_name
from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import Unsupported
from hvcore.model.types import NodeSet
from hvcore.rules.placement import Advice
from hvcore.rules.placement import emulator_place
from hvcore.rules.placement import initial_cpus
from hvcore.rules.placement import iothread_place
from hvcore.rules.placement import is_placed
from hvcore.rules.placement import memory_policy
from hvcore.rules.placement import vcpu_place
from hvcore.rules.placement import wants_advice
from hvcore.rules.vcpu import online_vcpus

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from collections.abc import Mapping
    from collections.abc import Sequence

    from hvcore.driver import Record
    from hvcore.hostinfo import HostInfo
    from hvcore.hostinfo import NumaCell
    from hvcore.model.domain import Domain
    from hvcore.registry import Registry
    from hvcore.rules.placement import MemoryPolicy
    from hvcore.rules.placement import ThreadPlace

_log = logging.getLogger(__name__)

EMULATOR: Final = "emulator"


@attrs.frozen(kw_only=True)
class Threads:
    """The threads of a QEMU that have a place of their own.

    :ivar vcpus: by number of the virtual CPU; empty where they share one thread.
    :ivar iothreads: by number of the I/O thread.
    """

    vcpus: Mapping[int, int]
    iothreads: Mapping[int, int]

    @classmethod
    def told(cls, cpus: list[dict[str, Any]], iothreads: list[dict[str, Any]]) -> Threads:
        """Return what ``query-cpus-fast`` and ``query-iothreads`` told."""
        vcpus = {cpu["cpu-index"]: cpu["thread-id"] for cpu in cpus}
        if len(set(vcpus.values())) < len(vcpus):
            # Emulated in turns by one thread, which belongs to none of them.
            vcpus = {}
        numbered = {each["id"].removeprefix("iothread"): each["thread-id"] for each in iothreads}
        return cls(
            vcpus=vcpus,
            iothreads={int(number): tid for number, tid in numbered.items() if number.isdecimal()},
        )


@attrs.define(eq=False)
class Placement:
    """The places of one guest's threads.

    :ivar pid: of the guest; 0 until it has been started.

    :ivar groups: its control groups; None where there are none for it.
    :ivar made: whether they exist.
    :ivar advice: numad's.
    """

    groups: Groups | None
    advice: Advice | None = None
    made: bool = False
    pid: int = 0
    _ending: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    # -- at start -----------------------------------------------------------------------

    def first_cpus(self, domain: Domain, cells: Sequence[NumaCell]) -> NodeSet | None:
        """Return the host CPUs to start QEMU on; None for all."""
        return initial_cpus(domain, self.advice, lambda nodes: cpus_of(nodes, cells))

    def policy(self, domain: Domain) -> MemoryPolicy | None:
        """Return where QEMU's own memory comes from, where no group sees to it."""
        confined = self.groups is not None and self.groups.has("cpuset")
        return memory_policy(domain, self.advice, confined=confined)

    def needed(self, domain: Domain) -> bool:
        """Tell whether threads of the guest have a place of their own."""
        return is_placed(domain, self.advice)

    def begin(self, domain: Domain) -> None:
        """Put a process that was just started in its place.

        :raises DriverError: the host does not have the CPUs or nodes.
        """
        self._make(domain)
        place = emulator_place(domain, self.advice)
        if self.groups is not None:
            carry_out(self.groups.emulator(self.pid, place))
        for tid in self._tasks():
            set_affinity(tid, place.cpus)

    def place(self, domain: Domain, threads: Threads) -> None:
        """Put virtual CPUs and I/O threads in their places.

        :raises DriverError: the host does not have the CPUs or nodes.
        """
        for number, tid in threads.vcpus.items():
            self.place_vcpu(domain, number, tid)
        for number, tid in threads.iothreads.items():
            self._thread(f"iothread{number}", tid, iothread_place(domain, number, self.advice))

    def place_vcpu(self, domain: Domain, number: int, tid: int) -> None:
        """Put one virtual CPU in its place.

        :raises DriverError: the host does not have the CPUs or nodes.
        """
        self._thread(f"vcpu{number}", tid, vcpu_place(domain, number, self.advice))

    def _make(self, domain: Domain) -> None:
        """Make the groups; a host where they are somebody else's has none for us."""
        if self.groups is None:
            return
        try:
            carry_out(self.groups.make())
        except DriverError as error:
            if not ignorable(error):
                raise
            _log.warning("control groups are not used: %s", error)
            self.groups = None
            return
        self.made = True
        carry_out(self.groups.enter(self.pid))
        carry_out(self.groups.limit(domain))

    def _thread(self, group: str, tid: int, place: ThreadPlace) -> None:
        # A guest that nothing was asked of has no groups, also when it gets another CPU.
        if self.made and self.groups is not None:
            try:
                carry_out(self.groups.thread(group, tid, place))
            except DriverError:
                # What is left of it would be in the way of the next attempt.
                with contextlib.suppress(OSError):
                    self.groups.remove(group)
                raise
        set_affinity(tid, place.cpus)
        if place.scheduler is not None:
            set_scheduler(tid, *place.scheduler)

    # -- later --------------------------------------------------------------------------

    def ensure(self, domain: Domain, threads: Threads) -> None:
        """Make groups for a guest that was started without them.

        :raises DriverError: that fails.
        """
        if self.groups is None or self.made:
            return
        self._make(domain)
        if self.groups is not None:
            carry_out(self.groups.emulator(self.pid, emulator_place(domain, self.advice)))
            self.place(domain, threads)

    def pin(self, group: str, tids: list[int], cpus: NodeSet) -> None:
        """Let the threads of one group run on other CPUs.

        :raises DriverError: the host does not have them.
        """
        if self.groups is not None and self.groups.has("cpuset"):
            carry_out([self.groups.move_thread(group, str(cpus))])
        for tid in tids:
            set_affinity(tid, cpus)

    def emulator_threads(self, threads: Threads) -> list[int]:
        """Return the threads that are neither a virtual CPU nor an I/O thread."""
        others = {*threads.vcpus.values(), *threads.iothreads.values()}
        return [tid for tid in self._tasks() if tid not in others]

    def move_memory(self, threads: Threads, nodes: NodeSet) -> None:
        """Let all memory come from other nodes: the emulator's first, as libvirt does.

        :raises DriverError: the kernel refuses.
        """
        assert self.groups is not None  # refused without
        names = [f"vcpu{number}" for number in threads.vcpus]
        names += [f"iothread{number}" for number in threads.iothreads]
        carry_out(self.groups.move_memory(name, str(nodes)) for name in (EMULATOR, *names))

    @contextlib.contextmanager
    def all_nodes(self, nodes: NodeSet) -> Iterator[None]:
        """Let the emulator take memory from everywhere for a while.

        What a new virtual CPU needs is allocated by it, whatever nodes the guest is confined to.
        """
        if self.groups is None or not self.made or not self.groups.has("cpuset"):
            yield
            return
        path = self.groups.file("cpuset", "cpuset.mems", EMULATOR)
        before = path.read_text("ascii").strip()
        carry_out([self.groups.move_memory(EMULATOR, str(nodes))])
        try:
            yield
        finally:
            carry_out([self.groups.move_memory(EMULATOR, before)])

    def forget_vcpu(self, number: int) -> None:
        """Remove the group of a virtual CPU that is gone."""
        if self.made:
            self._remove(f"vcpu{number}")

    def end(self) -> None:
        """Remove all groups; the process is gone."""
        # Whoever waits for the end of the process and whoever destroys it both get here.
        with self._ending:
            if self.made:
                self._remove("")
                self.made = False

    def _remove(self, name: str) -> None:
        assert self.groups is not None  # what was made is there
        for patience in (0.0, 0.01, 0.05, 0.25):
            # A process that somebody else has to reap is in its group for a little longer.
            time.sleep(patience)
            try:
                self.groups.remove(name)
            except OSError as error:
                failure = error
            else:
                return
        # A group without tasks harms nobody, and the name is never used again.
        _log.warning("cannot remove control group '%s': %s", failure.filename, failure.strerror)

    def _tasks(self) -> list[int]:
        try:
            return [int(entry) for entry in os.listdir(f"/proc/{self.pid}/task")]  # noqa: PTH208
        except OSError:
            return []

    # -- kept for the next manager --------------------------------------------------------

    def kept(self) -> dict[str, Any]:
        """Return what :meth:`restored` reads."""
        found: dict[str, Any] = {} if self.advice is None else self.advice.kept()
        if self.made and self.groups is not None:
            found["cgroup"] = self.groups.path
        return found

    def restored(self, pid: int, data: Mapping[str, Any]) -> Placement:
        """Return the placement of a guest that an earlier manager started.

        :param data: what :meth:`kept` returned then.
        """
        path, groups = data.get("cgroup"), self.groups
        if path is not None and groups is not None:
            groups = attrs.evolve(groups, path=str(path))
        made = path is not None and groups is not None
        return Placement(groups, Advice.of(data), made=made, pid=pid)

    @classmethod
    def intended(
        cls, record: Record, advice: Advice | None, *, grouped: bool, root: str | None
    ) -> Placement:
        """Return the placement of a guest about to start.

        :param grouped: its manager makes control groups.
        :param root: the state root, unless it is the system's.
        :raises Unsupported: the partition of its groups is no path.
        """
        groups = None
        if grouped:
            resource = record.definition.domain.resource
            partition = (resource and resource.partition) or PARTITION
            name = machine_name("qemu", record.id or 0, record.name, root=root or "")
            groups = Groups.here(group_path(partition, name, "qemu"))
        return cls(groups, advice)


def cpus_of(nodes: NodeSet, cells: Sequence[NumaCell]) -> NodeSet:
    """Return the CPUs of some nodes of the host."""
    return NodeSet(thread.id for cell in cells if cell.id in nodes for thread in cell.cpus)


async def advised(
    registry: Registry, domain: Domain, host: Callable[[], HostInfo]
) -> Advice | None:
    """Return where an advisor wants a guest; None where the definition leaves nothing to it.

    :raises HvError: the advisor fails.
    :raises Unsupported: there is none.
    """
    if not wants_advice(domain):
        return None
    nodes = await asyncio.to_thread(
        registry.manager.hook.hv_advise_placement,
        vcpus=online_vcpus(domain),
        memory=-(-(domain.memory or 0) // 1024),
    )
    if nodes is None:
        raise Unsupported("numad is not available on this host", kind=ErrorClass.CONFIG_UNSUPPORTED)
    cells = host().cells
    # An advisor may know nodes that are not there, or have no memory.
    with_memory = NodeSet(cell.id for cell in cells if cell.memory)
    return Advice(nodes & with_memory, cpus_of(nodes, cells))
