"""<hostdev> in QEMU, and interfaces that are host devices: defaults, validation, command line."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import Issue
from hvcore.model.devices.base import UnassignedAddress
from hvcore.model.devices.hostdev import Hostdev
from hvcore.model.devices.hostdev import HostUsbAddress
from hvcore.model.devices.hostdev import MdevSource
from hvcore.model.devices.hostdev import PciSource
from hvcore.model.devices.hostdev import ScsiHostSource
from hvcore.model.devices.hostdev import ScsiSource
from hvcore.model.devices.hostdev import UsbSource
from hvcore.model.devices.interface import HostdevInterfaceSource
from hvcore.model.devices.interface import Interface
from hvcore.model.devices.storage import BlockSource
from hvcore.model.devices.storage import NetworkSource
from hvcore.rules.base import Rules
from hvcore.rules.hostdev import host_devices
from hvcore_qemu.blockdev import Image
from hvcore_qemu.blockdev import credentials
from hvcore_qemu.blockdev import storage_props
from hvcore_qemu.command import present
from hvcore_qemu.credentials import seal
from hvcore_qemu.props import Props
from hvcore_qemu.props import add_device
from hvcore_qemu.props import address_props
from hvcore_qemu.props import boot_index
from hvcore_qemu.props import refuse
from hvcore_qemu.props import rom_props
from hvcore_qemu.props import switch
from hvcore_qemu.props import virtio_props

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Sequence

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues
    from hvcore_qemu.command import Command
    from hvcore_qemu.prepare import Preparation
    from hvcore_qemu.resources import UsbDevice

rules = Rules()

_RESETS: Final[Mapping[str | None, tuple[bool | None, bool | None]]] = {
    # guest-reset and guest-resets-all of QEMU
    None: (None, None),
    "off": (False, None),
    "uninitialized": (True, False),
    "on": (True, True),
}
_NO_SCREEN: Final = Issue.unsupported(
    "graphics device is needed for attribute value 'display=on' in <hostdev>"
)
_MDEV_CAPABILITIES: Final = {
    # The models are capabilities themselves; this is how libvirt calls them.
    "vfio-pci": "PCI",
    "vfio-ap": "AP",
    "vfio-ccw": "CCW",
}


@rules.post_parse(Hostdev)
def _defaults(domain: Domain, device: Hostdev, ctx: Context) -> Issues:
    """Show nothing of mediated devices unless asked, whatever QEMU's default may become."""
    del domain, ctx
    if device.type == "mdev" and device.model == "vfio-pci" and device.display is None:
        device.display = False
    return ()


@rules.check(Hostdev)
def _supported(domain: Domain, device: Hostdev, ctx: Context) -> Issues:
    """Check what QEMU can do with devices of each type."""
    if device.mode == "capabilities":
        yield Issue.unsupported(f"hostdev mode 'capabilities' is not supported in {domain.type}")
        return
    source = device.source
    if isinstance(source, UsbSource):
        if source.guest_reset is not None and "usb-host.guest-resets-all" not in ctx.caps:
            yield Issue.unsupported("guestReset is not supported with this version of QEMU")
    elif isinstance(source, PciSource):
        if device.host_driver == "vfio" and "vfio-pci" not in ctx.caps:
            yield Issue.unsupported(
                "VFIO PCI device assignment is not supported by this version of qemu"
            )
        if source.write_filtering is not None:
            yield Issue.unsupported(
                "Write filtering of PCI device configuration space is not supported by qemu"
            )
        if device.display and not domain.devices.graphics:
            yield _NO_SCREEN
    elif isinstance(source, ScsiHostSource):
        if device.boot_order:
            yield Issue.unsupported(
                "booting from assigned devices is not supported by vhost SCSI devices"
            )
        if "vhost-scsi" not in ctx.caps:
            yield Issue.unsupported("This QEMU doesn't support vhost-scsi devices")
    elif isinstance(source, MdevSource):
        yield from _mediated(domain, device, ctx)


def _mediated(domain: Domain, device: Hostdev, ctx: Context) -> Issues:
    model = device.model or ""
    if model not in ctx.caps:
        yield Issue.unsupported(
            f"VFIO {_MDEV_CAPABILITIES[model]} device assignment is not supported by this version"
            " of QEMU"
        )
    if model != "vfio-ccw" and device.boot_order:
        yield Issue.unsupported(
            f"booting from assigned devices is not supported by mediated devices of model {model}"
        )
    if model == "vfio-pci" and device.display and not domain.devices.graphics:
        yield _NO_SCREEN
    adapters = [each for each in domain.devices.hostdevs if each.model == "vfio-ap"]
    if model == "vfio-ap" and len(adapters) > 1:
        yield Issue.unsupported("Only one hostdev of model vfio-ap is supported")


# --- preparation ---


def prepare(work: Preparation) -> None:
    """Choose how PCI devices are given, and name the block nodes of SCSI devices.

    :raises ValidationFailed: when the host or QEMU cannot give PCI devices that way.
    :raises HvError: when a SCSI device or a secret does not exist.
    """
    for device in host_devices(work.domain):
        if device.source_pci is not None:
            choose_driver(work, device)
        elif isinstance(device.source, ScsiSource):
            assert device.alias is not None  # aliases are assigned before
            work.resources.by_alias[device.alias] = _scsi_image(
                work, device.source, readonly=isinstance(device, Hostdev) and device.readonly
            )


def choose_driver(work: Preparation, device: Hostdev | Interface) -> None:
    """Give a PCI device through VFIO, the only way there is, unless another one is wanted.

    :raises ValidationFailed: for other ways, and when the host or QEMU lacks VFIO.
    """
    port = device.port if isinstance(device, Interface) else device
    possible = work.host.vfio()
    if port.host_driver not in (None, "vfio"):
        refuse(Issue.internal(f"invalid PCI passthrough type '{port.host_driver}'"))
    if not possible:
        what = "VFIO PCI passthrough" if port.host_driver else "passthrough of host PCI devices"
        refuse(Issue.unsupported(f"host doesn't support {what}"))
    if port.host_driver is None and "vfio-pci" not in work.caps:
        refuse(
            Issue.unsupported("VFIO PCI device assignment is not supported by this version of QEMU")
        )
    port.host_driver = "vfio"


def _scsi_image(work: Preparation, source: ScsiSource, *, readonly: bool) -> Image:
    """Return the node that is below a SCSI device."""
    place = source.address
    where: BlockSource | NetworkSource
    if source.protocol == "iscsi":
        where = NetworkSource(
            protocol="iscsi", name=source.name, hosts=source.hosts, initiator=source.initiator
        )
    else:
        assert place is not None  # the parser requires it
        node = work.host.scsi_generic(source.adapter or "", place.bus, place.target, place.unit)
        where = BlockSource(path=f"/dev/{node}")
    name = f"libvirt-{work.resources.next_node()}-backend"
    image = Image(source=where, storage=name, readonly=readonly, auth=source.auth)
    secret = source.auth.secret if source.auth is not None else None
    if secret is not None:
        value = work.host.secret("iscsi", uuid=secret.uuid, usage=secret.usage)
        image.auth_secret = seal(work, f"{name}-secret0", value)
    return image


def prepare_host(work: Preparation) -> None:
    """Take the devices from the host.

    :raises HvError: when one is missing that must be there.
    """
    plugged = work.host.usb_devices()
    for device in _in_order(work.domain):
        source = device.source
        usb = _usb_source(device)
        if usb is not None:
            if plugged is not None:
                _find_usb(usb, plugged)
            work.resources.by_alias[device.alias or ""] = usb
        elif isinstance(source, ScsiHostSource):
            assert device.alias is not None  # aliases are assigned before
            work.resources.vhost_fds[device.alias] = work.host.vhost_scsi()
        elif isinstance(source, MdevSource) and not (work.host.pretends or work.host.vfio()):
            refuse(Issue.unsupported("Mediated host device assignment requires VFIO support"))
        elif device.source_pci is not None:
            port = device.port if isinstance(device, Interface) else device
            work.host.assign_pci(
                str(device.source_pci), managed=bool(port.managed), driver=port.host_driver_model
            )


def _usb_source(device: Hostdev | Interface) -> UsbSource | None:
    """Return which USB device ``device`` is; an interface can be one as well."""
    source = device.source
    if isinstance(source, HostdevInterfaceSource) and source.is_usb:
        place = source.address
        return UsbSource(
            vendor=source.vendor,
            product=source.product,
            address=place if isinstance(place, HostUsbAddress) else None,
        )
    return source if isinstance(source, UsbSource) else None


def _find_usb(source: UsbSource, plugged: Sequence[UsbDevice]) -> None:
    """Find where a USB device is plugged in, or that it is not there."""
    place = source.address
    wanted = None if source.vendor is None else (source.vendor, source.product or 0)
    here = [
        each
        for each in plugged
        if (wanted is None or (each.vendor, each.product) == wanted)
        and (place is None or (each.bus, each.device) == (place.bus, place.device))
    ]
    if not here and wanted is not None and source.auto_address:
        # Where it was once found does not bind.
        here = [each for each in plugged if (each.vendor, each.product) == wanted]
    if len(here) > 1:
        raise DriverError(
            f"Multiple USB devices for {source.vendor:x}:{source.product or 0:x}, use <address>"
            " to specify one",
            kind=ErrorClass.OPERATION_FAILED,
        )
    if here:
        if place is None or source.auto_address:
            source.auto_address = True
            source.address = HostUsbAddress(bus=here[0].bus, device=here[0].device)
    elif source.startup_policy == "optional":
        source.missing = True
    else:
        what = [] if wanted is None else [f"{wanted[0]:04x}:{wanted[1]:04x}"]
        what += [] if place is None else [f"bus:{place.bus} device:{place.device}"]
        raise DriverError(f"Did not find USB device {' '.join(what)}", kind=ErrorClass.INTERNAL)


# --- command line ---


def command(cmd: Command) -> None:
    """Append the devices, those that are interfaces first, those from networks last.

    :raises ValidationFailed: when a device cannot be expressed.
    """
    for device in _in_order(cmd.domain):
        if device.source_pci is not None:
            if not isinstance(device.address, UnassignedAddress):
                add_device(cmd, device, _pci(cmd, device))
        elif isinstance(device, Hostdev):
            _BY_TYPE[device.type](cmd, device)
        else:
            _usb(cmd, device)


def _in_order(domain: Domain) -> Iterator[Hostdev | Interface]:
    yield from host_devices(domain)
    for interface in domain.devices.interfaces:
        if interface.actual is not None and interface.actual.type == "hostdev":
            yield interface


def _pci(cmd: Command, device: Hostdev | Interface) -> Props:
    ramfb = isinstance(device, Hostdev) and bool(device.ramfb)
    display = device.display if isinstance(device, Hostdev) else None
    return {
        # Firmware's screen is only on the variant that cannot be unplugged.
        "driver": "vfio-pci-nohotplug" if ramfb else "vfio-pci",
        "host": str(device.source_pci),
        "id": device.alias,
        "bootindex": boot_index(device),
        "failover_pair_id": device.teaming_persistent if device.teaming == "transient" else None,
        "display": switch(display),
        "ramfb": True if ramfb else None,
        **address_props(cmd.domain, device),
        **rom_props(device),
    }


def _usb(cmd: Command, device: Hostdev | Interface) -> None:
    source = cmd.resources.by_alias[device.alias or ""]
    assert isinstance(source, UsbSource)
    place = source.address
    where: Props = {}
    if not source.missing:
        if place is None:
            refuse(Issue.internal("USB host device is missing bus/device information"))
        if "usb-host.hostdevice" in cmd.caps:
            where = {"hostdevice": f"/dev/bus/usb/{place.bus:03d}/{place.device:03d}"}
        else:
            where = {"hostbus": place.bus or None, "hostaddr": place.device or None}
    reset, resets_all = _RESETS[source.guest_reset]
    _append(
        cmd,
        device,
        {
            "driver": "usb-host",
            **where,
            "id": device.alias,
            "bootindex": device.boot_order,
            "guest-reset": reset,
            "guest-resets-all": resets_all,
            **address_props(cmd.domain, device),
        },
    )


def _scsi(cmd: Command, device: Hostdev) -> None:
    image = cmd.resources.by_alias[device.alias or ""]
    assert isinstance(image, Image)
    credentials(cmd, image)
    cmd.option("-blockdev", present(storage_props(image)))
    _append(
        cmd,
        device,
        {
            "driver": "scsi-generic",
            "drive": image.storage,
            "id": device.alias,
            "bootindex": device.boot_order,
            "loadparm": _loadparm(cmd, device),
            **address_props(cmd.domain, device),
        },
    )


def _scsi_host(cmd: Command, device: Hostdev) -> None:
    source = device.source
    assert isinstance(source, ScsiHostSource)
    _append(
        cmd,
        device,
        {
            **virtio_props("vhost-scsi", device, cmd.caps),
            "wwpn": source.wwpn,
            "vhostfd": cmd.descriptor(
                cmd.resources.vhost_fds[device.alias or ""], f"vhost-{device.alias}"
            ),
            "id": device.alias,
            **address_props(cmd.domain, device),
        },
    )


def _mdev(cmd: Command, device: Hostdev) -> None:
    source = device.source
    assert isinstance(source, MdevSource)
    ramfb = bool(device.ramfb)
    nohotplug = ramfb and device.model == "vfio-pci"
    _append(
        cmd,
        device,
        {
            "driver": "vfio-pci-nohotplug" if nohotplug else device.model,
            "id": device.alias,
            "sysfsdev": f"/sys/bus/mdev/devices/{source.uuid}",
            "display": switch(device.display),
            "ramfb": True if ramfb else None,
            "bootindex": device.boot_order,
            "loadparm": _loadparm(cmd, device),
            **address_props(cmd.domain, device),
        },
    )


def _loadparm(cmd: Command, device: Hostdev) -> str | None:
    return device.boot_loadparm if "virtio-ccw.loadparm" in cmd.caps else None


def _append(cmd: Command, device: Hostdev | Interface, props: Mapping[str, Any]) -> None:
    cmd.features(device)
    cmd.device(props)


_BY_TYPE: Final[Mapping[str, Callable[[Command, Hostdev], None]]] = {
    "usb": _usb,
    "scsi": _scsi,
    "scsi_host": _scsi_host,
    "mdev": _mdev,
}
