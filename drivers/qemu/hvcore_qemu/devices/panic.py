"""<panic> in QEMU: defaults, validation and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.model.devices.base import IsaAddress
from hvcore.model.devices.base import PciAddress
from hvcore.model.devices.panic import Panic
from hvcore.model.devices.panic import PanicModel
from hvcore.rules.base import Rules
from hvcore_qemu.machines import S390
from hvcore_qemu.machines import X86
from hvcore_qemu.machines import machine_of
from hvcore_qemu.props import add_device
from hvcore_qemu.props import address_props

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues
    from hvcore_qemu.capabilities import QemuCapabilities
    from hvcore_qemu.command import Command
    from hvcore_qemu.machines import Machine

rules = Rules()

_BUILTIN: Final = {
    # model: who may have it
    "s390": "only S390 guests support panic device of model 's390'",
    "hyperv": "only i686 and x86_64 guests support panic device of model 'hyperv'",
    "pseries": "only pSeries guests support panic device of model 'pseries'",
}


_CAPABILITIES: Final = {"isa": "pvpanic", "pvpanic": "pvpanic-pci"}
"""Models that are devices to what QEMU must have for them."""


def _builtin(machine: Machine) -> dict[str, bool]:
    """Return the models that are no devices, and whether a machine has each."""
    return {
        "s390": machine.arch in S390,
        "hyperv": machine.arch in X86,
        "pseries": machine.pseries,
    }


def models(machine: Machine, caps: QemuCapabilities) -> frozenset[str]:
    """Return the models that guests of a machine type can have."""
    found = {model for model, fits in _builtin(machine).items() if fits}
    return frozenset(found | {model for model, need in _CAPABILITIES.items() if need in caps})


def _default_model(domain: Domain) -> PanicModel | None:
    machine = machine_of(domain)
    if machine.pseries:
        return "pseries"
    if machine.arch in S390:
        return "s390"
    if machine.arch in X86:
        return "isa"
    return "pvpanic" if machine.arm_virt else None


@rules.post_parse_domain
def _default(domain: Domain, ctx: Context) -> None:
    """Show the device where firmware or hardware always provides it."""
    del ctx
    machine = machine_of(domain)
    if not (machine.pseries or machine.arch in S390):
        return
    model = _default_model(domain)
    if all(device.model not in (None, model) for device in domain.devices.panics):
        domain.devices.panics.append(Panic())


@rules.post_parse(Panic)
def _model(domain: Domain, device: Panic, ctx: Context) -> None:
    """Choose the model that suits the machine."""
    del ctx
    if device.model is None:
        device.model = _default_model(domain)


@rules.check_domain
def _placement(domain: Domain, ctx: Context) -> Issues:
    """Require for each model the machine, the QEMU and the bus it lives on."""
    machine = machine_of(domain)
    fits = _builtin(machine)
    for device in domain.devices.panics:
        model = device.model
        if model is None:
            yield Issue.unsupported(
                "no panic model provided, and no default for the architecture and machine type"
            )
        elif model in _BUILTIN:
            if not fits[model]:
                yield Issue.unsupported(_BUILTIN[model], line=device.line)
            elif device.address is not None:
                yield Issue.unsupported(
                    f"setting the panic device address is not supported for model '{model}'",
                    line=device.line,
                )
        elif model == "isa":
            if _CAPABILITIES[model] not in ctx.caps:
                yield Issue.unsupported("the QEMU binary does not support the ISA panic device")
            elif device.address is not None and not isinstance(device.address, IsaAddress):
                yield Issue.unsupported("panic is supported only with ISA address type")
        elif _CAPABILITIES[model] not in ctx.caps:
            yield Issue.unsupported("the QEMU binary does not support the PCI pvpanic device")
        elif not isinstance(device.address, PciAddress):
            yield Issue.unsupported("pvpanic is supported only with PCI address type")


def command(cmd: Command) -> None:
    """Append the models that are devices of QEMU."""
    for device in cmd.domain.devices.panics:
        if device.model == "isa":
            isa = device.address
            port = isa.iobase if isinstance(isa, IsaAddress) else None
            add_device(cmd, device, {"driver": "pvpanic", "ioport": port})
        elif device.model == "pvpanic":
            add_device(cmd, device, {"driver": "pvpanic-pci", **address_props(cmd.domain, device)})
