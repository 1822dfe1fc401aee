"""The host, clock, chance and settings that libvirt's expected outputs were made with.

The numbers are those of the data's ENVIRONMENT.md.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from typing import Final

import attrs
from lxml import etree

from hvcore.cpu.spec import CpuSpec
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.hostinfo import HostInfo
from hvcore.hostinfo import HostThread
from hvcore.hostinfo import HugePageMount
from hvcore.hostinfo import NumaCell
from hvcore.hostnet import Tap
from hvcore.hostnet import TapOptions
from hvcore.model.types import NodeSet
from hvcore_qemu import firmware
from hvcore_qemu.config import QemuConfig
from hvcore_qemu.firmware import Firmware
from hvcore_qemu.pretend import PretendHost
from hvcore_qemu.resources import FdGroup
from hvcore_qemu.resources import Volume

NOW: Final = 1234567890
UTC_OFFSET: Final = -30 * 60
SECRET: Final = b"AQCVn5hO6HzFAhAAq0NCv8jtJcIcE+HOBlMQ1A"
USAGES: Final = frozenset({"mycluster_myname", "client.admin secret"})
VOLUME_USAGE: Final = "/storage/guest_disks/"
ENVIRONMENT: Final = {
    "PATH": "/bin",
    "USER": "test",
    "LOGNAME": "test",
    "HOME": "/home/test",
    "LC_ALL": "C",
    "TZ": "VIR00:30",
}


def random_bytes(count: int) -> bytes:
    """Return the bytes 0, 1, 2..."""
    return bytes(i & 0xFF for i in range(count))


def environment_of(extra: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment of the manager in a case."""
    return {**ENVIRONMENT, **extra.get("env", {})}


def find_program(name: str) -> str | None:
    """Return where a program of the host is."""
    if name.startswith("qemu-system") or name == "qemu-kvm":
        return f"/usr/bin/{name}"
    return "/fakebindir/nbdkit" if name == "nbdkit" else None


CONFIG: Final = QemuConfig(
    lib_dir="/var/lib/libvirt/qemu",
    channel_target_dir="/var/run/libvirt/qemu/channel",
    memory_backing_dir="/var/lib/libvirt/qemu/ram",
    nvram_dir="/var/lib/libvirt/qemu/nvram",
    passt_state_dir="/var/run/libvirt/qemu/passt",
    dbus_state_dir="/var/run/libvirt/qemu/dbus",
    hugetlbfs=(("/dev/hugepages2M", 2048), ("/dev/hugepages1G", 1048576)),
    spice_password="123456",
    vnc_sasl_dir="/etc/sasl2",
    spice_sasl_dir="/etc/sasl2",
    chardev_tls_x509_verify=False,
    qemu_rdp="/usr/bin/qemu-rdp",
    allow_emulatorpin_with_auto_placement=True,
)
"""The settings that the outputs were made with where a row names no others."""

_SETTINGS: Final = {
    "vncAllowHostAudio": "vnc_allow_host_audio",
    "nogfxAllowHostAudio": "nographics_allow_host_audio",
    "vncAutoUnixSocket": "vnc_auto_unix_socket",
    "vncSASL": "vnc_sasl",
    "vncTLS": "vnc_tls",
    "vncTLSx509verify": "vnc_tls_x509_verify",
    "vncTLSx509secretUUID": "vnc_tls_x509_secret_uuid",
    "spiceTLS": "spice_tls",
    "spiceSASL": "spice_sasl",
    "spiceAutoUnixSocket": "spice_auto_unix_socket",
    "chardevTLS": "chardev_tls",
    "chardevTLSx509verify": "chardev_tls_x509_verify",
    "chardevTLSx509secretUUID": "chardev_tls_x509_secret_uuid",
    "vxhsTLS": "vxhs_tls",
    "vxhsTLSx509secretUUID": "vxhs_tls_x509_secret_uuid",
    "nbdTLS": "nbd_tls",
    "nbdTLSx509secretUUID": "nbd_tls_x509_secret_uuid",
    "storageUseNbdkit": "storage_use_nbdkit",
}


def config_of(aux: Path, extra: Mapping[str, Any]) -> QemuConfig:
    """Return the settings with those of a row in place.

    :param aux: the data's folder that has the firmware descriptors.
    :param extra: the row's column of the same name.
    :raises KeyError: when the row has a setting that is not known here.
    """
    differing = extra.get("driver_config", {})
    changes = {_SETTINGS[name]: value for name, value in differing.items()}
    version = extra.get("env", {}).get("VIR_TEST_MOCK_FAKE_TPM_VERSION")
    if version is not None:
        changes["swtpm_versions"] = (version,)
    return _evolved(aux, tuple(sorted(changes.items())))


@functools.lru_cache(maxsize=64)
def _evolved(aux: Path, changes: tuple[tuple[str, Any], ...]) -> QemuConfig:
    import attrs

    installed = functools.partial(_firmware, aux / "qemufirmwaredata")
    return attrs.evolve(CONFIG, find_firmware=installed, **dict(changes))


@functools.lru_cache(maxsize=4)
def _firmware(root: Path) -> tuple[Firmware, ...]:
    return firmware.load(root)


def host_info(aux: Path, extra: Mapping[str, Any]) -> HostInfo:
    """Return the facts of the host of a case."""
    # Unless a row says otherwise, host models were concluded from a Core 2 Duo, whatever the host.
    cpu = _host_cpu(aux, extra.get("caps_host_cpu_model") or "core2duo")
    return attrs.evolve(_host_info(extra["host_arch"]), pci=FakePci(pci_devices(aux)), cpu=cpu)


@functools.lru_cache(maxsize=16)
def _host_cpu(aux: Path, name: str) -> CpuSpec:
    found = json.loads((aux / "host_cpus.json").read_text("utf-8"))["cpus"][name]
    return CpuSpec(
        model=found["model"],
        vendor=found.get("vendor"),
        features=dict.fromkeys(found.get("features", ()), "require"),
        host=True,
    )


@functools.lru_cache(maxsize=16)
def _host_info(arch: str) -> HostInfo:
    # Ids of CPUs overlap between cells, as in libvirt's own test host.
    cells = tuple(
        NumaCell(
            id=number + 3,
            memory=2097152,
            cpus=tuple(HostThread(cpu, siblings=(cpu,)) for cpu in (number, number + 1)),
        )
        for number in range(4)
    )
    return HostInfo(
        arch=arch,
        cells=cells,
        memory=4 * 2097152,
        page_size=4,
        page_sizes=(4, 2048, 1048576),
        thp_size=2048,
        hugepage_mounts=(
            HugePageMount("/dev/hugepages2M", 2048, default=True),
            HugePageMount("/dev/hugepages1G", 1048576),
        ),
        kvm=True,
    )


class FakeHost(PretendHost):
    """The host of one case: fixed descriptors, and lookups in the data's files.

    :param aux: the data's folder of networks, ports and pools.
    :param extra: the row's column of the same name.
    """

    def __init__(self, aux: Path, extra: Mapping[str, Any]) -> None:
        super().__init__()
        self.aux = aux
        self.extra = extra

    # -- time, chance, environment -----------------------------------------------------------

    def now(self) -> int:
        return NOW

    def utc_offset(self) -> int:
        return UTC_OFFSET

    def env(self, name: str) -> str | None:
        return environment_of(self.extra).get(name)

    def random_bytes(self, count: int) -> bytes:
        return random_bytes(count)

    # -- character devices -------------------------------------------------------------------

    def monitor(self, path: str) -> int:
        return 1729

    def chardev_socket(self, path: str) -> int:
        return 1729

    def chardev_file(self, path: str, *, append: bool) -> int:
        return 1750

    def chardev_log(self, path: str, *, append: bool) -> int:
        return 1751

    # -- interfaces --------------------------------------------------------------------------

    def tap(self, name: str | None, options: TapOptions) -> Tap:
        kept = name if name == "mytap0" else "vnet0"
        return Tap(kept, tuple(range(3, 3 + options.queues)))

    def bridge_tap(self, name: str | None, bridge: str, options: TapOptions) -> Tap:
        return Tap(name or "vnet0", tuple(range(102, 102 + options.queues)))

    def interface_exists(self, name: str) -> bool:
        return name == "mytap0"

    def vhost_net(
        self, path: str | None, *, queues: int, kvm: bool, driver: str | None
    ) -> Sequence[int]:
        return tuple(range(44, 44 + queues))

    def vdpa(self, device: str) -> int:
        found: int = self.extra.get("vdpa_fds", {}).get(device, 1732)
        return found

    def vhost_user_interface(self, path: str, *, server: bool) -> str | None:
        return "vhost-user0"

    def network_forward(self, network: str) -> str | None:
        definition, _, _ = network.partition(";")
        path = self.aux / "networkxml2xmlin" / f"{definition}.xml"
        if not path.exists():
            return None
        forward = etree.parse(path).find("forward")
        return None if forward is None else forward.get("mode", "nat")

    def network_port(self, network: str, port_xml: str) -> str:
        _, separator, port = network.partition(";")
        if not separator:
            raise HvError(f"Malformed fake network name '{network}'")
        return (self.aux / "virnetworkportxml2xmldata" / f"{port}.xml").read_text("utf-8")

    # -- NUMA --------------------------------------------------------------------------------

    def numa_nodes(self) -> Mapping[int, NodeSet]:
        folder = self.aux / "vircaps2xmldata" / "linux-basic" / "system" / "node"
        online = NodeSet.parse((folder / "online").read_text("utf-8").strip())
        return {
            node: NodeSet.parse((folder / f"node{node}" / "cpulist").read_text("utf-8").strip())
            for node in online
        }

    def numa_advice(self, *, vcpus: int, memory: int) -> NodeSet:
        return NodeSet.parse("0-3")

    # -- storage -----------------------------------------------------------------------------

    def volume(self, pool: str, volume: str) -> Volume:
        if pool == "inactive":
            raise HvError(f"storage pool '{pool}' is not active", kind=ErrorClass.OPERATION_INVALID)
        if volume == "nonexistent":
            raise HvError(
                f"no storage vol with matching name '{volume}'", kind=ErrorClass.NO_STORAGE_VOL
            )
        kind, separator, name = volume.partition("+")
        if not separator:
            kind, name = "block", volume
        definition = self.aux / "storagepoolxml2xmlout" / f"{pool}.xml"
        return Volume(kind, f"/some/{kind}/device/{name}", definition.read_text("utf-8"))

    def fd_group(self, name: str) -> FdGroup | None:
        for group in self.extra.get("fd_groups", ()):
            if group["name"] == name:
                return FdGroup(tuple(group["fds"]), group["writable"])
        return None

    def is_host_cdrom(self, path: str) -> bool:
        return path == "/dev/cdrom"

    def nbdkit(self) -> frozenset[str] | None:
        found = self.extra.get("nbdkit_caps")
        return None if found is None else frozenset(found)

    # -- other devices -----------------------------------------------------------------------

    def vhost_scsi(self) -> int:
        return 3

    def vhost_vsock(self, cid: int | None) -> tuple[int, int]:
        return 6789, 42 if cid is None else cid

    def vhost_user_gpu(self, alias: str) -> int:
        return 1729

    def render_node(self) -> str:
        return "/dev/dri/foo"

    def tpm_passthrough(self, device: str, cancel_path: str) -> tuple[int, int]:
        return 1730, 1731

    def tpm_cancel_path(self, device: str) -> str:
        return "/sys/class/misc/tpm0/device/cancel"

    def tpm_emulator_socket(self, proposed: str) -> str:
        return "/dev/test"

    # -- secrets -----------------------------------------------------------------------------

    def secret(
        self, usage_type: str, *, uuid: str | None = None, usage: str | None = None
    ) -> bytes:
        if uuid is not None:
            return SECRET
        if usage_type == "volume" and not (usage or "").startswith(VOLUME_USAGE):
            raise HvError(f"test provided invalid volume storage prefix '{usage}'")
        if usage_type != "volume" and usage not in USAGES:
            raise HvError(f"test provided incorrect usage '{usage}'")
        return SECRET


# Which of the devices have an Express capability in their configuration space; the data's list
# of devices does not say.
_EXPRESS: Final = frozenset(
    {
        "0000:00:01.0",
        "0000:00:03.0",
        "0000:01:00.0",
        "0000:02:00.0",
        "0001:00:00.0",
        "0001:01:00.0",
        "0001:01:00.1",
        "0005:80:00.0",
    }
)


@functools.cache
def pci_devices(aux: Path) -> dict[str, dict[str, Any]]:
    """Return the PCI devices of the host by address."""
    listed = json.loads((aux / "pci_mock_devices.json").read_text("utf-8"))["devices"]
    return {device["address"]: device for device in listed}


class FakePci:
    """The PCI devices of the host of a case."""

    def __init__(self, devices: Mapping[str, Mapping[str, Any]]) -> None:
        self._devices = devices

    def is_express(self, domain: int, bus: int, slot: int, function: int) -> bool | None:
        found = self._find(domain, bus, slot, function)
        return found["address"] in _EXPRESS if found else None

    def iommu_group(self, domain: int, bus: int, slot: int, function: int) -> int | None:
        group: int | None = self._find(domain, bus, slot, function).get("iommu_group")
        return group

    def _find(self, domain: int, bus: int, slot: int, function: int) -> Mapping[str, Any]:
        return self._devices.get(f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}", {})
