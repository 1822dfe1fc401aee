"""ACPI generic initiators: NUMA nodes of the guest that belong to a PCI device.

A GPU that shares its memory with the host shows up in several nodes of the guest, which the guest's
driver fills at run time; SRAT tells the guest which nodes those are. Such nodes are cells without
CPUs and memory. There are two ways to write it, both kept as they were given: an element of its own
(``<acpi-generic-initiator>``, one for each node), and libvirt 11.8's attribute of the device
(``<acpi nodeset='1-8'/>``).
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.plugin import NODESET
from hvcore.plugin import STR
from hvcore.plugin import UINT
from hvcore.plugin import Element
from hvcore.plugin import ErrorClass
from hvcore.plugin import Feature
from hvcore.plugin import Hotplug
from hvcore.plugin import Issue
from hvcore.plugin import NodeSet
from hvcore.plugin import attr
from hvcore.plugin import element
from hvcore.plugin import hookimpl
from hvcore.plugin import text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping

    from lxml.etree import _Element as XmlElement

    from hvcore.model.devices import Devices
    from hvcore.model.devices.base import Device
    from hvcore.model.devices.hostdev import Hostdev
    from hvcore.model.devices.interface import Interface
    from hvcore.model.domain import Domain
    from hvcore.plugin import Context
    from hvcore.plugin import ParseContext
    from hvcore.plugin import ProbeSession
    from hvcore.plugin import Registry
    from hvcore.plugin import Uses
    from hvcore_ch.command import Command as ChCommand
    from hvcore_qemu.command import Command

NAME: Final = "acpi-generic-initiator"
"""Of the element, of QEMU's object and of the capability to have it (QEMU 9.0)."""
_NO_HOTPLUG: Final = Hotplug.COLD("firmware reads the tables at boot")
_OBJECT_ID: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]*", re.ASCII)
_MACHINES: Final = {
    # Machines whose firmware tables have the entries; QEMU takes the object anywhere.
    "x86_64": re.compile(r"pc(-i440fx|-q35)?(-|$)|q35$"),
    "aarch64": re.compile(r"virt(-|$)"),
}


@element(NAME, extends="hvcore.model.devices:Devices", many=True)
class GenericInitiator(Element):
    """One node of one PCI device."""

    alias: str | None = attr("alias/@name", STR, doc="identifier of the object in QEMU")
    pci_dev: str | None = text("pci-dev", STR, doc="alias of the PCI device")
    numa_node: int = text(
        "numa-node", UINT, required=True,
        missing=f"Missing required element 'numa-node' in element '{NAME}'",
        refused=f"Invalid value for element 'numa-node' in element '{NAME}': '{{value}}'",
        doc="guest NUMA node",
    )  # fmt: skip

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse what QEMU would only refuse when it starts."""
        if not self.pci_dev:
            ctx.issue(el, f"{NAME} must have a PCI device assigned")
        if self.alias is not None and not _OBJECT_ID.fullmatch(self.alias):
            ctx.issue(el, f"invalid {NAME} alias '{self.alias}'")
        if el.find("address") is not None:
            ctx.issue(el, f"{NAME} must have a device address type None")


@element("", extends="hvcore.model.devices.base:Device")
class AcpiNodeset(Element):
    """The nodes of a device; one that is no PCI device of the host has them for nothing."""

    nodeset: NodeSet | None = attr("acpi/@nodeset", NODESET, doc="guest NUMA nodes of the device")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse an empty set."""
        if self.nodeset is not None and not self.nodeset:
            given = el.find("acpi")
            assert given is not None  # the attribute stands there
            ctx.issue(
                given,
                f"Invalid value of 'nodeset': {given.get('nodeset')}",
                kind=ErrorClass.CONFIG_UNSUPPORTED,
                attribute="nodeset",
            )


alone = Feature(NAME, GenericInitiator)
of_device = Feature("acpi-nodeset", AcpiNodeset, title="ACPI nodeset")


# -- what both forms say --------------------------------------------------------------------------


def _host_devices(domain: Domain) -> list[Interface | Hostdev]:
    """Return the devices of the host in the order in which they are numbered."""
    interfaces = [each for each in domain.devices.interfaces if each.type == "hostdev"]
    return [*interfaces, *domain.devices.hostdevs]


def _aliases(domain: Domain) -> dict[str, Device]:
    """Return the devices by alias: those that have one, and those that will get ``hostdevN``."""
    found = {each.alias: each for each in domain.devices.walk() if each.alias is not None}
    used = [re.fullmatch(r"hostdev(\d+)", name, re.ASCII) for name in found]
    numbers = itertools.count(max((int(match[1]) + 1 for match in used if match), default=0))
    for device in _host_devices(domain):
        if device.alias is None:
            found[f"hostdev{next(numbers)}"] = device
    return found


def _named_by_device(domain: Domain) -> list[tuple[str, str, int]]:
    """Return alias, device and node of the initiators that devices have; all aliases are free."""
    used = {each.alias for each in GenericInitiator.of(domain.devices)}
    free = (name for name in map("gi{}".format, itertools.count()) if name not in used)
    owners = {id(device): alias for alias, device in _aliases(domain).items()}
    return [
        (next(free), owners[id(device)], node)
        for device in _host_devices(domain)
        if device.source_pci is not None and (own := AcpiNodeset.of(device)) is not None
        for node in own.nodeset or ()
    ]


# -- rules ----------------------------------------------------------------------------------------


@alone.post_parse
def _name(domain: Domain, devices: Devices, initiator: GenericInitiator, ctx: Context) -> None:
    """Give an initiator without a name the first free one."""
    del domain, ctx
    if initiator.alias is None:
        used = {each.alias for each in GenericInitiator.of(devices)}
        names = map("gi{}".format, itertools.count())
        initiator.alias = next(name for name in names if name not in used)


def _reserved(domain: Domain) -> set[str]:
    """Return the names of QEMU's objects that are known before a start."""
    cells = domain.cpu.numa.cells if domain.cpu is not None and domain.cpu.numa is not None else []
    threads = [each.id for each in domain.iothreadids]
    return {
        "masterKey0",
        *(f"ram-node{number}" for number in range(len(cells))),
        *(f"iothread{number}" for number in threads),
    }


@alone.validate
def _valid(
    domain: Domain, devices: Devices, initiator: GenericInitiator, ctx: Context
) -> Iterator[Issue]:
    """Check an initiator against the devices and nodes there are, and against the others."""
    others = [each for each in GenericInitiator.of(devices) if each is not initiator]
    aliases = _aliases(domain)
    name, device, node = initiator.alias or "", initiator.pci_dev or "", initiator.numa_node
    first = initiator is GenericInitiator.of(devices)[0]
    if name in {*aliases, *_reserved(domain)} or (
        not first and any(each.alias == name for each in others)
    ):
        yield Issue.xml(f"duplicate {NAME} alias '{name}'", line=initiator.line)
    yield from _node(domain, initiator)
    known = device.startswith("ua-") or re.fullmatch(r"hostdev\d+", device, re.ASCII)
    if known and device not in aliases:
        yield _unknown(initiator)
    pairs = {(each.pci_dev, each.numa_node) for each in others}
    pairs |= {(owner, number) for _, owner, number in _named_by_device(domain)}
    if (device, node) in pairs:
        yield Issue.xml(
            f"{NAME} for PCI device '{device}' and NUMA node {node} already exists",
            line=initiator.line,
        )
    yield from _machine(domain, ctx)


def _node(domain: Domain, initiator: GenericInitiator) -> Iterator[Issue]:
    """Check the node of an initiator: QEMU would end when firmware reads the tables."""
    numa = domain.cpu.numa if domain.cpu is not None else None
    if numa is None:
        yield Issue.unsupported("No NUMA node defined", line=initiator.line)
        return
    if initiator.numa_node >= len(numa.cells):
        yield Issue.unsupported(
            f"invalid {NAME} NUMA node {initiator.numa_node}", line=initiator.line
        )
        return
    cell = numa.cells[initiator.numa_node]
    if cell.cpus or cell.memory:
        yield Issue(
            f"NUMA node {initiator.numa_node} of {NAME} '{initiator.alias}' has CPUs or memory",
            line=initiator.line,
            severity="warning",
        )


def _unknown(initiator: GenericInitiator) -> Issue:
    return Issue.unsupported(
        f"{NAME} '{initiator.alias}' refers to PCI device '{initiator.pci_dev}' which does not"
        " exist",
        line=initiator.line,
    )


def _machine(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Refuse machines on which the entries would not reach the guest."""
    if ctx.driver != "qemu" or domain.os is None:
        return
    machine, pattern = domain.os.machine or "", _MACHINES.get(domain.os.arch or "")
    if pattern is None or not pattern.match(machine):
        yield Issue.unsupported(f"{NAME} is not supported for machine type '{machine}'")
    elif domain.os.arch == "x86_64" and (domain.features is None or not domain.features.acpi):
        yield Issue(f"{NAME} has no effect without ACPI", severity="warning")


# -- the same guest ------------------------------------------------------------------------------


def _entries(domain: Domain) -> list[tuple[str, int]]:
    """Return what the guest's tables say, whichever form says it: PCI address and node."""
    aliases = _aliases(domain)
    named = [(each.pci_dev or "", each.numa_node) for each in GenericInitiator.of(domain.devices)]
    named += [(device, node) for _, device, node in _named_by_device(domain)]
    return sorted((_guest_address(aliases.get(device)), node) for device, node in named)


def _guest_address(device: Device | None) -> str:
    address: Any = None if device is None else device.address
    if address is None or address.type != "pci":
        return "none"
    parts = (address.domain or 0, address.bus or 0, address.slot or 0, address.function or 0)
    return "{:04x}:{:02x}:{:02x}.{}".format(*parts)


@alone.abi
def _same_entries(source: Uses, target: Uses) -> Iterator[Issue]:
    """Compare the entries of the tables; their order is of no account."""
    was, now = _entries(source.domain), _entries(target.domain)
    line = target.found[0][1].line if target.found else None
    if len(was) != len(now):
        yield Issue.unsupported(
            f"Target domain {NAME} count {len(now)} does not match source {len(was)}", line=line
        )
        return
    gone, come = Counter(was) - Counter(now), Counter(now) - Counter(was)
    for (address, node), (other, number) in zip(
        sorted(gone.elements()), sorted(come.elements()), strict=True
    ):
        what, before, after = ("NUMA node", str(node), str(number))
        if node == number:
            what, before, after = ("PCI address", address, other)
        yield Issue.unsupported(
            f"Target {NAME} {what} {after} does not match source {before}",
            line=next((each.line for _, each in target.found if each.numa_node == number), line),
        )


# -- QEMU -----------------------------------------------------------------------------------------


@hookimpl
def hv_probe(driver: str, session: ProbeSession) -> Iterator[str]:
    """Return the capability where QEMU has the object."""
    types = session.answer("qom-list-types") or ()
    if driver == "qemu" and any(entry["name"] == NAME for entry in types):
        yield NAME


def _object(cmd: Command, alias: str, device: str, node: int) -> None:
    cmd.object({"qom-type": NAME, "id": alias, "pci-dev": device, "node": node})


@alone.lower(
    "qemu",
    requires={NAME},
    hotplug=_NO_HOTPLUG,
    lacking=f"{NAME} is not supported with this QEMU binary",
)
def _qemu_alone(
    domain: Domain, devices: Devices, initiator: GenericInitiator, cmd: Command
) -> list[Issue]:
    """Append the object; everything else that has a name is on the command line already."""
    del domain
    assert initiator.alias is not None  # post-parse gave it one
    assert initiator.pci_dev is not None  # the parser requires it
    aliases = {each.alias: each for each in devices.walk()}
    device = aliases.get(initiator.pci_dev)
    if device is None:
        return [_unknown(initiator)]
    if device.address is None or device.address.type != "pci":
        return [
            Issue.unsupported(
                f"{NAME} '{initiator.alias}' refers to PCI device '{initiator.pci_dev}' which is"
                " not a PCI device",
                line=initiator.line,
            )
        ]
    if initiator.alias in {*aliases, *_objects(cmd)}:
        return [Issue.xml(f"duplicate {NAME} alias '{initiator.alias}'", line=initiator.line)]
    _object(cmd, initiator.alias, initiator.pci_dev, initiator.numa_node)
    return []


def _objects(cmd: Command) -> Iterator[str]:
    """Yield the ids of the objects on the command line so far."""
    for step in cmd.plan.steps():
        value: Mapping[str, Any] | str | None = getattr(step, "value", None)
        if getattr(step, "option", None) == "-object" and not isinstance(value, (str, type(None))):
            yield value["id"]


@of_device.lower(
    "qemu",
    requires={NAME},
    hotplug=_NO_HOTPLUG,
    after=True,
    lacking="ACPI nodeset is not supported with this QEMU",
)
def _qemu_of_device(domain: Domain, device: Device, own: AcpiNodeset, cmd: Command) -> None:
    """Append the objects of a device, behind it."""
    del own
    for alias, owner, node in _named_by_device(domain):
        if owner == device.alias:
            _object(cmd, alias, owner, node)


# -- cloud-hypervisor -----------------------------------------------------------------------------

_CH: Final = "numa.device_id"
"""The capability to name the device of a node (cloud-hypervisor 51)."""


def _initiate(vm: ChCommand, device: str, node: int, line: int | None) -> Iterator[Issue]:
    """Name the device of a node, of which there is room for one."""
    numa = vm.domain.cpu.numa if vm.domain.cpu is not None else None
    if numa is None or node >= len(numa.cells):
        yield Issue.unsupported(f"invalid {NAME} NUMA node {node}", line=line)
        return
    found = vm.numa_node(node)
    if found.device_id is not None:
        yield Issue.unsupported(
            f"{NAME} for NUMA node {node} is not possible beside that of PCI device"
            f" '{found.device_id}'",
            line=line,
        )
    elif found.settings.get("cpus") or found.settings.get("memory_zones"):
        yield Issue.unsupported(
            f"{NAME} for NUMA node {node} which has CPUs or memory is not supported", line=line
        )
    found.device_id = device


@alone.lower("ch", requires={_CH}, hotplug=_NO_HOTPLUG)
def _ch_alone(
    domain: Domain, devices: Devices, initiator: GenericInitiator, vm: ChCommand
) -> Iterator[Issue]:
    """Name the device in its node."""
    del domain
    if initiator.pci_dev not in {each.alias for each in devices.walk()}:
        yield _unknown(initiator)
        return
    assert initiator.pci_dev is not None  # the parser requires it
    yield from _initiate(vm, initiator.pci_dev, initiator.numa_node, initiator.line)


@of_device.lower("ch", requires={_CH}, hotplug=_NO_HOTPLUG)
def _ch_of_device(
    domain: Domain, device: Device, own: AcpiNodeset, vm: ChCommand
) -> Iterator[Issue]:
    """Name the device in its nodes."""
    del own
    for _, owner, node in _named_by_device(domain):
        if owner == device.alias:
            yield from _initiate(vm, owner, node, device.line)


# -- devices that go ------------------------------------------------------------------------------


@hookimpl
def hv_validate_detach(domain: Domain, device: Device, live: bool) -> Iterator[Issue]:
    """Keep the device of an initiator in the next start's definition."""
    if live:
        return
    names = {id(each): name for name, each in _aliases(domain).items()}
    name = names.get(id(device))
    for initiator in GenericInitiator.of(domain.devices):
        if name is not None and initiator.pci_dev == name:
            yield Issue(
                f"device '{name}' is used by {NAME} '{initiator.alias}'",
                ErrorClass.OPERATION_INVALID,
                line=initiator.line,
            )


@hookimpl
def hv_amend_detach(driver: str, domain: Domain, device: Device, plan: Any) -> None:
    """Let initiators go with their device; the driver removes objects that refer to a device."""
    del driver
    alias = device.alias

    def forget(live: Domain) -> None:
        members = GenericInitiator.of(live.devices)
        members[:] = [each for each in members if each.pci_dev != alias]

    if any(each.pci_dev == alias for each in GenericInitiator.of(domain.devices)):
        plan.afterwards(forget)


# -- the mock driver ------------------------------------------------------------------------------


@alone.lower("test", hotplug=_NO_HOTPLUG)
@of_device.lower("test", hotplug=_NO_HOTPLUG)
def _test(domain: Domain, owner: Element, extension: Element, target: Any) -> None:
    """Keep it in the definition, where nothing runs."""
    del domain, owner, extension, target


@hookimpl
def hv_register(registry: Registry) -> None:
    """Add both forms."""
    registry.add_feature(alone)
    registry.add_feature(of_device)
