"""Plans of plugging devices into a running guest and out of it, without any I/O.

A device is described to the request that plugs it by the same functions that describe it at a
start; which request that is depends on its family.
"""

from __future__ import annotations

import os.path
from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import TypeGuard

import attrs

from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import Reason
from hvcore.errors import UnsupportedFeature
from hvcore.errors import ValidationFailed
from hvcore.model.devices.memory import MemoryDevice
from hvcore.rules import hotplug
from hvcore_ch import aliases
from hvcore_ch.accepts import of_device
from hvcore_ch.devices import disk
from hvcore_ch.devices import filesystem
from hvcore_ch.devices import hostdev
from hvcore_ch.devices import interface
from hvcore_ch.devices import memory
from hvcore_ch.devices import vsock

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping
    from collections.abc import Sequence

    from hvcore.model.devices.base import Device
    from hvcore.model.domain import Domain
    from hvcore.rules.hotplug import Action
    from hvcore_ch.command import TapRequest

_CONFINED: Final = ("path", "file")
"""Members of a request that name what the process itself opens; sockets it only connects to."""


@attrs.define(eq=False)
class Plug:
    """The request that plugs a device in.

    :ivar tap: what the host has to open for it.
    """

    alias: str
    endpoint: str
    body: dict[str, Any]
    tap: TapRequest | None = None


@attrs.define(eq=False)
class Unplug:
    """The request that takes a device out.

    :ivar gone: what else to change in the live definition once it is gone.
    """

    alias: str
    gone: list[Callable[[Domain], None]] = attrs.field(factory=list)

    def afterwards(self, change: Callable[[Domain], None]) -> None:
        """Change the live definition once the device is gone."""
        self.gone.append(change)


def _disk(device: Any, _folder: str) -> Plug:
    if device.type == "vhostvdpa":
        return Plug(device.alias, "vm.add-vdpa", disk.vdpa_config(device))
    return Plug(device.alias, "vm.add-disk", disk.disk_config(device))


def _interface(device: Any, _folder: str) -> Plug:
    if device.type == "hostdev":
        return Plug(device.alias, "vm.add-device", hostdev.device_config(device))
    if device.type == "vdpa":
        return Plug(device.alias, "vm.add-vdpa", interface.vdpa_config(device))
    tap = None if device.type == "vhostuser" else interface.tap_request(device)
    return Plug(device.alias, "vm.add-net", interface.net_config(device), tap)


def _filesystem(device: Any, _folder: str) -> Plug:
    return Plug(device.alias, "vm.add-fs", filesystem.fs_config(device))


def _memory(device: Any, _folder: str) -> Plug:
    return Plug(device.alias, "vm.add-pmem", memory.pmem_config(device))


def _vsock(device: Any, folder: str) -> Plug:
    return Plug(device.alias, "vm.add-vsock", vsock.vsock_config(device, folder))


def _hostdev(device: Any, _folder: str) -> Plug:
    return Plug(device.alias, "vm.add-device", hostdev.device_config(device))


FAMILIES: Final[Mapping[str, Callable[[Any, str], Plug]]] = {
    "disks": _disk,
    "interfaces": _interface,
    "filesystems": _filesystem,
    "memories": _memory,
    "vsocks": _vsock,
    "hostdevs": _hostdev,
}
"""Families that can be plugged in and out of a running guest, with what plugs them in."""


def _is_module(device: Device) -> TypeGuard[MemoryDevice]:
    return isinstance(device, MemoryDevice) and device.model == "dimm"


def check_family(domain: Domain, device: Device, action: Action) -> None:
    """Refuse families that cannot be plugged.

    :raises HvError: with libvirt's words.
    """
    family = hotplug.family_of(domain, device)
    if family.members not in FAMILIES:
        raise hotplug.unsupported(action, family.name, live=True)


def plan(domain: Domain, device: Device, folder: str, allowed: Sequence[str] | None) -> Plug:
    """Return the request that plugs ``device`` into ``domain``, and give it a name.

    :param folder: the domain's private directory.
    :param allowed: what the process may open; None for everything.
    :raises HvError: the guest cannot have it, or something is in its way.
    """
    check_family(domain, device, "attach")
    family = hotplug.family_of(domain, device)
    issues = of_device(device, device.spec.tag)
    if issues:
        raise ValidationFailed(issues)
    problem = family.free(domain, device)
    if problem is not None:
        raise problem
    if device.alias is None:
        taken = {each.alias for each in domain.devices.walk()}
        device.alias = aliases.free(aliases.prefix(device, family.members), taken)
    if _is_module(device):
        return Plug(device.alias, "vm.resize", memory.module_config(domain, device))
    made = FAMILIES[family.members](device, folder)
    _check_allowed(made, allowed)
    return made


def _check_allowed(plug: Plug, allowed: Sequence[str] | None) -> None:
    """Refuse what the process was not given the right to open when it was started."""
    for name in _CONFINED if allowed is not None else ():
        path = plug.body.get(name)
        if path is None or any(_below(path, folder) for folder in allowed or ()):
            continue
        raise UnsupportedFeature(
            f"the process of the domain is confined by Landlock and may not open '{path}'",
            feature="hotplug",
            reason=Reason.COLD_ONLY,
            hint="landlock_paths of ch.toml names what may be plugged in later, at the next start",
        )


def _below(path: str, folder: str) -> bool:
    # What the process opens is what links lead to.
    real, above = os.path.realpath(path), os.path.realpath(folder)
    return real == above or real.startswith(f"{above.rstrip('/')}/")


def check_detach(domain: Domain, device: Device) -> str:
    """Return the name by which a device is unplugged.

    :raises HvError: it cannot be unplugged.
    """
    check_family(domain, device, "detach")
    if _is_module(device):
        # What was added to memory is mixed with the rest.
        raise hotplug.unsupported("detach", "dimm", live=True)
    if device.alias is None:
        raise DriverError("device has no alias", kind=ErrorClass.INTERNAL)
    return device.alias
