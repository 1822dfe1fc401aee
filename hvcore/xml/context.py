"""What a parser or formatter carries along: the issues found, and how output is wanted."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import cast

from hvcore.errors import ErrorClass
from hvcore.errors import Issue
from hvcore.xml.codecs import escape
from hvcore.xml.codecs import unit_factor
from hvcore.xml.fields import NAMESPACES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lxml.etree import _Element as XmlElement

    from hvcore.xml.fields import Element
    from hvcore.xml.fields import FieldSpec

_CLASSES: Final = {
    kind.prefix: kind for kind in (ErrorClass.CONFIG_UNSUPPORTED, ErrorClass.INTERNAL)
} | {ErrorClass.INVALID_ARG.prefix: ErrorClass.INVALID_ARG}
_DIGITS_MAX: Final = 1000
"""More leading zeros than anybody writes, and fewer digits than Python refuses to convert."""
_PREFIXES: Final = {uri: prefix for prefix, uri in NAMESPACES.items()}


def local_name(tag: str) -> str:
    """Return ``prefix:name`` for a tag of a known namespace, and ``tag`` as it is otherwise."""
    if tag.startswith("{"):
        uri, _, local = tag[1:].partition("}")
        prefix = _PREFIXES.get(uri)
        return f"{prefix}:{local}" if prefix else tag
    return tag


def is_unsigned(digits: str) -> bool:
    """Return whether ``digits`` is a number that fits in 64 bits, as libvirt reads sizes."""
    if not (digits.isascii() and digits.isdigit()):
        return False
    return len(digits) <= _DIGITS_MAX and int(digits) < 2**64


class ParseContext:
    """Collects the issues of one parse; the parser goes on after each.

    :param strict: report elements and attributes that nothing claims.
    """

    __slots__ = ("issues", "strict")

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.issues: list[Issue] = []

    def issue(
        self,
        element: XmlElement,
        message: str,
        *,
        kind: ErrorClass = ErrorClass.XML,
        attribute: str | None = None,
        hint: str | None = None,
    ) -> None:
        """Record an issue at ``element``; the message may begin with another class's prefix."""
        for prefix, other in _CLASSES.items():
            if message.startswith(prefix):
                kind, message = other, message.removeprefix(prefix)
        path = element.getroottree().getpath(element)
        if attribute is not None:
            path += f"/@{attribute}"
        line = cast("int | None", element.sourceline)
        self.issues.append(Issue(message, kind, path=path, line=line, hint=hint))

    def forget(self, place: str) -> None:
        """Drop the issues whose path ends with ``place``: libvirt does not read it here."""
        self.issues = [i for i in self.issues if not (i.path or "").endswith(place)]

    def refused_attribute(
        self, element: XmlElement, spec: FieldSpec, value: str, cause: ValueError | None
    ) -> None:
        """Record that the value of an attribute is not one of those accepted."""
        name = spec.attribute or ""
        if spec.refused is not None:
            message = spec.refused.format(value=value, cause=cause)
        elif cause is not None and str(cause).startswith("Failed to parse bitmap"):
            message = ErrorClass.INVALID_ARG.prefix + str(cause)
        elif cause is not None and str(cause) == "Zero is not permitted":
            message = (
                f"Invalid value for attribute '{name}' in element '{local_name(element.tag)}': "
                "Zero is not permitted"
            )
        else:
            message = (
                f"Invalid value for attribute '{name}' in element "
                f"'{local_name(element.tag)}': '{value}'."
            )
            wrong = str(cause) if str(cause).startswith("Expected ") else spec.codec.expected
            if wrong:
                message += " " + wrong
        hint = None
        if spec.codec.table is not None:
            hint = _nearest(value, spec.codec.table)
        self.issue(element, message, attribute=name, hint=hint)

    def refused_text(
        self, element: XmlElement, spec: FieldSpec, value: str, cause: ValueError | None
    ) -> None:
        """Record that the text of an element is not one of those accepted."""
        if spec.refused is not None:
            message = spec.refused.format(value=value, cause=cause)
        elif cause is not None and str(cause).startswith("Failed to parse bitmap"):
            message = ErrorClass.INVALID_ARG.prefix + str(cause)
        else:
            message = f"Invalid value '{value}' for element or attribute './{element.tag}'"
        self.issue(element, message)

    def missing_attribute(self, element: XmlElement, spec: FieldSpec) -> None:
        """Record that a required attribute is absent."""
        message = spec.missing or (
            f"Missing required attribute '{spec.attribute}' in element '{local_name(element.tag)}'"
        )
        self.issue(element, message, attribute=spec.attribute)

    def missing_text(self, element: XmlElement, spec: FieldSpec) -> None:
        """Record that a required element is absent from ``element``."""
        self.issue(element, spec.missing or f"missing element or attribute '{spec.steps[-1]}'")

    def size(self, element: XmlElement, spec: FieldSpec, unit: str | None) -> int | None:
        """Return the size that ``element`` gives, in the unit of ``spec``, rounded up."""
        given = element.text or ""
        if not given:
            return None  # to XPath, which libvirt reads by, an empty text is none at all
        digits = given.strip()
        if not is_unsigned(digits):
            self.issue(
                element,
                spec.refused.format(value=given)
                if spec.refused
                else f"Invalid value '{given}' for element or attribute './{element.tag}[1]'",
            )
            return None
        if not unit:
            unit = spec.unit if spec.unit_default is None else spec.unit_default
        try:
            amount = int(digits) * unit_factor(unit)
        except ValueError as error:
            # A refusal that does not name the value is meant for everything that is wrong.
            general = spec.refused if spec.refused and "{value}" not in spec.refused else None
            message = general or ErrorClass.INVALID_ARG.prefix + str(error)
            self.issue(element, message, attribute="unit")
            return None
        if amount >= 2**63:
            self.issue(element, f"value too large: {digits}{unit}", kind=ErrorClass.OVERFLOW)
            return None
        return -(-amount // unit_factor(spec.unit))

    def unclaimed(
        self,
        owner: Element,
        path: str,
        element: XmlElement,
        attributes: dict[str, str],
        elements: Iterable[XmlElement],
        known: tuple[str, ...],
    ) -> None:
        """Keep what no declaration claims on ``owner``; in strict mode also report it."""
        kept = []
        for extra in elements:
            kept.append(verbatim(extra))
            if self.strict:
                name = local_name(extra.tag)
                self.issue(
                    extra,
                    f"Element {element.tag} has extra content: {name}",
                    kind=ErrorClass.XML_INVALID_SCHEMA,
                    hint=_nearest(name, [k for k in known if not k.startswith("@")]),
                )
        if self.strict:
            for name in attributes:
                self.issue(
                    element,
                    f"Invalid attribute {name} for element {element.tag}",
                    kind=ErrorClass.XML_INVALID_SCHEMA,
                    attribute=name,
                    hint=_nearest(name, [k[1:] for k in known if k.startswith("@")]),
                )
        extra_map = owner._extra  # noqa: SLF001 - the binding owns these slots
        if extra_map is None:
            owner._extra = extra_map = {}  # noqa: SLF001
        before = extra_map.get(path, ({}, ()))
        extra_map[path] = ({**before[0], **attributes}, (*before[1], *kept))


def _nearest(value: str, known: Iterable[str]) -> str | None:
    close = difflib.get_close_matches(value, list(known), n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else None


def verbatim(element: XmlElement) -> str:
    """Return ``element`` as text, without indentation of its own and without a trailing newline."""
    from lxml import etree  # noqa: PLC0415 - formatting alone never needs lxml

    text = etree.tostring(element, encoding="unicode", with_tail=False, pretty_print=True)
    return text.rstrip("\n")


class FormatContext:
    """How output is wanted.

    :param inactive: the persistent configuration, without what only a running domain has.
    :param secure: with passwords.
    :param migratable: as a migration target of the same or an older version expects it.
    """

    __slots__ = ("inactive", "migratable", "secure")

    def __init__(
        self, *, inactive: bool = True, secure: bool = False, migratable: bool = False
    ) -> None:
        self.inactive = inactive
        self.secure = secure
        self.migratable = migratable

    def namespaces(self, owner: Element) -> str:
        """Return the namespace declarations that the extensions of the root element need."""
        used = {
            extension.spec.tag.partition(":")[0]
            for extension in owner.extensions()
            if ":" in extension.spec.tag
        }
        return "".join(f" xmlns:{p}='{NAMESPACES[p]}'" for p in NAMESPACES if p in used)


def extra_attributes(owner: Any, path: str) -> str:
    """Return the unclaimed attributes kept for the wrapper ``path``, as text."""
    found = owner._extra.get(path)  # noqa: SLF001 - the binding owns these slots
    if found is None:
        return ""
    return "".join(f" {local_name(name)}='{escape(value)}'" for name, value in found[0].items())


def extra_elements(owner: Any, path: str, out: list[str], indent: str) -> None:
    """Append the unclaimed elements kept for the wrapper ``path``."""
    found = owner._extra.get(path)  # noqa: SLF001 - the binding owns these slots
    if found is not None:
        out.extend("".join(f"{indent}{line}\n" for line in t.split("\n")) for t in found[1])
