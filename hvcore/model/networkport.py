"""The <networkport> document: one connection to a virtual network, and how it is made."""

from __future__ import annotations

from typing import Literal

from hvcore.model.devices.hostdev import HostPciAddress
from hvcore.model.devices.hostdev import PciDriver
from hvcore.model.devices.interface import MacTableManager
from hvcore.model.devices.interface import MacvtapMode
from hvcore.model.devices.interface_parts import MAC
from hvcore.model.devices.interface_parts import Bandwidth
from hvcore.model.devices.interface_parts import VirtualPort
from hvcore.model.devices.interface_parts import Vlan
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import NONEMPTY
from hvcore.xml.codecs import UUID
from hvcore.xml.codecs import YESNO
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import child
from hvcore.xml.fields import element
from hvcore.xml.fields import text

PlugType = Literal["network", "bridge", "direct", "hostdev-pci"]


@element("networkport")
class NetworkPort(Element):
    """A port of a virtual network."""

    uuid: str | None = text(
        "uuid", UUID, required=True, missing="internal error: network port has no uuid",
        refused="internal error: Unable to parse UUID '{value}'",
    )  # fmt: skip
    owner: str | None = text(
        "owner/name", NONEMPTY, required=True,
        missing="internal error: network port has no owner name",
        doc="the domain's name",
    )  # fmt: skip
    owner_uuid: str | None = text(
        "owner/uuid", UUID, required=True,
        missing="internal error: network port has no owner UUID",
        refused="internal error: Unable to parse UUID '{value}'",
    )  # fmt: skip
    group: str | None = text("group", NONEMPTY, doc="the network's port group")
    mac: str | None = attr(
        "mac/@address", MAC, required=True, missing="internal error: network port has no mac",
        refused="internal error: Unable to parse MAC '{value}'",
    )  # fmt: skip
    virtualport: VirtualPort | None = child("virtualport", VirtualPort)
    bandwidth: Bandwidth | None = child("bandwidth", Bandwidth)
    vlan: Vlan | None = child("vlan", Vlan)
    isolated: bool | None = attr("port/@isolated", YESNO)
    trust_guest_rx_filters: bool | None = attr("rxfilters/@trustGuest", YESNO)
    plug: PlugType | None = attr("plug/@type", ENUM(PlugType), doc="how the guest is connected")
    bridge: str | None = attr("plug/@bridge")
    mac_table_manager: MacTableManager | None = attr(
        "plug/@macTableManager", ENUM(MacTableManager),
        refused="Invalid macTableManager setting '{value}' in network port",
    )  # fmt: skip
    dev: str | None = attr("plug/@dev", doc="interface of the host below a macvtap")
    mode: MacvtapMode | None = attr(
        "plug/@mode", ENUM(MacvtapMode),
        refused="Invalid mode setting '{value}' in network port",
    )  # fmt: skip
    managed: bool | None = attr("plug/@managed", YESNO)
    host_driver: PciDriver | None = attr("plug/driver/@name", ENUM(PciDriver))
    host_driver_model: str | None = attr("plug/driver/@model")
    address: HostPciAddress | None = child("plug/address", HostPciAddress)
