"""A host that opens nothing: for showing what a start would do, and the base of tests' hosts.

Descriptors are counted from 3, so that every one on the command line is another; secrets have no
value that could leak; what only a real host knows is an error. As with libvirt, devices that can
be seen without opening them are those of this host.
"""
# ruff: noqa: D102 - the methods are documented by the protocol

from __future__ import annotations

import itertools
import os
import time
from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.hostnet import Tap
from hvcore_qemu import rendernode
from hvcore_qemu.resources import FdGroup
from hvcore_qemu.resources import GraphicsServer
from hvcore_qemu.resources import Volume
from hvcore_qemu.resources import number_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence

    from hvcore.hostnet import TapOptions
    from hvcore.model.types import NodeSet
    from hvcore_qemu.nvram import VariableStore
    from hvcore_qemu.resources import UsbDevice
    from hvcore_qemu.tsc import Tsc

_FIRST_FD = 3  # after stdin, stdout and stderr

_PORTS: Final[dict[GraphicsServer, int]] = {
    "vnc": 5900, "vnc-websocket": -1, "spice": 5901, "spice-tls": 5902, "rdp": 3389,
}  # fmt: skip
"""What libvirt shows for ports that it would choose."""


class PretendHost:
    """Implements :class:`hvcore_qemu.resources.Host` without touching the host."""

    pretends = True

    def __init__(self) -> None:
        self._next = itertools.count(_FIRST_FD)
        self._interfaces = itertools.count()

    def fd(self) -> int:
        """Return a number that no other descriptor has."""
        return next(self._next)

    def fds(self, count: int) -> tuple[int, ...]:
        """Return ``count`` new numbers."""
        return tuple(self.fd() for _ in range(count))

    # -- time, chance, environment -----------------------------------------------------------

    def now(self) -> int:
        return int(time.time())

    def utc_offset(self) -> int:
        return time.localtime(self.now()).tm_gmtoff

    def tsc(self) -> Tsc | None:
        return None

    def env(self, name: str) -> str | None:
        return os.environ.get(name)

    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)

    # -- NUMA --------------------------------------------------------------------------------

    def numa_nodes(self) -> Mapping[int, NodeSet] | None:
        return None

    def numa_advice(self, *, vcpus: int, memory: int) -> NodeSet | None:
        del vcpus, memory
        return None

    # -- character devices -------------------------------------------------------------------

    def monitor(self, path: str) -> int:
        del path
        return self.fd()

    def chardev_socket(self, path: str) -> int:
        del path
        return self.fd()

    def chardev_file(self, path: str, *, append: bool) -> int:
        del path, append
        return self.fd()

    def chardev_log(self, path: str, *, append: bool) -> int:
        del path, append
        return self.fd()

    # -- interfaces --------------------------------------------------------------------------

    def tap(self, name: str | None, options: TapOptions) -> Tap:
        return Tap(name or f"vnet{next(self._interfaces)}", self.fds(options.queues))

    def bridge_tap(self, name: str | None, bridge: str, options: TapOptions) -> Tap:
        del bridge
        return self.tap(name, options)

    def macvtap(self, name: str | None, link: str, mode: str, options: TapOptions) -> Tap:
        del link, mode
        return Tap(name or f"macvtap{next(self._interfaces)}", self.fds(options.queues))

    def interface_exists(self, name: str) -> bool:
        del name
        return False

    def vhost_net(
        self, path: str | None, *, queues: int, kvm: bool, driver: str | None
    ) -> Sequence[int]:
        del path
        return self.fds(queues) if kvm and driver != "qemu" else ()

    def vdpa(self, device: str) -> int:
        del device
        return self.fd()

    def vhost_user_interface(self, path: str, *, server: bool) -> str | None:
        del path, server
        return None

    def passt(self, socket: str) -> None:
        del socket

    def network_forward(self, network: str) -> str | None:
        del network
        return None

    def network_port(self, network: str, port_xml: str) -> str:
        del port_xml
        raise HvError(f"no network with matching name '{network}'", kind=ErrorClass.NO_NETWORK)

    # -- storage -----------------------------------------------------------------------------

    def volume(self, pool: str, volume: str) -> Volume:
        del volume
        raise HvError(
            f"no storage pool with matching name '{pool}'", kind=ErrorClass.NO_STORAGE_POOL
        )

    def variable_store(self, store: VariableStore) -> None:
        del store

    def fd_group(self, name: str) -> FdGroup | None:
        del name
        return None

    def is_host_cdrom(self, path: str) -> bool:
        del path
        return False

    def file_problem(self, path: str) -> str | None:
        del path
        return None

    def user_id(self, name: str) -> int:
        return number_of(name, "user")

    def group_id(self, name: str) -> int:
        return number_of(name, "group")

    def nbdkit(self) -> frozenset[str] | None:
        return None

    def virtiofsd(self, socket: str) -> None:
        del socket

    def pr_helper(self, socket: str) -> None:
        del socket

    def transient(self, path: str) -> None:
        del path

    def managed_nvme(self, address: str) -> None:
        del address

    # -- devices of the host -----------------------------------------------------------------

    def vfio(self) -> bool:
        return True

    def assign_pci(self, address: str, *, managed: bool, driver: str | None) -> None:
        del address, managed, driver

    def usb_devices(self) -> Sequence[UsbDevice] | None:
        return None

    # -- other devices -----------------------------------------------------------------------

    def vhost_scsi(self) -> int:
        return self.fd()

    def vhost_vsock(self, cid: int | None) -> tuple[int, int]:
        return self.fd(), 3 if cid is None else cid  # 3 is the first CID a guest can have

    def vhost_user_gpu(self, alias: str) -> int:
        del alias
        return self.fd()

    def scsi_generic(self, adapter: str, bus: int, target: int, unit: int) -> str:
        del adapter, bus, target, unit
        return "sg0"

    def render_node(self) -> str:
        return rendernode.first()

    def graphics_port(self, server: GraphicsServer) -> int:
        return _PORTS[server]

    def reserve_port(self, port: int) -> None:
        del port

    def network_address(self, network: str) -> str:
        del network
        raise HvError(
            "network-based listen isn't possible, network driver isn't present",
            kind=ErrorClass.CONFIG_UNSUPPORTED,
        )

    def tpm_passthrough(self, device: str, cancel_path: str) -> tuple[int, int]:
        del device, cancel_path
        return self.fd(), self.fd()

    def tpm_cancel_path(self, device: str) -> str:
        return f"/sys/class/tpm/{device.rpartition('/')[2]}/device/cancel"

    def tpm_emulator_socket(self, proposed: str) -> str:
        return proposed

    # -- secrets -----------------------------------------------------------------------------

    def secret(
        self, usage_type: str, *, uuid: str | None = None, usage: str | None = None
    ) -> bytes:
        del usage_type, uuid, usage
        return b"secret"
