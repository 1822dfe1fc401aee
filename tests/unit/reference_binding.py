"""The binding once more, slow and obvious: loops over the declarations, no generated code.

The generated parsers must build the same objects from the same documents.
"""

from __future__ import annotations

from typing import Any

import attrs

from hvcore.xml.codecs import unit_factor
from hvcore.xml.context import ParseContext
from hvcore.xml.fields import Element
from hvcore.xml.fields import FieldSpec
from hvcore.xml.fields import fields_of
from hvcore.xml.fields import qualified


def _default(spec: FieldSpec) -> Any:
    return [] if spec.many else spec.default


def _convert(spec: FieldSpec, text: str) -> Any:
    if spec.codec.table is not None:
        return spec.codec.table.get(text, _default(spec))
    if spec.codec.convert is not None:
        try:
            return spec.codec.convert(text)
        except ValueError:
            return _default(spec)
    return text


def _find(element: Any, steps: tuple[str, ...], owner: Any) -> Any:
    for step in steps:
        if element is None:
            return None
        found = element.findall(qualified(step)) or [None]
        element = found[-1 if owner.spec.last_wins else 0]
    return element


def _size(spec: FieldSpec, element: Any) -> int | None:
    unit = element.get("unit")
    if unit is None:
        unit = spec.unit if spec.unit_default is None else spec.unit_default
    try:
        return -(-int(element.text) * unit_factor(unit) // unit_factor(spec.unit))
    except ValueError:
        return None


def _value(spec: FieldSpec, element: Any, owner: Any) -> Any:
    if spec.kind in ("attr", "text", "scaled", "flag"):
        found = _find(element, spec.steps, owner)
        if spec.kind == "flag":
            return found is not None
        text = None
        if found is not None:
            text = found.get(spec.attribute) if spec.kind == "attr" else found.text or ""
            if spec.kind == "text" and len(found):
                text = None  # white space between children
        if text is None:
            bare = found is not None and spec.bare is not None
            return spec.bare if bare else _default(spec)
        return _size(spec, found) if spec.kind == "scaled" else _convert(spec, text)
    if spec.kind == "custom":
        assert spec.custom is not None
        parent = _find(element, spec.steps, owner)
        children = [] if parent is None else list(parent)
        tags = [qualified(tag) for tag in spec.custom.tags]
        return spec.custom.parse([c for c in children if c.tag in tags], ParseContext(), owner)
    parent = _find(element, spec.steps[:-1], owner)
    found = [] if parent is None else parent.findall(qualified(spec.steps[-1]))
    if spec.kind == "texts":
        return [_convert(spec, e.text or "") for e in found]
    parsed = [p for p in (_element(spec, e, owner) for e in found) if p is not None]
    if spec.many:
        return parsed
    return parsed[-1 if owner.spec.last_wins else 0] if parsed else None


def _element(spec: FieldSpec, element: Any, owner: Any) -> Any:
    if spec.kind != "choice":
        return parse(spec.element_class(), element)
    assert spec.by is not None
    if spec.by.startswith("@"):
        key = element.get(spec.by[1:], spec.unit or None)
    else:
        key = getattr(owner, spec.by)
    cls = spec.classes().get(key)
    return None if cls is None else parse(cls, element)


def parse(cls: type[Element], element: Any) -> Any:
    """Return ``element`` as ``cls``, without extensions and unclaimed content."""
    made = object.__new__(cls)
    for attribute in attrs.fields(cls):
        spec = attribute.metadata.get("hvcore")
        if spec is None and attribute.name not in ("_line", "_extra", "_ext"):
            default = attribute.default
            setattr(made, attribute.name, default)
    made._line = element.sourceline
    made._extra = None
    made._ext = None
    for name, spec in fields_of(cls):
        setattr(made, name, _value(spec, element, made))
    if hasattr(made, "parsed"):
        made.parsed(element, ParseContext())
    return made
