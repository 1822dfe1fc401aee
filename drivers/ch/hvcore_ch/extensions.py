"""Devices that libvirt's documents have no words for, in a namespace of their own.

The URI is ``http://libvirt.org/schemas/domain/ch/1.0``. They stand below ``<domain>``, since
``<devices>`` is libvirt's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.errors import ValidationFailed
from hvcore.model.domain import Domain
from hvcore.plugin import STR
from hvcore.plugin import UINT
from hvcore.plugin import Element
from hvcore.plugin import attr
from hvcore.plugin import element
from hvcore.plugin import flag
from hvcore.rules.vcpu import max_vcpus
from hvcore.rules.vcpu import online_vcpus

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.registry import Registry
    from hvcore.xml.context import ParseContext
    from hvcore_ch.command import Command


@element("ch:user-device", extends=Domain, many=True)
class UserDevice(Element):
    """A PCI device that another process emulates (vfio-user)."""

    socket: str = attr("@socket", STR, required=True, doc="of the process")


@element("ch:vhost-user-device", extends=Domain, many=True)
class VhostUserDevice(Element):
    """A virtio device of any kind that another process emulates (vhost-user)."""

    socket: str = attr("@socket", STR, required=True, doc="of the process")
    device_type: int = attr("@type", UINT, required=True, doc="number of the kind, by virtio")
    queues: int = attr("@queues", UINT, default=1)
    queue_size: int = attr("@queueSize", UINT, default=256)


@element("ch:watchdog", extends=Domain)
class VirtioWatchdog(Element):
    """A timer that resets the guest when it no longer does anything.

    libvirt has watchdogs of other kinds only, which cloud-hypervisor does not have.
    """

    enabled: bool = flag("ch:reset")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Take the element itself for enough: resetting is all it does."""
        del el, ctx
        self.enabled = True


@element("ch:tdx", extends=Domain)
class Tdx(Element):
    """Intel's Trust Domain Extensions: memory and CPUs that the host cannot look into.

    The firmware is one for such guests, which measures what it boots.
    """

    enabled: bool = flag("ch:on")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Take the element itself for enough."""
        del el, ctx
        self.enabled = True


def register(registry: Registry) -> None:
    """Add the elements."""
    for cls in (UserDevice, VhostUserDevice, VirtioWatchdog, Tdx):
        registry.add_element(cls)


def command(vm: Command) -> None:
    """Describe the devices.

    :raises ValidationFailed: this binary does not have one.
    """
    domain = vm.domain
    for number, user in enumerate(UserDevice.of(domain)):
        vm.add("user_devices", {"id": f"user{number}", "socket": user.socket})
    for number, vhost in enumerate(VhostUserDevice.of(domain)):
        if "generic-vhost-user" not in vm.caps:
            raise _unsupported("ch:vhost-user-device", vhost)
        vm.add(
            "generic_vhost_user",
            {
                "id": f"vhostuser{number}",
                "socket": vhost.socket,
                "device_type": vhost.device_type,
                "queue_sizes": [vhost.queue_size] * vhost.queues,
            },
        )
    if VirtioWatchdog.of(domain) is not None:
        vm.set("watchdog", True)
    tdx = Tdx.of(domain)
    if tdx is not None:
        _check_tdx(vm, tdx)
        vm.set("platform", {"tdx": True})


def _check_tdx(vm: Command, tdx: Tdx) -> None:
    """Refuse guests that cannot be protected so.

    :raises ValidationFailed: with the reason.
    """
    domain = vm.domain
    if "tdx" not in vm.caps:
        raise _unsupported("ch:tdx", tdx)
    if domain.os is None or domain.os.loader is None:
        raise _refused("Cloud-Hypervisor boots TDX guests from firmware alone", tdx)
    if online_vcpus(domain) != max_vcpus(domain):
        raise _refused("CPU hotplug is not permitted with TDX", tdx)


def _unsupported(name: str, owner: Element) -> ValidationFailed:
    return _refused(f"{name} is not supported by this Cloud-Hypervisor binary", owner)


def _refused(message: str, owner: Element) -> ValidationFailed:
    return ValidationFailed([Issue.unsupported(message, line=owner.line)])
