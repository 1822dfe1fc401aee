"""<serial>, <parallel>, <console>, <channel> in QEMU: defaults, validation and command line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.errors import Issue
from hvcore.model.devices.base import CcwAddress
from hvcore.model.devices.base import IsaAddress
from hvcore.model.devices.base import PciAddress
from hvcore.model.devices.base import SpaprVioAddress
from hvcore.model.devices.base import UsbAddress
from hvcore.model.devices.base import VirtioSerialAddress
from hvcore.model.devices.chardev import Channel
from hvcore.model.devices.chardev import Console
from hvcore.model.devices.chardev import Parallel
from hvcore.model.devices.chardev import Serial
from hvcore.model.devices.chardev_source import PtySource
from hvcore.rules.base import Rules
from hvcore_qemu import chardev
from hvcore_qemu.machines import RISCV
from hvcore_qemu.machines import S390
from hvcore_qemu.machines import X86
from hvcore_qemu.machines import machine_of
from hvcore_qemu.props import add_device
from hvcore_qemu.props import address_props
from hvcore_qemu.props import refuse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hvcore.model.devices.base import Address
    from hvcore.model.devices.chardev import SerialModel
    from hvcore.model.devices.chardev import SerialTarget
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues
    from hvcore_qemu.command import Command
    from hvcore_qemu.machines import Machine

rules = Rules()

_MODELS: Final[Mapping[SerialTarget, SerialModel]] = {
    # target: its usual device
    "isa-serial": "isa-serial",
    "usb-serial": "usb-serial",
    "pci-serial": "pci-serial",
    "spapr-vio-serial": "spapr-vty",
    "sclp-serial": "sclpconsole",
    "isa-debug": "isa-debugcon",
}
_TARGETS: Final[Mapping[str, SerialTarget]] = {
    # device: the target it belongs to
    **{model: target for target, model in _MODELS.items()},
    "sclplmconsole": "sclp-serial",
    "pl011": "system-serial",
    "16550a": "system-serial",
}
_ADDRESSES: Final[Mapping[str, type[Address]]] = {
    "isa-serial": IsaAddress,
    "isa-debug": IsaAddress,
    "usb-serial": UsbAddress,
    "pci-serial": PciAddress,
    "spapr-vio-serial": SpaprVioAddress,
}
_CAPABILITIES: Final[Mapping[str, str]] = {
    "isa-serial": "isa-serial",
    "usb-serial": "usb-serial",
    "pci-serial": "pci-serial",
    "spapr-vty": "spapr-vty",
    "sclpconsole": "s390-sclp",
    "sclplmconsole": "sclplmconsole",
    "pl011": "pl011",
}
_ON_BOARD: Final = ("pl011", "16550a", None)
"""Devices that are part of the machine; None is one that nobody knows."""
_SPICE_NAME: Final = "com.redhat.spice.0"


# -- post-parse ----------------------------------------------------------------------------------


def _default_target(machine: Machine) -> SerialTarget | None:
    if machine.arch in X86:
        return "isa-serial"
    if machine.pseries:
        return "spapr-vio-serial"
    if machine.arm_virt or machine.loongarch_virt or machine.riscv_virt:
        return "system-serial"
    return "sclp-serial" if machine.arch in S390 else None


def _default_model(machine: Machine, target: SerialTarget) -> SerialModel | None:
    if target != "system-serial":
        return _MODELS.get(target)
    if machine.arm_virt:
        return "pl011"
    return "16550a" if machine.loongarch_virt or machine.riscv_virt else None


@rules.post_parse(Serial)
def _serial_defaults(domain: Domain, device: Serial, ctx: Context) -> None:
    """Choose what the machine's own serial ports are.

    ISA once was the default everywhere, so it stands for the default.
    """
    del ctx
    machine = machine_of(domain)
    if device.target_type in (None, "isa-serial"):
        device.target_type = _default_target(machine)
    if device.target_model is None and device.target_type is not None:
        device.target_model = _default_model(machine, device.target_type)


@rules.post_parse(Serial, Parallel, Console, Channel)
def _sockets(domain: Domain, device: Any, ctx: Context) -> None:
    """Forget generated paths of sockets; QEMU listens where the path is left open."""
    del domain
    if ctx.active or device.type != "unix" or device.source is None:
        return
    if isinstance(device, Channel) and device.target_type == "virtio":
        forget_generated(device, ctx)
    if device.source.path is None:
        device.source.mode = "bind"


def forget_generated(channel: Channel, ctx: Context) -> None:
    """Forget a path that this or a former version generated.

    Those are DIR/NAME with a part for the domain between them, spelled in four ways over time.
    """
    path = channel.source.path
    folders = (
        ctx.config.channel_target_dir,
        f"{ctx.config.lib_dir}/channel",
        f"{ctx.config.config_base_dir}/qemu/channel",
    )
    between = r"/(target/)?(([^/]+\.)|(domain-[^/]+/)|([0-9]+-[^/]+/))"
    name = re.escape(channel.target_name or "")
    for folder in folders:
        if path is not None and re.match(f"{re.escape(folder)}{between}{name}\\Z", path):
            channel.source.path = None
            return


# -- validation ----------------------------------------------------------------------------------


@rules.check_domain
def _consoles(domain: Domain, ctx: Context) -> Issues:
    """Refuse consoles of other hypervisors, and those that this QEMU lacks."""
    for console in domain.devices.consoles:
        target = console.target_type
        if target in ("sclp", "sclplm"):
            if _CAPABILITIES[f"{target}console"] not in ctx.caps:
                yield Issue.unsupported(f"{target}console is not supported in this QEMU binary")
        elif target not in ("virtio", "serial"):
            yield Issue.unsupported(f"unsupported console target type {target}")


@rules.check(Serial, Parallel, Console, Channel)
def _source(domain: Domain, device: Any, ctx: Context) -> Issues:
    yield from chardev.check(domain, device, ctx)


@rules.check(Serial)
def _serial_target(domain: Domain, device: Serial, ctx: Context) -> Issues:
    """Require that target, device and address belong together, and to the machine."""
    del ctx
    target, model = device.target_type, device.target_model
    expected = _ADDRESSES.get(target or "")
    if device.address is not None and target is not None:
        if expected is None:
            yield Issue.unsupported(f"Target type '{target}' cannot have an associated address")
            return
        if not isinstance(device.address, expected):
            yield Issue.unsupported(
                f"Target type '{target}' requires address type '{expected.type}'"
            )
            return
    if model is not None and _TARGETS[model] != target:
        yield Issue.unsupported(f"Target model '{model}' requires target type '{_TARGETS[model]}'")
    elif not _suits(machine_of(domain), target, model):
        yield Issue.unsupported(
            f"Serial device with target type '{target or 'none'}' and target model"
            f" '{model or 'none'}' not compatible with guest architecture or machine type"
        )


def _suits(machine: Machine, target: str | None, model: str | None) -> bool:
    """Return whether a machine can have such a serial port."""
    if model == "pl011":
        return machine.arm_virt
    if model == "16550a":
        return machine.loongarch_virt or machine.riscv_virt
    if target == "spapr-vio-serial":
        return machine.pseries
    return target != "sclp-serial" or machine.arch in S390


@rules.check(Parallel)
def _parallel(domain: Domain, device: Parallel, ctx: Context) -> Issues:
    del device, ctx
    machine = machine_of(domain)
    if machine.arch in S390 or machine.pseries:
        yield Issue.unsupported("parallel ports are not supported")


def show_terminals(domain: Domain, paths: Mapping[str, str]) -> None:
    """Note which terminals QEMU opened, by the aliases of their devices."""
    devices = domain.devices
    for device in (*devices.serials, *devices.parallels, *devices.channels, *devices.consoles):
        # A console that only stands for a serial port has no source of its own.
        for source in device.sources:
            path = paths.get(device.alias or "")
            if path is not None and isinstance(source, PtySource):
                source.path = path


# -- command line --------------------------------------------------------------------------------


def serials(cmd: Command) -> None:
    """Append the serial ports.

    :raises ValidationFailed: when this QEMU has no such device.
    """
    for serial in cmd.domain.devices.serials:
        if serial.type == "spiceport" and not chardev.has_spice(cmd.domain):
            continue
        name = chardev.command(cmd, serial, serial.alias or "")
        model = serial.target_model
        need = _CAPABILITIES.get(model or "")
        if need is not None and need not in cmd.caps:
            refuse(Issue.unsupported(f"'{model}' is not supported in this QEMU binary"))
        if _on_board(machine_of(cmd.domain), serial):
            cmd.features(serial)
            cmd.option("-serial", f"chardev:{name}")
            continue
        props = {"driver": model, "chardev": name, "id": serial.alias}
        if model == "isa-serial":
            props["index"] = serial.target_port  # type: ignore[assignment] # a number for once
        add_device(cmd, serial, {**props, **address_props(cmd.domain, serial)})


def on_board(domain: Domain, device: Any) -> bool:
    """Return whether a character device is part of the machine."""
    return isinstance(device, Serial) and _on_board(machine_of(domain), device)


def _on_board(machine: Machine, serial: Serial) -> bool:
    """Return whether the port is part of the machine, or nobody knows what it is."""
    if serial.target_type is None:
        return True
    if serial.target_type != "system-serial":
        return False
    arm = machine.arch in ("armv6l", "armv7l", "aarch64")
    if (arm and serial.target_model == "pl011") or (
        (machine.arch in RISCV or machine.arch == "loongarch64") and serial.target_model == "16550a"
    ):
        return True
    return refuse(Issue.internal("Invalid target model for serial device"))


def parallels(cmd: Command) -> None:
    """Append the parallel ports."""
    for parallel in cmd.domain.devices.parallels:
        name = chardev.command(cmd, parallel, parallel.alias or "")
        props = {"driver": "isa-parallel", "chardev": name, "id": parallel.alias}
        add_device(cmd, parallel, props)


def channels(cmd: Command) -> None:
    """Append the channels.

    :raises ValidationFailed: for channels that QEMU does not have.
    """
    for channel in cmd.domain.devices.channels:
        name = chardev.command(cmd, channel, channel.alias or "")
        if channel.target_type == "virtio":
            add_device(cmd, channel, _virtio_props(cmd, channel, name))
        elif channel.target_type == "guestfwd":
            where = f"{channel.target_address}:{channel.target_port}"
            cmd.features(channel)
            cmd.option(
                "-netdev",
                {
                    "type": "user",
                    "guestfwd": [{"str": f"tcp:{where}-chardev:{name}"}],
                    "id": channel.alias,
                },
            )
        else:
            refuse(Issue.unsupported(f"unsupported channel target type {channel.target_type}"))


def consoles(cmd: Command) -> None:
    """Append the consoles; the one that stands for a serial port is no device."""
    for console in cmd.domain.devices.consoles:
        if console.target_type == "serial":
            continue
        name = chardev.command(cmd, console, console.alias or "")
        if console.target_type == "virtio":
            props = _virtio_props(cmd, console, name)
        else:
            driver = f"{console.target_type}console"
            props = {"driver": driver, "chardev": name, "id": console.alias}
        add_device(cmd, console, props)


def _virtio_props(cmd: Command, device: Console | Channel, name: str) -> dict[str, Any]:
    """Return the properties of a port of a virtio-serial controller.

    :raises ValidationFailed: when its address or name is impossible.
    """
    if not isinstance(device.address, VirtioSerialAddress | CcwAddress | None):
        refuse(Issue.internal("virtio serial device has invalid address type"))
    target = None
    if isinstance(device, Channel):
        target = device.target_name
        if device.type == "spicevmc" and target not in (None, _SPICE_NAME):
            refuse(Issue.unsupported(f"Unsupported spicevmc target name '{target}'"))
        if device.type == "spicevmc":
            target = _SPICE_NAME
    return {
        "driver": "virtconsole" if isinstance(device, Console) else "virtserialport",
        **address_props(cmd.domain, device),
        "chardev": name,
        "id": device.alias,
        "name": target,
    }
