"""Declarations: which class stands for which element, and where each of its values lives.

A value is declared once, in the order in which libvirt writes it::

    @element("iommu")
    class Iommu(Device):
        model: IommuModel | None = attr("@model", ENUM(IommuModel))
        aw_bits: int | None = attr("driver/@aw_bits", UINT, doc="address width in bits")

Paths are relative to the element of the class. ``driver/@aw_bits`` is an attribute of a *wrapper*:
an element without a class of its own, which appears when one of its values is there. ``None`` (for
booleans of presence ``False``, for lists the empty list) means absent and is never written.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any
from typing import ClassVar
from typing import Final
from typing import Literal
from typing import Protocol
from typing import TypeVar
from typing import dataclass_transform

import attrs

from hvcore.xml.codecs import STR
from hvcore.xml.codecs import Codec

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import FormatContext
    from hvcore.xml.context import ParseContext

_C = TypeVar("_C", bound=type)

Kind = Literal["attr", "text", "scaled", "flag", "texts", "child", "children", "choice", "custom"]
Show = Literal["always", "live", "secure", "not_migratable"]

NAMESPACES: Final[dict[str, str]] = {
    "qemu": "http://libvirt.org/schemas/domain/qemu/1.0",
    "ch": "http://libvirt.org/schemas/domain/ch/1.0",
    "test": "http://libvirt.org/schemas/domain/test/1.0",
}
"""Prefix to URI of the namespaces that paths may use, as in ``qemu:arg/@value``."""


def qualified(tag: str) -> str:
    """Return the name lxml uses for ``tag``: ``prefix:name`` becomes ``{uri}name``."""
    prefix, colon, local = tag.partition(":")
    return f"{{{NAMESPACES[prefix]}}}{local}" if colon else tag


class CustomCodec(Protocol):
    """Reading and writing of elements that no declaration describes; keep these rare.

    ``owner`` is the object under construction: fields declared earlier are already set.
    """

    tags: tuple[str, ...]
    rng: str
    json: Mapping[str, Any]

    def parse(self, elements: list[XmlElement], ctx: ParseContext, owner: Any) -> Any:
        """Return the value of the elements with one of ``tags``; the list may be empty."""

    def format(
        self, value: Any, out: list[str], indent: str, ctx: FormatContext, owner: Any
    ) -> None:
        """Append lines, each starting with ``indent`` and ending with a newline, to ``out``."""

    def clone(self, value: Any) -> Any:
        """Return an independent copy of ``value``."""


@attrs.frozen(kw_only=True, eq=False)
class FieldSpec:
    """One declared value; see the functions below for the meaning of each part."""

    kind: Kind
    steps: tuple[str, ...]
    attribute: str | None = None
    codec: Codec = STR
    of: Any = None
    by: str | None = None
    custom: CustomCodec | None = None
    unit: str = "KiB"
    unit_default: str | None = None
    required: bool = False
    default: Any = None
    omit: tuple[Any, ...] = ()
    show: Show = "always"
    refused: str | None = None
    missing: str | None = None
    many: bool = False
    bare: Any = None
    written: Callable[[Any, FormatContext], Any] | None = None
    doc: str = ""

    def element_class(self) -> type[Element]:
        """Return the class of a ``child`` or ``children`` field; forward references are called."""
        cls = self.of if isinstance(self.of, type) else self.of()
        assert issubclass(cls, Element)
        return cls

    def classes(self) -> Mapping[str, type[Element]]:
        """Return the classes of a ``choice`` by the value that selects them."""
        table: Mapping[str, type[Element]] = self.of() if callable(self.of) else self.of
        return table


def _field(spec: FieldSpec) -> Any:
    default: Any = spec.default
    if spec.kind in ("children", "texts") or (spec.kind == "choice" and spec.many):
        return attrs.field(factory=list, metadata={"hvcore": spec})
    # What is required inside a wrapper can be absent together with the wrapper.
    if spec.required and (spec.kind == "text" or (spec.kind == "attr" and not spec.steps)):
        default = attrs.NOTHING
    return attrs.field(default=default, metadata={"hvcore": spec})


def _split(path: str) -> tuple[tuple[str, ...], str | None]:
    *steps, last = path.split("/")
    if last.startswith("@"):
        return tuple(steps), last[1:]
    return (*steps, last) if last else tuple(steps), None


def attr(
    path: str,
    codec: Codec = STR,
    *,
    default: Any = None,
    required: bool = False,
    omit: tuple[Any, ...] = (),
    show: Show = "always",
    refused: str | None = None,
    missing: str | None = None,
    bare: Any = None,
    written: Callable[[Any, FormatContext], Any] | None = None,
    doc: str = "",
) -> Any:
    """Declare an attribute, ``"@name"`` or ``"wrapper/@name"``.

    :param default: the value when the attribute is absent.
    :param bare: the value when the wrapper is there without the attribute, such as True for the
        state of ``<pmu/>``.
    :param required: absence is an issue in libvirt's words.
    :param omit: values besides None that are not written.
    :param show: ``live`` is written only in active output, ``secure`` only with secrets,
        ``not_migratable`` not for migration.
    :param refused: libvirt's text for a refused value where it differs from the usual one; may
        use ``{value}``, and ``{cause}`` for what the codec found wrong. A leading prefix of
        another error class, such as ``internal error:`` with a blank, selects that class.
    :param missing: libvirt's text for a missing value where it differs from the usual one.
    :param written: what is written in place of the value, as a function of the object and of how
        output is wanted; for attributes that follow from other values.
    :param doc: one line for the reference.
    """
    steps, attribute = _split(path)
    return _field(
        FieldSpec(
            kind="attr", steps=steps, attribute=attribute, codec=codec, default=default,
            required=required, omit=omit, show=show, refused=refused, missing=missing, bare=bare,
            written=written, doc=doc,
        )
    )  # fmt: skip


def text(
    path: str = "",
    codec: Codec = STR,
    *,
    default: Any = None,
    required: bool = False,
    omit: tuple[Any, ...] = (),
    show: Show = "always",
    refused: str | None = None,
    missing: str | None = None,
    doc: str = "",
) -> Any:
    """Declare the text of an element; the empty path is the element of the class itself.

    Parameters as for :func:`attr`.
    """
    steps, _ = _split(path)
    return _field(
        FieldSpec(
            kind="text", steps=steps, codec=codec, default=default, required=required,
            omit=omit, show=show, refused=refused, missing=missing, doc=doc,
        )
    )  # fmt: skip


def scaled(
    path: str = "",
    *,
    unit: str = "KiB",
    unit_default: str | None = None,
    omit: tuple[Any, ...] = (),
    show: Show = "always",
    refused: str | None = None,
    doc: str = "",
) -> Any:
    """Declare a size: text with a ``unit`` attribute, kept and written in ``unit``, rounded up.

    :param unit_default: the unit of a text without one, where it is not ``unit``.
    :param show, refused: as for :func:`attr`; without ``{value}`` it is also said of a wrong unit.
    """
    steps, _ = _split(path)
    return _field(
        FieldSpec(
            kind="scaled", steps=steps, unit=unit, unit_default=unit_default, omit=omit,
            show=show, refused=refused, doc=doc,
        )
    )  # fmt: skip


def flag(path: str, *, doc: str = "") -> Any:
    """Declare an element whose presence is the value, such as ``<readonly/>``."""
    steps, _ = _split(path)
    return _field(FieldSpec(kind="flag", steps=steps, default=False, doc=doc))


def texts(path: str, codec: Codec = STR, *, refused: str | None = None, doc: str = "") -> Any:
    """Declare the texts of a repeated element as a list."""
    steps, _ = _split(path)
    return _field(
        FieldSpec(kind="texts", steps=steps, codec=codec, many=True, refused=refused, doc=doc)
    )


def child(
    path: str,
    of: Any,
    *,
    show: Show = "always",
    written: Callable[[Any, FormatContext], Any] | None = None,
    doc: str = "",
) -> Any:
    """Declare an element with a class of its own, at most once.

    :param of: the class, or a function that returns it (for forward references).
    :param show: as for :func:`attr`.
    :param written: as for :func:`attr`; returns the object to write, or None.
    """
    steps, _ = _split(path)
    return _field(FieldSpec(kind="child", steps=steps, of=of, show=show, written=written, doc=doc))


def children(
    path: str,
    of: Any,
    *,
    show: Show = "always",
    written: Callable[[Any, FormatContext], Any] | None = None,
    doc: str = "",
) -> Any:
    """Declare a repeated element with a class of its own, as a list; parameters as for child.

    :param written: as for :func:`attr`; returns the objects to write.
    """
    steps, _ = _split(path)
    return _field(
        FieldSpec(
            kind="children", steps=steps, of=of, many=True, show=show, written=written, doc=doc
        )
    )


def choice(
    path: str,
    by: str,
    of: Any,
    *,
    default: str | None = None,
    many: bool = False,
    refused: str | None = None,
    missing: str | None = None,
    written: Callable[[Any, FormatContext], Any] | None = None,
    doc: str = "",
) -> Any:
    """Declare an element whose class depends on a value.

    :param by: ``"@type"``, an attribute of the element itself, which is then written first and
        must not be a field of the classes; or ``"type"``, an attribute of the owner that was
        declared before.
    :param of: value to class (or a function that returns that mapping).
    :param default: the selecting value when the attribute is absent; None makes it required.
    :param many: a list instead of at most one.
    :param refused: as for :func:`attr`, about the selecting value.
    :param missing: likewise.
    :param written: as for :func:`attr`; returns the object or objects to write.
    """
    steps, _ = _split(path)
    return _field(
        FieldSpec(
            kind="choice", steps=steps, of=of, by=by, default=None, many=many, refused=refused,
            missing=missing, written=written, doc=doc, unit=default or "",
        )
    )  # fmt: skip


def custom(codec: CustomCodec, *, wrapper: str = "", default: Any = None, doc: str = "") -> Any:
    """Declare elements that a hand-written codec reads and writes, below ``wrapper``."""
    steps = tuple(wrapper.split("/")) if wrapper else ()
    return _field(FieldSpec(kind="custom", steps=steps, custom=codec, default=default, doc=doc))


@attrs.frozen(kw_only=True, eq=False)
class ElementSpec:
    """What :func:`element` was told about a class.

    :param tag: the element's name; the empty string makes the fields attributes of the element
        that ``extends`` names, or of one of its wrappers (``acpi/@nodeset``).
    :param extends: the class this one is an extension of, or ``module:Class`` for a class that
        is better imported when it is needed: plugins are loaded by programs that read no document.
    :param after: name of the sibling element after which an extension is written.
    :param many: whether an extension may be repeated.
    :param omit_empty: whether an element without content is left out.
    :param last_wins: whether of elements given twice the last one counts, rather than the second
        one being unclaimed.
    :param paired: whether an element without content still has a closing tag on a line of its own.
    """

    tag: str
    extends: type[Element] | str | None = None
    after: str | None = None
    many: bool = False
    omit_empty: bool = False
    paired: bool = False
    last_wins: bool = False
    doc: str = ""

    @property
    def extended_name(self) -> str:
        """``module:Class`` of what this extends."""
        of = self.extends
        return f"{of.__module__}:{of.__qualname__}" if isinstance(of, type) else of or ""

    def extended(self) -> type[Element] | None:
        """Return the class this extends, imported if need be."""
        if not isinstance(self.extends, str):
            return self.extends
        module, _, name = self.extends.partition(":")
        found: type[Element] = getattr(importlib.import_module(module), name)
        return found


@attrs.define(slots=True, kw_only=True, init=False, eq=False, repr=False)
class Element:
    """Base of every class that stands for an element.

    :ivar _line: line of the source document, None for objects made by hand.
    :ivar _extra: what no declaration claims, kept verbatim: wrapper path to its leftover
        attributes and children.
    :ivar _ext: extensions of plugins by class.
    """

    spec: ClassVar[ElementSpec]
    selector: ClassVar[str | None] = None
    """Attribute by which a ``choice`` picked this class; it is no field of the class."""
    leading: ClassVar[tuple[str, ...]] = ()
    """Fields, in order, that libvirt writes before all others, inherited ones included."""
    trailing: ClassVar[tuple[str, ...]] = ()
    """Fields that libvirt writes after everything else, inherited ones included."""

    _line: int | None = attrs.field(default=None, init=False, repr=False, eq=False)
    _extra: dict[str, tuple[dict[str, str], tuple[str, ...]]] | None = attrs.field(
        default=None, init=False, repr=False
    )
    _ext: dict[type[Element], Any] | None = attrs.field(default=None, init=False, repr=False)

    def __init__(self, **values: Any) -> None:
        _first_object(self, **values)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(
            getattr(self, attribute.name) == getattr(other, attribute.name)
            for attribute in attrs.fields(type(self))
            if attribute.eq
        )

    __hash__ = None  # type: ignore[assignment] # elements change

    def __repr__(self) -> str:
        given = [
            f"{name}={getattr(self, name)!r}"
            for name, default in _defaults_of(type(self))
            if not name.startswith("_") and getattr(self, name) not in (default, [])
        ]
        return f"{type(self).__qualname__}({', '.join(given)})"

    @property
    def line(self) -> int | None:
        """The line this came from, 1-based, or None."""
        return self._line

    @classmethod
    def of(cls, owner: Element) -> Any:
        """Return this extension of ``owner``: an instance, None, or a list for repeated ones."""
        found = owner._ext.get(cls) if owner._ext is not None else None
        return [] if found is None and cls.spec.many else found

    def attach(self, owner: Element) -> None:
        """Make this extension a part of ``owner``."""
        if owner._ext is None:
            owner._ext = {}
        if self.spec.many:
            owner._ext.setdefault(type(self), []).append(self)
        else:
            owner._ext[type(self)] = self

    def extensions(self) -> Sequence[Element]:
        """Return all extensions of plugins on this element."""
        found: list[Element] = []
        for value in (self._ext or {}).values():
            found.extend(value if isinstance(value, list) else [value])
        return found

    @property
    def unclaimed(self) -> Mapping[str, tuple[Mapping[str, str], tuple[str, ...]]]:
        """Attributes and elements of the document that no declaration claims, by wrapper path."""
        return self._extra or {}


# The functions above are deliberately no field specifiers: a type checker would take every field
# without a written default for required in the constructor, and nearly all default to None.
_FACTORY: Final[Any] = type(attrs.Factory(list))
_DEFAULTS: Final[dict[type, list[tuple[str, Any]]]] = {}


def _defaults_of(cls: type[Element]) -> list[tuple[str, Any]]:
    """Return the attributes of ``cls`` with their defaults, or factories of defaults."""
    known = _DEFAULTS.get(cls)
    if known is None:
        known = _DEFAULTS[cls] = [(a.name, a.default) for a in attrs.fields(cls)]
    return known


def _first_object(self: Element, **values: Any) -> None:
    """Initialise the first object of a class, and give the class its own way for the others.

    Most classes are only ever parsed, which takes no initialiser.
    """
    cls = type(self)
    cls.__init__ = _initialiser(cls)  # type: ignore[method-assign]
    cls.__init__(self, **values)


def _initialiser(cls: type[Element]) -> Callable[..., None]:
    """Return an initialiser that takes the attributes of ``cls`` by keyword."""
    names: dict[str, Any] = {"ABSENT": attrs.NOTHING}
    parameters, lines = [], []
    for name, default in _defaults_of(cls):
        if default is attrs.NOTHING:
            parameters.append(name)
            lines.append(f"    self.{name} = {name}")
        elif isinstance(default, _FACTORY):
            names[f"make_{name}"] = default.factory
            parameters.append(f"{name}=ABSENT")
            lines.append(f"    self.{name} = make_{name}() if {name} is ABSENT else {name}")
        else:
            names[f"default_{name}"] = default
            parameters.append(f"{name}=default_{name}")
            lines.append(f"    self.{name} = {name}")
    source = f"def __init__(self, *, {', '.join(parameters)}):\n" + "\n".join(lines)
    exec(compile(source, f"<hvcore initialise {cls.__qualname__}>", "exec"), names)  # noqa: S102 - our own source
    made: Callable[..., None] = names["__init__"]
    return made


@dataclass_transform(kw_only_default=True)
def element(
    tag: str,
    *,
    extends: type[Element] | str | None = None,
    after: str | None = None,
    many: bool = False,
    omit_empty: bool = False,
    paired: bool = False,
    last_wins: bool = False,
) -> Callable[[_C], _C]:
    """Make a class stand for the element ``tag``; parameters as for :class:`ElementSpec`."""

    def wrap(cls: _C) -> _C:
        # What attrs would compile for each class costs more than all else at import; Element has it
        # once for all.
        made: Any = attrs.define(slots=True, kw_only=True, init=False, eq=False, repr=False)(cls)
        made.__init__ = _first_object  # its own, or it would inherit that of a base once made
        made.spec = ElementSpec(
            tag=tag, extends=extends, after=after, many=many, omit_empty=omit_empty,
            paired=paired, last_wins=last_wins, doc=(cls.__doc__ or "").strip(),
        )  # fmt: skip
        result: _C = made
        return result

    return wrap


def fields_of(cls: type[Element]) -> list[tuple[str, FieldSpec]]:
    """Return the declared fields in document order: own ones first, inherited ones after.

    What a base class declares (alias, boot order, address) is what libvirt writes last, but for
    the fields the class names in ``leading`` and ``trailing``.
    """
    known = _FIELDS.get(cls)
    if known is not None:
        return known
    found: list[tuple[int, str, FieldSpec]] = []
    for attribute in attrs.fields(cls):
        spec = attribute.metadata.get("hvcore")
        if spec is not None:
            declared_by = next(
                i
                for i, base in enumerate(cls.__mro__)
                if attribute.name in base.__dict__.get("__annotations__", {})  # noqa: RUF063 - of this class alone
            )
            found.append((declared_by, attribute.name, spec))
    # Sorting is stable: within a class the order is that of declaration.
    first = {name: place for place, name in enumerate(cls.leading, start=-len(cls.leading))}
    found.sort(key=lambda item: (item[1] in cls.trailing, first.get(item[1], 0), item[0]))
    _FIELDS[cls] = known = [(name, spec) for _, name, spec in found]
    return known


_FIELDS: Final[dict[type, list[tuple[str, FieldSpec]]]] = {}


_CHILDREN: Final[dict[type, tuple[str, ...]]] = {}


def child_names(cls: type[Element]) -> tuple[str, ...]:
    """Return the names of the fields that hold elements, alone or in lists."""
    found = _CHILDREN.get(cls)
    if found is None:
        kinds = ("child", "children", "choice")
        found = tuple(name for name, spec in fields_of(cls) if spec.kind in kinds)
        _CHILDREN[cls] = found
    return found
