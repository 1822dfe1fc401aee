"""The machine in QEMU: emulator and machine type, their validation, ``-machine``, ``-accel``."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import ErrorClass
from hvcore.errors import Issue
from hvcore.model.features import Features
from hvcore.model.launchsecurity import S390Pv
from hvcore.rules.base import Rules
from hvcore.rules.domain_memory import numa_cells
from hvcore.rules.os import is_pflash
from hvcore.rules.os import os_of
from hvcore_qemu.devices.audio import audiodev
from hvcore_qemu.guests import default_emulator
from hvcore_qemu.machines import S390
from hvcore_qemu.machines import X86
from hvcore_qemu.machines import machine_of
from hvcore_qemu.props import refuse
from hvcore_qemu.sections.numa import has_hmat

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues
    from hvcore_qemu.capabilities import QemuCapabilities
    from hvcore_qemu.command import Command

rules = Rules()

FIRMWARE_FLASH: Final = "pflash0"
VARIABLES_FLASH: Final = "pflash1"
FLASH: Final = (FIRMWARE_FLASH, VARIABLES_FLASH)
"""The flash devices of a machine; also where their prepared images are found."""

ACCELERATORS: Final = {"qemu": "tcg", "kvm": "kvm", "hvf": "hvf"}


def features_of(domain: Domain) -> Features:
    """Return the features, an empty section where the document has none."""
    return domain.features or Features()


def supports_acpi(domain: Domain, caps: QemuCapabilities) -> bool | None:
    """Return whether the machine type has ACPI; None where QEMU does not say (before 8.0)."""
    return caps.machine_acpi(domain.type, os_of(domain).machine or "")


# -- post-parse -------------------------------------------------------------------------------


@rules.post_parse_early
def _emulator(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Choose the binary, and look up what it can do."""
    arch = os_of(domain).arch or ""
    if not domain.devices.emulator:
        host = ctx.host.arch if ctx.host is not None else arch
        domain.devices.emulator = default_emulator(host, arch, ctx.find_program)
        if domain.devices.emulator is None:
            yield Issue.unsupported(f"No emulator found for arch '{arch}'")
            return
    if ctx.find_capabilities is not None:
        binary = domain.devices.emulator
        ctx.caps = ctx.find_capabilities(binary)
        if ctx.caps is None:
            message = f"Cannot check QEMU binary {binary}: No such file or directory"
            yield Issue(message, ErrorClass.SYSTEM)


@rules.post_parse_early
def _machine(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Choose the machine type, and replace an alias by the version it stands for."""
    if ctx.caps is None:
        return
    os = os_of(domain)
    if not os.machine:
        os.machine = ctx.caps.default_machine(domain.type)
        if os.machine is None:
            yield Issue.invalid_arg(
                f"could not get preferred machine for {domain.devices.emulator} type={domain.type}"
            )
            return
    os.machine = ctx.caps.canonical_machine(domain.type, os.machine)


@rules.post_parse_early
def _acpi(domain: Domain, ctx: Context) -> Issues:
    """Drop <acpi/> from existing s390x guests, where it never had an effect."""
    features = domain.features
    if (
        ctx.caps is not None
        and features is not None
        and features.acpi
        and not ctx.abi_update
        and os_of(domain).arch in S390
        and supports_acpi(domain, ctx.caps) is False
    ):
        features.acpi = False
    return ()


# -- validation -------------------------------------------------------------------------------


@rules.check_domain
def _check_machine(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Refuse what the binary cannot run at all."""
    if ctx.caps is None:
        return
    os, caps = os_of(domain), ctx.caps
    supported = (
        ("os type", os.type, os.type == "hvm"),
        ("arch", os.arch, caps.supports_arch(os.arch)),
        ("virt type", domain.type, caps.supports_virt_type(domain.type)),
        ("machine type", os.machine, caps.is_machine_supported(domain.type, os.machine)),
    )
    for what, value, there in supported:
        if not there:
            yield Issue.unsupported(
                f"Emulator '{domain.devices.emulator}' does not support {what} '{value}'"
            )
            return
    if features_of(domain).acpi and supports_acpi(domain, caps) is False:
        yield Issue.unsupported(f"machine type '{os.machine}' does not support ACPI")


@rules.check_domain
def _check_uefi(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """UEFI and ACPI need each other, in one direction or the other."""
    del ctx
    os = os_of(domain)
    uefi = os.firmware == "efi" or is_pflash(domain)
    acpi = features_of(domain).acpi
    if uefi and os.arch in X86 and not acpi:
        yield Issue.unsupported("UEFI requires ACPI on this architecture")
    if acpi and os.arch == "aarch64" and not uefi:
        yield Issue.unsupported("ACPI requires UEFI on this architecture")


@rules.check_domain
def _check_genid(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Refuse generation identifiers where the device is missing."""
    if ctx.caps is not None and domain.genid is not None and "vmgenid" not in ctx.caps:
        yield Issue.unsupported("this QEMU does not support the 'genid' capability")


@rules.check_domain
def _check_bios_serial(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Only SeaBIOS writes to the serial port; elsewhere ``graphics=off`` has other effects."""
    del ctx
    os = os_of(domain)
    if not os.bios_useserial:
        return
    if os.arch not in X86:
        yield Issue.unsupported("BIOS serial console only supported on x86 architectures")
    elif not domain.devices.serials:
        yield Issue.xml("need at least one serial port to use BIOS serial output")


@rules.check_domain
def _check_actions(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Refuse the actions that QEMU offers no way to carry out."""
    del ctx
    poweroff, reboot, crash = domain.on_poweroff, domain.on_reboot, domain.on_crash
    if "rename-restart" in (poweroff, reboot, crash):
        yield Issue.unsupported(
            "qemu driver doesn't support the 'rename-restart' action for "
            "'on_reboot'/'on_poweroff'/'on_crash'"
        )
    if "preserve" in (poweroff, reboot):
        yield Issue.unsupported(
            "qemu driver doesn't support the 'preserve' action for 'on_reboot'/'on_poweroff'"
        )
    if poweroff == "restart" and reboot == "destroy":
        yield Issue.unsupported(
            "qemu driver doesn't support 'onReboot' set to 'destroy and "
            "'onPoweroff' set to 'reboot'"
        )


# -- command line -----------------------------------------------------------------------------


def _onoff(value: bool) -> str:
    return "on" if value else "off"


def _keywrap(cmd: Command) -> Iterator[str]:
    """Yield which keys of s390x are wrapped."""
    keywrap = cmd.domain.keywrap
    if keywrap is None or not keywrap.ciphers:
        return
    if os_of(cmd.domain).arch not in S390:
        refuse(
            Issue.unsupported("'aes-key-wrap'/'dea-key-wrap' is not available on this architecture")
        )
    for cipher in keywrap.ciphers:
        yield f"{cipher.name}-key-wrap={_onoff(cipher.state)}"


_IRQCHIP: Final = {"qemu": "split", "kvm": "on"}


def _features(cmd: Command) -> Iterator[str]:
    """Yield the features that are properties of the machine, in libvirt's order."""
    features = features_of(cmd.domain)
    gic = features.gic_version if features.gic else None
    if gic is not None and cmd.caps.arch != "aarch64":
        # The 32-bit binary has version 2 and no choice.
        if gic != "2":
            refuse(Issue.unsupported("gic-version option is not available with this QEMU binary"))
        gic = None
    page = features.hpt_maxpagesize
    properties: tuple[tuple[str, bool | str | None], ...] = (
        ("vmport", features.vmport),
        ("smm", features.smm),
        ("gic-version", gic),
        ("kernel_irqchip", _IRQCHIP.get(features.ioapic or "")),
        ("resize-hpt", features.hpt_resizing),
        ("cap-hpt-max-page-size", f"{page}k" if page else None),
        ("cap-htm", features.htm),
        ("cap-nested-hv", features.nested_hv),
        ("cap-ccf-assist", features.ccf_assist),
        ("cap-cfpc", features.cfpc),
        ("cap-sbbc", features.sbbc),
        ("cap-ibs", features.ibs),
        ("ras", features.ras),
        ("i8042", features.ps2),
        ("aia", features.aia),
    )
    for name, value in properties:
        if value is not None:
            yield f"{name}={_onoff(value) if isinstance(value, bool) else value}"


def _iommu(cmd: Command) -> Iterator[str]:
    """Yield the IOMMU of ARM machines, which is a part of the board."""
    if any(iommu.model == "smmuv3" for iommu in cmd.domain.devices.iommus):
        yield "iommu=smmuv3"


def _memory(cmd: Command) -> Iterator[str]:
    """Yield how main memory is dumped and merged, and what it consists of."""
    domain = cmd.domain
    dump = domain.memory_dump_core
    yield f"dump-guest-core={_onoff(cmd.config.dump_guest_core if dump is None else dump)}"
    if domain.memory_backing is not None and domain.memory_backing.nosharepages:
        yield "mem-merge=off"
    yield from _memory_devices(domain)
    if not numa_cells(domain):
        # The name is part of the migration stream, hence the machine's own.
        ram = cmd.caps.machine_default_ram_id(domain.type, os_of(domain).machine or "")
        if ram is not None:
            yield f"memory-backend={ram}"


def _memory_devices(domain: Domain) -> Iterator[str]:
    """Yield what the machine has to know of persistent memory and enclaves."""
    nvdimm, enclaves = False, 0
    for device in domain.devices.memories:
        if device.model == "nvdimm" and not nvdimm:
            nvdimm = True
            yield "nvdimm=on"
        elif device.model == "sgx-epc":
            yield f"sgx-epc.{enclaves}.memdev=mem{device.alias}"
            yield f"sgx-epc.{enclaves}.node={device.node or 0}"
            enclaves += 1


def _max_cpu_compat(cmd: Command) -> Iterator[str]:
    """Yield the newest CPU that a pSeries guest may make use of."""
    cpu = cmd.domain.cpu
    if (
        cpu is not None
        and cpu.model
        and cpu.mode == "host-model"
        and machine_of(cmd.domain).pseries
    ):
        yield f"max-cpu-compat={cpu.model}"


def _loadparm(cmd: Command) -> Iterator[str]:
    """Yield the parameter of s390x's boot loader, given by the device that boots first."""
    if os_of(cmd.domain).arch not in S390 or "virtio-ccw.loadparm" in cmd.caps:
        return
    devices = cmd.domain.devices
    for device in (*devices.disks, *devices.interfaces, *devices.hostdevs):
        if device.boot_order == 1 and device.boot_loadparm:
            yield f"loadparm={device.boot_loadparm}"
            return


def _confidential(cmd: Command) -> Iterator[str]:
    """Yield the object that protects the guest's memory."""
    security = cmd.domain.launch_security
    if security is None:
        return
    named = "confidential-guest-support" in cmd.caps
    if isinstance(security, S390Pv) or named:
        yield "confidential-guest-support=lsec0"
    else:
        yield "memory-encryption=lsec0"


def _flash(cmd: Command) -> Iterator[str]:
    """Yield the images of the firmware and of its variables."""
    for device in FLASH:
        image = cmd.resources.by_alias.get(device)
        if image is not None:
            yield f"{device}={image.node}"


def _memory_attributes(cmd: Command) -> Iterator[str]:
    """Yield whether firmware tells latencies and bandwidths of NUMA nodes."""
    if has_hmat(cmd.domain):
        yield "hmat=on"


def _serial_console(cmd: Command) -> Iterator[str]:
    """Yield what makes SeaBIOS write to the serial port."""
    if os_of(cmd.domain).bios_useserial:
        yield "graphics=off"


def _hpet(cmd: Command) -> Iterator[str]:
    """Yield whether there is a high precision event timer."""
    for timer in cmd.domain.clock.timers if cmd.domain.clock else ():
        if timer.name == "hpet" and timer.present is not None and "machine-hpet" in cmd.caps:
            yield f"hpet={_onoff(timer.present)}"


def _speaker(cmd: Command) -> Iterator[str]:
    """Yield the backend of the PC speaker, which is a part of the machine."""
    for sound in cmd.domain.devices.sounds:
        if sound.model == "pcspk":
            name = audiodev(cmd, sound.audio_id)
            if name is not None:
                yield f"pcspk-audiodev={name}"
            return


def _acpi_property(cmd: Command) -> Iterator[str]:
    """Yield whether there is ACPI, where the machine type can have it."""
    if supports_acpi(cmd.domain, cmd.caps) is True:
        yield f"acpi={_onoff(features_of(cmd.domain).acpi)}"


PARTS: Final[tuple[Callable[[Command], Iterator[str]], ...]] = (
    _keywrap,
    _features,
    _iommu,
    _memory,
    _max_cpu_compat,
    _loadparm,
    _confidential,
    _flash,
    _memory_attributes,
    _serial_console,
    _hpet,
    _speaker,
    _acpi_property,
)
"""What ``-machine`` consists of, in libvirt's order (qemuBuildMachineCommandLine)."""


def machine(cmd: Command) -> None:
    """Add ``-machine``; a USB controller that comes by itself would collide with ours."""
    parts = [os_of(cmd.domain).machine or "", "usb=off"]
    for part in PARTS:
        parts += part(cmd)
    cmd.option("-machine", ",".join(parts))


def accel(cmd: Command) -> None:
    """Add ``-accel``."""
    features, value = features_of(cmd.domain), ACCELERATORS[cmd.domain.type]
    if value == "tcg" and features.tcg_tb_cache:
        value += f",tb-size={features.tcg_tb_cache >> 10}"
    if value == "kvm" and features.kvm is not None and features.kvm.dirty_ring:
        value += f",dirty-ring-size={features.kvm.dirty_ring_size}"
    cmd.option("-accel", value)


def tseg(cmd: Command) -> None:
    """Add the size of the memory for SMM; it was checked to be a multiple of 1 MiB."""
    size = features_of(cmd.domain).tseg
    if size is not None:
        cmd.option("-global", f"mch.extended-tseg-mbytes={size >> 20}")


def vmcoreinfo(cmd: Command) -> None:
    """Add the device through which a guest tells where its crash notes are."""
    if features_of(cmd.domain).vmcoreinfo:
        cmd.device({"driver": "vmcoreinfo"})


def async_teardown(cmd: Command) -> None:
    """Add whether a helper process frees the memory after the end."""
    wanted = features_of(cmd.domain).async_teardown
    if wanted is not None and "run-with.async-teardown" in cmd.caps:
        cmd.option("-run-with", f"async-teardown={_onoff(wanted)}")
