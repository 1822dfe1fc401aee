"""What one QEMU offers to guests of one kind, as ``virsh domcapabilities`` tells it.

Values are offered by the same tables that refuse them in a document; here is only what has no rule
of its own, in the order of libvirt's vocabularies. Invariant: no I/O; what depends on the host
comes in as :class:`HostInfo`, settings and a way to see whether a file is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final
from typing import NoReturn
from typing import get_args

import attrs

from hvcore import domaincaps as offer
from hvcore.cpu.names import canonical_of
from hvcore.cpu.names import model_names
from hvcore.cpu.names import vendor_of
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.model.devices.disk import DiskBus
from hvcore.model.devices.disk import DiskDevice
from hvcore.model.devices.hostdev import StartupPolicy
from hvcore.model.devices.panic import PanicModel
from hvcore.model.devices.tpm import TpmModel
from hvcore.model.devices.video import VideoType
from hvcore.model.domain import VirtType
from hvcore.model.os import Arch
from hvcore.model.os import Firmware
from hvcore_qemu.devices import crypto
from hvcore_qemu.devices import graphics
from hvcore_qemu.devices import panic
from hvcore_qemu.devices import video
from hvcore_qemu.devices.controller_checks import USB_FLAGS
from hvcore_qemu.hostcpu import host_models
from hvcore_qemu.machines import ARM
from hvcore_qemu.machines import PPC
from hvcore_qemu.machines import S390
from hvcore_qemu.machines import X86
from hvcore_qemu.machines import machine as machine_facts
from hvcore_qemu.sections import launchsecurity
from hvcore_qemu.sections.features import has_ps2_switch

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Mapping

    from hvcore.cpu.spec import CpuSpec
    from hvcore.hostinfo import HostInfo
    from hvcore_qemu.capabilities import QemuCapabilities
    from hvcore_qemu.config import QemuConfig
    from hvcore_qemu.machines import Machine

_ALWAYS: Final[tuple[str, ...]] = ()
"""What a value needs that every QEMU has."""

_MEMORY_SOURCES: Final = {
    "file": _ALWAYS,
    "anonymous": _ALWAYS,
    "memfd": ("memory-backend-memfd",),
}
_DISK_BUSES: Final = {
    "scsi": _ALWAYS,
    "virtio": _ALWAYS,
    "usb": ("usb-storage",),
    "sata": ("ich9-ahci",),
}
_TRANSITIONAL: Final = "virtio-pci-non-transitional"
_VIRTIO_MODELS: Final = {
    "virtio": _ALWAYS,
    "virtio-transitional": (_TRANSITIONAL,),
    "virtio-non-transitional": (_TRANSITIONAL,),
}
_VIDEO: Final = {"none": _ALWAYS, **{name: (need,) for name, need in video.CAPABILITIES.items()}}
_RNG_BACKENDS: Final = {name: (f"rng-{name}",) for name in ("random", "egd", "builtin")}
_FILESYSTEMS: Final = {"path": _ALWAYS, "handle": _ALWAYS, "virtiofs": ("vhost-user-fs",)}
_TPM_BACKENDS: Final = {
    "passthrough": ("tpm-passthrough",),
    "emulator": ("tpm-emulator",),
    "external": ("tpm-emulator",),
}
_TPM_IN_SOFTWARE: Final = frozenset({"emulator", "external"})
_CHANNELS: Final = {"pty": _ALWAYS, "unix": _ALWAYS, "spicevmc": ("spice",)}
_NETWORKS: Final = {"default": ("netdev.user",), "passt": ("netdev.stream",)}
_BUILTIN_CRYPTO: Final = "builtin"
_GIC_VERSIONS: Final = (2, 3)

_FAMILIES: Final = (X86, PPC, ARM, S390)
"""Architectures of a family may be asked of the emulator of another one in it."""

_ACCELERATED: Final = frozenset({"kvm", "hvf"})


# -- which guests -------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Guest:
    """A kind of guest: the emulator is that of the capabilities it is asked of.

    :ivar machine: canonical name.
    """

    virt_type: str
    arch: str
    machine: str


def check_names(*, virt_type: str | None, arch: str | None) -> None:
    """Refuse words that nobody knows.

    :raises HvError: naming the first.
    """
    if virt_type is not None and virt_type not in get_args(VirtType):
        _refuse(f"unknown virttype: {virt_type}")
    if arch is not None and arch not in get_args(Arch):
        _refuse(f"unknown architecture: {arch}")


def choose(
    caps: QemuCapabilities, *, arch: str, virt_type: str | None, machine: str | None
) -> Guest:
    """Complete what was asked with the emulator's defaults.

    :param virt_type: None for the best there is.
    :param machine: None for the preferred one.
    :raises HvError: the emulator does not have what was asked for.
    """
    if arch != caps.arch and not any({arch, caps.arch} <= family for family in _FAMILIES):
        _refuse(
            f"architecture from emulator '{caps.arch}' doesn't match given architecture '{arch}'"
        )
    best = caps.virt_type or "none"
    virt_type = virt_type or best
    if virt_type in _ACCELERATED and best == "qemu":
        _refuse(f"the accel '{virt_type}' is not supported by '{caps.binary}' on this host")
    if machine is None:
        name = caps.default_machine(virt_type)
    else:
        name = caps.canonical_machine(virt_type, machine)
        if not caps.is_machine_supported(virt_type, name):
            _refuse(f"the machine '{name}' is not supported by emulator '{caps.binary}'")
    if not caps.supports_arch(arch):
        _refuse(f"Emulator '{caps.binary}' does not support arch '{arch}'")
    if not caps.supports_virt_type(virt_type):
        _refuse(f"Emulator '{caps.binary}' does not support virt type '{virt_type}'")
    if name is None:
        _refuse(
            f"Emulator '{caps.binary}' does not support machine type '<null>'",
            ErrorClass.CONFIG_UNSUPPORTED,
        )
    return Guest(virt_type=virt_type, arch=arch, machine=name)


def _refuse(message: str, kind: ErrorClass = ErrorClass.INVALID_ARG) -> NoReturn:
    raise HvError(message, kind=kind)


# -- what they can have -------------------------------------------------------------------------


def describe(
    caps: QemuCapabilities,
    guest: Guest,
    *,
    host: HostInfo,
    config: QemuConfig,
    exists: Callable[[str], bool],
) -> offer.DomainCapabilities:
    """Return what guests of one kind can have.

    :param exists: whether there is a file.
    """
    machine = machine_facts(guest.arch, guest.machine)
    # The board is that of the emulator's architecture, even where it runs guests of another.
    board = machine_facts(caps.arch, guest.machine)
    return offer.DomainCapabilities(
        path=caps.binary,
        domain=guest.virt_type,
        machine=guest.machine,
        arch=guest.arch,
        max_vcpus=_max_vcpus(caps, guest, host),
        iothreads=True,
        os=_os(guest, config, exists),
        cpu=_cpu(caps, guest, host),
        memory_backing=offer.MemoryBacking(
            supported=True, source_type=_offered(_MEMORY_SOURCES, caps)
        ),
        devices=_devices(caps, board, host, config),
        features=_features(caps, guest, machine, host),
    )


def without_deprecated(
    found: offer.DomainCapabilities, caps: QemuCapabilities
) -> offer.DomainCapabilities:
    """Return it with a host model that lacks what QEMU advises against."""
    probed, model = caps.accelerator(found.domain).host_cpu, found.cpu.host_model
    if model is None or probed is None or probed.deprecated is None:
        return found
    model = model.copy()
    for name in probed.deprecated:
        model.features[name] = "disable"
    return attrs.evolve(found, cpu=attrs.evolve(found.cpu, host_model=model))


def _offered(
    needs: Mapping[str, tuple[str, ...]], caps: QemuCapabilities, order: Iterable[str] | None = None
) -> tuple[str, ...]:
    """Return the values whose needs are met.

    :param order: of the values, where the table has another one.
    """
    values = needs if order is None else (value for value in order if value in needs)
    return tuple(value for value in values if caps.names.issuperset(needs[value]))


def _max_vcpus(caps: QemuCapabilities, guest: Guest, host: HostInfo) -> int:
    most = caps.machine_max_cpus(guest.virt_type, guest.machine)
    if guest.virt_type == "kvm" and host.kvm_max_vcpus:
        return min(most, host.kvm_max_vcpus)
    return most


def _os(guest: Guest, config: QemuConfig, exists: Callable[[str], bool]) -> offer.Os:
    fitting = [f for f in config.find_firmware() if f.serves(guest.arch, guest.machine)]
    images = [f.image for f in fitting if f.device != "kernel"]
    # Without any descriptor that fits, the settings say what there is.
    images = images or [path for path, _ in config.nvram]
    kinds = {kind for firmware in fitting for kind in firmware.kinds}
    secure = any("requires-smm" in firmware.features for firmware in fitting)
    return offer.Os(
        supported=True,
        firmware=tuple(kind for kind in get_args(Firmware) if kind in kinds),
        loader=offer.Loader(
            supported=True,
            paths=tuple(path for path in dict.fromkeys(images) if exists(path)),
            type=("rom", "pflash"),
            readonly=("yes", "no"),
            secure=("yes", "no") if secure else ("no",),
        ),
    )


def _cpu(caps: QemuCapabilities, guest: Guest, host: HostInfo) -> offer.Cpu:
    def has(mode: str) -> bool:
        return caps.supports_cpu_mode(host.arch, guest.virt_type, mode, guest.machine)

    passthrough = ("on", "off") if "cpu.migratable" in caps else ("off",)
    accelerated = guest.virt_type in _ACCELERATED
    return offer.Cpu(
        host_passthrough=passthrough if has("host-passthrough") else None,
        maximum=("on", "off") if has("maximum") else None,
        host_model=_host_model(caps, guest, host),
        address_bits=host.cpu_address_bits if accelerated else 0,
        custom=_custom_models(caps, guest) if has("custom") else (),
    )


def _host_model(caps: QemuCapabilities, guest: Guest, host: HostInfo) -> CpuSpec | None:
    if caps.passthrough_only(guest.virt_type, guest.machine):
        return None
    found = host_models(caps, guest.virt_type, host)
    return None if found is None else found.reported


def _custom_models(caps: QemuCapabilities, guest: Guest) -> tuple[offer.CpuModel, ...]:
    known = model_names(guest.arch)
    return tuple(
        offer.CpuModel(
            name=model.name,
            usable=model.usable,
            deprecated=model.deprecated,
            vendor=vendor_of(caps.arch, model.name),
            canonical=canonical_of(caps.arch, model.name),
            # QEMU names a feature once for each feature that depends on it.
            blockers=tuple(sorted(set(model.blockers))),
        )
        for model in sorted(
            caps.accelerator(guest.virt_type).cpus or (), key=lambda model: model.name
        )
        # The host's own CPU has a mode, and is no model.
        if model.name != "host" and (known is None or model.name in known)
    )


def _devices(
    caps: QemuCapabilities, machine: Machine, host: HostInfo, config: QemuConfig
) -> offer.Devices:
    panics = panic.models(machine, caps)
    return offer.Devices(
        disk=_disk(caps, machine),
        graphics=offer.Graphics(
            supported=True,
            type=tuple(
                name
                for name, need in graphics.NEEDS.items()
                if need in caps and (name != "rdp" or config.qemu_rdp is not None)
            ),
        ),
        video=offer.Video(supported=True, model_type=_offered(_VIDEO, caps, get_args(VideoType))),
        hostdev=_hostdev(caps, host),
        rng=_rng(caps),
        filesystem=offer.Filesystem(supported=True, driver_type=_offered(_FILESYSTEMS, caps)),
        tpm=_tpm(caps, config),
        redirdev=offer.Redirdev(supported="usb-redir" in caps, bus=("usb",)),
        channel=offer.Channel(supported=True, type=_offered(_CHANNELS, caps)),
        crypto=_crypto(caps),
        interface=offer.Interface(supported=True, backend_type=_offered(_NETWORKS, caps)),
        panic=offer.Panic(
            supported=bool(panics),
            model=tuple(model for model in get_args(PanicModel) if model in panics),
        ),
    )


def _virtio_models(caps: QemuCapabilities) -> tuple[str, ...]:
    return _offered(_VIRTIO_MODELS, caps)


def _disk(caps: QemuCapabilities, machine: Machine) -> offer.Disk:
    devices, buses = set(get_args(DiskDevice)), set(_offered(_DISK_BUSES, caps))
    if machine.pseries:
        devices.discard("floppy")
    else:
        buses.add("fdc")
    if machine.builtin_ide:
        buses.add("ide")
    return offer.Disk(
        supported=True,
        disk_device=tuple(name for name in get_args(DiskDevice) if name in devices),
        bus=tuple(name for name in get_args(DiskBus) if name in buses),
        model=_virtio_models(caps),
    )


def _hostdev(caps: QemuCapabilities, host: HostInfo) -> offer.Hostdev:
    usb = not caps.names.isdisjoint(USB_FLAGS.values())
    return offer.Hostdev(
        supported=True,
        mode=("subsystem",),  # the other one is for containers
        startup_policy=("default", *get_args(StartupPolicy)),
        subsys_type=(*(("usb",) if usb else ()), "pci", "scsi"),
        caps_type=(),
        pci_backend=("default", "vfio") if host.vfio and "vfio-pci" in caps else (),
    )


def _tpm(caps: QemuCapabilities, config: QemuConfig) -> offer.Tpm:
    models = tuple(model for model in get_args(TpmModel) if model in caps)
    backends = _offered(_TPM_BACKENDS, caps)
    versions = config.swtpm_versions
    return offer.Tpm(
        supported=bool(models),
        model=models,
        backend_model=tuple(b for b in backends if versions or b not in _TPM_IN_SOFTWARE),
        backend_version=versions or None,
    )


def _rng(caps: QemuCapabilities) -> offer.Rng:
    return offer.Rng(
        supported=True,
        model=_virtio_models(caps) if "virtio-rng" in caps else (),
        backend_model=_offered(_RNG_BACKENDS, caps),
    )


def _crypto(caps: QemuCapabilities) -> offer.Crypto:
    return offer.Crypto(
        supported=True,
        model=("virtio",) if "virtio-crypto" in caps else (),
        type=("qemu",),
        # The first is part of QEMU, whether it has a device for it or not.
        backend_model=tuple(
            name
            for name, (_, need) in crypto.BACKENDS.items()
            if need in caps or name == _BUILTIN_CRYPTO
        ),
    )


def _features(
    caps: QemuCapabilities, guest: Guest, machine: Machine, host: HostInfo
) -> offer.Features:
    versions = _GIC_VERSIONS if machine.arm_virt else ()
    gic = tuple(str(v) for v in versions if caps.supports_gic(guest.virt_type, v))
    protections = _offered(launchsecurity.REQUIRED, caps)
    return offer.Features(
        gic=offer.Gic(supported=bool(gic), version=gic),
        vmcoreinfo="vmcoreinfo" in caps,
        genid="vmgenid" in caps,
        backing_store_input=True,
        backup=True,
        async_teardown="run-with.async-teardown" in caps,
        s390_pv=_protects_s390(caps) if caps.arch in S390 else None,
        ps2=has_ps2_switch(machine, caps),
        sev=_sev(caps, host),
        sgx=_sgx(caps),
        hyperv=offer.Hyperv()
        if caps.hyperv is None
        else offer.Hyperv(supported=True, features=caps.hyperv),
        launch_security=offer.LaunchSecurity(supported=bool(protections), sectype=protections),
    )


def _protects_s390(caps: QemuCapabilities) -> bool:
    return caps.kvm_supports_secure_guest and caps.names.issuperset(
        launchsecurity.REQUIRED["s390-pv"]
    )


def _sev(caps: QemuCapabilities, host: HostInfo) -> offer.Sev | None:
    found = caps.sev
    return found and offer.Sev(
        cbitpos=found.cbitpos,
        reduced_phys_bits=found.reduced_phys_bits,
        max_guests=host.sev_guests,
        max_es_guests=host.sev_es_guests,
        cpu0_id=found.cpu0_id,
    )


def _sgx(caps: QemuCapabilities) -> offer.Sgx | None:
    found = caps.sgx
    return found and offer.Sgx(
        flc=found.flc,
        sgx1=found.sgx1,
        sgx2=found.sgx2,
        section_size=found.section_size,
        sections=tuple((section.node, section.size) for section in found.sections),
    )
