"""Conversions between the text of an attribute or element and a Python value.

A codec is data: the generator (``hvcore.xml.codegen``) reads it and writes the conversion inline.
Refusals are libvirt's, so each codec states what libvirt says it expected.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import Final
from typing import get_args

import attrs

from hvcore.model.types import NodeSet

_SPACE: Final = re.compile(r"[\t\n\r ]")
_INTEGER: Final = re.compile(r"[ \t\n\r]*([+-]?)(0[xX][0-9a-fA-F]+|[0-9]+)\Z")
_UNESCAPED: Final = re.compile("[<>&'\"\x01-\x08\x0b\x0c\x0e-\x19]")
_ENTITIES: Final = str.maketrans(
    {"<": "&lt;", ">": "&gt;", "&": "&amp;", '"': "&quot;", "'": "&apos;"}
    | {chr(c): None for c in (*range(1, 9), 0x0B, 0x0C, *range(0x0E, 0x1A))}
)


def escape(text: str) -> str:
    """Return ``text`` as libvirt writes it in XML; characters that XML forbids are dropped."""
    if _UNESCAPED.search(text) is None:
        return text
    return text.translate(_ENTITIES)


@attrs.frozen(eq=False)
class Codec:
    """How one kind of value is read, written and described.

    :param name: short name for the reference table.
    :param table: the accepted spellings and their values; excludes ``convert``.
    :param convert: text to value; raises ValueError when the text is refused.
    :param write: value to text; None when ``str()`` of the value needs no escaping.
    :param escaped: whether written text may hold characters that XML reserves.
    :param expected: libvirt's addition to the refusal, for instance ``Expected integer value``.
    :param rng: RELAX NG pattern of the value, as XML.
    :param json: JSON schema of the Python value.
    """

    name: str
    table: Mapping[str, Any] | None = None
    convert: Callable[[str], Any] | None = None
    write: Callable[[Any], str] | None = None
    escaped: bool = False
    expected: str = ""
    rng: str = "<text/>"
    json: Mapping[str, Any] = attrs.field(factory=lambda: {"type": "string"})

    def read(self, text: str) -> Any:
        """Return the value of ``text``.

        :raises ValueError: when the text is refused.
        """
        if self.table is not None:
            if text not in self.table:
                raise ValueError(text)
            return self.table[text]
        return text if self.convert is None else self.convert(text)


def _choice(values: tuple[str, ...]) -> str:
    return "<choice>" + "".join(f"<value>{escape(v)}</value>" for v in values) + "</choice>"


STR: Final = Codec("string", escaped=True)
"""Any text, kept as it is."""

NONEMPTY: Final = Codec("string", convert=lambda text: text or None, escaped=True)
"""Any text; the empty one counts as absent, as in all of libvirt's XPath look-ups."""

IGNORED: Final = Codec("ignored", convert=lambda text: None, escaped=True)  # noqa: ARG005
"""Read and forgotten, where libvirt accepts an attribute that it never looks at."""


def ENUM(literal: Any) -> Codec:  # noqa: N802 - codecs read like types in declarations
    """Return the codec of a ``Literal[...]`` alias: exactly its spellings, nothing else."""
    values = get_args(literal)
    return Codec(
        "enum",
        table={v: v for v in values},
        rng=_choice(values),
        json={"type": "string", "enum": list(values)},
    )


def absent_if(codec: Codec, *texts: str) -> Codec:
    """Return ``codec`` for attributes where some texts are as good as no attribute."""
    return attrs.evolve(
        codec, table=None, convert=lambda text: None if text in texts else codec.read(text)
    )


def forgiving(codec: Codec) -> Codec:
    """Return the codec of an enumeration for attributes whose unknown values libvirt ignores."""
    assert codec.table is not None
    return attrs.evolve(codec, table=None, convert=codec.table.get)


def EMPTY_OR_ENUM(literal: Any) -> Codec:  # noqa: N802 - as ENUM
    """Return the codec of a ``Literal[...]`` alias for what libvirt reads by XPath.

    There the empty text counts as absent.
    """
    codec = ENUM(literal)
    return attrs.evolve(codec, table={**(codec.table or {}), "": None})


def _boolean(name: str, yes: str, no: str) -> Codec:
    return Codec(
        name,
        table={yes: True, no: False},
        write={True: yes, False: no}.__getitem__,
        rng=_choice((yes, no)),
        json={"type": "boolean"},
    )


YESNO: Final = _boolean("yes/no", "yes", "no")
ONOFF: Final = _boolean("on/off", "on", "off")
TRUEFALSE: Final = _boolean("true/false", "true", "false")
ONEZERO: Final = _boolean("1/0", "1", "0")


def _integer(text: str, low: int, high: int, base: int) -> int:
    match = _INTEGER.match(text)
    if match is None:
        raise ValueError(text)
    sign, digits = match.groups()
    if base:
        value = int(digits, base)
    elif digits[:2] in ("0x", "0X"):
        value = int(digits, 16)
    else:
        # C's base 0: a leading zero means octal.
        value = int(digits, 8 if digits[0] == "0" and len(digits) > 1 else 10)
    if sign == "-":
        value = -value
    if not low <= value <= high:
        raise ValueError(text)
    return value


def INTEGER(  # noqa: N802
    low: int,
    high: int,
    *,
    base: int = 10,
    form: str | None = None,
    expected: str = "Expected integer value",
    negative: str | None = None,
    zero: bool = True,
) -> Codec:
    """Return the codec of an integer in ``low..high``.

    :param base: 10, 16, or 0 for C's rules (``0x`` hexadecimal, leading zero octal).
    :param form: printf-like format specification for writing, for instance ``#06x``.
    :param negative: libvirt's addition to the refusal of a negative number, where it is not that
        of everything else.
    :param zero: whether zero is permitted.
    """

    def convert(text: str) -> int:
        value = int(text) if base == 10 and text.isascii() and text.isdigit() else None
        if value is None or not low <= value <= high:
            value = _integer(text, low if negative is None else -high - 1, high, base)
            if value < low:
                raise ValueError(negative)
        if not zero and value == 0:
            raise ValueError("Zero is not permitted")
        return value

    write = (lambda value: format(value, form)) if form else None
    if base == 10:
        rng = (
            f'<data type="integer"><param name="minInclusive">{low}</param>'
            f'<param name="maxInclusive">{high}</param></data>'
        )
    else:
        sign = "[-]?" if low < 0 else ""
        rng = f'<data type="string"><param name="pattern">{sign}(0[xX])?[0-9a-fA-F]+</param></data>'
    return Codec(
        "integer",
        convert=convert,
        write=write,
        expected=expected,
        rng=rng,
        json={"type": "integer", "minimum": low, "maximum": high},
    )


NON_NEGATIVE: Final = "Expected non-negative integer value"
INT: Final = INTEGER(-(2**31), 2**31 - 1)
LONG: Final = INTEGER(-(2**63), 2**63 - 1, expected="Expected long long integer value")
UINT: Final = INTEGER(0, 2**32 - 1, expected=NON_NEGATIVE)
ULONG: Final = INTEGER(0, 2**64 - 1, expected=NON_NEGATIVE)
POSITIVE: Final = INTEGER(0, 2**32 - 1, expected=NON_NEGATIVE, zero=False)
UINT0: Final = INTEGER(0, 2**32 - 1, base=0, expected=NON_NEGATIVE)


def HEX(width: int, *, high: int | None = None) -> Codec:  # noqa: N802
    """Return the codec of a number written as ``0x`` and at least ``width`` hexadecimal digits."""
    top = high if high is not None else 16 ** max(width, 8) - 1
    return INTEGER(0, top, base=0, form=f"#0{width + 2}x", expected=NON_NEGATIVE)


def _nodeset(text: str) -> NodeSet:
    return NodeSet.parse(text)


NODESET: Final = Codec(
    "node or CPU set",
    convert=_nodeset,
    write=str,
    rng='<data type="string"><param name="pattern">[0-9,\\-^ ]+</param></data>',
    json={"type": "string", "pattern": "^[0-9,^ -]+$"},
)
"""Sets such as ``0-3,^2``; see SPEC of cpuset in libvirt's formatdomain."""

_HEX32: Final = re.compile(r"[0-9a-fA-F]{32}\Z")


def parse_uuid(text: str) -> str:
    """Return a UUID in lower case with dashes.

    :raises ValueError: when ``text`` is not one, however it is written.
    """
    digits = _SPACE.sub("", text).replace("-", "")
    if _HEX32.match(digits) is None:
        raise ValueError(text)
    d = digits.lower()
    return f"{d[:8]}-{d[8:12]}-{d[12:16]}-{d[16:20]}-{d[20:]}"


UUID: Final = Codec(
    "UUID",
    convert=parse_uuid,
    expected="Expected UUID",
    rng='<data type="string"><param name="pattern">'
    "[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}</param></data>",
    json={"type": "string", "format": "uuid"},
)

_UNITS: Final[Mapping[str, int]] = {
    "": 1, "b": 1, "byte": 1, "bytes": 1,
    **{
        spelling: factor
        for power, letter in enumerate("kmgtpe", start=1)
        for spelling, factor in (
            (letter, 1024**power),
            (letter + "ib", 1024**power),
            (letter + "b", 1000**power),
        )
    },
}  # fmt: skip


def unit_factor(unit: str) -> int:
    """Return how many bytes one ``unit`` is; spellings are those of libvirt, in any case.

    :raises ValueError: when the suffix is unknown.
    """
    factor = _UNITS.get(unit.lower())
    if factor is None:
        raise ValueError(f"unknown suffix '{unit}'")
    return factor


def _unit(text: str) -> str:
    unit_factor(text)
    return text


UNIT: Final = Codec("unit", convert=_unit, escaped=True)
"""A unit of sizes where it is kept beside the number."""
