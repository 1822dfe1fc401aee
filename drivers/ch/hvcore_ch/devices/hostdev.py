"""Devices of the host that a guest has to itself, by VFIO: PCI and mediated ones."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

from hvcore.errors import Issue
from hvcore.model.devices.hostdev import Hostdev
from hvcore.model.devices.hostdev import HostPciAddress
from hvcore.model.devices.hostdev import MdevSource
from hvcore.model.devices.hostdev import PciSource
from hvcore.rules.base import Rules
from hvcore_ch.accepts import ANY
from hvcore_ch.accepts import one_of
from hvcore_ch.command import present
from hvcore_ch.devices.info import place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.devices.interface import Interface
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore_ch.accepts import Accepts
    from hvcore_ch.command import Command

rules = Rules()

ACCEPTS: Accepts = {
    Hostdev: {
        "mode": one_of("subsystem"),
        "type": one_of("pci", "mdev"),
        "managed": ANY,
        "model": one_of("vfio-pci"),
        "host_driver": one_of("vfio"),
        "source": ANY,
    },
    PciSource: {"address": ANY},
    MdevSource: {"uuid": ANY},
    HostPciAddress: {"domain": ANY, "bus": ANY, "slot": ANY, "function": ANY},
}


@rules.check(Hostdev)
def _detached(domain: Domain, device: Hostdev, ctx: Context) -> Iterator[Issue]:
    """Rebinding drivers of the host is not for this driver to do."""
    del domain, ctx
    if device.managed:
        yield Issue.unsupported(
            "Cloud-Hypervisor doesn't support managed host devices", path="@managed"
        )


def sysfs_path(device: Hostdev | Interface) -> str:
    """Return where the kernel shows the device."""
    source = device.source
    if isinstance(source, MdevSource):
        return f"/sys/bus/mdev/devices/{source.uuid}/"
    return f"/sys/bus/pci/devices/{device.source_pci}/"


def device_config(device: Hostdev | Interface) -> dict[str, Any]:
    """Return the ``DeviceConfig``."""
    return present({"path": sysfs_path(device), **place(device)})


def command(vm: Command) -> None:
    """Describe the devices."""
    for device in vm.domain.devices.hostdevs:
        vm.add("devices", device_config(device))
