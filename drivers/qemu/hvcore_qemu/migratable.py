"""What documents for other hosts leave out, and what QEMU's guests see beside the usual.

The devices left out are those that every guest of the machine has: an older host does not know
their elements and adds the devices all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.abi import USER_ALIAS
from hvcore.abi.table import Compared
from hvcore.abi.table import one_of
from hvcore.errors import Issue
from hvcore.model.cpu import Cpu
from hvcore.model.cpu import CpuFeature
from hvcore.rules.cpu import has_model
from hvcore.xml.context import FormatContext
from hvcore.xml.context import ParseContext
from hvcore.xml.reader import read
from hvcore_qemu.devices import audio
from hvcore_qemu.devices import chardev
from hvcore_qemu.machines import X86
from hvcore_qemu.machines import machine_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.abi.table import Check
    from hvcore.model.devices.controller import Controller
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.xml.codegen import Binding

_NATIVE_SERIAL: Final = frozenset({"spapr-vio-serial", "system-serial"})
_ALWAYS_THERE: Final = frozenset({"s390", "pseries"})
"""Models of <panic> that are part of the machine."""


def asked_for(domain: Domain, binding: Binding) -> str | None:
    """Return the CPU of a domain about to start as a document, None where it says nothing."""
    cpu = domain.cpu
    return binding.format(cpu, FormatContext()) if cpu is not None and has_model(cpu) else None


def ask_again(domain: Domain, document: str | None, binding: Binding) -> None:
    """Give a copy of a running domain the CPU that was asked for.

    :param document: what :func:`asked_for` returned when it was started.
    """
    if document is None:
        return
    cpu: Cpu = binding.parse(Cpu, read(document, "cpu"), ParseContext())
    if domain.cpu is not None:
        cpu.numa = domain.cpu.numa
    domain.cpu = cpu


def make_migratable(domain: Domain, ctx: Context) -> None:
    """Take out of a copy what the document for another host leaves out.

    :param ctx: has the settings and the environment.
    """
    devices, machine = domain.devices, machine_of(domain)
    devices.controllers = _without_builtin(devices.controllers, usb=machine.i440fx)
    for panic in devices.panics:
        if panic.model in _ALWAYS_THERE:
            devices.panics.remove(panic)
            break
    for channel in devices.channels:
        if channel.target_type == "virtio" and channel.type == "unix" and channel.sources:
            chardev.forget_generated(channel, ctx)
    for serial in devices.serials:
        if serial.target_type in _NATIVE_SERIAL:
            serial.target_type = serial.target_model = None
    if domain.cpu is not None and machine.arch in X86:
        _without_pconfig(domain.cpu)
    audio.forget_default(domain, ctx)
    watchdog = next((each for each in devices.watchdogs if each.model == "itco"), None)
    if machine.q35 and watchdog is not None and watchdog.action == "reset":
        devices.watchdogs.remove(watchdog)


def _without_builtin(controllers: list[Controller], *, usb: bool) -> list[Controller]:
    """Return the controllers without those that are there by default.

    :param usb: the machine has such a USB controller.
    """

    def builtin(controller: Controller) -> bool:
        if sum(other.type == controller.type for other in controllers) > 1:
            return False
        if controller.index or (controller.alias or "").startswith(USER_ALIAS):
            return False
        if controller.type == "pci":
            return controller.model == "pci-root" and not controller.pcihole64
        return usb and controller.type == "usb" and controller.model in (None, "piix3-uhci")

    return [controller for controller in controllers if not builtin(controller)]


def _without_pconfig(cpu: Cpu) -> None:
    """Say what Icelake never had: older versions believe that the model has it."""
    if cpu.mode != "custom" or cpu.model != "Icelake-Server":
        return
    for feature in cpu.features:
        if feature.name == "pconfig":
            feature.policy = "disable"
            return
    cpu.features.append(CpuFeature(name="pconfig", policy="disable"))


_SOURCE: Final = Compared(
    "memory_backing.source",
    "Target memoryBacking source '{target}' doesn't match source memoryBacking source'{source}'",
    one_of("none"),
)


def _source(source: Domain, target: Domain) -> Iterator[Issue]:
    """Compare what memory is made of: QEMU names it after that."""
    found = _SOURCE.difference(source, target)
    if found is not None:
        yield found


def _aliases(source: Domain, target: Domain) -> Iterator[Issue]:
    """Compare the names of memory devices, which QEMU's memory has; libvirt swaps the sides."""
    was: list[Any] = source.devices.memories
    now: list[Any] = target.devices.memories
    for one, other in zip(was, now, strict=False):  # another number is reported already
        if one.alias != other.alias:
            yield Issue.unsupported(
                f"Target memory device alias '{one.alias or '<null>'}' doesn't match source alias"
                f" '{other.alias or '<null>'}'",
                line=other.line,
            )


ABI_CHECKS: Final[tuple[Check, ...]] = (_source, _aliases)
