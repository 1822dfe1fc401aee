"""What QEMU's controllers can and cannot do."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.model.devices.base import CcwAddress
from hvcore.model.devices.base import PciAddress
from hvcore.model.devices.controller import Controller
from hvcore.rules.base import Rules
from hvcore.rules.controller import VIRTIO_SCSI
from hvcore.rules.iothread import iothread_ids
from hvcore_qemu.machines import machine_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping
    from collections.abc import Sequence

    from hvcore.model.devices.storage import IOThreadMapping
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues
    from hvcore_qemu.capabilities import QemuCapabilities

rules = Rules()

USB_FLAGS: Final[Mapping[str, str]] = {
    "piix3-uhci": "piix3-usb-uhci",
    "piix4-uhci": "piix4-usb-uhci",
    "ehci": "usb-ehci",
    "ich9-ehci1": "ich9-usb-ehci1",
    "ich9-uhci1": "ich9-usb-ehci1",
    "ich9-uhci2": "ich9-usb-ehci1",
    "ich9-uhci3": "ich9-usb-ehci1",
    "vt82c686b-uhci": "vt82c686b-usb-uhci",
    "pci-ohci": "pci-ohci",
    "nec-xhci": "nec-usb-xhci",
    "qemu-xhci": "qemu-xhci",
}
_VIRTIO_NEEDS: Final = ("virtio-scsi-pci", "This QEMU doesn't support virtio scsi controller")
_SCSI_NEEDS: Final[Mapping[str, tuple[str, str]]] = {
    # model: capability and what libvirt says without it (it lets all ESP adapters through)
    "lsilogic": ("lsi", "This QEMU doesn't support the LSI 53C895A SCSI controller"),
    "virtio-scsi": _VIRTIO_NEEDS,
    "virtio-transitional": _VIRTIO_NEEDS,
    "virtio-non-transitional": _VIRTIO_NEEDS,
    "lsisas1068": (
        "mptsas1068",
        "This QEMU doesn't support the LSI SAS1068 (MPT Fusion) controller",
    ),
    "lsisas1078": ("megasas", "This QEMU doesn't support the LSI SAS1078 (MegaRAID) controller"),
    "vmpvscsi": (
        "pvscsi",
        "This QEMU doesn't support the pvscsi (VMware paravirtual SCSI) controller",
    ),
}
_PCI_DEVICES: Final[Mapping[str, frozenset[str]]] = {
    # model: QEMU's devices for it
    "pci-root": frozenset({"spapr-pci-host-bridge"}),
    "pcie-root": frozenset(),
    "pci-bridge": frozenset({"pci-bridge"}),
    "dmi-to-pci-bridge": frozenset({"i82801b11-bridge"}),
    "pcie-to-pci-bridge": frozenset({"pcie-pci-bridge"}),
    "pcie-root-port": frozenset({"ioh3420", "pcie-root-port"}),
    "pcie-switch-upstream-port": frozenset({"x3130-upstream"}),
    "pcie-switch-downstream-port": frozenset({"xio3130-downstream"}),
    "pci-expander-bus": frozenset({"pxb"}),
    "pcie-expander-bus": frozenset({"pxb-pcie"}),
}
_PCI_FLAGS: Final[Mapping[str, str]] = {
    "i82801b11-bridge": "dmi-to-pci-bridge",
    **{
        name: name
        for name in (
            "pci-bridge", "ioh3420", "x3130-upstream", "xio3130-downstream", "pxb", "pxb-pcie",
            "pcie-root-port", "spapr-pci-host-bridge", "pcie-pci-bridge",
        )
    },
}  # fmt: skip
_EXPANDERS: Final = frozenset({"pci-expander-bus", "pcie-expander-bus"})
_PORTS: Final = frozenset({"pcie-root-port", "pcie-switch-downstream-port"})
_RESERVERS: Final = frozenset({"pcie-root-port", "pci-bridge"})


def check_usb(controller: Controller, caps: QemuCapabilities) -> Issue | None:
    """Return why QEMU cannot have a USB controller."""
    model = controller.model
    if model is None:
        return Issue.unsupported("no model provided for USB controller")
    if USB_FLAGS.get(model) not in caps:
        return Issue.unsupported(
            f"USB controller model '{model}' not supported in this QEMU binary"
        )
    if controller.ports is not None and model not in ("nec-xhci", "qemu-xhci"):
        return Issue.unsupported(
            f"usb controller type '{model}' doesn't support 'ports' with this QEMU binary"
        )
    return None


def check_iothread_mapping(
    domain: Domain, iothreads: Sequence[IOThreadMapping], queues: int
) -> Iterator[Issue]:
    """Yield what is wrong with a mapping of I/O threads to virtqueues.

    Either no I/O thread lists queues, or all do and every queue is listed once.
    """
    if not iothreads:
        return
    listed = bool(iothreads[0].queues)
    if listed and not queues:
        yield Issue.unsupported(
            "'queue' count must be configured for explicit iothread to queue mapping"
        )
        return
    known = iothread_ids(domain)
    used: set[int] = set()
    taken: set[int] = set()
    for each in iothreads:
        if each.id in used:
            yield Issue.unsupported(f"duplicate mapping for iothread '{each.id}'")
        used.add(each.id)
        if each.id not in known:
            yield Issue.unsupported(f"iothread '{each.id}' not defined in iothreadid")
        if bool(each.queues) != listed:
            yield Issue.unsupported(
                "iothread to queue mapping must be provided for all iothreads or for none"
            )
            continue
        for queue in each.queues:
            if queue.id >= queues:
                yield Issue.unsupported(f"iothread queue '{queue.id}' mapping out of range")
            elif queue.id in taken:
                yield Issue.unsupported(f"iothread queue '{queue.id}' is already assigned")
            taken.add(queue.id)
    if listed:
        missing = next((number for number in range(queues) if number not in taken), None)
        if missing is not None:
            yield Issue.unsupported(f"missing iothread mapping for queue '{missing}'")


@rules.check(Controller)
def _attributes(domain: Domain, device: Controller, ctx: Context) -> Iterator[Issue]:
    """Require the SCSI adapter in QEMU, and virtio for what only that has."""
    del domain
    virtio = device.type == "scsi" and device.model in VIRTIO_SCSI
    if device.type == "scsi":
        if device.model == "buslogic":
            yield Issue.unsupported("Unsupported controller model: buslogic")
            return
        flag, message = _SCSI_NEEDS.get(device.model or "", (None, ""))
        if flag is not None and flag not in ctx.caps:
            yield Issue.unsupported(message, line=device.line)
            return
    if virtio:
        return
    for name in ("queues", "cmd_per_lun", "max_sectors"):
        if getattr(device, name):
            yield Issue.unsupported(f"'{name}' is only supported by virtio-scsi controller")
    if device.ioeventfd is not None:
        yield Issue.unsupported("'ioeventfd' is only supported by virtio-scsi controller")
    if device.iothread:
        yield Issue.unsupported("'iothread' is only supported for virtio-scsi controller")


@rules.check(Controller)
def _by_type(domain: Domain, device: Controller, ctx: Context) -> Iterator[Issue]:
    """Check what each type requires of machine and QEMU."""
    machine = machine_of(domain)
    if device.type == "ide":
        if device.index == 0 and machine.builtin_ide:
            return
        if machine.builtin_ide:
            yield Issue.unsupported(
                "Only a single IDE controller is supported for this machine type"
            )
        else:
            yield Issue.unsupported(
                "IDE controllers are unsupported for this QEMU binary or machine type"
            )
    elif device.type == "sata":
        if (device.index or not machine.q35) and "ich9-ahci" not in ctx.caps:
            yield Issue.unsupported("SATA is not supported with this QEMU binary")
    elif device.type == "scsi" and device.model in VIRTIO_SCSI:
        yield from _scsi_iothreads(domain, device, ctx)
    elif device.type == "scsi" and device.model == "ncr53c90":
        if device.index:
            yield Issue.unsupported("ncr53c90 can only be used as first SCSI controller")
        elif not machine.builtin_esp:
            yield Issue.unsupported("ncr53c90 SCSI controller is not a built-in for this machine")


def _scsi_iothreads(domain: Domain, device: Controller, ctx: Context) -> Iterator[Issue]:
    if not device.iothread and not device.iothreads:
        return
    if device.address is not None and not isinstance(device.address, PciAddress | CcwAddress):
        yield Issue.unsupported(
            "virtio-scsi IOThreads only available for virtio pci and virtio ccw controllers"
        )
        return
    if device.iothreads:
        if "virtio-scsi.iothread-mapping" not in ctx.caps:
            yield Issue.unsupported(
                "IOThread mapping for virtio-scsi controllers is not available with this QEMU"
                " binary"
            )
            return
        yield from check_iothread_mapping(domain, device.iothreads, device.queues or 0)
    if device.iothread and device.iothread not in iothread_ids(domain):
        yield Issue.unsupported(
            f"controller iothread '{device.iothread}' not defined in iothreadid"
        )


@rules.check(Controller)
def _pci(domain: Domain, device: Controller, ctx: Context) -> Issues | None:
    """Check that a PCI controller has all numbers of its model and no others."""
    if device.type != "pci":
        return None
    if device.model is None:
        return [Issue.internal("Unexpected enum value -1 for virDomainControllerModelPCI")]
    about = _About(device)
    return chain(
        _pci_device(domain, device, about),
        _pci_index(domain, device, about),
        _pci_numbers(device, about),
        _pci_support(device, about, ctx),
    )


class _About:
    """libvirt's words about an option of a PCI controller."""

    __slots__ = ("_device",)

    def __init__(self, device: Controller) -> None:
        self._device = device

    @property
    def where(self) -> str:
        device = self._device
        return (
            f"for PCI controller with index '{device.index}', model '{device.model}' and modelName"
            f" '{device.model_name or 'none'}'"
        )

    def missing(self, option: str) -> Issue:
        return Issue.internal(f"Required option '{option}' is not set {self.where}")

    def invalid(self, option: str) -> Issue:
        return Issue.unsupported(f"Option '{option}' is not valid {self.where}")

    def unfit(self, option: str, value: int | None) -> Issue:
        """Return what is wrong with an option that is there without need, or not there."""
        return self.missing(option) if value is None else self.invalid(option)


def _pci_device(domain: Domain, device: Controller, about: _About) -> Iterator[Issue]:
    allowed = _PCI_DEVICES[device.model or ""]
    named = device.model_name not in (None, "none")
    required = bool(allowed)
    if device.model == "pci-root":
        required = machine_of(domain).pseries
    if required and not named:
        yield about.missing("modelName")
    elif named and not required:
        yield about.invalid("modelName")
    elif named and device.model_name not in allowed:
        yield Issue.unsupported(f"Option 'modelName' has invalid value {about.where}")


def _pci_index(domain: Domain, device: Controller, about: _About) -> Iterator[Issue]:
    model = device.model
    bridge = model == "pci-root" and device.model_name == "spapr-pci-host-bridge"
    if model in ("pci-root", "pcie-root"):
        if device.index and not bridge:
            yield Issue.unsupported(f"Index for '{model}' controllers must be 0")
    elif not device.index:
        yield Issue.unsupported(f"Index for '{model}' controllers must be > 0")
    if bridge and device.target_index is None:
        yield about.missing("targetIndex")
    elif device.target_index is not None and not bridge:
        yield about.invalid("targetIndex")
    machine = machine_of(domain)
    fits = machine.i440fx if model == "pci-root" else machine.q35
    if device.pcihole64 is not None and not fits:
        yield Issue.unsupported(
            f"Setting the 64-bit PCI hole size is not supported for machine '{machine.name}'"
        )


def _pci_numbers(device: Controller, about: _About) -> Iterator[Issue]:
    model = device.model
    bridge = model == "pci-root" and device.model_name == "spapr-pci-host-bridge"
    if (device.bus_nr is not None) != (model in _EXPANDERS):
        yield about.unfit("busNr", device.bus_nr)
    if device.node is not None and not (model in _EXPANDERS or (bridge and device.target_index)):
        yield about.invalid("numaNode")
    if (device.chassis_nr is not None) != (model == "pci-bridge"):
        yield about.unfit("chassisNr", device.chassis_nr)
    if (device.chassis is not None) != (model in _PORTS):
        yield about.unfit("chassis", device.chassis)
    if (device.port is not None) != (model in _PORTS):
        yield about.unfit("port", device.port)


def _pci_support(device: Controller, about: _About, ctx: Context) -> Iterator[Issue]:
    model, name = device.model, device.model_name
    if device.hotplug is not None:
        if model == "pci-root":
            flag, what = "piix4.acpi-root-pci-hotplug", "pci-root"
        elif model in _PORTS:
            flag, what = "pcie-root-port.hotplug", str(name)
        else:
            yield about.invalid("hotplug")
            return
        if flag not in ctx.caps:
            yield Issue.unsupported(
                f"setting the 'hotplug' property on a '{what}' device is not supported by this"
                " QEMU binary"
            )
    if device.mem_reserve and model not in _RESERVERS:
        yield about.invalid("memReserve")
    flag = _PCI_FLAGS.get(name or "none", "")
    if flag and flag not in ctx.caps:
        yield Issue.unsupported(f"The '{name}' device is not supported by this QEMU binary")
    if (
        model == "pci-root"
        and name == "spapr-pci-host-bridge"
        and device.node is not None
        and "spapr-pci-host-bridge.numa_node" not in ctx.caps
    ):
        yield Issue.unsupported(
            f"Option 'numaNode' is not supported by '{name}' device with this QEMU binary"
        )
