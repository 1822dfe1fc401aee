"""Random documents, made from the declarations of the model: every class, field and codec.

Whatever is declared is drawn, extensions of plugins included, so a new field is tested from the day
it is there. :func:`elements` draws what a class can read; :func:`domains` draws whole documents
that a driver accepts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hypothesis import strategies as st
from lxml import etree

from hvcore.errors import ConfigError
from hvcore.model.devices import Devices
from hvcore.xml.codegen import Node
from hvcore.xml.codegen import tree
from hvcore.xml.context import ParseContext
from hvcore.xml.fields import qualified

if TYPE_CHECKING:
    from collections.abc import Callable

    from hvcore.pipeline import Context
    from hvcore.pipeline import Pipeline
    from hvcore.xml.codecs import Codec
    from hvcore.xml.codegen import Binding
    from hvcore.xml.fields import Element
    from hvcore.xml.fields import FieldSpec

_UNITS: Final = ["KiB", "bytes", "M", "GB"]
_TEXT: Final = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FFF, exclude_categories=("Cs", "Cc", "Cn")),
    min_size=1,
    max_size=8,
)
_RUNS: Final = st.lists(st.integers(0, 300), min_size=1, max_size=4).map(
    lambda numbers: ",".join(str(n) for n in numbers)
)


def texts(codec: Codec) -> st.SearchStrategy[str]:
    """Draw texts that a codec accepts."""
    if codec.table is not None:
        return st.sampled_from(sorted(codec.table))
    if codec.name == "integer":
        low, high = codec.json["minimum"], codec.json["maximum"]
        return st.integers(max(low, 1), high).map(codec.write or str)
    if codec.name == "UUID":
        return st.uuids().map(str)
    if codec.name == "unit":
        return st.sampled_from(_UNITS)
    if codec.name == "node or CPU set":
        return _RUNS
    return _TEXT


class _Filler:
    """Gives elements random content.

    :param binding: whose extensions are drawn as well; None for the core alone.
    """

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any], binding: Any) -> None:
        self.draw = draw
        self.binding: Binding | None = binding

    def fill(self, cls: type[Element], element: Any, depth: int) -> None:
        """Give ``element`` content that ``cls`` declares."""
        self._node(tree(cls), cls, element, element, depth)
        for extension in () if self.binding is None else self.binding.extensions(cls):
            if extension.spec.tag and depth > 0 and self.draw(st.booleans()):
                child = etree.SubElement(element, qualified(extension.spec.tag))
                self.fill(extension, child, depth - 1)

    def _node(self, node: Node, cls: type[Element], element: Any, owner: Any, depth: int) -> None:
        for _, spec in node.attributes:
            if spec.required or self.draw(st.booleans()):
                element.set(spec.attribute, self.draw(texts(spec.codec)))
        if node.text is not None and node.text[1].kind != "flag":
            self._text(node.text[1], element)
            return
        for part in node.parts:
            if not self.draw(st.booleans()):
                continue
            if isinstance(part, Node):
                child = etree.SubElement(element, qualified(part.tag))
                self._node(part, cls, child, owner, depth)
                continue
            spec = part[1]
            for _ in range(self.draw(st.integers(1, 2)) if spec.many else 1):
                self._part(spec, cls, element, owner, depth)

    def _text(self, spec: FieldSpec, element: Any) -> None:
        if spec.kind == "scaled":
            element.text = str(self.draw(st.integers(1, 2**20)))
            element.set("unit", self.draw(st.sampled_from(_UNITS)))
        else:
            element.text = self.draw(texts(spec.codec))

    def _part(
        self, spec: FieldSpec, cls: type[Element], element: Any, owner: Any, depth: int
    ) -> None:
        """Add one element of a field; what a custom codec reads is left out."""
        if spec.kind == "texts":
            child = etree.SubElement(element, qualified(spec.steps[-1]))
            child.text = self.draw(texts(spec.codec))
        elif spec.kind == "choice":
            self._choice(spec, cls, element, owner, depth)
        elif spec.kind in ("child", "children") and depth > 0:
            child = etree.SubElement(element, qualified(spec.steps[-1]))
            self.fill(spec.element_class(), child, depth - 1)

    def _choice(
        self, spec: FieldSpec, cls: type[Element], element: Any, owner: Any, depth: int
    ) -> None:
        classes = spec.classes()
        by = spec.by or ""
        if by.startswith("@"):
            key = self.draw(st.sampled_from(sorted(classes)))
            child = etree.SubElement(element, qualified(spec.steps[-1]), {by[1:]: key})
            self.fill(classes[key], child, depth - 1)
            return
        attributes = {name: other.attribute for name, other in tree(cls).attributes}
        chosen = owner.get(attributes[by]) if by in attributes else None
        if chosen is not None and chosen in classes:
            child = etree.SubElement(element, qualified(spec.steps[-1]))
            self.fill(classes[chosen], child, depth - 1)


@st.composite
def elements(
    draw: Any, cls: type[Element], *, binding: Binding | None = None, depth: int = 3
) -> Any:
    """Draw an lxml element that ``cls`` can read.

    :param binding: of a registry whose plugins' extensions are drawn as well.
    :param depth: how many classes deep it may be.
    """
    root = etree.Element(qualified(cls.spec.tag or "x"))
    _Filler(draw, binding).fill(cls, root, depth)
    return etree.fromstring(etree.tostring(root))


@st.composite
def models(draw: Any, cls: type[Element], binding: Binding, *, depth: int = 3) -> Any:
    """Draw an object of a class of the model, without issues."""
    while True:
        ctx = ParseContext()
        found = binding.parse(cls, draw(elements(cls, binding=binding, depth=depth)), ctx)
        if not ctx.issues:
            return found


@st.composite
def domains(
    draw: Any,
    pipeline: Pipeline,
    context: Callable[[], Context],
    base: str,
    *,
    at_most: int = 6,
    depth: int = 3,
) -> str:
    """Draw documents of domains that a driver accepts: a base with random devices.

    Devices are drawn from the declarations one after the other, and those that the rules refuse
    beside the others are left out, so that nothing drawn is wasted.

    :param pipeline: of the driver.
    :param context: makes what the rules may ask about, anew for each attempt.
    :param base: a document that the driver accepts.
    :param at_most: devices to try.
    :param depth: how many classes deep a device may be.
    """
    binding = pipeline.registry.binding
    kinds = [
        (spec.steps[-1], spec.element_class())
        for _, spec in tree(Devices).fields()
        if spec.kind == "children" and len(spec.steps) == 1
    ]
    accepted = base
    for _ in range(draw(st.integers(0, at_most))):
        tag, cls = draw(st.sampled_from(kinds))
        device = etree.Element(qualified(tag))
        _Filler(draw, binding).fill(cls, device, depth)
        root = etree.fromstring(accepted)
        devices = root.find("devices")
        if devices is None:
            devices = etree.SubElement(root, "devices")
        devices.append(device)
        attempt = etree.tostring(root, encoding="unicode")
        try:
            pipeline.define(attempt, context())
        except ConfigError:
            continue
        accepted = attempt
    return accepted
