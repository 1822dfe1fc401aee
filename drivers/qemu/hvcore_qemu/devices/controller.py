"""<controller> in QEMU: defaults, the controllers every machine has, and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.addresses.controllers import add_controller
from hvcore.addresses.controllers import add_usb_controller
from hvcore.addresses.controllers import ensure_controller
from hvcore.addresses.controllers import find_controller
from hvcore.errors import Issue
from hvcore.model.devices.controller import Controller
from hvcore.rules.base import Rules
from hvcore.rules.controller import VIRTIO_SCSI
from hvcore_qemu.devices.controller_checks import check_usb
from hvcore_qemu.devices.controller_checks import rules as checks
from hvcore_qemu.machines import ARM
from hvcore_qemu.machines import MIPS
from hvcore_qemu.machines import PPC64
from hvcore_qemu.machines import S390
from hvcore_qemu.machines import X86
from hvcore_qemu.machines import machine_of
from hvcore_qemu.props import Props
from hvcore_qemu.props import add_device
from hvcore_qemu.props import address_props
from hvcore_qemu.props import positive
from hvcore_qemu.props import refuse
from hvcore_qemu.props import virtio_props

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Iterator
    from collections.abc import Mapping

    from hvcore.model.devices.storage import IOThreadMapping
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore_qemu.command import Command
    from hvcore_qemu.machines import Machine

rules = Rules.merged([checks])

# Machines with a conventional PCI bus, whatever their type.
_PCI_ROOT_ARCHES: Final = frozenset(
    {"alpha", "ppc", "ppcemb", "ppc64", "ppc64le", "sh4", "sh4eb", "sparc64"}
)
_USB_ARCHES: Final = frozenset({*X86, *_PCI_ROOT_ARCHES, *MIPS})
# Of the models QEMU may have, the one preferred for a new q35 guest, best first.
_Q35_USB: Final = (
    ("qemu-xhci", "qemu-xhci"),
    ("nec-usb-xhci", "nec-xhci"),
    ("ich9-usb-ehci1", "ich9-ehci1"),
)
_XHCI_PORTS: Final = 15

_USB_DRIVERS: Final[Mapping[str, str]] = {
    "piix3-uhci": "piix3-usb-uhci",
    "piix4-uhci": "piix4-usb-uhci",
    "ehci": "usb-ehci",
    "ich9-ehci1": "ich9-usb-ehci1",
    "ich9-uhci1": "ich9-usb-uhci1",
    "ich9-uhci2": "ich9-usb-uhci2",
    "ich9-uhci3": "ich9-usb-uhci3",
    "vt82c686b-uhci": "vt82c686b-usb-uhci",
    "pci-ohci": "pci-ohci",
    "nec-xhci": "nec-usb-xhci",
    "qemu-xhci": "qemu-xhci",
}
_SCSI_DRIVERS: Final[Mapping[str, str]] = {
    "lsilogic": "lsi",
    "ibmvscsi": "spapr-vscsi",
    "lsisas1068": "mptsas1068",
    "lsisas1078": "megasas",
    "vmpvscsi": "pvscsi",
    "am53c974": "am53c974",
    "dc390": "dc-390",
}
# The order in which QEMU is told of controllers. Floppy controllers come with the drives, card
# readers behind the USB hubs they may be plugged into.
_ORDER: Final = ("pci", "usb", "scsi", "ide", "sata", "virtio-serial")
_HOLE64: Final = {"pci-root": "i440FX-pcihost", "pcie-root": "q35-pcihost"}


# --- post-parse ---


def _default_usb(machine: Machine, ctx: Context) -> tuple[bool, str | None]:
    """Return whether the machine has USB by default, and of which model."""
    if machine.arch in X86:
        if machine.name == "isapc":
            return False, None
        if machine.q35:
            model = next((model for flag, model in _Q35_USB if flag in ctx.caps), None)
            return model is not None, model
        return True, None
    if machine.arch in ARM:
        # The two kinds of machines that historically had it.
        old = machine.name == "versatilepb" or machine.name.startswith("realview")
        return old, "pci-ohci" if old else None
    return machine.arch in _USB_ARCHES, None


def _root_model(machine: Machine, ctx: Context) -> str | None:
    """Return the model of the PCI bus on the board."""
    if machine.q35 or machine.arm_virt or machine.riscv_virt or machine.arch == "loongarch64":
        return "pcie-root"
    if machine.arch in S390:
        return "pci-root" if "zpci" in ctx.caps else None
    found = (
        machine.i440fx
        or machine.malta
        or machine.arch in _PCI_ROOT_ARCHES
        or (machine.arch in ARM and machine.name == "versatilepb")
    )
    return "pci-root" if found else None


@rules.post_parse_domain
def _on_board(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Add what is part of the machine."""
    machine = machine_of(domain)
    controllers = domain.devices.controllers
    wanted, model = _default_usb(machine, ctx)
    if wanted and find_controller(controllers, "usb", 0) is None:
        add_usb_controller(controllers, 0, model)
    if machine.q35:
        ensure_controller(controllers, "sata", 0)
    root_model = _root_model(machine, ctx)
    if root_model is None:
        return
    root = find_controller(controllers, "pci", 0)
    if root is None:
        add_controller(controllers, "pci", 0, root_model)
    elif root.model != root_model:
        yield Issue.xml(
            f"The PCI controller with index='0' must be model='{root_model}' for this machine"
            f" type, but model='{root.model or '(null)'}' was found instead",
            line=root.line,
        )


def choose_scsi_model(controller: Controller, machine: Machine, ctx: Context) -> Iterator[Issue]:
    """Choose the model of a SCSI controller that the document leaves open."""
    if controller.model not in (None, "auto"):
        return
    if machine.pseries:
        controller.model = "ibmvscsi"
    elif machine.arch in S390 or machine.loongarch_virt:
        controller.model = "virtio-scsi"
    elif "lsi" in ctx.caps:
        controller.model = "lsilogic"
    elif "virtio-scsi-pci" in ctx.caps:
        controller.model = "virtio-scsi"
    elif machine.builtin_esp:
        controller.model = "ncr53c90"
    else:
        yield Issue.internal(
            f"Unable to determine model for SCSI controller idx={controller.index}",
            line=controller.line,
        )


def _usual_usb(controller: Controller, machine: Machine, ctx: Context) -> str | None:
    """Return the model of a USB controller that the document does not tell."""
    caps = ctx.caps
    if machine.arch in S390 and controller.address is None:
        return "none"
    if machine.arch in PPC64:
        # Existing guests keep what they had.
        if ctx.abi_update and "qemu-xhci" in caps:
            return "qemu-xhci"
        if ctx.abi_update and "nec-usb-xhci" in caps:
            return "nec-xhci"
        return "pci-ohci" if "pci-ohci" in caps else None
    if machine.arch in ("aarch64", "loongarch64") and "qemu-xhci" in caps:
        return "qemu-xhci"
    if machine.arch == "aarch64" and "nec-usb-xhci" in caps:
        return "nec-xhci"
    if "piix3-usb-uhci" in caps:
        return "piix3-uhci"
    return "pci-ohci" if machine.arch not in X86 and "pci-ohci" in caps else None


def _usb_model(controller: Controller, domain: Domain, ctx: Context) -> Iterator[Issue]:
    if controller.model is None:
        controller.model = _usual_usb(controller, machine_of(domain), ctx)
    if controller.model in ("qusb1", "qusb2"):
        yield Issue.unsupported(
            "USB controller model type 'qusb1' or 'qusb2' is not supported in " + domain.type,
            line=controller.line,
        )
    elif controller.model in ("nec-xhci", "qemu-xhci") and (controller.ports or 0) > _XHCI_PORTS:
        yield Issue.unsupported(
            f"'{controller.model}' controller only supports up to '{_XHCI_PORTS}' ports",
            line=controller.line,
        )


def _pci_model(controller: Controller, domain: Domain) -> Iterator[Issue]:
    machine, model = machine_of(domain), controller.model
    if not machine.pseries and model in ("pci-root", "pcie-root") and controller.index:
        yield Issue.xml(
            "pci-root and pcie-root controllers should have index 0", line=controller.line
        )
    elif model == "pci-expander-bus" and not machine.i440fx:
        yield Issue.unsupported(
            "pci-expander-bus controllers are only supported on 440fx-based machinetypes",
            line=controller.line,
        )
    elif model == "pcie-expander-bus" and not (machine.q35 or machine.arm_virt):
        yield Issue.unsupported(
            "pcie-expander-bus controllers are not supported with this machine type",
            line=controller.line,
        )
    elif controller.node is not None:
        numa = domain.cpu.numa if domain.cpu is not None else None
        cells = len(numa.cells) if numa is not None else 0
        if controller.node >= cells:
            yield Issue.xml(
                f"{model} with index {controller.index} is configured for a NUMA node"
                f" ({controller.node}) not present in the domain's <cpu><numa> array ({cells})",
                line=controller.line,
            )


@rules.post_parse(Controller)
def _model(domain: Domain, device: Controller, ctx: Context) -> Iterator[Issue]:
    """Choose the model, and refuse what the machine cannot have."""
    if device.type == "scsi":
        yield from choose_scsi_model(device, machine_of(domain), ctx)
    elif device.type == "usb":
        yield from _usb_model(device, domain, ctx)
    elif device.type == "pci":
        yield from _pci_model(device, domain)


@rules.post_parse_late
def _implicit_scsi(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Choose the model of SCSI controllers that were added for disks."""
    machine = machine_of(domain)
    for controller in domain.devices.controllers:
        if controller.type == "scsi":
            yield from choose_scsi_model(controller, machine, ctx)


# --- command line ---


def iothread_mapping(iothreads: Iterable[IOThreadMapping]) -> list[Props] | None:
    """Return which I/O threads serve which virtqueues."""
    found: list[Props] = []
    for each in iothreads:
        entry: Props = {"iothread": f"iothread{each.id}"}
        if each.queues:
            entry["vqs"] = [queue.id for queue in each.queues]
        found.append(entry)
    return found or None


def global_options(cmd: Command) -> None:
    """Append the size of the 64-bit PCI hole."""
    for controller in cmd.domain.devices.controllers:
        if controller.pcihole64 is not None:
            bridge = _HOLE64[controller.model or ""]
            cmd.option("-global", f"{bridge}.pci-hole64-size={controller.pcihole64}K")


def _on_board_already(controller: Controller, machine: Machine) -> bool:
    """Tell whether QEMU makes the controller with the machine."""
    first = not controller.index
    match controller.type:
        case "pci":
            return controller.model == "pcie-root" or (
                controller.model == "pci-root" and not machine.pseries
            )
        case "sata":
            return first and machine.q35
        case "ide":
            return first and machine.builtin_ide
        case "scsi":
            return first and controller.model == "ncr53c90" and machine.builtin_esp
        case "usb":
            return controller.model == "none" or (controller.model is None and machine.arch in S390)
    return False


def command(cmd: Command) -> None:
    """Append the controllers that are devices of QEMU."""
    machine = machine_of(cmd.domain)
    for kind in _ORDER:
        for controller in cmd.domain.devices.controllers:
            if controller.type != kind:
                continue
            if controller.model == "pci-root" and not controller.index:
                _root_hotplug(cmd, controller)
            if not _on_board_already(controller, machine):
                add(cmd, controller)


def ccid(cmd: Command) -> None:
    """Append the smartcard readers."""
    for controller in cmd.domain.devices.controllers:
        if controller.type == "ccid":
            add(cmd, controller)


def _root_hotplug(cmd: Command, controller: Controller) -> None:
    if controller.hotplug is not None:
        state = "on" if controller.hotplug else "off"
        cmd.option("-global", f"PIIX4_PM.acpi-root-pci-hotplug={state}")


def add(cmd: Command, controller: Controller) -> None:
    """Append one controller.

    :raises ValidationFailed: when QEMU has nothing of the kind.
    """
    write = _PROPS.get(controller.type)
    if write is None:
        refuse(Issue.unsupported(f"Unsupported controller type: {controller.type}"))
    props = write(cmd, controller)
    if props is not None:
        add_device(cmd, controller, {**props, **address_props(cmd.domain, controller)})


def _scsi(cmd: Command, controller: Controller) -> Props:
    model = controller.model or ""
    if model in VIRTIO_SCSI:
        return {
            **virtio_props("virtio-scsi", controller, cmd.caps),
            "iothread": f"iothread{controller.iothread}" if controller.iothread else None,
            "id": controller.alias,
            "num_queues": positive(controller.queues),
            "iothread-vq-mapping": iothread_mapping(controller.iothreads),
            "cmd_per_lun": positive(controller.cmd_per_lun),
            "max_sectors": positive(controller.max_sectors),
            "ioeventfd": controller.ioeventfd,
        }
    driver = _SCSI_DRIVERS.get(model)
    if driver is None:
        refuse(Issue.unsupported(f"Unsupported controller model: {model}"))
    return {"driver": driver, "id": controller.alias}


def _virtio_serial(cmd: Command, controller: Controller) -> Props:
    return {
        **virtio_props("virtio-serial", controller, cmd.caps),
        "id": controller.alias,
        "max_ports": controller.ports,
        "vectors": controller.vectors,
    }


def _usb(cmd: Command, controller: Controller) -> Props:
    issue = check_usb(controller, cmd.caps)
    if issue is not None:
        refuse(issue)
    props: Props = {
        "driver": _USB_DRIVERS[controller.model or ""],
        "p2": controller.ports,
        "p3": controller.ports,
    }
    if controller.master_startport is None:
        return {**props, "id": controller.alias}
    master = next(
        (
            other.alias
            for other in cmd.domain.devices.controllers
            if other.type == "usb"
            and other.index == controller.index
            and other.master_startport is None
        ),
        None,
    )
    if master is None:
        refuse(Issue.internal("masterbus not found"))
    return {**props, "masterbus": f"{master}.0", "firstport": controller.master_startport}


def _pci(cmd: Command, controller: Controller) -> Props | None:
    del cmd
    name = controller.model_name
    if name == "spapr-pci-host-bridge" and not controller.target_index:
        return None  # the one that a pSeries machine always has
    reserve = controller.mem_reserve * 1024 if controller.mem_reserve else None
    alias = controller.alias
    match controller.model:
        case "pci-bridge":
            own: dict[str, Any] = {
                "chassis_nr": controller.chassis_nr, "mem-reserve": reserve, "id": alias
            }  # fmt: skip
        case "pci-expander-bus" | "pcie-expander-bus":
            own = {"bus_nr": controller.bus_nr, "id": alias, "numa_node": controller.node}
        case "pcie-root-port" | "pcie-switch-downstream-port":
            own = {
                "port": controller.port,
                "chassis": controller.chassis,
                "id": alias,
                "hotplug": controller.hotplug,
                "mem-reserve": reserve,
            }
        case "pci-root":
            own = {
                "index": controller.target_index,
                "mem-reserve": reserve,
                "id": alias,
                "numa_node": controller.node,
            }
        case _:
            own = {"id": alias}
    return {"driver": name, **own}


def _plain(driver: str) -> Callable[[Command, Controller], Props]:
    return lambda _, controller: {"driver": driver, "id": controller.alias}


_PROPS: Final[Mapping[str, Callable[[Command, Controller], Props | None]]] = {
    "scsi": _scsi,
    "virtio-serial": _virtio_serial,
    "ccid": _plain("usb-ccid"),
    "sata": _plain("ahci"),
    "usb": _usb,
    "pci": _pci,
}
