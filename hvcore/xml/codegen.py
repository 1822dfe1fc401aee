"""Parsers, formatters and cloners as generated source, one set for each :class:`Binding`.

The declarations of a class are first arranged as a tree of elements (:class:`Node`), then written
out as straight Python: no loop over fields is left at run time. Sources are entered in
``linecache``, so tracebacks and debuggers show them. ``tests/unit/reference_binding.py`` reads the
same declarations slowly and must agree.
"""

from __future__ import annotations

import itertools
import linecache
from collections.abc import Callable
from collections.abc import Iterable
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs

from hvcore.errors import ErrorClass
from hvcore.xml.codecs import escape
from hvcore.xml.context import extra_attributes
from hvcore.xml.context import extra_elements
from hvcore.xml.fields import Element
from hvcore.xml.fields import FieldSpec
from hvcore.xml.fields import fields_of
from hvcore.xml.fields import qualified

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import FormatContext
    from hvcore.xml.context import ParseContext

_MISSING: Final = object()
_SHOWN: Final = {
    "live": "not ctx.inactive",
    "secure": "ctx.secure",
    "not_migratable": "not ctx.migratable",
}


@attrs.define(eq=False)
class Node:
    """One element of a class's tree: the class's own (no tag) or a wrapper below it."""

    tag: str
    path: str
    attributes: list[tuple[str, FieldSpec]] = attrs.field(factory=list)
    text: tuple[str, FieldSpec] | None = None
    parts: list[Node | tuple[str, FieldSpec]] = attrs.field(factory=list)
    extensions: list[type[Element]] = attrs.field(factory=list)

    def below(self, tag: str) -> Node:
        """Return the wrapper ``tag`` directly below, made at its first mention."""
        for part in self.parts:
            if isinstance(part, Node) and part.tag == tag:
                return part
        node = Node(tag, f"{self.path}/{tag}" if self.path else tag)
        self.parts.append(node)
        return node

    def fields(self) -> Iterable[tuple[str, FieldSpec]]:
        """Yield all fields at and below this node."""
        yield from self.attributes
        if self.text is not None:
            yield self.text
        for part in self.parts:
            if isinstance(part, Node):
                yield from part.fields()
            else:
                yield part

    def known(self) -> tuple[str, ...]:
        """Return the names that may stand here, attributes with ``@``."""
        names = [f"@{spec.attribute}" for _, spec in self.attributes]
        for part in self.parts:
            if isinstance(part, Node):
                names.append(part.tag)
            elif part[1].custom is not None:
                names += part[1].custom.tags
            else:
                names.append(part[1].steps[-1])
        return (*names, *(e.spec.tag for e in self.extensions))


def place_of(extension: type[Element]) -> str | None:
    """Return the wrapper path of an extension that only adds attributes; None for other ones.

    :raises TypeError: when it has anything else, or attributes in several places.
    """
    if extension.spec.tag:
        return None
    fields = [spec for _, spec in fields_of(extension)]
    places = {"/".join(spec.steps) for spec in fields}
    if len(places) != 1 or any(spec.kind != "attr" for spec in fields):
        raise TypeError(f"{extension.__qualname__} must add attributes to one element")
    return places.pop()


def tree(cls: type[Element]) -> Node:
    """Return the declarations of ``cls`` arranged as elements."""
    root = Node("", "")
    for name, spec in fields_of(cls):
        owns_last = spec.kind in ("attr", "text", "scaled", "custom")
        node = root
        for step in spec.steps if owns_last else spec.steps[:-1]:
            node = node.below(step)
        if spec.kind == "attr":
            node.attributes.append((name, spec))
        elif spec.kind in ("text", "scaled"):
            node.text = (name, spec)
        elif spec.kind == "flag":
            node.below(spec.steps[-1]).text = (name, spec)
        else:
            node.parts.append((name, spec))
    return root


class Binding:
    """Compiled parsers, formatters and cloners for the classes of one registry.

    :param extensions: the extension classes of plugins; each names what it extends.
    """

    def __init__(self, extensions: Iterable[type[Element]] = ()) -> None:
        self._extensions: dict[type[Element], list[type[Element]]] = {}
        for extension in extensions:
            extended = extension.spec.extended()
            if extended is not None:
                self._extensions.setdefault(extended, []).append(extension)
        self._parsers: dict[type[Element], Callable[..., Any]] = {}
        self._formatters: dict[type[Element], Callable[..., None]] = {}
        self._cloners: dict[type[Element], Callable[..., Any]] = {}

    def extensions(self, cls: type[Element]) -> list[type[Element]]:
        """Return the extensions of ``cls``, in registration order."""
        return [e for base in cls.__mro__ for e in self._extensions.get(base, ())]

    def inline(self, cls: type[Element], path: str) -> list[type[Element]]:
        """Return the extensions that add attributes to the wrapper ``path`` of ``cls``."""
        return [e for e in self.extensions(cls) if place_of(e) == path]

    def parser(self, cls: type[Element]) -> Callable[[XmlElement, ParseContext], Any]:
        """Return the compiled parser of ``cls``."""
        found = self._parsers.get(cls)
        return found if found is not None else _ParserSource(self, cls).compile(self._parsers)

    def formatter(self, cls: type[Element]) -> Callable[[Any, list[str], str, FormatContext], None]:
        """Return the compiled formatter of ``cls``."""
        found = self._formatters.get(cls)
        return found if found is not None else _FormatterSource(self, cls).compile(self._formatters)

    def cloner(self, cls: type[Element]) -> Callable[[Any], Any]:
        """Return the compiled deep copier of ``cls``."""
        found = self._cloners.get(cls)
        return found if found is not None else _ClonerSource(self, cls).compile(self._cloners)

    def parse(self, cls: type[Element], element: XmlElement, ctx: ParseContext) -> Any:
        """Return ``element`` as an instance of ``cls``; issues go to ``ctx``."""
        return self.parser(cls)(element, ctx)

    def format(self, value: Element, ctx: FormatContext, indent: str = "") -> str:
        """Return ``value`` as XML text."""
        out: list[str] = []
        self.formatter(type(value))(value, out, indent, ctx)
        return "".join(out)

    def clone(self, value: Any) -> Any:
        """Return a deep copy of ``value``."""
        return self.cloner(type(value))(value)


class _Source:
    """Lines under construction and the names they use."""

    verb: str

    def __init__(self, binding: Binding, cls: type[Element]) -> None:
        self.binding = binding
        self.cls = cls
        self.tree = tree(cls)
        self.lines: list[str] = []
        self.names: dict[str, Any] = {"cls": cls, "MISSING": _MISSING, "escape": escape}
        self._counter = 0

    def put(self, depth: int, line: str) -> None:
        self.lines.append("    " * depth + line)

    def name(self, prefix: str, value: Any) -> str:
        """Return a name under which the generated source finds ``value``."""
        self._counter += 1
        name = f"{prefix}{self._counter}"
        self.names[name] = value
        return name

    def variable(self, prefix: str) -> str:
        self._counter += 1
        return f"{prefix}{self._counter}"

    def late(self, get: Callable[[type[Element]], Callable[..., Any]], of: type[Element]) -> str:
        """Return a name for the function of another class, compiled at its first call."""

        def first(*args: Any) -> Any:
            self.names[name] = function = get(of)
            return function(*args)

        name = self.name("f", None)
        self.names[name] = first
        return name

    def write(self) -> None:
        raise NotImplementedError

    def compile(self, into: dict[type[Element], Callable[..., Any]]) -> Callable[..., Any]:
        self.write()
        source = "\n".join(self.lines) + "\n"
        filename = f"<hvcore {self.verb} {self.cls.__qualname__} {id(self.binding):x}>"
        exec(compile(source, filename, "exec"), self.names)  # noqa: S102 - our own source
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        function: Callable[..., Any] = self.names["run"]
        into[self.cls] = function
        return function


class _ParserSource(_Source):
    """Writes ``run(el, ctx) -> cls``."""

    verb = "parse"

    def write(self) -> None:
        self.names["new"] = object.__new__
        self.put(0, "def run(el, ctx):")
        self.put(1, "o = new(cls)")
        self.put(1, "o._line = el.sourceline")
        self.put(1, "o._extra = None")
        self.put(1, "o._ext = None")
        declared = {name for name, _ in fields_of(self.cls)} | {"_line", "_extra", "_ext"}
        for attribute in attrs.fields(self.cls):
            if attribute.name not in declared:  # state of a running domain, not of the document
                self.put(1, f"o.{attribute.name} = {self.name('v', attribute.default)}")
        self.node(1, self.tree, "el", self.binding.extensions(self.cls))
        if hasattr(self.cls, "parsed"):
            self.put(1, "o.parsed(el, ctx)")
        self.put(1, "return o")

    def node(
        self, depth: int, node: Node, el: str, extensions: Iterable[type[Element]] = ()
    ) -> None:
        """Write the parsing of one element whose variable is ``el``."""
        inline = self.binding.inline(self.cls, node.path)
        node.extensions = [e for e in extensions if e.spec.tag]
        attributes = self.variable("d")
        selector = self.cls.selector if node is self.tree else None
        self.put(depth, f"{attributes} = dict({el}.items())")
        if selector:
            self.put(depth, f"{attributes}.pop({selector!r}, None)")
        for name, spec in node.attributes:
            value = self.variable("x")
            # Most attributes are absent, and a membership test is half the price of a pop.
            self.put(depth, f"if {spec.attribute!r} in {attributes}:")
            self.put(depth + 1, f"{value} = {attributes}.pop({spec.attribute!r})")
            self.convert(depth + 1, name, spec, value, el, "refused_attribute")
            self.put(depth, "else:")
            if spec.required:
                self.put(depth + 1, f"ctx.missing_attribute({el}, {self.name('s', spec)})")
            absent = self.default(spec) if spec.bare is None else repr(spec.bare)
            self.put(depth + 1, f"o.{name} = {absent}")
        for extension in inline:
            self.inline(depth, extension, el, attributes)
        self.text(depth, node, el, attributes)
        kids = "()"
        if node.parts or node.extensions:
            kids = self.variable("k")
            self.gather(depth, el, kids)
            for part in node.parts:
                self.part(depth, part, el, kids)
            for extension in node.extensions:
                self.extension(depth, extension, kids)
            self.put(depth, f"if {attributes} or {kids}:")
            rest = f"[e for v in {kids}.values() for e in v]"
        else:
            self.put(depth, f"if {attributes} or len({el}):")
            rest = el
        known = self.name("n", node.known())
        self.put(depth + 1, f"ctx.unclaimed(o, {node.path!r}, {el}, {attributes}, {rest}, {known})")

    def gather(self, depth: int, el: str, kids: str) -> None:
        """Write the collection of child elements by tag."""
        self.put(depth, f"{kids} = {{}}")
        self.put(depth, f"for c in {el}:")
        self.put(depth + 1, "t = c.tag")
        self.put(depth + 1, f"if t in {kids}:")
        self.put(depth + 2, f"{kids}[t].append(c)")
        self.put(depth + 1, "else:")
        self.put(depth + 2, f"{kids}[t] = [c]")

    def default(self, spec: FieldSpec) -> str:
        if spec.many:
            return "[]"
        if spec.default is None or isinstance(spec.default, (bool, int, str)):
            return repr(spec.default)
        return self.name("v", spec.default)

    def convert(
        self, depth: int, name: str, spec: FieldSpec, value: str, el: str, refuse: str
    ) -> None:
        """Write the conversion of the text in variable ``value`` into field ``name``."""
        codec = spec.codec
        if codec.table is not None:
            table = self.name("t", dict(codec.table))
            same = all(k == v for k, v in codec.table.items())
            self.put(depth, f"if {value} in {table}:")
            self.put(depth + 1, f"o.{name} = " + (value if same else f"{table}[{value}]"))
            self.put(depth, "else:")
            self.put(depth + 1, f"ctx.{refuse}({el}, {self.name('s', spec)}, {value}, None)")
            self.put(depth + 1, f"o.{name} = {self.default(spec)}")
        elif codec.convert is not None:
            self.put(depth, "try:")
            self.put(depth + 1, f"o.{name} = {self.name('c', codec.convert)}({value})")
            self.put(depth, "except ValueError as error:")
            self.put(depth + 1, f"ctx.{refuse}({el}, {self.name('s', spec)}, {value}, error)")
            self.put(depth + 1, f"o.{name} = {self.default(spec)}")
        else:
            self.put(depth, f"o.{name} = {value}")

    def text(self, depth: int, node: Node, el: str, attributes: str) -> None:
        """Write the parsing of the element's own text, size or presence."""
        if node.text is None:
            return
        name, spec = node.text
        if spec.kind == "flag":
            self.put(depth, f"o.{name} = True")
        elif spec.kind == "scaled":
            unit = f"{attributes}.pop('unit', None)"
            self.put(depth, f"o.{name} = ctx.size({el}, {self.name('s', spec)}, {unit})")
        else:
            value = self.variable("x")
            self.put(depth, f"{value} = {el}.text or ''")
            if node.parts:  # mixed: what stands between child elements is only white space
                self.put(depth, f"if len({el}):")
                self.put(depth + 1, f"o.{name} = {self.default(spec)}")
                self.put(depth, "else:")
                depth += 1
            if spec.codec.table is not None and not spec.required:
                # To XPath, which libvirt reads by, an empty text is none at all.
                self.put(depth, f"if not {value}:")
                self.put(depth + 1, f"o.{name} = {self.default(spec)}")
                self.put(depth, "else:")
                depth += 1
            self.convert(depth, name, spec, value, el, "refused_text")

    def part(self, depth: int, part: Node | tuple[str, FieldSpec], el: str, kids: str) -> None:
        """Write the parsing of one wrapper or child field below ``el``."""
        if isinstance(part, Node):
            self.wrapper(depth, part, el, kids)
            return
        name, spec = part
        if spec.kind == "custom":
            assert spec.custom is not None
            parse = self.name("p", spec.custom.parse)
            found = "[" + ", ".join(
                f"*{kids}.pop({qualified(tag)!r}, ())" for tag in spec.custom.tags
            ) + "]"  # fmt: skip
            self.put(depth, f"o.{name} = {parse}({found}, ctx, o)")
            return
        found = self.variable("e")
        self.put(depth, f"if {qualified(spec.steps[-1])!r} not in {kids}:")
        self.put(depth + 1, f"o.{name} = {self.default(spec)}")
        self.put(depth, "else:")
        self.put(depth + 1, f"{found} = {kids}.pop({qualified(spec.steps[-1])!r})")
        if spec.kind == "texts":
            self.texts(depth + 1, name, spec, found)
        elif spec.kind == "choice":
            self.choice(depth + 1, name, spec, found)
        else:
            parse = self.late(self.binding.parser, spec.element_class())
            if spec.many:
                self.put(depth + 1, f"o.{name} = [{parse}(e, ctx) for e in {found}]")
            else:
                which = self.repeated(depth + 1, found, spec.steps[-1], kids)
                self.put(depth + 1, f"o.{name} = {parse}({found}[{which}], ctx)")

    def repeated(self, depth: int, found: str, tag: str, kids: str) -> int:
        """Write what happens to a second element where one is expected: it stays unclaimed.

        :returns: the position of the element that counts.
        """
        if self.cls.spec.last_wins:
            return -1
        self.put(depth, f"if len({found}) > 1:")
        self.put(depth + 1, f"{kids}[{qualified(tag)!r}] = {found}[1:]")
        return 0

    def texts(self, depth: int, name: str, spec: FieldSpec, found: str) -> None:
        self.put(depth, f"o.{name} = []")
        self.put(depth, f"for e in {found}:")
        self.put(depth + 1, "y = e.text or ''")
        if spec.codec.convert is None and spec.codec.table is None:
            self.put(depth + 1, f"o.{name}.append(y)")
            return
        self.put(depth + 1, "try:")
        self.put(depth + 2, f"o.{name}.append({self.name('c', spec.codec.read)}(y))")
        self.put(depth + 1, "except ValueError as error:")
        self.put(depth + 2, f"ctx.refused_text(e, {self.name('s', spec)}, y, error)")

    def choice(self, depth: int, name: str, spec: FieldSpec, found: str) -> None:
        """Write the selection of a class by an attribute or by an earlier field."""
        assert spec.by is not None
        classes = spec.classes()
        table = self.name(
            "t", {value: self.late(self.binding.parser, of) for value, of in classes.items()}
        )
        # The table maps to names, so that the first call of each can replace itself.
        names = self.names
        self.names[table] = {v: (lambda e, c, n=n: names[n](e, c)) for v, n in names[table].items()}
        own = spec.by.startswith("@")
        select = f"e.get({spec.by[1:]!r}, {spec.unit or None!r})" if own else f"o.{spec.by}"
        spec_name = self.name("s", spec)
        self.put(depth, f"o.{name} = " + ("[]" if spec.many else "None"))
        self.put(depth, f"for e in {found}" + ("" if spec.many else "[:1]") + ":")
        self.put(depth + 1, f"y = {select}")
        self.put(depth + 1, f"p = {table}.get(y)")
        self.put(depth + 1, "if p is not None:")
        self.put(depth + 2, f"o.{name}.append(p(e, ctx))" if spec.many else f"o.{name} = p(e, ctx)")
        if own:
            self.names.setdefault("refuse_choice", _refuse_choice)
            self.put(depth + 1, "else:")
            self.put(depth + 2, f"refuse_choice(e, ctx, {spec_name}, y)")

    def wrapper(self, depth: int, node: Node, el: str, kids: str) -> None:
        found, inner = self.variable("e"), self.variable("w")
        self.put(depth, f"if {qualified(node.tag)!r} not in {kids}:")
        empty = True
        for name, spec in node.fields():
            empty = False
            if spec.required and spec.kind == "text":
                self.put(depth + 1, f"ctx.missing_text({el}, {self.name('s', spec)})")
            elif spec.required and spec.missing:
                # Without a text of its own, an attribute is required only where its element is.
                self.put(depth + 1, f"ctx.missing_attribute({el}, {self.name('s', spec)})")
            if spec.kind == "custom":
                assert spec.custom is not None
                parse = self.name("p", spec.custom.parse)
                self.put(depth + 1, f"o.{name} = {parse}([], ctx, o)")
            else:
                self.put(depth + 1, f"o.{name} = {self.default(spec)}")
        if empty:
            self.put(depth + 1, "pass")
        self.put(depth, "else:")
        self.put(depth + 1, f"{found} = {kids}.pop({qualified(node.tag)!r})")
        which = self.repeated(depth + 1, found, node.tag, kids)
        self.put(depth + 1, f"{inner} = {found}[{which}]")
        self.node(depth + 1, node, inner)

    def extension(self, depth: int, extension: type[Element], kids: str) -> None:
        parse = self.late(self.binding.parser, extension)
        self.put(depth, f"for e in {kids}.pop({qualified(extension.spec.tag)!r}, ()):")
        self.put(depth + 1, f"{parse}(e, ctx).attach(o)")

    def inline(self, depth: int, extension: type[Element], el: str, attributes: str) -> None:
        """Write an extension that adds attributes to the element itself."""
        own = self.name("n", {f.attribute for _, f in fields_of(extension)})
        parse = self.late(self.binding.parser, extension)
        self.names.setdefault("inline_element", _inline_element)
        self.put(depth, f"if not {own}.isdisjoint({attributes}):")
        depths = {len(f.steps) for _, f in fields_of(extension)}
        stand_in = f"inline_element({el}, {attributes}, {own}, {max(depths)})"
        self.put(depth + 1, f"{parse}({stand_in}, ctx).attach(o)")


def _refuse_choice(
    element: XmlElement, ctx: ParseContext, spec: FieldSpec, value: str | None
) -> None:
    attribute = (spec.by or "")[1:]
    named = attrs.evolve(spec, attribute=attribute)
    if value is None:
        ctx.missing_attribute(element, named)
    else:
        ctx.refused_attribute(element, named, value, None)


def _inline_element(
    element: XmlElement, attributes: dict[str, str], own: set[str], depth: int
) -> XmlElement:
    """Return a stand-in for ``element`` that has only the attributes an extension claims.

    :param depth: how many of the elements around it the stand-in has as well.
    """
    claimed = {name: attributes.pop(name) for name in list(attributes) if name in own}
    stand_in = element.makeelement(element.tag, claimed)
    stand_in.sourceline = element.sourceline
    for around in itertools.islice(element.iterancestors(), depth):
        outer = around.makeelement(around.tag, {})
        outer.sourceline = around.sourceline
        outer.append(stand_in)
        stand_in = outer
    return stand_in


class _FormatterSource(_Source):
    """Writes ``run(o, out, i, ctx)``, which appends the element's lines."""

    verb = "format"

    def write(self) -> None:
        self.names["extra_attributes"] = extra_attributes
        self.names["extra_elements"] = extra_elements
        self.names["ErrorClass"] = ErrorClass
        self.put(0, "def run(o, out, i, ctx, tag=TAG, a=''):")
        self.names["TAG"] = self.cls.spec.tag
        self.put(1, "r = o._extra")
        extensions = self.binding.extensions(self.cls)
        if hasattr(self.cls, "namespaces_here"):
            self.put(1, "ns = ctx.namespaces(o)")
        self.node(1, self.tree, "i", extensions, self.cls.spec.omit_empty)

    def node(
        self,
        depth: int,
        node: Node,
        indent: str,
        extensions: Iterable[type[Element]] = (),
        omit_empty: bool = True,
    ) -> None:
        """Write one element: attributes, then text or children, then the closing tag."""
        root = node is self.tree
        tag = "{tag}" if root else node.tag
        attributes = "a" if root else self.variable("a")
        if not root:
            self.put(depth, f"{attributes} = ''")
        for name, spec in node.attributes:
            self.attribute(depth, name, spec, attributes)
        for extension in self.binding.inline(self.cls, node.path):
            self.inline(depth, extension, attributes)
        self.put(depth, f"if r is not None: {attributes} += extra_attributes(o, {node.path!r})")
        if root and hasattr(self.cls, "namespaces_here"):
            self.put(depth, f"{attributes} += ns")
        if node.text is not None and not node.parts:
            self.text(depth, node, indent, tag, attributes)
            return
        if node.text is not None:
            self.mixed(depth, node, indent, tag, attributes)
            self.put(depth, "else:")
            depth += 1
        nested = [e for e in extensions if e.spec.tag]
        mark, inner = self.variable("m"), self.variable("j")
        self.put(depth, f"{mark} = len(out)")
        self.put(depth, "out.append('')")
        self.put(depth, f"{inner} = {indent} + '  '")
        for part in node.parts:
            self.part(depth, part, inner)
            tag_of = part.tag if isinstance(part, Node) else (part[1].steps or ("",))[-1]
            for extension in [e for e in nested if e.spec.after == tag_of]:
                nested.remove(extension)
                self.extension(depth, extension, inner)
        for extension in nested:
            self.extension(depth, extension, inner)
        self.put(depth, f"if r is not None: extra_elements(o, {node.path!r}, out, {inner})")
        self.put(depth, f"if len(out) - {mark} > 1:")
        self.put(depth + 1, f'out[{mark}] = f"{{{indent}}}<{tag}{{{attributes}}}>\\n"')
        self.put(depth + 1, f'out.append(f"{{{indent}}}</{tag}>\\n")')
        if omit_empty:
            self.put(depth, f"elif {attributes}:")
        else:
            self.put(depth, "else:")
        if root and self.cls.spec.paired:
            opened = f"{{{indent}}}<{tag}{{{attributes}}}>\\n{{{indent}}}</{tag}>\\n"
            self.put(depth + 1, f'out[{mark}] = f"{opened}"')
            return
        self.put(depth + 1, f'out[{mark}] = f"{{{indent}}}<{tag}{{{attributes}}}/>\\n"')
        if omit_empty:
            self.put(depth, "else:")
            self.put(depth + 1, f"del out[{mark}]")

    def mixed(self, depth: int, node: Node, indent: str, tag: str, attributes: str) -> None:
        """Write the text of an element that has either text or children."""
        assert node.text is not None
        name, spec = node.text
        self.put(depth, f"if {self.condition(spec, f'o.{name}')}:")
        line = f"{{{indent}}}<{tag}{{{attributes}}}>{self.written(spec, f'o.{name}')}</{tag}>\\n"
        self.put(depth + 1, f'out.append(f"{line}")')

    def written(self, spec: FieldSpec, value: str) -> str:
        """Return the expression inside an f-string that writes ``value``."""
        codec = spec.codec
        if codec.write is not None:
            return f"{{{self.name('w', codec.write)}({value})}}"
        if codec.escaped:
            return f"{{{value} if {value}.isalnum() else escape({value})}}"
        return f"{{{value}}}"

    def condition(self, spec: FieldSpec, value: str) -> str:
        """Return when the value in variable ``value`` is written."""
        terms = [f"{value} is not None"]
        if spec.omit:
            terms.append(f"{value} not in {self.name('o', spec.omit)}")
        if spec.show != "always":
            terms.append(_SHOWN[spec.show])
        return " and ".join(terms)

    def value(self, name: str, spec: FieldSpec) -> str:
        """Return the expression for what is written of field ``name``."""
        if spec.written is not None:
            return f"{self.name('g', spec.written)}(o, ctx)"
        return f"o.{name}"

    def attribute(self, depth: int, name: str, spec: FieldSpec, attributes: str) -> None:
        value = self.variable("x")
        self.put(depth, f"{value} = {self.value(name, spec)}")
        self.put(depth, f"if {self.condition(spec, value)}:")
        written = self.written(spec, value)
        self.put(depth + 1, f"{attributes} += f\" {spec.attribute}='{written}'\"")

    def text(self, depth: int, node: Node, indent: str, tag: str, attributes: str) -> None:
        assert node.text is not None
        name, spec = node.text
        value = self.variable("x")
        self.put(depth, f"{value} = o.{name}")
        opening = f"{{{indent}}}<{tag}{{{attributes}}}"
        if spec.kind == "flag":
            self.put(depth, f"if {value} or {attributes}:")
            self.put(depth + 1, f'out.append(f"{opening}/>\\n")')
            return
        self.put(depth, f"if {self.condition(spec, value)}:")
        if spec.kind == "scaled":
            unit = f" unit='{spec.unit}'" if spec.unit else ""
            line = f"{opening}{unit}>{{{value}}}</{tag}>"
        else:
            line = f"{opening}>{self.written(spec, value)}</{tag}>"
        self.put(depth + 1, f'out.append(f"{line}\\n")')
        self.put(depth, f"elif {attributes}:")
        self.put(depth + 1, f'out.append(f"{opening}/>\\n")')

    def part(self, depth: int, part: Node | tuple[str, FieldSpec], indent: str) -> None:
        if isinstance(part, Node):
            self.node(depth, part, indent)
            return
        name, spec = part
        value = self.variable("x")
        shown = self.value(name, spec)
        if spec.show == "always":
            self.put(depth, f"{value} = {shown}")
        else:
            nothing = "()" if spec.many else "None"
            self.put(depth, f"{value} = {shown} if {_SHOWN[spec.show]} else {nothing}")
        tag = (spec.steps or ("",))[-1]
        if spec.kind == "custom":
            assert spec.custom is not None
            write = self.name("p", spec.custom.format)
            self.put(depth, f"if {value} is not None:")
            self.put(depth + 1, f"{write}({value}, out, {indent}, ctx, o)")
        elif spec.kind == "texts":
            self.put(depth, f"for y in {value}:")
            written = self.written(spec, "y")
            self.put(depth + 1, f'out.append(f"{{{indent}}}<{tag}>{written}</{tag}>\\n")')
        elif spec.kind == "choice":
            self.choice(depth, spec, value, indent)
        else:
            write = self.late(self.binding.formatter, spec.element_class())
            if spec.many:
                self.put(depth, f"for y in {value}:")
                self.put(depth + 1, f"{write}(y, out, {indent}, ctx, {tag!r})")
            else:
                self.put(depth, f"if {value} is not None:")
                self.put(depth + 1, f"{write}({value}, out, {indent}, ctx, {tag!r})")

    def choice(self, depth: int, spec: FieldSpec, value: str, indent: str) -> None:
        assert spec.by is not None
        own = spec.by.startswith("@")
        names = self.names
        table: dict[type[Element], tuple[Callable[..., None], str]] = {}
        for key, of in spec.classes().items():
            late = self.late(self.binding.formatter, of)
            first = f" {spec.by[1:]}='{key}'" if own else ""
            table.setdefault(of, ((lambda *args, n=late: names[n](*args)), first))
        found, tag = self.name("t", table), spec.steps[-1]
        source = value if spec.many else f"(() if {value} is None else ({value},))"
        self.put(depth, f"for y in {source}:")
        self.put(depth + 1, f"w, f = {found}[type(y)]")
        self.put(depth + 1, f"w(y, out, {indent}, ctx, {tag!r}, f)")

    def extension(self, depth: int, extension: type[Element], indent: str) -> None:
        of, tag = self.name("e", extension), extension.spec.tag
        write = self.late(self.binding.formatter, extension)
        self.put(depth, f"y = None if o._ext is None else o._ext.get({of})")
        self.put(depth, "if y is not None:")
        if extension.spec.many:
            self.put(depth + 1, "for z in y:")
            self.put(depth + 2, f"{write}(z, out, {indent}, ctx, {tag!r})")
        else:
            self.put(depth + 1, f"{write}(y, out, {indent}, ctx, {tag!r})")

    def inline(self, depth: int, extension: type[Element], attributes: str) -> None:
        of = self.name("e", extension)
        self.put(depth, f"z = None if o._ext is None else o._ext.get({of})")
        self.put(depth, "if z is not None:")
        for name, spec in fields_of(extension):
            value = self.variable("x")
            self.put(depth + 1, f"{value} = z.{name}")
            self.put(depth + 1, f"if {self.condition(spec, value)}:")
            written = self.written(spec, value)
            self.put(depth + 2, f"{attributes} += f\" {spec.attribute}='{written}'\"")


class _ClonerSource(_Source):
    """Writes ``run(o) -> copy``."""

    verb = "clone"

    def write(self) -> None:
        self.names["new"] = object.__new__
        self.put(0, "def run(o):")
        self.put(1, "n = new(cls)")
        self.put(1, "n._line = o._line")
        self.put(1, "n._extra = o._extra")
        self.put(1, "x = o._ext")
        self.names["clone_extensions"] = self.extensions
        self.put(1, "n._ext = None if x is None else clone_extensions(x)")
        declared = dict(fields_of(self.cls))
        for attribute in attrs.fields(self.cls):
            if attribute.name not in ("_line", "_extra", "_ext"):
                self.field(attribute.name, declared.get(attribute.name))
        self.put(1, "return n")

    def extensions(self, found: dict[type[Element], Any]) -> dict[type[Element], Any]:
        clone = self.binding.clone
        return {
            of: [clone(v) for v in value] if isinstance(value, list) else clone(value)
            for of, value in found.items()
        }

    def field(self, name: str, spec: FieldSpec | None) -> None:
        if spec is not None and spec.kind == "custom":
            assert spec.custom is not None
            copy = self.name("p", spec.custom.clone)
            self.put(1, f"n.{name} = None if o.{name} is None else {copy}(o.{name})")
        elif spec is not None and spec.kind == "texts":
            self.put(1, f"n.{name} = o.{name}[:]")
        elif spec is not None and spec.kind in ("child", "children", "choice"):
            if spec.kind == "choice":
                clone = self.name("f", self.binding.clone)
            else:
                clone = self.late(self.binding.cloner, spec.element_class())
            if spec.many:
                self.put(1, f"n.{name} = [{clone}(y) for y in o.{name}]")
            else:
                self.put(1, f"n.{name} = None if o.{name} is None else {clone}(o.{name})")
        else:
            self.put(1, f"n.{name} = o.{name}")
