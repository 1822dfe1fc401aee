"""Elements of QEMU's own namespace in a domain document: raw arguments, overrides, capabilities.

They are for experiments with what the driver has no words for, and are used as they are.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import Literal

from hvcore.errors import ErrorClass
from hvcore.errors import Issue
from hvcore.model.domain import Domain
from hvcore.plugin import ENUM
from hvcore.plugin import STR
from hvcore.plugin import Element
from hvcore.plugin import attr
from hvcore.plugin import children
from hvcore.plugin import element
from hvcore.xml.codecs import NONEMPTY
from hvcore.xml.fields import fields_of
from hvcore_qemu.flags import flags

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lxml.etree import _Element as XmlElement

    from hvcore.registry import Registry
    from hvcore.xml.context import ParseContext
    from hvcore_qemu.capabilities import QemuCapabilities

PropertyType = Literal["string", "signed", "unsigned", "bool", "remove"]

_VARIABLE_START: Final = re.compile(r"[A-Za-z_]")
_VARIABLE: Final = re.compile(r"[A-Za-z0-9_]+\Z")
_BOOLEANS: Final = {"true": True, "false": False}
_NUMBER_LIMITS: Final = {"signed": (-(2**63), 2**63 - 1), "unsigned": (0, 2**64 - 1)}


class _Lists(Element):
    """An element that is nothing but its lists; several in one document count as one."""

    __slots__ = ()

    def attach(self, owner: Element) -> None:
        """Add what the lists hold to ``owner``; an empty element is as good as none."""
        lists = [name for name, _ in fields_of(type(self))]
        if not any(getattr(self, name) for name in lists):
            return
        known = type(self).of(owner)
        if known is None:
            super().attach(owner)
            return
        for name in lists:
            getattr(known, name).extend(getattr(self, name))


@element("qemu:arg")
class Argument(Element):
    """One word for the end of the command line."""

    value: str = attr(
        "@value",
        STR,
        required=True,
        missing="internal error: No qemu command-line argument specified",
    )


@element("qemu:env")
class EnvVariable(Element):
    """One environment variable of the QEMU process."""

    name: str = attr(
        "@name", STR, required=True, missing="internal error: No qemu environment name specified"
    )
    value: str | None = attr("@value", STR)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse names that a shell would not take."""
        if "name" not in el.attrib:
            return
        rule = None
        if not _VARIABLE_START.match(self.name):
            rule = "begin with a letter or underscore"
        elif not _VARIABLE.match(self.name):
            rule = "contain only alphanumerics and underscore"
        if rule:
            message = f"Invalid environment name, it must {rule}"
            ctx.issue(el, message, kind=ErrorClass.INTERNAL, attribute="name")


@element("qemu:commandline", extends=Domain, omit_empty=True)
class CommandLine(_Lists):
    """Arguments and environment variables that are passed on as they are."""

    args: list[Argument] = children("qemu:arg", Argument)
    env: list[EnvVariable] = children("qemu:env", EnvVariable)


@element("")
class Capability(Element):
    """The name of a capability."""

    capability: str = attr(
        "@capability", STR, required=True, missing="internal error: missing capability name"
    )


@element("qemu:capabilities", extends=Domain, omit_empty=True)
class CapabilityChanges(_Lists):
    """Capabilities to pretend or to ignore, for this guest alone."""

    add: list[Capability] = children("qemu:add", Capability)
    remove: list[Capability] = children("qemu:del", Capability)


@element("qemu:property")
class Property(Element):
    """A property of a device to set, or to leave out."""

    name: str = attr(
        "@name", STR, required=True, missing="missing 'name' attribute for qemu:property"
    )
    type: PropertyType = attr("@type", ENUM(PropertyType), required=True)
    value: str | None = attr("@value", STR)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse a value that is not of the type, and changes of the device's identity."""
        if self.name == "id":
            ctx.issue(el, "property with name 'id' can't be overridden")
        elif self.type == "remove" and self.value is not None:
            ctx.issue(
                el,
                "setting 'value' attribute of 'qemu:property' doesn't make sense with "
                "'remove' type",
            )
        elif self.type != "remove" and self.value is None:
            ctx.issue(el, "missing 'value' attribute for 'qemu:property'")
        elif self.value is not None:
            try:
                self.json_value()
            except ValueError:
                ctx.issue(
                    el, f"invalid value '{self.value}' of 'value' attribute of 'qemu:property'"
                )

    def json_value(self) -> str | int | bool:
        """Return the value as JSON has it.

        :raises ValueError: when the text is not of the declared type.
        """
        text = self.value or ""
        if self.type == "bool":
            if text not in _BOOLEANS:
                raise ValueError(text)
            return _BOOLEANS[text]
        if self.type in _NUMBER_LIMITS:
            low, high = _NUMBER_LIMITS[self.type]
            number = int(text) if text.isascii() else low - 1
            if not low <= number <= high:
                raise ValueError(text)
            return number
        return text


@element("qemu:device")
class DeviceOverride(Element):
    """Changes to the properties of one device."""

    alias: str = attr(
        "@alias", STR, required=True, missing="missing 'alias' attribute for qemu:device"
    )
    frontend: list[Property] = children("qemu:frontend/qemu:property", Property)


@element("qemu:override", extends=Domain, omit_empty=True)
class Overrides(_Lists):
    """Changes to what the driver tells QEMU about devices."""

    devices: list[DeviceOverride] = children("qemu:device", DeviceOverride)


@element("qemu:deprecation", extends=Domain, omit_empty=True)
class Deprecation(Element):
    """What QEMU does when something deprecated is used."""

    behavior: str | None = attr("@behavior", NONEMPTY, doc="none, omit, reject or crash")

    def attach(self, owner: Element) -> None:
        """Attach it if it says something."""
        if self.behavior is not None:
            super().attach(owner)


ELEMENTS: Final = (CommandLine, CapabilityChanges, Overrides, Deprecation)
"""In the order in which they are written."""


def register(registry: Registry) -> None:
    """Add the elements to ``registry``."""
    for extension in ELEMENTS:
        registry.add_element(extension)


def changed_capabilities(
    domain: Domain, caps: QemuCapabilities
) -> tuple[QemuCapabilities, list[Issue]]:
    """Return the capabilities with the changes that the document asks for, and what is wrong."""
    changes: CapabilityChanges | None = CapabilityChanges.of(domain)
    if changes is None:
        return caps, []
    added = [entry.capability for entry in changes.add]
    removed = [entry.capability for entry in changes.remove]
    issues = [
        Issue.internal(f"invalid qemu namespace capability '{name}'")
        for name in (*added, *removed)
        if name not in flags()
    ]
    return caps.replace(add=added, remove=removed), issues


def overridden(domain: Domain, props: dict[str, Any]) -> dict[str, Any]:
    """Return the properties of a device with the document's overrides in place."""
    if domain._ext is None:  # noqa: SLF001 - the common case, for each device
        return props
    changed = dict(props)
    for prop in _overrides_of(domain, props.get("id")):
        changed.pop(prop.name, None)
        if prop.type != "remove":
            changed[prop.name] = prop.json_value()
    return changed


def _overrides_of(domain: Domain, alias: str | None) -> Iterator[Property]:
    found: Overrides | None = Overrides.of(domain)
    if found is not None and alias is not None:
        for device in found.devices:
            if device.alias == alias:
                yield from device.frontend
