"""Where this project means to differ from libvirt 11.3: what was recorded, rewritten by rule.

Each rule looks at the document alone and changes what is expected of it; none knows a case.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import Final

import attrs
from lxml import etree

from hvcore.model.types import NodeSet

Document = Any
"""The root element of a domain document; its type is private to lxml."""

AUTO_EMULATORPIN: Final = (
    "unsupported configuration: 'emulatorpin' cannot be used when 'placement' of 'vcpu' is 'auto'"
)


@attrs.define(kw_only=True)
class Expectation:
    """What is to become of a document.

    :ivar define_error: why it is refused; None where it is accepted.
    :ivar xml: the inactive document; None where it is not known.
    :ivar start_error: why a start is refused; None where there is none.
    :ivar argv: the command line, the emulator first; None where it is not known.
    :ivar env: the variables before it.
    :ivar same_as: another document with which everything is to be equal.
    """

    define_error: str | None = None
    xml: str | None = None
    start_error: str | None = None
    argv: list[str] | None = None
    env: list[str] = attrs.field(factory=list)
    same_as: bytes | None = None


def expected(document: Document, settings: Mapping[str, str], recorded: Expectation) -> Expectation:
    """Return ``recorded`` with all decisions applied to it."""
    for rule in RULES:
        recorded = rule(document, settings, recorded)
    return recorded


def _emulatorpin(
    document: Document, settings: Mapping[str, str], recorded: Expectation
) -> Expectation:
    """Pins of the emulator do not go with automatic placement, unless the administrator says so."""
    pinned = document.find("cputune/emulatorpin") is not None
    auto = document.xpath("vcpu/@placement") == ["auto"]
    if settings.get("allow_emulatorpin_with_auto_placement", "0") == "1" or not (pinned and auto):
        return recorded
    return Expectation(define_error=recorded.define_error or AUTO_EMULATORPIN)


def _duplicate_cells(
    document: Document, settings: Mapping[str, str], recorded: Expectation
) -> Expectation:
    """The same cell twice is refused whatever memory it has."""
    del settings
    seen: set[str] = set()
    for number in document.xpath("cpu/numa/cell/@id"):
        if number in seen and recorded.define_error is None:
            text = f"XML error: Duplicate NUMA cell info for cell id '{number}'"
            return Expectation(define_error=text)
        seen.add(number)
    return recorded


def _cells_without_cpus(
    document: Document, settings: Mapping[str, str], recorded: Expectation
) -> Expectation:
    """An empty set of CPUs is the same as none."""
    del settings
    empty = document.xpath("cpu/numa/cell[@cpus='']")
    if not empty or recorded.define_error != "invalid argument: Failed to parse bitmap ''":
        return recorded
    for cell in empty:
        del cell.attrib["cpus"]
    return Expectation(same_as=etree.tostring(document))


def _cells_without_memory(
    document: Document, settings: Mapping[str, str], recorded: Expectation
) -> Expectation:
    """A cell without memory has no backend."""
    del document, settings
    if recorded.argv is None:
        return recorded
    empty = {
        props["id"]
        for _, props in _objects(recorded.argv)
        if props["qom-type"].startswith("memory-backend-") and props.get("size") == 0
    }
    argv: list[str] = []
    for option, value in _options(recorded.argv):
        if option == "-object" and any(f'"id":"{name}"' in value for name in empty):
            continue
        bare = re.sub(",memdev=([^,]*)", lambda m: "" if m[1] in empty else m[0], value)
        argv += [option, bare] if value else [option]
    return attrs.evolve(recorded, argv=argv)


def _modules_on_nodes(
    document: Document, settings: Mapping[str, str], recorded: Expectation
) -> Expectation:
    """Host nodes that a memory module names bind it strictly."""
    del settings
    if recorded.argv is None:
        return recorded
    masks = {f"mem{alias}": NodeSet.parse(mask) for alias, mask in _modules(document)}
    argv = list(recorded.argv)
    for place, props in _objects(recorded.argv):
        if props["id"] in masks:
            bound = {name: value for name, value in props.items() if name != "prealloc-context"}
            rest = {name: props[name] for name in ("prealloc-context",) if name in props}
            bound |= {"host-nodes": list(masks[props["id"]]), "policy": "bind"}
            argv[place] = json.dumps({**bound, **rest}, separators=(",", ":"))
    return attrs.evolve(recorded, argv=argv)


def _modules(document: Document) -> Iterator[tuple[str, str]]:
    """Yield alias and host nodes of the memory modules that name some."""
    for number, module in enumerate(document.findall("devices/memory[@model='dimm']")):
        mask = module.findtext("source/nodemask")
        if mask is not None:
            yield f"dimm{number}", mask


def _initiators(
    document: Document, settings: Mapping[str, str], recorded: Expectation
) -> Expectation:
    """Generic initiators are kept and lowered, in both forms.

    libvirt 11.3 drops what it does not know, and its schema refuses it.
    """
    del settings
    by_device = document.xpath("devices/hostdev/acpi/@nodeset")
    alone = document.findall("devices/acpi-generic-initiator")
    if not by_device and not alone:
        return recorded
    if (recorded.define_error or "").startswith("XML document failed to validate against schema"):
        recorded = attrs.evolve(recorded, define_error=None)
    if recorded.xml is not None:
        recorded = attrs.evolve(recorded, xml=_with_initiators(document, recorded.xml))
    if recorded.argv is not None:
        recorded = attrs.evolve(recorded, argv=_initiator_objects(document, recorded.argv))
    return recorded


def _with_initiators(document: Document, xml: str) -> str:
    root: Document = etree.fromstring(xml)
    pairs = zip(document.findall("devices/hostdev"), root.findall("devices/hostdev"), strict=True)
    for given, kept in pairs:
        nodeset = given.xpath("acpi/@nodeset")
        if not nodeset:
            continue
        acpi = kept.find("acpi")
        if acpi is None:
            acpi = etree.Element("acpi")
            before = [child for child in kept if child.tag in ("source", "alias", "boot", "rom")]
            acpi.tail = before[-1].tail
            before[-1].addnext(acpi)
        acpi.set("nodeset", str(NodeSet.parse(nodeset[0])))
    alone = document.findall("devices/acpi-generic-initiator")
    aliases = _aliases(document)
    devices = root.find("devices")
    for given, alias in zip(alone, aliases, strict=True):
        last = devices[-1]
        made = etree.fromstring(
            "<acpi-generic-initiator>\n"
            f"      <alias name='{alias}'/>\n"
            f"      <pci-dev>{given.findtext('pci-dev')}</pci-dev>\n"
            f"      <numa-node>{given.findtext('numa-node')}</numa-node>\n"
            "    </acpi-generic-initiator>"
        )
        made.tail, last.tail = last.tail, "\n    "
        devices.append(made)
    return etree.tostring(root, encoding="unicode")


def _aliases(document: Document) -> list[str]:
    """Return the names of the initiators that are elements of their own, given or generated."""
    alone = document.findall("devices/acpi-generic-initiator")
    names = [next(iter(each.xpath("alias/@name")), None) for each in alone]
    free = (f"gi{number}" for number in range(1 << 16) if f"gi{number}" not in names)
    return [name or next(free) for name in names]


def _initiator_objects(document: Document, argv: list[str]) -> list[str]:
    taken = _aliases(document)
    free = (f"gi{number}" for number in range(1 << 16) if f"gi{number}" not in taken)
    nodes = {
        f"hostdev{number}": nodeset[0]
        for number, each in enumerate(document.findall("devices/hostdev"))
        if (nodeset := each.xpath("acpi/@nodeset")) and each.get("type") == "pci"
    }
    made: list[str] = []
    for option, value in _options(argv):
        if option == "-msg":
            for alias, given in zip(
                taken, document.findall("devices/acpi-generic-initiator"), strict=True
            ):
                device, node = given.findtext("pci-dev"), int(given.findtext("numa-node"))
                made += ["-object", _initiator(alias, device, node)]
        made += [option, value] if value else [option]
        if option == "-device":
            owner: str = json.loads(value).get("id", "") if value.startswith("{") else ""
            for node in NodeSet.parse(nodes[owner]) if owner in nodes else ():
                made += ["-object", _initiator(next(free), owner, node)]
    return made


def _initiator(alias: str, device: str, node: int) -> str:
    props = {"qom-type": "acpi-generic-initiator", "id": alias, "pci-dev": device, "node": node}
    return json.dumps(props, separators=(",", ":"))


def _options(argv: list[str]) -> Iterator[tuple[str, str]]:
    """Yield each option with its value, empty for those without; the emulator is an option."""
    at = 0
    while at < len(argv):
        following = argv[at + 1] if at and at + 1 < len(argv) else "-"
        if following.startswith("-"):
            yield argv[at], ""
            at += 1
        else:
            yield argv[at], following
            at += 2


def _objects(argv: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the properties of each ``-object``, and where they stand."""
    for place, (option, value) in enumerate(itertools.pairwise(argv)):
        if option == "-object" and value.startswith("{"):
            yield place + 1, json.loads(value)


RULES: Final[tuple[Callable[[Document, Mapping[str, str], Expectation], Expectation], ...]] = (
    _emulatorpin,
    _duplicate_cells,
    _cells_without_cpus,
    _cells_without_memory,
    _modules_on_nodes,
    _initiators,
)
