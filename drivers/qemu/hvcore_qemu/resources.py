"""What one start of a domain needs from the host, and who provides it.

Building a command line is pure; everything it needs that must be opened, created, looked up or
drawn at random first goes through a :class:`Host`: the real one opens taps and files, the
pretending one (:class:`hvcore_qemu.pretend.PretendHost`, for ``domxml-to-native``) only counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any
from typing import Literal
from typing import Protocol

import attrs

from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import Issue
from hvcore.errors import ValidationFailed
from hvcore.hostinfo import HugePageMount
from hvcore.model.types import NodeSet

if TYPE_CHECKING:
    from hvcore.hostnet import Tap
    from hvcore.hostnet import TapOptions
    from hvcore_qemu.blockdev import DiskBackend
    from hvcore_qemu.nvram import VariableStore
    from hvcore_qemu.tsc import Tsc


@attrs.frozen
class UsbDevice:
    """A USB device of the host: where it is plugged in, and what it is."""

    bus: int
    device: int
    vendor: int
    product: int


@attrs.frozen
class FdGroup:
    """Descriptors that the caller passed under a name (``virDomainFDAssociate``)."""

    fds: tuple[int, ...]
    writable: bool


@attrs.frozen
class FdSet:
    """Descriptors under one number, which QEMU opens as a file.

    :ivar descriptors: each with the name by which it is found again later.
    """

    number: int
    descriptors: tuple[tuple[int, str], ...]

    @property
    def path(self) -> str:
        """The file that stands for the set inside QEMU."""
        return f"/dev/fdset/{self.number}"


@attrs.frozen
class Volume:
    """Where a storage volume is.

    :ivar kind: ``file``, ``block``, ``dir``, ``network``, ``netdir`` or ``ploop``.
    :ivar path: the volume's path (for network kinds its name on the server).
    :ivar pool_xml: the definition of the pool.
    """

    kind: str
    path: str
    pool_xml: str


GraphicsServer = Literal["vnc", "vnc-websocket", "spice", "spice-tls", "rdp"]


def number_of(name: str, kind: str) -> int:
    """Return the number that ``name`` of a user or group is, a plus before it left out.

    :param kind: ``user`` or ``group``, for the message.
    :raises HvError: when it is no number.
    """
    digits = name.removeprefix("+")
    if not (digits.isascii() and digits.isdigit()):
        raise HvError(f"Failed to parse {kind} '{name}'", kind=ErrorClass.INVALID_ARG)
    return int(digits)


class Host(Protocol):
    """Provider of everything a start takes from outside: descriptors, lookups, time and chance.

    Descriptors are returned by number and stay open until QEMU has them.

    :ivar pretends: nothing is opened or taken, and nothing will be started.
    """

    pretends: bool

    # -- time, chance, environment -----------------------------------------------------------

    def now(self) -> int:
        """Return the time in seconds since the epoch."""

    def utc_offset(self) -> int:
        """Return how many seconds the host's local time is ahead of UTC."""

    def tsc(self) -> Tsc | None:
        """Return the host's time stamp counter, or None where nobody can tell."""

    def env(self, name: str) -> str | None:
        """Return a variable of the manager's own environment."""

    def random_bytes(self, count: int) -> bytes:
        """Return ``count`` bytes that nobody can guess."""

    # -- NUMA --------------------------------------------------------------------------------

    def numa_nodes(self) -> Mapping[int, NodeSet] | None:
        """Return the host's CPUs by NUMA node; None to take what is known of the host."""

    def numa_advice(self, *, vcpus: int, memory: int) -> NodeSet | None:
        """Return the nodes that numad advises for a guest; None where it was not asked.

        :param vcpus: how many are online at start.
        :param memory: MiB.
        """

    # -- character devices -------------------------------------------------------------------

    def monitor(self, path: str) -> int:
        """Return a descriptor of a unix socket that listens at ``path``."""

    def chardev_socket(self, path: str) -> int:
        """Return a listening unix socket for a character device in server mode."""

    def chardev_file(self, path: str, *, append: bool) -> int:
        """Return a descriptor through which QEMU writes the file of a character device."""

    def chardev_log(self, path: str, *, append: bool) -> int:
        """Return a descriptor through which QEMU writes the log of a character device."""

    # -- interfaces --------------------------------------------------------------------------

    def tap(self, name: str | None, options: TapOptions) -> Tap:
        """Create a tap, or open the existing one called ``name``, for type ``ethernet``."""

    def bridge_tap(self, name: str | None, bridge: str, options: TapOptions) -> Tap:
        """Create a tap and plug it into ``bridge``."""

    def macvtap(self, name: str | None, link: str, mode: str, options: TapOptions) -> Tap:
        """Create a macvtap on top of ``link``."""

    def interface_exists(self, name: str) -> bool:
        """Return whether the host has an interface of this name."""

    def vhost_net(
        self, path: str | None, *, queues: int, kvm: bool, driver: str | None
    ) -> Sequence[int]:
        """Return one descriptor of vhost-net for each pair of queues of a virtio interface.

        There are none where QEMU itself is to move the packets (``driver`` is ``qemu``), for guests
        without KVM, and on hosts without vhost-net unless ``driver`` is ``vhost``.

        :param path: of the device, if not the usual one.
        :raises HvError: when ``driver`` is ``vhost`` and the device cannot be opened.
        """

    def vdpa(self, device: str) -> int:
        """Return a descriptor of a vhost-vdpa device, for an interface or a disk."""

    def vhost_user_interface(self, path: str, *, server: bool) -> str | None:
        """Return the switch port behind a vhost-user socket, where one is known."""

    def passt(self, socket: str) -> None:
        """Start passt, which serves an interface on a unix socket."""

    def network_forward(self, network: str) -> str | None:
        """Return how a virtual network forwards, such as nat; None if not, or if not known."""

    def network_port(self, network: str, port_xml: str) -> str:
        """Make a port of ``network`` and return what became of it.

        :param port_xml: the ``<networkport>`` that is wanted.
        :returns: the same with a <plug>, and with what the network adds.
        :raises HvError: when there is no such network, or it is not active.
        """

    # -- storage -----------------------------------------------------------------------------

    def volume(self, pool: str, volume: str) -> Volume:
        """Return where a volume is.

        :raises HvError: when the pool is not active or has no such volume.
        """

    def variable_store(self, store: VariableStore) -> None:
        """Make the variable store of a guest's firmware unless there is one.

        :raises HvError: when there is no template, or it cannot be used.
        """

    def fd_group(self, name: str) -> FdGroup | None:
        """Return the descriptors passed under ``name``."""

    def is_host_cdrom(self, path: str) -> bool:
        """Return whether ``path`` is an optical drive of the host."""

    def file_problem(self, path: str) -> str | None:
        """Return why a file of the host cannot be used, in the system's words."""

    def user_id(self, name: str) -> int:
        """Return the number of a user; ``+N`` and ``N`` stand for N.

        :raises HvError: when there is no such user.
        """

    def group_id(self, name: str) -> int:
        """Return the number of a group, as :meth:`user_id`."""

    def nbdkit(self) -> frozenset[str] | None:
        """Return what the installed nbdkit can do (``plugin-curl``...); None without one."""

    def virtiofsd(self, socket: str) -> None:
        """Start the process that serves a directory at ``socket``."""

    def pr_helper(self, socket: str) -> None:
        """Start the helper for persistent reservations, which listens at ``socket``."""

    def transient(self, path: str) -> None:
        """Get ready to throw away what a guest writes to the image ``path``."""

    def managed_nvme(self, address: str) -> None:
        """Take an NVMe controller from the host's driver, for QEMU to drive it."""

    # -- devices of the host -----------------------------------------------------------------

    def vfio(self) -> bool:
        """Return whether PCI devices can be given to guests: an IOMMU, and VFIO to use it."""

    def assign_pci(self, address: str, *, managed: bool, driver: str | None) -> None:
        """Make a PCI device ready for QEMU.

        :param address: as the kernel writes it, ``0000:03:07.1``.
        :param managed: take the device from its driver first.
        :param driver: the kernel's VFIO driver for the device, if not the usual one.
        :raises HvError: when that fails.
        """

    def usb_devices(self) -> Sequence[UsbDevice] | None:
        """Return the USB devices of the host; None where nobody looks."""

    # -- other devices -----------------------------------------------------------------------

    def vhost_scsi(self) -> int:
        """Return a descriptor of ``/dev/vhost-scsi``."""

    def vhost_vsock(self, cid: int | None) -> tuple[int, int]:
        """Return a descriptor of ``/dev/vhost-vsock`` and the CID; None picks a free one."""

    def vhost_user_gpu(self, alias: str) -> int:
        """Return the socket of a started vhost-user-gpu helper."""

    def scsi_generic(self, adapter: str, bus: int, target: int, unit: int) -> str:
        """Return the name (``sg0``) of the generic node of a SCSI device."""

    def render_node(self) -> str:
        """Return the first usable DRM render node.

        :raises HvError: when there is none.
        """

    def graphics_port(self, server: GraphicsServer) -> int:
        """Return a free port for a server of displays, and keep it.

        :raises HvError: when all ports of the configured range are in use.
        """

    def reserve_port(self, port: int) -> None:
        """Choose ``port`` for no server, since the document gives it to one."""

    def network_address(self, network: str) -> str:
        """Return the address of the host on a virtual network.

        :raises HvError: when there is no such network, or it has none.
        """

    def tpm_passthrough(self, device: str, cancel_path: str) -> tuple[int, int]:
        """Return descriptors of a TPM and of its cancel file."""

    def tpm_cancel_path(self, device: str) -> str:
        """Return the file in sysfs by which a TPM command is cancelled."""

    def tpm_emulator_socket(self, proposed: str) -> str:
        """Return the path of the socket of a software TPM, ``proposed`` unless it differs."""

    # -- secrets -----------------------------------------------------------------------------

    def secret(
        self, usage_type: str, *, uuid: str | None = None, usage: str | None = None
    ) -> bytes:
        """Return the value of a secret.

        :param usage_type: ``volume``, ``ceph``, ``iscsi``, ``tls`` or ``vtpm``.
        :raises HvError: when there is none.
        """


@attrs.define(kw_only=True)
class HostMemory:
    """The host's memory as one start finds it.

    :ivar page_size: KiB.
    :ivar hugepage_mounts: where files of huge pages can be made.
    :ivar nodes: CPUs by NUMA node; None where the host's nodes are not known.
    :ivar advice: the nodes that numad advised; None where it was not asked.
    :ivar emulator_nodes: the nodes whose CPUs QEMU's own threads run on; None for all.
    :ivar preallocated: the command line has an option that allocates all memory at once.
    """

    page_size: int = 4
    hugepage_mounts: tuple[HugePageMount, ...] = ()
    nodes: Mapping[int, NodeSet] | None = None
    advice: NodeSet | None = None
    emulator_nodes: NodeSet | None = None
    preallocated: bool = False

    def require_nodes(self, nodes: NodeSet) -> None:
        """Make sure that the host has all of ``nodes``.

        :raises ValidationFailed: when it lacks one.
        """
        for node in nodes if self.nodes is not None else ():
            if node not in (self.nodes or ()):
                raise ValidationFailed([Issue.unsupported(f"NUMA node {node} is unavailable")])


@attrs.define(kw_only=True)
class Resources:
    """The outcome of preparation, as plain data.

    :ivar domain_dir: directory of the domain's private files (sockets, master key).
    :ivar short_name: of the domain, as it stands in paths.
    :ivar host_arch: architecture of the host.
    :ivar memory: what the host's memory is like.
    :ivar monitor_fd: the listening monitor socket.
    :ivar master_key: the key by which QEMU decrypts the secrets on its command line.
    :ivar fd_sets: descriptors handed over by ``-add-fd``, in order of creation.
    :ivar first_fd_set: the number of the first of them.
    :ivar last_node: the number in the name of the block node made last.
    :ivar disks: the images of each disk, by alias.
    :ivar vhost_fds: open vhost devices by alias.
    :ivar by_alias: what a family prepared for one device, under the device's alias.
    :ivar incoming: the URI QEMU receives a migration from; None for an ordinary start.
    :ivar launch_time: when the start began, in seconds since the epoch; relative clocks start here.
    :ivar variables: the manager's own environment, as far as QEMU is told of it.
    :ivar folders: directories for the memory of this domain alone, which come and go with it.
    """

    domain_dir: str
    short_name: str = ""
    host_arch: str = ""
    memory: HostMemory = attrs.field(factory=HostMemory)
    monitor_fd: int = -1
    master_key: bytes = b""
    fd_sets: list[FdSet] = attrs.field(factory=list)
    first_fd_set: int = 0
    last_node: int = 0
    disks: dict[str, DiskBackend] = attrs.field(factory=dict)
    vhost_fds: dict[str, int] = attrs.field(factory=dict)
    by_alias: dict[str, Any] = attrs.field(factory=dict)
    incoming: str | None = None
    launch_time: int = 0
    variables: dict[str, str] = attrs.field(factory=dict)
    folders: list[str] = attrs.field(factory=list)

    def folder(self, path: str) -> str:
        """Return the path of a directory after noting it in :attr:`folders`."""
        if path not in self.folders:
            self.folders.append(path)
        return path

    def new_fd_set(self, descriptors: Sequence[tuple[int, str]]) -> FdSet:
        """Return a new set of descriptors, each with its name."""
        made = FdSet(self.first_fd_set + len(self.fd_sets), tuple(descriptors))
        self.fd_sets.append(made)
        return made

    @property
    def numbers(self) -> tuple[int, int]:
        """The node made last, and the set of descriptors that would be next."""
        return self.last_node, self.first_fd_set + len(self.fd_sets)

    def next_node(self) -> int:
        """Return a number that no block node has yet."""
        self.last_node += 1
        return self.last_node
