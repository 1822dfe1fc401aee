"""RELAX NG, JSON schema, JSON values and the reference table, from the declarations.

They describe the same documents as the generated parsers, since both read
:func:`hvcore.xml.fields.fields_of` and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs

from hvcore.model.types import NodeSet
from hvcore.xml.codegen import Node
from hvcore.xml.codegen import place_of
from hvcore.xml.codegen import tree
from hvcore.xml.fields import NAMESPACES
from hvcore.xml.fields import Element
from hvcore.xml.fields import FieldSpec
from hvcore.xml.fields import fields_of

if TYPE_CHECKING:
    from hvcore.xml.codegen import Binding

_GRAMMAR: Final = (
    '<grammar xmlns="http://relaxng.org/ns/structure/1.0"'
    ' datatypeLibrary="http://www.w3.org/2001/XMLSchema-datatypes">'
)
# What custom codecs may refer to in their patterns.
_COMMON: Final = (
    '<define name="scaledInteger"><optional><attribute name="unit"/></optional>'
    '<data type="unsignedLong"/></define>'
    '<define name="anyXml"><element><anyName/><zeroOrMore><choice><attribute><anyName/>'
    '</attribute><text/><ref name="anyXml"/></choice></zeroOrMore></element></define>'
)


@attrs.frozen
class Row:
    """One line of the reference table.

    :ivar path: where the value lives, from the element of its class: ``driver/@name``.
    :ivar field: the name of the Python attribute.
    """

    element: str
    path: str
    field: str
    kind: str
    default: str
    doc: str


def _optional(pattern: str, *, wanted: bool) -> str:
    return f"<optional>{pattern}</optional>" if wanted else pattern


def _named(tag: str, content: str) -> str:
    prefix, colon, local = tag.partition(":")
    if not colon:
        return f'<element name="{tag}">{content}</element>'
    return f'<element name="{local}" ns="{NAMESPACES[prefix]}">{content}</element>'


class _RelaxNg:
    """Collects one content definition for each class met."""

    def __init__(self, binding: Binding) -> None:
        self.binding = binding
        self.defines: dict[str, str] = {}

    def reference(self, cls: type[Element]) -> str:
        """Return a reference to the content of ``cls``, defining it when new."""
        name = f"{cls.__module__.rsplit('.', 1)[-1]}.{cls.__qualname__}"
        if name not in self.defines:
            self.defines[name] = ""  # holds the place: classes may contain themselves
            self.defines[name] = self.content(tree(cls), self.binding.extensions(cls))
        return f'<ref name="{name}"/>'

    def content(self, node: Node, extensions: Iterable[type[Element]] = ()) -> str:
        """Return the pattern of what stands inside an element.

        :param extensions: all those of the class that the element, or a wrapper, belongs to.
        """
        extensions = tuple(extensions)
        parts = [self.attribute(spec) for _, spec in node.attributes]
        parts += [self.part(part, extensions) for part in node.parts]
        for extension in extensions:
            if place_of(extension) == node.path:
                parts += [self.attribute(spec) for _, spec in fields_of(extension)]
            elif extension.spec.tag and not node.path:
                inner = _named(extension.spec.tag, self.reference(extension))
                parts.append(f"<zeroOrMore>{inner}</zeroOrMore>")
        if node.text is not None and node.text[1].kind != "flag":
            spec = node.text[1]
            if spec.kind == "scaled":
                parts.append("<optional><attribute name='unit'><text/></attribute></optional>")
                parts.append('<data type="unsignedLong"/>')
            else:
                parts.append(f"<choice>{spec.codec.rng}<empty/></choice>")
            if node.parts:  # either text or children, which have no schema in common
                either = "".join(parts[:-1])
                return f"<mixed><zeroOrMore><choice>{either}</choice></zeroOrMore></mixed>"
            return f"<group>{''.join(parts)}</group>"
        return f"<interleave>{''.join(parts)}</interleave>" if parts else "<empty/>"

    def attribute(self, spec: FieldSpec) -> str:
        pattern = f'<attribute name="{spec.attribute}">{spec.codec.rng}</attribute>'
        return _optional(pattern, wanted=not spec.required)

    def part(
        self, part: Node | tuple[str, FieldSpec], extensions: Iterable[type[Element]] = ()
    ) -> str:
        """Return the pattern of a wrapper or of a child field."""
        if isinstance(part, Node):
            required = part.text is not None and part.text[1].required
            return _optional(_named(part.tag, self.content(part, extensions)), wanted=not required)
        spec = part[1]
        if spec.kind == "custom":
            assert spec.custom is not None
            return f"<zeroOrMore>{spec.custom.rng}</zeroOrMore>"
        tag = spec.steps[-1]
        if spec.kind == "texts":
            inner = _named(tag, f"<choice>{spec.codec.rng}<empty/></choice>")
        elif spec.kind == "choice":
            inner = self.choice(spec, tag)
        else:
            inner = _named(tag, self.reference(spec.element_class()))
        return f"<zeroOrMore>{inner}</zeroOrMore>" if spec.many else _optional(inner, wanted=True)

    def choice(self, spec: FieldSpec, tag: str) -> str:
        by = spec.by or ""
        found = []
        for value, cls in spec.classes().items():
            content = self.reference(cls)
            if by.startswith("@"):
                key = f'<attribute name="{by[1:]}"><value>{value}</value></attribute>'
                content = _optional(key, wanted=value == spec.unit) + content
            pattern = _named(tag, content)
            if pattern not in found:
                found.append(pattern)
        return f"<choice>{''.join(found)}</choice>"


def relax_ng(binding: Binding, root: type[Element]) -> str:
    """Return a RELAX NG grammar, as XML text, for documents whose root is ``root``."""
    made = _RelaxNg(binding)
    start = _named(root.spec.tag, made.reference(root))
    defines = "".join(f'<define name="{n}">{p}</define>' for n, p in made.defines.items())
    return f"{_GRAMMAR}<start>{start}</start>{defines}{_COMMON}</grammar>"


def json_schema(root: type[Element]) -> dict[str, Any]:
    """Return a JSON schema (2020-12) of what :func:`to_json` makes of a ``root``."""
    definitions: dict[str, Any] = {}

    def reference(cls: type[Element]) -> dict[str, Any]:
        name = f"{cls.__module__.rsplit('.', 1)[-1]}.{cls.__qualname__}"
        if name not in definitions:
            definitions[name] = {}
            properties = {field: value(spec) for field, spec in fields_of(cls)}
            if cls.selector is not None:
                properties[cls.selector] = {"type": "string"}
            definitions[name] = {
                "type": "object",
                "title": cls.spec.tag,
                "description": cls.spec.doc.split("\n", 1)[0],
                "properties": properties,
                "additionalProperties": False,
            }
        return {"$ref": f"#/$defs/{name}"}

    def value(spec: FieldSpec) -> dict[str, Any]:
        if spec.kind == "flag":
            found: dict[str, Any] = {"type": "boolean"}
        elif spec.kind == "scaled":
            found = {"type": "integer", "minimum": 0, "description": f"in {spec.unit}"}
        elif spec.kind in ("child", "children"):
            found = reference(spec.element_class())
        elif spec.kind == "choice":
            unique = list(dict.fromkeys(spec.classes().values()))
            found = {"anyOf": [reference(cls) for cls in unique]}
        elif spec.kind == "custom":
            found = {}
        else:
            found = dict(spec.codec.json)
        if spec.doc:
            found = {**found, "description": spec.doc}
        return {"type": "array", "items": found} if spec.many else found

    top = reference(root)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **top,
        "$defs": definitions,
    }


def to_json(value: Element) -> dict[str, Any]:
    """Return ``value`` as plain JSON data: field names as keys, absent values left out."""
    out: dict[str, Any] = {}
    for name, spec in fields_of(type(value)):
        found = getattr(value, name)
        plain = _plain(found)
        if spec.kind == "choice" and (spec.by or "").startswith("@"):
            keys = {cls: key for key, cls in spec.classes().items()}
            for item, made in zip(
                found if spec.many else [found], plain if spec.many else [plain], strict=True
            ):
                if made is not None:
                    made[(spec.by or "")[1:]] = keys[type(item)]
        if plain is not None and plain != []:
            out[name] = plain
    return out


def _plain(value: Any) -> Any:
    if isinstance(value, Element):
        return to_json(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, NodeSet):
        return str(value)
    if attrs.has(type(value)):
        return {name: _plain(item) for name, item in attrs.asdict(value, recurse=False).items()}
    return value


def reference(root: type[Element], binding: Binding | None = None) -> Iterator[Row]:
    """Yield a row for every declared value at and below ``root``, each class once."""
    seen: set[type[Element]] = set()
    pending: list[type[Element]] = [root]
    while pending:
        cls = pending.pop(0)
        if cls in seen:
            continue
        seen.add(cls)
        for name, spec in fields_of(cls):
            if spec.kind in ("child", "children"):
                pending.append(spec.element_class())
            elif spec.kind == "choice":
                pending += spec.classes().values()
            yield _row(cls, name, spec)
        if binding is not None:
            pending += binding.extensions(cls)


def _row(cls: type[Element], name: str, spec: FieldSpec) -> Row:
    path = "/".join(spec.steps)
    if spec.attribute is not None:
        path = f"{path}/@{spec.attribute}" if path else f"@{spec.attribute}"
    if spec.custom is not None:
        path = "/".join((*spec.steps, "|".join(spec.custom.tags)))
    kind = {"scaled": f"size in {spec.unit}", "flag": "presence"}.get(spec.kind)
    if kind is None:
        kind = spec.codec.name if spec.kind in ("attr", "text", "texts") else spec.kind
    default = "required" if spec.required else "" if spec.default is None else str(spec.default)
    return Row(cls.spec.tag, path or "text", name, kind, default, spec.doc)
