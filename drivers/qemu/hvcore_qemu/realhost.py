"""The host that a start of QEMU really takes its resources from.

What it opens stays open, under the same number, until QEMU has inherited it; :meth:`RealHost.close`
closes our copies whether the start succeeded or not.
"""
# ruff: noqa: D102 - the methods are documented by the protocol

from __future__ import annotations

import errno
import fcntl
import grp
import os
import pwd
import socket
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Final
from typing import NoReturn

from hvcore import hostnet
from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import Reason
from hvcore.errors import UnsupportedFeature
from hvcore.hostnet import failed
from hvcore.state import make_directory
from hvcore_qemu import nvram
from hvcore_qemu import rendernode
from hvcore_qemu import tsc
from hvcore_qemu.ports import DISPLAYS
from hvcore_qemu.ports import RDP
from hvcore_qemu.ports import WEBSOCKETS
from hvcore_qemu.ports import PortPool
from hvcore_qemu.ports import PortRange
from hvcore_qemu.resources import GraphicsServer
from hvcore_qemu.resources import UsbDevice
from hvcore_qemu.resources import number_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence

    from hvcore.hostnet import Tap
    from hvcore.hostnet import TapOptions
    from hvcore.model.types import NodeSet
    from hvcore_qemu.nvram import VariableStore
    from hvcore_qemu.resources import FdGroup
    from hvcore_qemu.resources import Volume
    from hvcore_qemu.tsc import Tsc

_VHOST_VSOCK_SET_GUEST_CID: Final = 0x4008AF60
_FIRST_CID: Final = 3

_PORTS: Final[dict[GraphicsServer, PortRange]] = {
    "vnc": DISPLAYS,
    "spice": DISPLAYS,
    "spice-tls": DISPLAYS,
    "vnc-websocket": WEBSOCKETS,
    "rdp": RDP,
}
_USB_NUMBERS: Final = {"busnum": 10, "devnum": 10, "idVendor": 16, "idProduct": 16}
"""What makes a UsbDevice, and in which base the kernel writes it."""
_POOL: Final = PortPool()
"""Ports are the host's, whichever connection chooses one."""


class RealHost:
    """Implements :class:`hvcore_qemu.resources.Host` by opening things.

    :ivar opened: every descriptor opened so far.
    :ivar ports: every port chosen so far.
    :ivar monitor_path: where the monitor listens.
    :ivar advised: the nodes that an advisor wants the guest on; None where it was not asked.
    """

    pretends = False

    def __init__(self, advised: NodeSet | None = None) -> None:
        self.advised = advised
        self.opened: list[int] = []
        self.ports: list[int] = []
        self.monitor_path: Path | None = None

    def close(self) -> None:
        """Close everything that was opened."""
        for descriptor in self.opened:
            os.close(descriptor)
        self.opened.clear()

    def give_back_ports(self) -> None:
        """Let others choose our ports; servers that listen by now keep theirs themselves."""
        for port in self.ports:
            _POOL.give_back(port)
        self.ports.clear()

    # -- time, chance, environment ------------------------------------------------------

    def now(self) -> int:
        return int(time.time())

    def utc_offset(self) -> int:
        return time.localtime(self.now()).tm_gmtoff

    def tsc(self) -> Tsc | None:
        return tsc.probe()

    def env(self, name: str) -> str | None:
        return os.environ.get(name)

    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)

    # -- NUMA ---------------------------------------------------------------------------

    def numa_nodes(self) -> Mapping[int, NodeSet] | None:
        return None

    def numa_advice(self, *, vcpus: int, memory: int) -> NodeSet | None:
        # Asking takes a while, so whoever starts the guest has done it before.
        del vcpus, memory
        return self.advised

    # -- character devices --------------------------------------------------------------

    def monitor(self, path: str) -> int:
        self.monitor_path = Path(path)
        return self._listen(path)

    def chardev_socket(self, path: str) -> int:
        return self._listen(path)

    def chardev_file(self, path: str, *, append: bool) -> int:
        flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC)
        return self._open(path, flags)

    def chardev_log(self, path: str, *, append: bool) -> int:
        return self.chardev_file(path, append=append)

    # -- interfaces ---------------------------------------------------------------------

    def tap(self, name: str | None, options: TapOptions) -> Tap:
        self._can_make(options)
        if options.existing and name is not None and hostnet.is_macvtap(name):
            _missing("interfaces with a macvtap that exists")
        tap = hostnet.make_tap(self._open_device, name, options)
        if not options.existing:
            hostnet.set_up(tap, options)
        if options.script:
            hostnet.run_script(options.script, tap.name)
        return tap

    def bridge_tap(self, name: str | None, bridge: str, options: TapOptions) -> Tap:
        self._can_make(options)
        tap = hostnet.make_tap(self._open_device, name, options)
        hostnet.set_up(tap, options, bridge)
        return tap

    def macvtap(self, name: str | None, link: str, mode: str, options: TapOptions) -> Tap:
        del name, link, mode, options
        _missing("interfaces of type 'direct'")

    def _can_make(self, options: TapOptions) -> None:
        for what in options.others:
            _missing(f"interfaces with {what}")

    def _open_device(self, path: str) -> int:
        return self._open(path, os.O_RDWR)

    def interface_exists(self, name: str) -> bool:
        return Path("/sys/class/net", name).exists()

    def vhost_net(
        self, path: str | None, *, queues: int, kvm: bool, driver: str | None
    ) -> Sequence[int]:
        if not kvm or driver == "qemu":
            return ()
        try:
            return [self._open(path or "/dev/vhost-net", os.O_RDWR) for _ in range(queues)]
        except DriverError as error:
            if driver != "vhost":
                return ()
            raise DriverError(
                "vhost-net was requested for an interface, but is unavailable",
                kind=ErrorClass.CONFIG_UNSUPPORTED,
            ) from error

    def vdpa(self, device: str) -> int:
        return self._open(device, os.O_RDWR)

    def vhost_user_interface(self, path: str, *, server: bool) -> str | None:
        # Only Open vSwitch could tell, and only if it is asked.
        del path, server
        return None

    def passt(self, socket: str) -> None:
        del socket
        _missing("interfaces with backend 'passt'")

    def network_forward(self, network: str) -> str | None:
        del network
        return None

    def network_port(self, network: str, port_xml: str) -> str:
        del port_xml
        raise HvError(f"no network with matching name '{network}'", kind=ErrorClass.NO_NETWORK)

    # -- storage ------------------------------------------------------------------------

    def volume(self, pool: str, volume: str) -> Volume:
        del volume
        raise HvError(
            f"no storage pool with matching name '{pool}'", kind=ErrorClass.NO_STORAGE_POOL
        )

    def variable_store(self, store: VariableStore) -> None:
        nvram.create(store)

    def fd_group(self, name: str) -> FdGroup | None:
        del name
        return None

    def is_host_cdrom(self, path: str) -> bool:
        # As libvirt decides it: by the name that the kernel gives to optical drives.
        return os.path.realpath(path).startswith("/dev/sr")

    def file_problem(self, path: str) -> str | None:
        try:
            Path(path).stat()
        except OSError as error:
            return os.strerror(error.errno or errno.EIO)
        return None

    def user_id(self, name: str) -> int:
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            return number_of(name, "user")

    def group_id(self, name: str) -> int:
        try:
            return grp.getgrnam(name).gr_gid
        except KeyError:
            return number_of(name, "group")

    def nbdkit(self) -> frozenset[str] | None:
        return None

    def virtiofsd(self, socket: str) -> None:
        del socket
        _missing("filesystems with driver type 'virtiofs' and no socket of their own")

    def pr_helper(self, socket: str) -> None:
        del socket
        _missing("managed persistent reservations")

    def transient(self, path: str) -> None:
        del path
        _missing("transient disks")

    def managed_nvme(self, address: str) -> None:
        del address
        _missing("managed NVMe disks")

    # -- devices of the host ------------------------------------------------------------

    def vfio(self) -> bool:
        groups = Path("/sys/kernel/iommu_groups")
        return Path("/dev/vfio/vfio").exists() and groups.is_dir() and any(groups.iterdir())

    def assign_pci(self, address: str, *, managed: bool, driver: str | None) -> None:
        if managed:
            _missing("host devices that are managed")
        bound = Path(f"/sys/bus/pci/devices/{address}/driver").resolve().name
        if bound != (driver or "vfio-pci").replace("_", "-"):
            raise HvError(
                f"Unmanaged PCI device {address} must be manually detached from the host",
                kind=ErrorClass.OPERATION_INVALID,
            )

    def usb_devices(self) -> Sequence[UsbDevice] | None:
        found = []
        for folder in sorted(Path("/sys/bus/usb/devices").glob("*")):
            if not folder.name.startswith("usb") and (folder / "idVendor").exists():
                numbers = [
                    int((folder / name).read_text("ascii"), base)
                    for name, base in _USB_NUMBERS.items()
                ]
                found.append(UsbDevice(*numbers))
        return found

    # -- other devices ------------------------------------------------------------------

    def vhost_scsi(self) -> int:
        return self._open("/dev/vhost-scsi", os.O_RDWR)

    def vhost_vsock(self, cid: int | None) -> tuple[int, int]:
        descriptor = self._open("/dev/vhost-vsock", os.O_RDWR)
        wanted = _FIRST_CID if cid is None else cid
        while True:
            try:
                fcntl.ioctl(descriptor, _VHOST_VSOCK_SET_GUEST_CID, struct.pack("Q", wanted))
            except OSError as error:
                if cid is None and error.errno == errno.EADDRINUSE:
                    wanted += 1
                    continue
                raise failed("failed to set guest cid", error) from error
            return descriptor, wanted

    def vhost_user_gpu(self, alias: str) -> int:
        del alias
        _missing("video devices with a vhost-user backend")

    def scsi_generic(self, adapter: str, bus: int, target: int, unit: int) -> str:
        number = adapter.removeprefix("scsi_host")
        folder = Path(f"/sys/bus/scsi/devices/{number}:{bus}:{target}:{unit}/scsi_generic")
        try:
            return min(folder.iterdir()).name
        except OSError as error:
            raise failed(f"cannot open directory '{folder}'", error) from error
        except ValueError:
            raise HvError(f"no generic device in '{folder}'", kind=ErrorClass.SYSTEM) from None

    def render_node(self) -> str:
        return rendernode.first()

    def graphics_port(self, server: GraphicsServer) -> int:
        port = _POOL.take(_PORTS[server])
        self.ports.append(port)
        return port

    def reserve_port(self, port: int) -> None:
        if _POOL.reserve(port):
            self.ports.append(port)

    def network_address(self, network: str) -> str:
        del network
        raise HvError(
            "network-based listen isn't possible, network driver isn't present",
            kind=ErrorClass.CONFIG_UNSUPPORTED,
        )

    def tpm_passthrough(self, device: str, cancel_path: str) -> tuple[int, int]:
        return self._open(device, os.O_RDWR), self._open(cancel_path, os.O_WRONLY)

    def tpm_cancel_path(self, device: str) -> str:
        name = Path(device).name
        for folder in (f"/sys/class/tpm/{name}/device", f"/sys/class/misc/{name}/device"):
            if (cancel := Path(folder, "cancel")).exists():
                return str(cancel)
        raise HvError(f"No usable sysfs TPM cancel file could be found for {device}")

    def tpm_emulator_socket(self, proposed: str) -> str:
        del proposed
        _missing("TPM devices of type 'emulator'")

    # -- secrets ------------------------------------------------------------------------

    def secret(
        self, usage_type: str, *, uuid: str | None = None, usage: str | None = None
    ) -> bytes:
        key = f"uuid '{uuid}'" if uuid is not None else f"usage '{usage}'"
        del usage_type
        raise HvError(f"no secret with matching {key}", kind=ErrorClass.NO_SECRET)

    # -- how ----------------------------------------------------------------------------

    def _open(self, path: str, flags: int) -> int:
        try:
            descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise failed(f"Unable to open '{path}'", error) from error
        self.opened.append(descriptor)
        return descriptor

    def _listen(self, path: str) -> int:
        make_directory(Path(path).parent)
        # What a process left behind that is gone would be in the way.
        Path(path).unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
            # On Linux the mode of the descriptor becomes that of the name, less the umask.
            os.fchmod(server.fileno(), 0o600)
            try:
                server.bind(path)
                Path(path).chmod(0o600)
                server.listen(1)
            except OSError as error:
                raise failed(f"Unable to bind to UNIX socket path '{path}'", error) from error
            descriptor = server.detach()
        self.opened.append(descriptor)
        return descriptor


def _missing(what: str) -> NoReturn:
    raise UnsupportedFeature(
        f"{what} cannot be started yet", feature=what, reason=Reason.NO_IMPL, driver="qemu"
    )
