"""What of a document the driver takes: a table, and the refusal of everything else.

A value that no table names is not passed over: the guest would not be what its document says. So
the tables of all families are walked together with the document, and what is left is refused with
its place. Families write a table ``ACCEPTS``: class of the model to the fields it takes, each with
:data:`ANY` or the values that are taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import TypeAlias

import attrs

from hvcore.errors import Issue
from hvcore.model.devices import Devices
from hvcore.model.devices.base import Device
from hvcore.xml.fields import Element
from hvcore.xml.fields import FieldSpec
from hvcore.xml.fields import fields_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain

NAME: Final = "Cloud-Hypervisor"

ANY: Final = None
"""Every value is taken; elements are looked into."""

Values: TypeAlias = "frozenset[Any] | None"
Accepts: TypeAlias = "Mapping[type[Element], Mapping[str, Values]]"

MODULES: Final = (
    "sections.base", "sections.os", "sections.cpu", "sections.memory", "sections.numa",
    "sections.platform",
    "devices.info", "devices.disk", "devices.interface", "devices.chardev", "devices.rng",
    "devices.memballoon", "devices.vsock", "devices.filesystem", "devices.memory",
    "devices.hostdev", "devices.tpm", "devices.iommu", "devices.panic", "devices.controller",
)  # fmt: skip
"""The families that have a table; a device without one is refused as a whole."""


def one_of(*values: Any) -> Values:
    """Return these values alone."""
    return frozenset(values)


def merged() -> dict[type[Element], dict[str, Values]]:
    """Return the tables of all families as one; devices have those of their base as well."""
    whole: dict[type[Element], dict[str, Values]] = {}
    for name in MODULES:
        table: Accepts = import_module(f"hvcore_ch.{name}").ACCEPTS
        for cls, fields in table.items():
            whole.setdefault(cls, {}).update(fields)
    for cls, own in whole.items():
        for base in cls.__mro__[1:]:
            if base in whole:
                for field, values in whole[base].items():
                    own.setdefault(field, values)
    return whole


_WHOLE: dict[type[Element], dict[str, Values]] = {}


def table() -> dict[type[Element], dict[str, Values]]:
    """Return :func:`merged`, made once: it imports the model of every family."""
    if not _WHOLE:
        _WHOLE.update(merged())
    return _WHOLE


def refusals(domain: Domain) -> Iterator[Issue]:
    """Yield an issue for everything in a document that the driver has no use for."""
    yield from _of_element(domain, "domain")


def of_device(device: Device, tag: str) -> list[Issue]:
    """Return the issues of one device alone, for one that is to be plugged."""
    return list(_of_family(device, tag))


def _of_family(device: Element, tag: str) -> Iterator[Issue]:
    if type(device) in table():
        yield from _of_element(device, tag)
    else:
        yield Issue.unsupported(f"{NAME} doesn't support '{tag}' device", line=device.line)


def _of_element(owner: Element, tag: str) -> Iterator[Issue]:
    known = table().get(type(owner), {})
    for name, spec in fields_of(type(owner)):
        value = getattr(owner, name)
        if spec.show == "live" or _absent(value, spec, default=_default(type(owner), name)):
            continue
        if isinstance(owner, Devices) and isinstance(value, list):
            for device in value:
                yield from _of_family(device, _tag(spec))
            continue
        taken = known.get(name, ANY)
        for each in value if isinstance(value, list) else [value]:
            if name not in known or (taken is not None and _key(each) not in taken):
                yield _refused(owner, tag, spec, each, named=name in known)
            elif isinstance(each, Element):
                yield from _of_element(each, _tag(spec))


def _key(value: Any) -> Any:
    """Return what stands for ``value`` in a table: of an element its kind."""
    if not isinstance(value, Element):
        return value
    selector = type(value).selector
    return getattr(value, selector, None) if selector else None


def _default(cls: type[Element], name: str) -> Any:
    found = getattr(attrs.fields(cls), name).default
    return None if found is attrs.NOTHING or isinstance(found, type(attrs.Factory(list))) else found


def _absent(value: Any, spec: FieldSpec, *, default: Any) -> bool:
    """Tell whether a document without the value would mean the same."""
    if value is None or value == []:
        return True
    if isinstance(value, Element):
        return False
    # Zero and off are told apart, and from nothing where that is the default.
    return any(type(value) is type(each) and value == each for each in (default, *spec.omit))


def _tag(spec: FieldSpec) -> str:
    return spec.steps[-1] if spec.steps else spec.attribute or ""


def _refused(owner: Element, tag: str, spec: FieldSpec, value: Any, *, named: bool) -> Issue:
    steps = "/".join(spec.steps)
    parent = spec.steps[-1] if spec.steps else tag
    if spec.attribute is not None:
        path, what = f"{steps}/@{spec.attribute}".lstrip("/"), f"attribute '{spec.attribute}'"
    else:
        path = steps
        parent = spec.steps[-2] if len(spec.steps) > 1 else tag
        what = f"element '{_tag(spec)}'"
    said = f"value '{_written(value, spec)}' of {what}" if named else what
    message = f"{NAME} doesn't support {said} in '{parent}'"
    return Issue.unsupported(message, path=path or None, line=owner.line)


def _written(value: Any, spec: FieldSpec) -> str:
    if isinstance(value, Element):
        return str(_key(value) or _tag(spec))
    return spec.codec.write(value) if spec.codec.write else str(value)
