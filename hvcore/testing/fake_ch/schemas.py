"""The structures of Cloud Hypervisor v53: what it reads, writes and calls required.

The facts are those of its `vmm` crate (vm_config.rs, config.rs, api/mod.rs) and of the API
description that it ships, version 0.3.0. Where the two differ, the program's behaviour is the
field and the description is said beside it. Two differences hurt whoever writes by the
description alone: `generic-vhost-user` is ignored (the program's name is `generic_vhost_user`),
and descriptors can be handed over on restore only with `net_fds`, which is not described.
"""

from __future__ import annotations

import random
from typing import Any
from typing import Final

from hvcore.testing.fake_ch.wire import ANY
from hvcore.testing.fake_ch.wire import BOOL
from hvcore.testing.fake_ch.wire import I32
from hvcore.testing.fake_ch.wire import I64
from hvcore.testing.fake_ch.wire import IP
from hvcore.testing.fake_ch.wire import MAC
from hvcore.testing.fake_ch.wire import PATH
from hvcore.testing.fake_ch.wire import STRING
from hvcore.testing.fake_ch.wire import U8
from hvcore.testing.fake_ch.wire import U16
from hvcore.testing.fake_ch.wire import U32
from hvcore.testing.fake_ch.wire import U64
from hvcore.testing.fake_ch.wire import USIZE
from hvcore.testing.fake_ch.wire import Field
from hvcore.testing.fake_ch.wire import Integer
from hvcore.testing.fake_ch.wire import Kind
from hvcore.testing.fake_ch.wire import ListOf
from hvcore.testing.fake_ch.wire import MapOf
from hvcore.testing.fake_ch.wire import Named
from hvcore.testing.fake_ch.wire import Names
from hvcore.testing.fake_ch.wire import Struct


def random_mac() -> str:
    """Return a locally administered unicast address, as the program makes up.

    >>> int(random_mac()[:2], 16) & 3
    2
    """
    octets = [random.randrange(256) for _ in range(6)]  # noqa: S311 - no secret
    octets[0] = (octets[0] & 0xFC) | 2
    return ":".join(f"{octet:02x}" for octet in octets)


CONSOLE_MODE: Final = Names("ConsoleMode", ("Off", "Pty", "Tty", "File", "Socket", "Null"))
IMAGE_TYPE: Final = Names("ImageType", ("FixedVhd", "Qcow2", "Raw", "Vhdx", "Unknown"))
LOCKS: Final = Names("LockGranularity", ("ByteRange", "Full"))
CORE_SCHEDULING: Final = Names("CoreSchedulingMode", ("Vm", "Vcpu", "Off"))
RESTORE_MODE: Final = Names("MemoryRestoreMode", ("Copy", "OnDemand"))
MIGRATION_MODE: Final = Names("MigrationMode", ("Precopy", "Postcopy"))
TIMEOUT_STRATEGY: Final = Names("TimeoutStrategy", ("Cancel", "Ignore"))
VM_STATE: Final = Names("VmState", ("Created", "Running", "Shutdown", "Paused"))
HOTPLUG_METHOD: Final = Names("HotplugMethod", ("Acpi", "VirtioMem"), described=False)
VHOST_MODE: Final = Names("VhostMode", ("Client", "Server"), described=False)
CPU_PROFILE: Final = Names("CpuProfile", ("Host",), described=False)

ENUMS: Final = (
    VM_STATE, CORE_SCHEDULING, IMAGE_TYPE, LOCKS, CONSOLE_MODE, RESTORE_MODE, MIGRATION_MODE,
    TIMEOUT_STRATEGY,
)  # fmt: skip

VCPUS: Final = Integer("u32", 0, 0xFFFF_FFFF, minimum=1)
CID: Final = Integer("u32", 0, 0xFFFF_FFFF, minimum=3)
TOKENS: Final = Integer("u64", 0, 0xFFFF_FFFF_FFFF_FFFF, minimum=0)
NONZERO: Final = Integer("a nonzero u64", 1, 0xFFFF_FFFF_FFFF_FFFF, minimum=1)
CONNECTIONS: Final = Integer("a nonzero u32", 1, 0xFFFF_FFFF, minimum=1, maximum=128)

_ID: Final = Field("id", STRING)
_SEGMENT: Final = Field("pci_segment", U16, default=0)
_SLOT: Final = Field("pci_device_id", U8)
_IOMMU: Final = Field("iommu", BOOL, default=False, omit_false=True)
#: What every PCI device has. The program takes `iommu` everywhere (and refuses it later where
#: a device cannot have it); the description has it only where it works.
PCI: Final = (_ID, _IOMMU, _SEGMENT, _SLOT)
PCI_NO_IOMMU: Final = (_ID, _IOMMU._replace(described=False), _SEGMENT, _SLOT)


def _flag(name: str, *, default: bool = False, **more: Any) -> Field:
    return Field(name, BOOL, default=default, **more)


def _need(name: str, kind: Kind, **more: Any) -> Field:
    return Field(name, kind, need=True, **more)


def _list(name: str, struct: str, **more: Any) -> Field:
    return Field(name, ListOf(Named(struct)), **more)


_PROCESSOR: Final = (
    Struct("CpuAffinity", (_need("vcpu", U32), _need("host_cpus", ListOf(USIZE)))),
    Struct("CpuFeatures", (_flag("amx"),)),
    Struct(
        "CpuTopology",
        tuple(
            _need(name, U16, described_need=False)
            for name in ("threads_per_core", "cores_per_die", "dies_per_package", "packages")
        ),
    ),
    Struct(
        "CpusConfig",
        (
            _need("boot_vcpus", VCPUS),
            _need("max_vcpus", VCPUS),
            Field("topology", Named("CpuTopology")),
            _flag("kvm_hyperv"),
            Field("max_phys_bits", U8, default=46),
            Field("affinity", ListOf(Named("CpuAffinity"))),
            Field("features", Named("CpuFeatures"), default=dict),
            _flag("nested", default=True),
            Field("core_scheduling", CORE_SCHEDULING, default="Vm"),
            Field("profile", CPU_PROFILE, default="Host", described=False),
        ),
    ),
)

_MEMORY: Final = (
    Struct(
        "MemoryZoneConfig",
        (
            _need("id", STRING),
            _need("size", U64),
            Field("file", PATH),
            _flag("shared"),
            _flag("hugepages"),
            Field("hugepage_size", U64),
            Field("host_numa_node", U32),
            Field("hotplug_size", U64),
            Field("hotplugged_size", U64),
            _flag("prefault"),
            _flag("reserve"),
            _flag("mergeable"),
        ),
    ),
    Struct(
        "MemoryConfig",
        (
            _need("size", U64),
            _flag("mergeable"),
            Field("hotplug_method", HOTPLUG_METHOD, default="Acpi"),
            Field("hotplug_size", U64),
            Field("hotplugged_size", U64),
            _flag("shared"),
            _flag("hugepages"),
            Field("hugepage_size", U64),
            _flag("prefault"),
            _flag("reserve"),
            _list("zones", "MemoryZoneConfig"),
            _flag("thp", default=True),
        ),
    ),
)

_LIMITS: Final = (
    Struct(
        "TokenBucket",
        (
            _need("size", TOKENS),
            Field("one_time_burst", TOKENS, writes_null=True),
            _need("refill_time", TOKENS),
        ),
    ),
    Struct(
        "RateLimiterConfig",
        (
            Field("bandwidth", Named("TokenBucket"), writes_null=True),
            Field("ops", Named("TokenBucket"), writes_null=True),
        ),
        denies_unknown=True,
    ),
    Struct(
        "RateLimitGroupConfig",
        (
            Field("id", STRING, default="", described_need=True),
            Field(
                "rate_limiter_config",
                Named("RateLimiterConfig"),
                default=dict,
                described_need=True,
            ),
        ),
    ),
    Struct("VirtQueueAffinity", (_need("queue_index", U16), _need("host_cpus", ListOf(USIZE)))),
)

_DEVICES: Final = (
    Struct(
        "DiskConfig",
        (
            *PCI,
            Field("path", PATH),
            _flag("readonly"),
            _flag("direct"),
            Field("num_queues", USIZE, default=1),
            Field("queue_size", U16, default=128),
            _flag("vhost_user"),
            Field("vhost_socket", STRING),
            Field("rate_limit_group", STRING),
            Field("rate_limiter_config", Named("RateLimiterConfig")),
            _flag("disable_io_uring", described=False),
            _flag("disable_aio", described=False),
            Field("serial", STRING),
            Field("queue_affinity", ListOf(Named("VirtQueueAffinity"))),
            _flag("backing_files"),
            _flag("sparse", default=True),
            Field("image_type", IMAGE_TYPE, default="Unknown"),
            Field("lock_granularity", LOCKS, default="ByteRange"),
        ),
    ),
    Struct(
        "NetConfig",
        (
            *PCI,
            Field("tap", STRING),
            Field("ip", IP),
            Field("mask", IP),
            Field("mac", MAC, default=random_mac),
            Field("host_mac", MAC),
            Field("mtu", U16),
            Field("num_queues", USIZE, default=2),
            Field("queue_size", U16, default=256),
            _flag("vhost_user"),
            Field("vhost_socket", STRING),
            Field("vhost_mode", VHOST_MODE, default="Client"),
            Field("fds", ListOf(I32), described=False),
            Field("rate_limiter_config", Named("RateLimiterConfig")),
            _flag("offload_tso", default=True),
            _flag("offload_ufo", default=True),
            _flag("offload_csum", default=True),
        ),
    ),
    Struct("RngConfig", (*PCI, _need("src", PATH))),
    Struct("RtcConfig", PCI),
    Struct(
        "BalloonConfig",
        (*PCI, _need("size", U64), _flag("deflate_on_oom"), _flag("free_page_reporting")),
    ),
    Struct(
        "FsConfig",
        (
            *PCI_NO_IOMMU,
            _need("tag", STRING),
            _need("socket", PATH),
            Field("num_queues", USIZE, default=1, described_need=True),
            Field("queue_size", U16, default=1024, described_need=True),
        ),
    ),
    Struct(
        "GenericVhostUserConfig",
        (
            _ID._replace(described=False),
            *PCI_NO_IOMMU[1:],
            _need("socket", PATH),
            _need("queue_sizes", ListOf(U16)),
            _need("device_type", U32),
        ),
    ),
    Struct(
        "PmemConfig",
        (*PCI, _need("file", PATH), Field("size", U64), _flag("discard_writes")),
    ),
    Struct(
        "DeviceConfig",
        (
            *PCI,
            Field("path", PATH),
            Field("fd", I32, described=False),
            Field("x_nv_gpudirect_clique", U8),
            Field("x_exclude_mmap_bars", ListOf(U64), default=list),
        ),
    ),
    Struct("UserDeviceConfig", (*PCI_NO_IOMMU, _need("socket", PATH))),
    #: The body of vm.add-user-device: the program reads a UserDeviceConfig, `id` is not described.
    Struct(
        "VmAddUserDevice",
        (
            _ID._replace(described=False),
            *PCI_NO_IOMMU[1:],
            _need("socket", PATH),
        ),
    ),
    Struct(
        "VdpaConfig",
        (*PCI, _need("path", PATH), Field("num_queues", USIZE, default=1, described_need=True)),
    ),
    Struct("VsockConfig", (*PCI, _need("cid", CID), _need("socket", PATH))),
    Struct("TpmConfig", (_need("socket", PATH),)),
)

_CONSOLE_COMMON: Final = (
    Field("file", PATH),
    _need("mode", CONSOLE_MODE),
    Field("socket", PATH),
)

_CONSOLES: Final = (
    Struct("SerialConfig", _CONSOLE_COMMON),
    Struct("ConsoleConfig", (*_CONSOLE_COMMON, *PCI)),
    Struct(
        "DebugConsoleConfig",
        (Field("file", PATH), _need("mode", CONSOLE_MODE), Field("iobase", U16)),
    ),
)

_PLATFORM: Final = (
    Struct(
        "PayloadConfig",
        (
            Field("firmware", PATH),
            Field("kernel", PATH),
            Field("cmdline", STRING),
            Field("initramfs", PATH),
            Field("igvm", PATH, feature="igvm"),
            Field("host_data", STRING, feature="sev_snp"),
        ),
    ),
    Struct(
        "PciSegmentConfig",
        (
            Field("pci_segment", U16, default=0, described_need=True),
            Field("mmio32_aperture_weight", U32, default=1),
            Field("mmio64_aperture_weight", U32, default=1),
        ),
    ),
    Struct(
        "PlatformConfig",
        (
            Field("num_pci_segments", U16, default=1),
            Field("iommu_segments", ListOf(U16)),
            Field("iommu_address_width_bits", U8, default=64),
            Field("system_serial_number", STRING, aliases=("serial_number",)),
            Field("system_uuid", STRING, aliases=("uuid",)),
            Field("oem_strings", ListOf(STRING)),
            Field("system_manufacturer", STRING),
            Field("system_product_name", STRING),
            Field("system_version", STRING),
            Field("system_family", STRING),
            Field("system_sku_number", STRING),
            Field("chassis_asset_tag", STRING),
            _flag("tdx", feature="tdx"),
            _flag("sev_snp", feature="sev_snp"),
            _flag("iommufd"),
            Field("iommufd_fd", I32, described=False),
            _flag("vfio_p2p_dma", default=True),
        ),
    ),
    Struct(
        "NumaDistance",
        (
            Field("destination", U32, default=0, described_need=True),
            Field("distance", U8, default=0, described_need=True),
        ),
    ),
    Struct(
        "NumaConfig",
        (
            _need("guest_numa_id", U32),
            Field("cpus", ListOf(U32)),
            Field("distances", ListOf(Named("NumaDistance"))),
            Field("memory_zones", ListOf(STRING)),
            Field("pci_segments", ListOf(U16)),
            Field("device_id", STRING),
        ),
    ),
    Struct("LandlockConfig", (_need("path", PATH), _need("access", STRING))),
)

_VM: Final = (
    Struct(
        "VmConfig",
        (
            Field("cpus", Named("CpusConfig"), default={"boot_vcpus": 1, "max_vcpus": 1}),
            Field("memory", Named("MemoryConfig"), default={"size": 512 << 20}),
            Field("payload", Named("PayloadConfig"), described_need=True),
            _list("rate_limit_groups", "RateLimitGroupConfig"),
            _list("disks", "DiskConfig"),
            _list("net", "NetConfig"),
            Field("rng", Named("RngConfig"), default={"src": "/dev/urandom"}),
            Field("balloon", Named("BalloonConfig")),
            _list(
                "generic_vhost_user",
                "GenericVhostUserConfig",
                described_name="generic-vhost-user",
            ),
            _list("fs", "FsConfig"),
            _list("pmem", "PmemConfig"),
            Field("serial", Named("SerialConfig"), default={"mode": "Null"}),
            Field("console", Named("ConsoleConfig"), default={"mode": "Tty"}),
            Field(
                "debug_console",
                Named("DebugConsoleConfig"),
                default={"mode": "Off", "iobase": 0xE9},
            ),
            _list("devices", "DeviceConfig"),
            _list("user_devices", "UserDeviceConfig"),
            _list("vdpa", "VdpaConfig"),
            Field("vsock", Named("VsockConfig")),
            _flag("pvpanic"),
            _flag("iommu"),
            _list("numa", "NumaConfig"),
            _flag("watchdog"),
            Field("rtc", Named("RtcConfig")),
            _flag("gdb", described=False, feature="guest_debug"),
            _list("pci_segments", "PciSegmentConfig"),
            Field("platform", Named("PlatformConfig")),
            Field("tpm", Named("TpmConfig")),
            _flag("landlock_enable"),
            _list("landlock_rules", "LandlockConfig"),
        ),
    ),
)

_REQUESTS: Final = (
    Struct(
        "VmResize",
        (
            Field("desired_vcpus", VCPUS),
            Field("desired_ram", U64),
            Field("desired_balloon", U64),
        ),
    ),
    Struct(
        "VmResizeDisk",
        (
            _need("id", STRING, described_need=False),
            _need("desired_size", U64, described_need=False),
        ),
    ),
    Struct(
        "VmResizeZone",
        (
            _need("id", STRING, described_need=False),
            _need("desired_ram", U64, described_need=False),
        ),
    ),
    Struct("VmRemoveDevice", (_need("id", STRING, described_need=False),)),
    Struct("VmSnapshotConfig", (_need("destination_url", STRING, described_need=False),)),
    Struct("VmCoredumpData", (_need("destination_url", STRING, described_need=False),)),
    Struct(
        "RestoredNetConfig",
        (_need("id", STRING), Field("num_fds", USIZE, default=0), Field("fds", ListOf(I32))),
        described=False,
    ),
    Struct(
        "RestoreConfig",
        (
            _need("source_url", PATH),
            _flag("prefault"),
            Field("memory_restore_mode", RESTORE_MODE, default="Copy"),
            Field("net_fds", ListOf(Named("RestoredNetConfig")), described=False),
            _flag("resume"),
        ),
    ),
    Struct(
        "ReceiveMigrationData",
        (
            _need("receiver_url", STRING),
            Field("tls_dir", PATH),
            Field("memory_mode", MIGRATION_MODE, default="Precopy"),
        ),
    ),
    Struct(
        "SendMigrationData",
        (
            _need("destination_url", STRING),
            _flag("local"),
            Field("downtime_ms", NONZERO, default=300),
            Field("timeout_s", NONZERO, default=3600),
            Field("timeout_strategy", TIMEOUT_STRATEGY, default="Cancel"),
            Field("connections", CONNECTIONS, default=1),
            Field("tls_dir", PATH),
            Field("memory_mode", MIGRATION_MODE, default="Precopy"),
        ),
    ),
)

_ANSWERS: Final = (
    Struct(
        "VmmPingResponse",
        (
            _need("build_version", STRING, described_need=False),
            _need("version", STRING),
            _need("pid", I64, described_need=False),
            _need("features", ListOf(STRING), described_need=False),
        ),
    ),
    Struct(
        "DeviceNode",
        (
            _need("id", STRING, described_need=False),
            _need("resources", ListOf(ANY), described_need=False),
            Field("parent", STRING, described=False),
            _need("children", ListOf(STRING), described_need=False),
            Field("pci_bdf", STRING),
        ),
    ),
    Struct(
        "VmInfo",
        (
            _need("config", Named("VmConfig")),
            _need("state", VM_STATE),
            _need("memory_actual_size", U64, described_need=False),
            Field("device_tree", MapOf(Named("DeviceNode"))),
        ),
    ),
    Struct("PciDeviceInfo", (_need("id", STRING), _need("bdf", STRING))),
)

STRUCTS: Final = {
    struct.name: struct
    for group in (
        _PROCESSOR, _MEMORY, _LIMITS, _DEVICES, _CONSOLES, _PLATFORM, _VM, _REQUESTS, _ANSWERS,
    )
    for struct in group
}  # fmt: skip

#: What the released program is built with, and what the program can be built with.
FEATURES: Final = frozenset({"io_uring", "kvm"})
ALL_FEATURES: Final = FEATURES | {"guest_debug", "igvm", "sev_snp", "tdx"}
