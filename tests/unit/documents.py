"""Random documents made from the declarations: every class, every field, every codec."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from lxml import etree

from hvcore.xml.codecs import Codec
from hvcore.xml.codegen import Node
from hvcore.xml.codegen import tree
from hvcore.xml.fields import Element
from hvcore.xml.fields import FieldSpec
from hvcore.xml.fields import qualified

_TEXT = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FFF, exclude_categories=("Cs", "Cc", "Cn")),
    min_size=1,
    max_size=8,
)
_RUNS = st.lists(st.integers(0, 300), min_size=1, max_size=4).map(
    lambda numbers: ",".join(str(n) for n in numbers)
)


def value_text(draw: Any, codec: Codec) -> str:
    """Return a text that ``codec`` accepts."""
    if codec.table is not None:
        return draw(st.sampled_from(sorted(codec.table)))
    if codec.name == "integer":
        low, high = codec.json["minimum"], codec.json["maximum"]
        number = draw(st.integers(max(low, 1), high))
        return codec.write(number) if codec.write is not None else str(number)
    if codec.name == "UUID":
        return str(draw(st.uuids()))
    if codec.name == "unit":
        return draw(st.sampled_from(["KiB", "bytes", "M", "GB"]))
    if codec.name == "node or CPU set":
        return draw(_RUNS)
    return draw(_TEXT)


def _choice(draw: Any, spec: FieldSpec, parent: Any, owner: Any, depth: int) -> None:
    classes = spec.classes()
    by = spec.by or ""
    if by.startswith("@"):
        key = draw(st.sampled_from(sorted(classes)))
        child = etree.SubElement(parent, qualified(spec.steps[-1]), {by[1:]: key})
        fill(draw, classes[key], child, depth - 1)
        return
    key = next(
        (
            owner.get(other.attribute)
            for name, other in tree_fields(owner, spec)
            if name == by and other.kind == "attr"
        ),
        None,
    )
    if key in classes:
        child = etree.SubElement(parent, qualified(spec.steps[-1]))
        fill(draw, classes[key], child, depth - 1)


_CLASS_OF: dict[Any, type[Element]] = {}


def tree_fields(owner: Any, spec: FieldSpec) -> list[tuple[str, FieldSpec]]:
    """Return the attributes declared for the element ``owner`` itself."""
    del spec
    return list(tree(_CLASS_OF[owner]).attributes)


def _node(draw: Any, node: Node, element: Any, owner: Any, depth: int) -> None:
    for _, spec in node.attributes:
        if spec.required or draw(st.booleans()):
            element.set(spec.attribute, value_text(draw, spec.codec))
    if node.text is not None and node.text[1].kind != "flag":
        spec = node.text[1]
        if spec.kind == "scaled":
            element.text = str(draw(st.integers(1, 2**20)))
            element.set("unit", draw(st.sampled_from(["KiB", "bytes", "M", "GB"])))
        else:
            element.text = value_text(draw, spec.codec)
        return
    for part in node.parts:
        if not draw(st.booleans()):
            continue
        if isinstance(part, Node):
            child = etree.SubElement(element, qualified(part.tag))
            _node(draw, part, child, owner, depth)
            continue
        spec = part[1]
        for _ in range(draw(st.integers(1, 2)) if spec.many else 1):
            if spec.kind == "texts":
                child = etree.SubElement(element, qualified(spec.steps[-1]))
                child.text = value_text(draw, spec.codec)
            elif spec.kind == "choice":
                _choice(draw, spec, element, owner, depth)
            elif spec.kind in ("child", "children") and depth > 0:
                child = etree.SubElement(element, qualified(spec.steps[-1]))
                fill(draw, spec.element_class(), child, depth - 1)


def fill(draw: Any, cls: type[Element], element: Any, depth: int) -> None:
    """Give ``element`` random content that ``cls`` declares."""
    _CLASS_OF[element] = cls
    _node(draw, tree(cls), element, element, depth)


@st.composite
def documents(draw: Any, cls: type[Element], depth: int = 3) -> Any:
    """Draw an element that ``cls`` can read; custom codecs are left out."""
    root = etree.Element(qualified(cls.spec.tag or "x"))
    fill(draw, cls, root, depth)
    text = etree.tostring(root)
    return etree.fromstring(text)
