"""Rules of adding, taking away and changing single devices: libvirt's, without any I/O.

A device is found by what it is, not by how its element is written: a disk by its target, an
interface by its address, a host device by its source. What differs by family is one row of
:data:`FAMILIES`. Sources: ``qemuDomainAttachDeviceConfig`` and its neighbours of libvirt's
qemu_driver.c, ``qemuDomainDetachPrep*`` of qemu_hotplug.c, and ``virDomain*Find`` of domain_conf.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import Literal
from typing import TypeAlias

import attrs

from hvcore.addresses.controllers import find_controller
from hvcore.addresses.controllers import insert_controller
from hvcore.addresses.controllers import unused_index
from hvcore.addresses.drive import disk_index
from hvcore.addresses.pci import format_address
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.errors import Unsupported
from hvcore.errors import ValidationFailed
from hvcore.model.devices import VISITED
from hvcore.model.devices.base import CcwAddress
from hvcore.model.devices.base import PciAddress
from hvcore.model.devices.base import UsbAddress
from hvcore.model.devices.chardev_source import source_of
from hvcore.model.devices.hostdev import MdevSource
from hvcore.model.devices.hostdev import PciSource
from hvcore.model.devices.hostdev import ScsiSource
from hvcore.model.devices.hostdev import UsbSource
from hvcore.model.devices.rng import EgdBackend
from hvcore.model.devices.rng import RandomBackend
from hvcore.rules.disk import duplicate

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from hvcore.model.devices.base import Device
    from hvcore.model.devices.controller import Controller
    from hvcore.model.devices.disk import Disk
    from hvcore.model.devices.hostdev import Hostdev
    from hvcore.model.devices.interface import Interface
    from hvcore.model.devices.memory import MemoryDevice
    from hvcore.model.domain import Domain
    from hvcore.registry import Registry
    from hvcore.xml.fields import Element

Action: TypeAlias = Literal["attach", "detach", "update"]

_Check: TypeAlias = "Callable[[Domain, Any], HvError | None]"
_Same: TypeAlias = "Callable[[Any, Any], bool]"


PLUGGED_BUSES: Final = frozenset({"usb", "virtio", "scsi"})
"""Buses of disks that come and go while a guest runs."""

_PLUGGED_CONTROLLERS: Final = frozenset({"scsi", "virtio-serial"})


def unsupported(action: Action, name: str, *, live: bool) -> HvError:
    """Return the refusal of an action that a family of devices does not have.

    :param name: libvirt's name of the family.
    """
    message = f"{'live' if live else 'persistent'} {action} of device '{name}' is not supported"
    if live and action == "update":
        return Unsupported(message)
    return HvError(message, kind=ErrorClass.OPERATION_UNSUPPORTED)


def missing(message: str) -> HvError:
    """Return the error of a device that is not there."""
    return HvError(message, kind=ErrorClass.DEVICE_MISSING)


# -- what makes two devices the same ---------------------------------------------------------------


def same_address(wanted: Device, present: Device) -> bool:
    """Return whether ``present`` is where ``wanted`` says, or says nothing."""
    if wanted.address is None:
        return True
    if isinstance(wanted.address, PciAddress) and isinstance(present.address, PciAddress):
        return _pci_place(wanted.address) == _pci_place(present.address)
    return wanted.address == present.address


def _pci_place(address: PciAddress) -> tuple[int, int, int, int]:
    return (address.domain or 0, address.bus or 0, address.slot or 0, address.function or 0)


def _same_alias(wanted: Device, present: Device) -> bool:
    return wanted.alias is None or wanted.alias == present.alias


def _same_fields(*names: str, alias: bool = False) -> _Same:
    """Return a comparison of fields, and of the address (and alias) if one is wanted."""

    def same(wanted: Any, present: Any) -> bool:
        return (
            all(getattr(wanted, name) == getattr(present, name) for name in names)
            and same_address(wanted, present)
            and (not alias or _same_alias(wanted, present))
        )

    return same


def _same_disk(wanted: Disk, present: Disk) -> bool:
    return wanted.target == present.target


def _same_hostdev(wanted: Hostdev, present: Hostdev) -> bool:
    mine, other = wanted.source, present.source
    if wanted.mode != present.mode or type(mine) is not type(other):
        return False
    if isinstance(mine, PciSource) and isinstance(other, PciSource):
        return str(mine.address) == str(other.address)
    if isinstance(mine, UsbSource) and isinstance(other, UsbSource):
        place = mine.address
        if place is not None and place.bus and place.device:
            return place == other.address
        return (mine.vendor, mine.product) == (other.vendor, other.product)
    if isinstance(mine, ScsiSource) and isinstance(other, ScsiSource):
        names = ("protocol", "name", "adapter", "address", "hosts")
        return all(getattr(mine, name) == getattr(other, name) for name in names)
    return mine == other


def _same_chardev(wanted: Any, present: Any) -> bool:
    if wanted.type != present.type or not _same_source(wanted, present):
        return False
    names = ("target_type", "target_port", "target_address", "target_name")
    return all(getattr(wanted, name, None) == getattr(present, name, None) for name in names)


def _same_source(wanted: Any, present: Any) -> bool:
    """Compare the host's end of two character devices, without what a start filled in."""
    mine, other = source_of(wanted), source_of(present)
    if wanted.type == "pty" or mine is None or other is None:
        path = getattr(mine, "path", None)
        return path is None or path == getattr(other, "path", None)
    names = ("mode", "path", "host", "service", "channel", "append", "reconnect")
    return all(getattr(mine, name, None) == getattr(other, name, None) for name in names)


def _same_redirdev(wanted: Any, present: Any) -> bool:
    return (
        wanted.bus == present.bus
        and wanted.type == present.type
        and _same_source(wanted, present)
        and same_address(wanted, present)
        and _same_alias(wanted, present)
    )


def _same_rng(wanted: Any, present: Any) -> bool:
    mine, other = wanted.backend, present.backend
    if type(mine) is not type(other):
        return False
    if isinstance(mine, RandomBackend) and mine.path != other.path:
        return False
    if isinstance(mine, EgdBackend) and not (mine.type == other.type and _same_source(mine, other)):
        return False
    return _same_fields("model", "rate_bytes", "rate_period")(wanted, present)


def _same_shmem(wanted: Any, present: Any) -> bool:
    servers = [each.server.path if each.server else None for each in (wanted, present)]
    return (
        (wanted.server is None) == (present.server is None)
        and servers[0] in (None, servers[1])
        and _same_fields("name", "size", "model", "role", "msi")(wanted, present)
    )


def _same_sound(wanted: Any, present: Any) -> bool:
    codecs = [[codec.type for codec in each.codecs] for each in (wanted, present)]
    return codecs[0] == codecs[1] and _same_fields("model", "multichannel", "streams")(
        wanted, present
    )


def _same_graphics(wanted: Any, present: Any) -> bool:
    return bool(wanted.type == present.type)


def _same_kind(wanted: Any, present: Any) -> bool:
    return type(wanted) is type(present)


# -- what is in the way of a new one ---------------------------------------------------------------


def _disk_free(domain: Domain, disk: Disk) -> HvError | None:
    if any(_same_disk(disk, each) for each in domain.devices.disks):
        return InvalidState(f"target {disk.target} already exists")
    return None


def _once(same: _Same, family: str, message: str) -> _Check:
    def check(domain: Domain, device: Any) -> HvError | None:
        present = getattr(domain.devices, family)
        return InvalidState(message) if any(same(device, each) for each in present) else None

    return check


def _lease_free(domain: Domain, lease: Any) -> HvError | None:
    if any(_same_lease(lease, each) for each in domain.devices.leases):
        return InvalidState(
            f"Lease {lease.key} in lockspace {lease.lockspace or '<null>'} already exists"
        )
    return None


_same_lease: Final = _same_fields("lockspace", "key")


def _controller_free(domain: Domain, controller: Controller) -> HvError | None:
    index = controller.index
    if index is not None and find_controller(domain.devices.controllers, controller.type, index):
        return InvalidState(f"controller index='{index}' already exists")
    return None


def _rng_free(domain: Domain, rng: Device) -> HvError | None:
    if rng.address is not None and any(
        type(each.address) is type(rng.address) and same_address(rng, each)
        for each in domain.devices.walk()
    ):
        return Unsupported("a device with the same address already exists ")
    return None


def _watchdog_free(domain: Domain, watchdog: Any) -> HvError | None:
    present = domain.devices.watchdogs
    if any(_same_watchdog(watchdog, each) for each in present):
        return InvalidState("device is already in the domain configuration")
    if watchdog.model != "i6300esb" and any(each.model == watchdog.model for each in present):
        return InvalidState(f"domain can only have one watchdog with model '{watchdog.model}'")
    return None


_same_watchdog: Final = _same_fields("model", "action", alias=True)


def _chardev_free(domain: Domain, chardev: Any) -> HvError | None:
    family = family_of(domain, chardev)
    if family.members == "consoles" and chardev.target_type == "serial":
        return HvError(
            "attaching serial console is not supported", kind=ErrorClass.OPERATION_UNSUPPORTED
        )
    if any(_same_chardev(chardev, each) for each in getattr(domain.devices, family.members)):
        return InvalidState("chardev already exists")
    return None


# -- where a new one goes --------------------------------------------------------------------------


def _insert_disk(disks: list[Disk], new: Disk) -> None:
    """Put a disk among those of its bus, before the first with a higher target."""
    number, place = disk_index(new.target or "") or 0, None
    for position in range(len(disks) - 1, -1, -1):
        present = disks[position]
        if present.bus != new.bus:
            continue
        if (disk_index(present.target or "") or 0) > number:
            place = position
        elif place is None:
            place = position + 1
    disks.insert(len(disks) if place is None else place, new)


def _append(devices: list[Any], new: Any) -> None:
    devices.append(new)


# -- the families ----------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Family:
    """Devices of one kind.

    :ivar members: name of their list in :class:`~hvcore.model.devices.Devices`.
    :ivar name: libvirt's name of them.
    :ivar config: what can be done to the next start's definition.
    :ivar same: whether a device that is there (second) is the wanted one (first).
    :ivar lacking: what is said when a wanted one is not there, in the running domain and in the
        next start's definition; formatted with ``it``.
    """

    members: str
    name: str
    config: frozenset[Action] = frozenset()
    same: _Same = _same_kind
    free: _Check = lambda domain, device: None  # noqa: ARG005
    insert: Callable[[list[Any], Any], None] = _append
    lacking: tuple[str, str] = ("device not present in domain configuration",) * 2
    lacking_kind: ErrorClass = ErrorClass.DEVICE_MISSING


_COLD: Final[frozenset[Action]] = frozenset({"attach", "detach"})
_ALL: Final[frozenset[Action]] = frozenset({"attach", "detach", "update"})
_PRESENT: Final = "device not present in domain configuration"


def _chardevs(name: str) -> Family:
    return Family(
        members=name, name="chardev", config=_COLD, same=_same_chardev, free=_chardev_free,
        lacking=(f"chr type '{name.removesuffix('s')}' {_PRESENT}", _PRESENT),
    )  # fmt: skip


FAMILIES: Final[Mapping[str, Family]] = {
    family.members: family
    for family in (
        Family(
            members="disks", name="disk", config=_ALL, same=_same_disk, free=_disk_free,
            insert=_insert_disk,
            lacking=("disk {it.target} not found", "no target device {it.target}"),
        ),
        Family(members="leases", name="lease", config=_COLD, same=_same_lease, free=_lease_free,
               lacking=("Lease {it.key} in lockspace {it.lockspace} does not exist",) * 2),
        Family(
            members="filesystems", name="filesystem", config=_COLD, same=_same_fields("target"),
            free=_once(_same_fields("target"), "filesystems", "Target already exists"),
            lacking=("matching filesystem not found", "no matching filesystem device was found"),
        ),
        Family(members="interfaces", name="interface", config=_ALL),
        Family(
            members="inputs", name="input", config=_COLD,
            same=_same_fields("type", "bus", "source_evdev"),
            lacking=("matching input device not found",) * 2,
        ),
        Family(members="sounds", name="sound", config=_COLD, same=_same_sound),
        Family(members="videos", name="video"),
        Family(
            members="hostdevs", name="hostdev", config=_COLD, same=_same_hostdev,
            free=_once(
                _same_hostdev, "hostdevs", "device is already in the domain configuration"
            ),
        ),
        Family(
            members="watchdogs", name="watchdog", config=_COLD, same=_same_watchdog,
            free=_watchdog_free, lacking=("no matching watchdog was found",) * 2,
        ),
        Family(
            members="controllers", name="controller", config=_COLD,
            same=_same_fields("type", "index"), free=_controller_free, insert=insert_controller,
            lacking=("controller {it.type}:{it.index} not found", _PRESENT),
        ),
        Family(members="graphics", name="graphics", config=frozenset({"update"}),
               same=_same_graphics),
        Family(members="hubs", name="hub"),
        Family(
            members="redirdevs", name="redirdev", config=_COLD, same=_same_redirdev,
            lacking=("no matching redirdev was not found",) * 2,
        ),
        Family(members="smartcards", name="smartcard"),
        *map(_chardevs, ("serials", "parallels", "channels", "consoles")),
        Family(members="memballoons", name="memballoon"),
        Family(members="nvrams", name="nvram"),
        Family(
            members="rngs", name="rng", config=_COLD, same=_same_rng, free=_rng_free,
            lacking=(
                f"model '{{it.model}}' RNG {_PRESENT}", "no matching RNG device was found"
            ),
        ),
        Family(
            members="shmems", name="shmem", config=_COLD, same=_same_shmem,
            free=_once(_same_shmem, "shmems", "device is already in the domain configuration"),
            lacking=(
                f"model '{{it.model}}' shmem {_PRESENT}", "matching shmem device was not found"
            ),
        ),
        Family(members="tpms", name="tpm"),
        Family(members="panics", name="panic"),
        Family(
            members="memories", name="memory", config=_ALL,
            same=_same_fields(
                "model", "node", "size", "page_size", "nodemask", "path", "block_size",
                "requested_size", alias=True,
            ),
            lacking=(
                "model '{it.model}' memory device not present in the domain configuration",
                "matching memory device was not found",
            ),
        ),
        Family(members="iommus", name="iommu", config=_COLD,
               free=_once(_same_kind, "iommus", "domain already has an iommu device"),
               lacking=("", "matching iommu device not found"),
               lacking_kind=ErrorClass.OPERATION_FAILED),
        Family(
            members="vsocks", name="vsock", config=_COLD, same=_same_fields("model", "auto_cid"),
            free=_once(_same_kind, "vsocks", "domain already has a vsock device"),
            lacking=("matching vsock device not found",) * 2,
        ),
        Family(members="audios", name="audio"),
        Family(members="cryptos", name="crypto"),
        Family(members="pstores", name="pstore"),
    )
}  # fmt: skip
"""All families, by the name of their list."""


def family_of(domain: Domain, device: Device) -> Family:
    """Return the family that ``device`` belongs to."""
    for field in attrs.fields(type(domain.devices)):
        spec = field.metadata.get("hvcore")
        if spec is None or field.name not in FAMILIES:
            continue
        classes = spec.classes().values() if spec.kind == "choice" else (spec.element_class(),)
        if type(device) in classes:
            return FAMILIES[field.name]
    raise TypeError(f"{type(device).__name__} is no device of a domain")


# -- finding ---------------------------------------------------------------------------------------


def _absent_usb(source: UsbSource) -> str:
    place = source.address
    if place is not None and place.bus and place.device:
        return f"host usb device {place.bus:03d}.{place.device:03d} not found"
    ids = f"vendor=0x{source.vendor or 0:04x} product=0x{source.product or 0:04x}"
    return f"host usb device {ids} not found"


_HOST_DEVICES: Final[Mapping[type, Callable[[Any], str]]] = {
    PciSource: lambda source: f"host pci device {source.address} not found",
    UsbSource: _absent_usb,
    ScsiSource: lambda source: (
        f"host scsi iSCSI path {source.name} not found"
        if source.protocol == "iscsi"
        else f"host scsi device {source.adapter}:{source.address.bus}:{source.address.target}"
        f".{source.address.unit} not found"
    ),
    MdevSource: lambda source: f"mediated device '{source.uuid}' not found",
}
"""What is said of a host device that a running domain does not have."""


def find(domain: Domain, wanted: Any, *, live: bool) -> Any:
    """Return the device of ``domain`` that ``wanted`` describes.

    :param live: the domain runs; decides the words of the refusal.
    :raises HvError: there is none, or more than one that could be meant.
    """
    family = family_of(domain, wanted)
    if family.members == "interfaces":
        return _find_interface(domain, wanted)
    for present in getattr(domain.devices, family.members):
        if family.same(wanted, present):
            return present
    if family.members == "hostdevs" and live and type(wanted.source) in _HOST_DEVICES:
        raise missing(_HOST_DEVICES[type(wanted.source)](wanted.source))
    message = family.lacking[0 if live else 1].format(it=wanted)
    raise HvError(message, kind=family.lacking_kind)


def _find_interface(domain: Domain, wanted: Interface) -> Interface:
    """Return the interface with the given address, place and alias; each may be left open."""
    mac = wanted.mac
    place = wanted.address if isinstance(wanted.address, PciAddress | CcwAddress) else None
    found = [
        each
        for each in domain.devices.interfaces
        if (mac is None or each.mac == mac)
        and (place is None or same_address(wanted, each))
        and (wanted.alias is None or each.alias in (None, wanted.alias))
    ]
    if len(found) == 1:
        return found[0]
    if found:
        what = "multiple matching devices found"
        if mac is not None:
            what = f"multiple devices matching MAC address {mac} found"
        raise HvError(what, kind=ErrorClass.OPERATION_FAILED)
    at = "(<null>)"
    if isinstance(place, PciAddress):
        at = format_address(*_pci_place(place))
    elif place is not None:
        at = f"{place.cssid or 0:x}.{place.ssid or 0:x}.{place.devno or 0:04x}"
    raise missing(
        f"no device found at address '{at}' matching MAC address '{mac or '(<null>)'}' and alias"
        f" '{wanted.alias or '(<null>)'}'"
    )


def by_alias(domain: Domain, alias: str) -> Device:
    """Return the device with a name.

    :raises HvError: there is none.
    """
    for name in VISITED:
        for device in getattr(domain.devices, name):
            if device.alias == alias:
                found: Device = device
                return found
    raise missing(f"no device found with alias {alias}")


def forget_alias(device: Device) -> None:
    """Drop the alias of a new device unless its user chose it."""
    if device.alias is not None and not device.alias.startswith("ua-"):
        device.alias = None


def check_features(registry: Registry, driver: str, device: Element) -> None:
    """Refuse a device with a feature that cannot come while the domain runs.

    :raises Unsupported: with the feature's reason.
    """
    for extension in device.extensions():
        lowering = registry.lowering(driver, extension)
        if lowering is not None and not lowering.hotplug.possible:
            title = registry.features[type(extension)].title
            raise Unsupported(
                f"hotplug of a device with {title} is not supported", hint=lowering.hotplug.reason
            )


# -- changing a definition -------------------------------------------------------------------------


def check_compatible(
    domain: Domain, device: Device, old: Device | None = None, *, live: bool, attach: bool
) -> None:
    """Refuse a device that does not go together with the rest of the domain.

    :param old: the device that it takes the place of.
    :raises HvError: with the reason (``virDomainDefCompatibleDevice``).
    """
    if live and old is not None:
        if device.alias is not None and old.alias is not None and device.alias != old.alias:
            raise HvError("changing device alias is not allowed", kind=ErrorClass.OPERATION_DENIED)
        if (device.acpi_index or 0) != (old.acpi_index or 0):
            raise HvError(
                "changing device 'acpi index' is not allowed", kind=ErrorClass.OPERATION_DENIED
            )
    if _on_usb(device) and not _has_usb(domain):
        raise Unsupported("Device configuration is not compatible: Domain has no USB bus support")
    if device.boot_order:
        _check_boot_order(domain, device, old)
    if family_of(domain, device).members == "memories":
        _check_memory(domain, device, attach=attach)


def _on_usb(device: Any) -> bool:
    return (
        isinstance(device.address, UsbAddress)
        or getattr(device, "bus", None) == "usb"
        or isinstance(getattr(device, "source", None), UsbSource)
        or getattr(device, "model", None) in ("usb", "usb-net")
    )


def _has_usb(domain: Domain) -> bool:
    usb = [each for each in domain.devices.controllers if each.type == "usb"]
    return any(each.model != "none" for each in usb)


def _check_boot_order(domain: Domain, device: Device, old: Device | None) -> None:
    if domain.os is not None and domain.os.boot:
        raise Unsupported("per-device boot elements cannot be used together with os/boot elements")
    for other in domain.devices.walk():
        if other is not old and other.boot_order == device.boot_order:
            raise Unsupported(f"boot order {device.boot_order} is already used by another device")


def _check_memory(domain: Domain, device: Any, *, attach: bool) -> None:
    most = domain.max_memory
    if not most:
        raise Unsupported(
            "cannot use/hotplug a memory device when domain 'maxMemory' is not defined"
        )
    if attach and (domain.memory or 0) + device.size > most:
        raise Unsupported(
            f"Attaching memory device with size '{device.size}' would exceed domain's maxMemory"
            f" config size '{most}'"
        )


def check_config(domain: Domain, device: Device, action: Action) -> Family:
    """Return the family of a device that may be changed in the next start's definition.

    :raises HvError: devices of its kind cannot.
    """
    family = family_of(domain, device)
    if action not in family.config:
        raise unsupported(action, family.name, live=False)
    return family


def add(domain: Domain, device: Any) -> None:
    """Put a device into a definition.

    :raises HvError: something that is there is in its way.
    """
    family = family_of(domain, device)
    problem = family.free(domain, device)
    if problem is not None:
        raise problem
    insert(domain, device)


def disk_refusal(domain: Domain, disk: Any) -> HvError | None:
    """Return why a running guest cannot get a disk, whatever its hypervisor is."""
    if disk.device == "floppy":
        return _not_plugged("floppy device hotplug isn't supported")
    for other in domain.devices.disks:
        if other.target == disk.target:
            return ValidationFailed([duplicate(other, disk)])
    if disk.bus == "usb" and disk.device == "lun":
        return Unsupported("disk device='lun' is not supported for usb bus")
    if disk.bus == "virtio" and disk.device == "cdrom":
        return _not_plugged("cdrom device with virtio bus isn't supported")
    if disk.bus not in PLUGGED_BUSES:
        return _not_plugged(f"disk bus '{disk.bus}' cannot be hotplugged.")
    return None


def controller_refusal(controller: Any) -> HvError | None:
    """Return why a running guest cannot get a controller, whatever its hypervisor is."""
    if controller.type not in _PLUGGED_CONTROLLERS:
        return _not_plugged(f"'{controller.type}' controller cannot be hot plugged.")
    return None


def _not_plugged(message: str) -> HvError:
    return HvError(message, kind=ErrorClass.OPERATION_UNSUPPORTED)


def number(domain: Domain, device: Any) -> None:
    """Give a controller that a running domain is to get a number, where it has none.

    Those of a definition are numbered with all others.
    """
    if family_of(domain, device).members == "controllers" and device.index is None:
        device.index = unused_index(domain.devices.controllers, device.type)


def insert(domain: Domain, device: Any) -> None:
    """Put a device into its list, where libvirt puts it, and count its memory."""
    family = family_of(domain, device)
    family.insert(getattr(domain.devices, family.members), device)
    if family.members == "memories":
        _count_memory(domain, device, 1)


def remove(domain: Domain, device: Any) -> None:
    """Take a device of a definition out of it."""
    family = family_of(domain, device)
    devices = getattr(domain.devices, family.members)
    devices[:] = [each for each in devices if each is not device]
    if family.members == "memories":
        _count_memory(domain, device, -1)
    serial = domain.devices.consoles[:1]
    if family.members == "serials" and not devices and serial and serial[0].target_type == "serial":
        # The first console only stood for the port.
        del domain.devices.consoles[0]


def _count_memory(domain: Domain, device: MemoryDevice, sign: int) -> None:
    domain.memory = (domain.memory or 0) + sign * device.size
    if domain.current_memory is not None:
        domain.current_memory += sign * device.size


def replace(domain: Domain, old: Any, new: Any) -> None:
    """Put ``new`` in the place of ``old``."""
    devices = getattr(domain.devices, family_of(domain, old).members)
    devices[:] = [new if each is old else each for each in devices]


def find_for_update(domain: Domain, new: Any) -> Any:
    """Return the device of the next start's definition that ``new`` takes the place of.

    :raises HvError: there is none.
    """
    family = check_config(domain, new, "update")
    if family.members == "interfaces":
        return _find_interface(domain, new)
    if family.members == "memories":
        places = (each for each in domain.devices.memories if same_place(new, each))
        found = next(places, None)
        lacking = "memory not found"
    else:
        present = getattr(domain.devices, family.members)
        found = next((each for each in present if family.same(new, each)), None)
        lacking = (
            f"target {new.target} doesn't exist."
            if family.members == "disks"
            else f"cannot find existing graphics type '{new.type}' device to modify"
        )
    if found is None:
        raise HvError(lacking, kind=ErrorClass.INVALID_ARG)
    return found


def same_place(wanted: Device, present: Device) -> bool:
    """Return whether two devices have the same alias or, without one, the same address."""
    if wanted.alias is not None and present.alias is not None:
        return wanted.alias == present.alias
    return wanted.address is not None and same_address(wanted, present)
