"""What the host is: CPUs, NUMA cells, huge pages, KVM.

Invariant: plain sealed data. `HostInfo.from_system` reads it once from ``/proc`` and ``/sys`` under
a root that can be another directory; everything else takes a value, so that a test describes the
host it wants. Sizes are in KiB unless a name says otherwise.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Final
from typing import Literal
from typing import final

import attrs

from hvcore.capabilities import Deferred
from hvcore.hostcache import Caches
from hvcore.hosthmat import interconnect_lines
from hvcore.hosthmat import read_interconnects
from hvcore.hosthmat import read_memory_caches
from hvcore.hostpci import SysfsPci
from hvcore.hostpower import sleep_states
from hvcore.sysfiles import format_numbers
from hvcore.sysfiles import numbered
from hvcore.sysfiles import parse_numbers
from hvcore.sysfiles import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Iterator

    from hvcore.cpu.spec import CpuSpec
    from hvcore.hosthmat import Interconnect
    from hvcore.hosthmat import MemoryCache
    from hvcore.hostpci import HostPci

#: names of architectures that the kernel spells in another way than libvirt
_ARCH_SPELLING: Final = {"amd64": "x86_64", "i386": "i686", "i486": "i686", "i586": "i686"}

#: what XML needs (xml.sax.saxutils would import the whole of urllib for it)
_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&apos;"})

#: modules that have the parameter for nested virtualization
_KVM_MODULES: Final = ("kvm_intel", "kvm_amd", "kvm_hv", "kvm")

#: of linux/kvm.h: the request, KVM_CAP_MAX_VCPUS and KVM_CAP_NR_VCPUS, and what to assume
_KVM_CHECK_EXTENSION: Final = 0xAE03
_KVM_VCPU_LIMITS: Final = (66, 9)
_KVM_VCPUS: Final = 4


@final
@attrs.frozen(slots=True)
class HostThread:
    """One online CPU of the host, as the scheduler counts them.

    :param siblings: CPUs on the same core, itself included.
    """

    id: int
    socket: int = 0
    die: int = 0
    cluster: int = 0
    core: int = 0
    siblings: tuple[int, ...] = ()


@final
@attrs.frozen(slots=True)
class Pages:
    """How many pages of one size (in KiB) there are."""

    size: int
    count: int


@final
@attrs.frozen(slots=True, kw_only=True)
class NumaCell:
    """One NUMA node.

    :param memory: in KiB.
    :param pages: by size, the system's page size first.
    :param distances: to every node (itself 10), where the firmware tells.
    :param caches: in front of its memory, where the firmware tells.
    """

    id: int
    memory: int = 0
    cpus: tuple[HostThread, ...] = ()
    pages: tuple[Pages, ...] = ()
    distances: tuple[tuple[int, int], ...] = ()
    caches: tuple[MemoryCache, ...] = ()


@final
@attrs.frozen(slots=True)
class HugePageMount:
    """A mounted hugetlbfs.

    :param size: of its pages, in KiB.
    :param default: whether it is the kernel's default huge page size.
    """

    path: str
    size: int
    default: bool = False


@final
@attrs.frozen(slots=True, kw_only=True)
class NodeInfo:
    """The summary that ``virsh nodeinfo`` prints.

    :param memory: in KiB.
    :param mhz: of the first CPU, 0 when not known.
    :param sockets: of one cell; ``cores`` of one socket, ``threads`` of one core. Their product
        with ``cells`` is at least ``cpus``, otherwise one flat socket is reported, as in libvirt.
    """

    model: str
    memory: int
    cpus: int
    mhz: int
    cells: int
    sockets: int
    cores: int
    threads: int


@final
@attrs.frozen(slots=True, kw_only=True)
class GuestMachine:
    """A machine type in the list of guests; an alias says what it stands for."""

    name: str
    canonical: str | None = None
    max_cpus: int = 0
    deprecated: bool = False


@final
@attrs.frozen(slots=True)
class GuestFeature:
    """Something guests of an architecture can have.

    :param default: whether they have it without asking; with ``toggle`` whether that can be
        changed. None for features that are not switched.
    """

    name: str
    default: bool | None = None
    toggle: bool | None = None


@final
@attrs.frozen(slots=True, kw_only=True)
class GuestArch:
    """Guests of one architecture that a driver can run."""

    arch: str
    word_size: int
    emulator: str | None = None
    machines: tuple[GuestMachine, ...] = ()
    virt_types: tuple[str, ...] = ()
    features: tuple[GuestFeature, ...] = ()
    os_type: str = "hvm"


@final
@attrs.frozen(slots=True)
class Processor:
    """What the kernel tells of an x86 CPU.

    :param vendor: such as ``GenuineIntel``.
    :param signature: family, model and stepping.
    :param flags: features by the kernel's names, separated by blanks.
    """

    vendor: str
    signature: tuple[int, int, int]
    flags: str


@final
@attrs.frozen(slots=True, kw_only=True)
class HostInfo:
    """The host.

    :param arch: in libvirt's spelling.
    :param uuid: the machine's, from its firmware or from ``/etc/machine-id``.
    :param memory: in KiB.
    :param page_size: the system's, in KiB.
    :param page_sizes: all that the host has, in KiB, ascending.
    :param thp_size: size of a transparent huge page in KiB, 0 when there are none.
    :param kvm: whether this process can open ``/dev/kvm``.
    :param kvm_max_vcpus: CPUs that a KVM guest can have, 0 when not known.
    :param kvm_nesting: whether KVM guests can run KVM guests.
    :param vfio: whether guests can be given PCI devices.
    :param sev_guests: guests that AMD SEV can protect at a time, 0 when not known.
    :param sev_es_guests: the same of SEV-ES.
    :param kernel: release and version of the kernel; None for a host that only exists in a test.
    :param microcode: version of the CPU's microcode, 0 when not known.
    :param cpu_signature: vendor, model and stepping in one line.
    :param cpu_address_bits: of physical addresses, 0 when not known.
    :param cpu_offline: CPUs that are present but not in use.
    :param cpu: model and features of the CPU; None to conclude them from ``processor``.
    :param processor: what the kernel tells of an x86 CPU.
    :param interconnects: how fast memory is, where the firmware tells; in libvirt's order.
    :param sleep_states: ways in which the host can be put to sleep, by libvirt's names.
    :param deferred_caches: caches of the CPUs; some thousand files tell of them on a large host,
        so they are read when asked for.
    :param pci: answers questions about PCI devices; None where there are none to ask about.
    """

    arch: str
    cells: tuple[NumaCell, ...] = ()
    uuid: str | None = None
    memory: int = 0
    page_size: int = 4
    page_sizes: tuple[int, ...] = (4,)
    thp_size: int = 0
    hugepage_mounts: tuple[HugePageMount, ...] = ()
    kvm: bool = False
    kvm_max_vcpus: int = 0
    kvm_nesting: bool = False
    iommu: bool = False
    vfio: bool = False
    sev_guests: int = 0
    sev_es_guests: int = 0
    kernel: str | None = None
    microcode: int = 0
    cpu_signature: str | None = None
    cpu_mhz: int = 0
    cpu_address_bits: int = 0
    cpu_offline: int = 0
    cpu: CpuSpec | None = None
    processor: Processor | None = None
    interconnects: tuple[Interconnect, ...] = ()
    sleep_states: tuple[str, ...] = ()
    deferred_caches: Deferred[Caches] = attrs.field(
        factory=lambda: Deferred.of(Caches()), repr=False
    )
    pci: HostPci | None = attrs.field(default=None, eq=False, repr=False)

    @property
    def cpus(self) -> tuple[HostThread, ...]:
        """All online CPUs, by number."""
        found = {cpu.id: cpu for cell in self.cells for cpu in cell.cpus}
        return tuple(found[number] for number in sorted(found))

    @property
    def caches(self) -> Caches:
        """Caches of the CPUs, and how they and memory bandwidth can be shared out."""
        return self.deferred_caches()

    def cell(self, number: int) -> NumaCell | None:
        """Return a NUMA node by its id."""
        return next((cell for cell in self.cells if cell.id == number), None)

    def hugepage_mount(self, size: int | None = None) -> HugePageMount | None:
        """Return the mount with pages of a size in KiB, or of the default size.

        Without a mount of the default size the first one counts as the default.
        """
        if size is not None:
            return next((m for m in self.hugepage_mounts if m.size == size), None)
        defaults = [mount for mount in self.hugepage_mounts if mount.default]
        return next(iter((*defaults, *self.hugepage_mounts)), None)

    @property
    def nodeinfo(self) -> NodeInfo:
        """The summary of CPUs and memory."""
        sockets = cores = threads = 0
        for cell in self.cells:
            sockets = max(sockets, len({cpu.socket for cpu in cell.cpus}))
            for socket in {cpu.socket for cpu in cell.cpus}:
                members = [cpu for cpu in cell.cpus if cpu.socket == socket]
                cores = max(cores, len({(cpu.die, cpu.cluster, cpu.core) for cpu in members}))
            threads = max([threads, *(len(cpu.siblings) or 1 for cpu in cell.cpus)])
        cells = len([cell for cell in self.cells if cell.cpus]) or 1
        total = len(self.cpus) + self.cpu_offline
        if cells * sockets * cores * threads != total:
            cells, sockets, cores, threads = 1, 1, total, 1
        return NodeInfo(
            model=self.arch,
            memory=self.memory,
            cpus=len(self.cpus),
            mhz=self.cpu_mhz,
            cells=cells,
            sockets=sockets,
            cores=cores,
            threads=threads,
        )

    def to_xml(
        self,
        guests: Iterable[GuestArch] = (),
        *,
        migration: Literal["offline", "live"] | None = None,
        transports: Iterable[str] = (),
    ) -> str:
        """Return the document of ``virsh capabilities``.

        :param guests: what the drivers can run.
        :param migration: the best kind of migration that the drivers can do.
        :param transports: URI schemes to which they can migrate.
        """
        lines = ["<host>"]
        lines += [f"  <uuid>{self.uuid}</uuid>"] if self.uuid else []
        lines += ["  <cpu>", f"    <arch>{self.arch}</arch>"]
        sizes = self.page_sizes if self.cells and self.cells[0].pages else ()
        lines += [f"    <pages unit='KiB' size='{size}'/>" for size in sizes]
        lines.append("  </cpu>")
        if self.sleep_states:
            states = [f"    <{name}/>" for name in self.sleep_states]
            lines += ["  <power_management>", *states, "  </power_management>"]
        else:
            lines.append("  <power_management/>")
        lines.append(f"  <iommu support='{_yes(self.iommu)}'/>")
        if migration:
            inner = ["    <live/>"] if migration == "live" else []
            uris = [f"      <uri_transport>{name}</uri_transport>" for name in transports]
            if uris:
                inner += ["    <uri_transports>", *uris, "    </uri_transports>"]
            lines += ["  <migration_features>", *inner, "  </migration_features>"]
        lines += [f"  {line}" for line in (*self._topology(), *self.caches.lines())]
        blocks = ["\n".join(f"  {line}" for line in [*lines, "</host>"])]
        blocks += ["\n".join(f"  {line}" for line in _guest_lines(guest)) for guest in guests]
        return "<capabilities>\n\n" + "".join(f"{b}\n\n" for b in blocks) + "</capabilities>\n"

    def _topology(self) -> Iterator[str]:
        yield "<topology>"
        yield f"  <cells num='{len(self.cells)}'>"
        for cell in self.cells:
            for line in _cell_lines(cell):
                yield f"    {line}"
        yield "  </cells>"
        for line in interconnect_lines(self.interconnects):
            yield f"  {line}"
        yield "</topology>"

    @classmethod
    def from_system(cls, root: str | os.PathLike[str] = "/") -> HostInfo:
        """Read what the host is.

        :param root: where ``proc``, ``sys``, ``dev`` and ``etc`` are; anything that is not there
            is left at its default.
        """
        return _System(Path(root)).read()


def circumstances(root: str | os.PathLike[str] = "/") -> dict[str, str | int | bool | None]:
    """Return the facts of the host that a hypervisor binary's answers depend on.

    Answers given under other circumstances have to be asked for again: after KVM became usable, on
    another kernel or CPU. Cheap enough (three small files) to look at before every start.
    """
    system = _System(Path(root))
    cpuinfo = system.cpuinfo()
    return {
        "kvm": system.kvm(),
        "nesting": system.nesting(),
        "kernel": system.kernel(),
        "microcode": int(cpuinfo.get("microcode", "0"), 0),
        "cpu": _signature(cpuinfo),
    }


def _cell_lines(cell: NumaCell) -> Iterator[str]:
    yield f"<cell id='{cell.id}'>"
    if cell.memory:
        yield f"  <memory unit='KiB'>{cell.memory}</memory>"
    for pages in cell.pages:
        yield f"  <pages unit='KiB' size='{pages.size}'>{pages.count}</pages>"
    if cell.distances:
        yield "  <distances>"
        for number, value in cell.distances:
            yield f"    <sibling id='{number}' value='{value}'/>"
        yield "  </distances>"
    for cache in cell.caches:
        for line in cache.lines():
            yield f"  {line}"
    yield f"  <cpus num='{len(cell.cpus)}'" + (">" if cell.cpus else "/>")
    for cpu in cell.cpus:
        yield (
            f"    <cpu id='{cpu.id}' socket_id='{cpu.socket}' die_id='{cpu.die}'"
            f" cluster_id='{cpu.cluster}' core_id='{cpu.core}'"
            f" siblings='{format_numbers(cpu.siblings)}'/>"
        )
    if cell.cpus:
        yield "  </cpus>"
    yield "</cell>"


def _guest_lines(guest: GuestArch) -> Iterator[str]:
    yield "<guest>"
    yield f"  <os_type>{guest.os_type}</os_type>"
    yield f"  <arch name='{guest.arch}'>"
    yield f"    <wordsize>{guest.word_size}</wordsize>"
    if guest.emulator is not None:
        yield f"    <emulator>{guest.emulator.translate(_ESCAPES)}</emulator>"
    for machine in guest.machines:
        marks = f" canonical='{machine.canonical.translate(_ESCAPES)}'" if machine.canonical else ""
        marks += f" maxCpus='{machine.max_cpus}'" if machine.max_cpus else ""
        marks += " deprecated='yes'" if machine.deprecated else ""
        yield f"    <machine{marks}>{machine.name.translate(_ESCAPES)}</machine>"
    for virt_type in guest.virt_types:
        yield f"    <domain type='{virt_type}'/>"
    yield "  </arch>"
    if guest.features:
        yield "  <features>"
        for feature in guest.features:
            marks = "" if feature.default is None else f" default='{_switch(feature.default)}'"
            marks += "" if feature.toggle is None else f" toggle='{_yes(feature.toggle)}'"
            yield f"    <{feature.name}{marks}/>"
        yield "  </features>"
    yield "</guest>"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _switch(value: bool) -> str:
    return "on" if value else "off"


@final
class _System:
    """The files of ``/proc`` and ``/sys`` under one root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.devices = root / "sys/devices/system"
        self.page_size = os.sysconf("SC_PAGE_SIZE") // 1024

    @functools.cached_property
    def meminfo(self) -> dict[str, int]:
        """Sizes of ``/proc/meminfo``."""
        return dict(self._meminfo(self.root / "proc/meminfo"))

    def kvm(self) -> bool:
        """Return whether this process can open ``/dev/kvm``."""
        return os.access(self.root / "dev/kvm", os.R_OK | os.W_OK)

    def kvm_max_vcpus(self) -> int:
        """Return how many CPUs a KVM guest can have, 0 when KVM cannot be asked."""
        try:
            with (self.root / "dev/kvm").open("rb", buffering=0) as kvm:
                # The kernel's documentation says to take 4 where it answers neither.
                limits = (fcntl.ioctl(kvm, _KVM_CHECK_EXTENSION, cap) for cap in _KVM_VCPU_LIMITS)
                return next((limit for limit in limits if limit > 0), _KVM_VCPUS)
        except OSError:
            return 0

    @staticmethod
    def kernel() -> str:
        """Return release and version of the kernel."""
        name = os.uname()
        return f"{name.release} {name.version}"

    def read(self) -> HostInfo:
        cpuinfo = self.cpuinfo()
        online = self._online()
        nodes = [self._cell(number, frozenset(online)) for number in self._nodes()]
        cells = tuple(nodes) or (self._only_cell(online),)
        # As libvirt: what the nodes have together, which can be less than the kernel's total.
        memory = sum(cell.memory for cell in cells) or self.meminfo.get("MemTotal", 0)
        present = parse_numbers(text_of(self.devices / "cpu/present") or "")
        iommu = self._has_entries(self.root / "sys/kernel/iommu_groups")
        capacity = dict(self._capacity(self.root / "sys/fs/cgroup/misc.capacity"))
        return HostInfo(
            arch=_arch(os.uname().machine),
            uuid=self._uuid(),
            memory=memory,
            cells=cells,
            page_size=self.page_size,
            page_sizes=tuple(sorted({self.page_size, *self._huge(self.root / "sys/kernel/mm")})),
            thp_size=self._number(
                self.root / "sys/kernel/mm/transparent_hugepage/hpage_pmd_size", 0
            )
            // 1024,
            hugepage_mounts=tuple(self._mounts()),
            kvm=self.kvm(),
            kvm_max_vcpus=self.kvm_max_vcpus(),
            kvm_nesting=self.nesting(),
            iommu=iommu,
            sev_guests=capacity.get("sev", 0),
            sev_es_guests=capacity.get("sev_es", 0),
            vfio=iommu and (self.root / "dev/vfio/vfio").exists(),
            kernel=self.kernel(),
            microcode=int(cpuinfo.get("microcode", "0"), 0),
            cpu_signature=_signature(cpuinfo),
            cpu_mhz=int(float(cpuinfo.get("cpu MHz", "0"))),
            processor=_processor(cpuinfo),
            cpu_address_bits=_address_bits(cpuinfo),
            cpu_offline=len(set(present) - set(online)) if present else 0,
            interconnects=read_interconnects(self.devices / "node"),
            sleep_states=tuple(sleep_states(self.root, self.meminfo)),
            deferred_caches=Deferred(lambda: Caches.from_system(self.root, online)),
            pci=SysfsPci(self.root),
        )

    def _number(self, path: Path, default: int) -> int:
        try:
            number = int(text_of(path) or default)
        except ValueError:
            return default
        # The kernel says -1 where the hardware has no such level.
        return number if number >= 0 else default

    @staticmethod
    def _has_entries(path: Path) -> bool:
        try:
            return any(path.iterdir())
        except OSError:
            return False

    def _meminfo(self, path: Path) -> Iterator[tuple[str, int]]:
        """Yield names and sizes in KiB; a node's file has ``Node 0`` before each name."""
        for line in (text_of(path) or "").splitlines():
            name, _, value = line.partition(":")
            if value.split():
                with contextlib.suppress(ValueError):
                    yield name.split()[-1], int(value.split()[0])

    @staticmethod
    def _capacity(path: Path) -> Iterator[tuple[str, int]]:
        """Yield scarce resources of the host; the kernel counts SEV's guests from CPUID."""
        for line in (text_of(path) or "").splitlines():
            name, _, value = line.partition(" ")
            if value.isdecimal():
                yield name, int(value)

    def cpuinfo(self) -> dict[str, str]:
        """Return what ``/proc/cpuinfo`` says of the first CPU."""
        try:
            with (self.root / "proc/cpuinfo").open("rb", buffering=0) as stream:
                # One page holds the first CPU; the kernel makes the rest only when it is read.
                text = stream.read(4096).decode("utf-8", "replace")
        except OSError:
            return {}
        pairs = (line.partition(":") for line in text.split("\n\n", 1)[0].splitlines())
        return {name.strip(): value.strip() for name, _, value in pairs}

    def _online(self) -> tuple[int, ...]:
        listed = text_of(self.devices / "cpu/online")
        if listed:
            return parse_numbers(listed)
        return numbered(self.devices / "cpu", "cpu")

    def _nodes(self) -> tuple[int, ...]:
        return numbered(self.devices / "node", "node")

    def _cell(self, number: int, online: frozenset[int]) -> NumaCell:
        folder = self.devices / f"node/node{number}"
        memory = dict(self._meminfo(folder / "meminfo")).get("MemTotal", 0)
        listed = parse_numbers(text_of(folder / "cpulist") or "")
        values = [int(value) for value in (text_of(folder / "distance") or "").split()]
        nodes = self._nodes()
        return NumaCell(
            id=number,
            memory=memory,
            cpus=tuple(self._thread(cpu) for cpu in listed if cpu in online),
            pages=self._pages(memory, self._huge(folder)),
            distances=tuple(zip(nodes, values, strict=True)) if len(values) == len(nodes) else (),
            caches=read_memory_caches(folder),
        )

    def _only_cell(self, online: tuple[int, ...]) -> NumaCell:
        """Return the one cell of a host without NUMA; libvirt gives it no page sizes."""
        return NumaCell(
            id=0,
            memory=self.meminfo.get("MemTotal", 0),
            cpus=tuple(self._thread(cpu) for cpu in online),
        )

    def _thread(self, number: int) -> HostThread:
        folder = self.devices / f"cpu/cpu{number}/topology"
        return HostThread(
            number,
            socket=self._number(folder / "physical_package_id", 0),
            die=self._number(folder / "die_id", 0),
            cluster=self._number(folder / "cluster_id", 0),
            core=self._number(folder / "core_id", 0),
            siblings=parse_numbers(text_of(folder / "thread_siblings_list") or str(number)),
        )

    def _huge(self, folder: Path) -> dict[int, int]:
        """Return how many huge pages of each size (KiB) there are."""
        found = {}
        for path in folder.glob("hugepages/hugepages-*kB"):
            size = int(path.name.removeprefix("hugepages-").removesuffix("kB"))
            found[size] = self._number(path / "nr_hugepages", 0)
        return found

    def _pages(self, memory: int, huge: dict[int, int]) -> tuple[Pages, ...]:
        taken = sum(size * count for size, count in huge.items())
        system = Pages(self.page_size, max(memory - taken, 0) // self.page_size)
        return (system, *(Pages(size, huge[size]) for size in sorted(huge)))

    def _mounts(self) -> Iterator[HugePageMount]:
        default = self.meminfo.get("Hugepagesize", 0)
        for line in (text_of(self.root / "proc/mounts") or "").splitlines():
            fields = line.split()
            if len(fields) < 4 or fields[2] != "hugetlbfs":
                continue
            size = default
            for option in fields[3].split(","):
                if option.startswith("pagesize="):
                    size = _pagesize(option.removeprefix("pagesize="))
            # The kernel writes blanks in paths as octal escapes.
            path = fields[1].encode("ascii", "backslashreplace").decode("unicode_escape")
            yield HugePageMount(path, size, default=size == default)

    def nesting(self) -> bool:
        """Return whether KVM guests can run KVM guests."""
        for module in _KVM_MODULES:
            value = text_of(self.root / f"sys/module/{module}/parameters/nested")
            if value is not None and value[:1] in {"Y", "y", "1"}:
                return True
        return False

    def _uuid(self) -> str | None:
        for name in ("sys/class/dmi/id/product_uuid", "etc/machine-id"):
            digits = (text_of(self.root / name) or "").replace("-", "").lower()
            if len(digits) == 32 and set(digits) <= set("0123456789abcdef"):
                cuts = (0, 8, 12, 16, 20, 32)
                return "-".join(digits[a:b] for a, b in itertools.pairwise(cuts))
        return None


def _arch(machine: str) -> str:
    return _ARCH_SPELLING.get(machine, machine)


def _pagesize(text: str) -> int:
    """Return a mount option's size in KiB: ``2M``, ``1G``, ``2048K`` or bytes."""
    factors = {"K": 1, "M": 1024, "G": 1024 * 1024}
    if text[-1:] in factors:
        return int(text[:-1]) * factors[text[-1]]
    return int(text) // 1024


def _processor(cpuinfo: dict[str, str]) -> Processor | None:
    numbers = [cpuinfo.get(key, "") for key in ("cpu family", "model", "stepping")]
    if "flags" not in cpuinfo or not all(number.isdigit() for number in numbers):
        return None
    family, model, stepping = (int(number) for number in numbers)
    vendor = cpuinfo.get("vendor_id", "")
    return Processor(vendor, (family, model, stepping), cpuinfo["flags"])


def _address_bits(cpuinfo: dict[str, str]) -> int:
    """Return bits of ``46 bits physical, 48 bits virtual``."""
    bits, _, _ = cpuinfo.get("address sizes", "0").partition(" ")
    return int(bits) if bits.isdecimal() else 0


def _signature(cpuinfo: dict[str, str]) -> str | None:
    parts = [cpuinfo.get(key) for key in ("vendor_id", "model name")]
    marks = [(key, cpuinfo.get(key)) for key in ("cpu family", "model", "stepping")]
    if None in parts or any(value is None for _, value in marks):
        return None
    described = [f"{key.removeprefix('cpu ')}: {value}" for key, value in marks]
    return ", ".join([*(part for part in parts if part is not None), *described])
