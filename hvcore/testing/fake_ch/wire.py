"""How Cloud Hypervisor reads and writes JSON: the rules of its deserialiser.

A structure is a tuple of `Field`; a field names its kind. The real program derives the same from
its Rust types: an unknown name is ignored without a word (except where a structure denies it), an
optional member that is absent is left out of what is written, and a member that is required by
the program is not always the one that its API description calls required. Both are kept here, so
that one table serves the fake program and the description of its API.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any
from typing import Final
from typing import NamedTuple

_MAC: Final = re.compile(r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")


class DecodeError(Exception):
    """The body is not what the structure asks for; the message is the program's own."""


class Integer(NamedTuple):
    """An integer of Rust; `minimum` is what the API description adds, the program does not."""

    name: str
    low: int
    high: int
    minimum: int | None = None
    maximum: int | None = None


class Names(NamedTuple):
    """An enumeration, written by name."""

    name: str
    values: tuple[str, ...]
    described: bool = True


class ListOf(NamedTuple):
    """A JSON array."""

    item: Kind


class MapOf(NamedTuple):
    """A JSON object with free names."""

    item: Kind


class Named(NamedTuple):
    """A structure, by its name in the table of structures."""

    name: str


class Word(NamedTuple):
    """A string, a boolean or a free object; `expected` is the deserialiser's word for it."""

    name: str
    json: str
    expected: str


#: Name of a JSON type -> the Python type that stands for it.
PYTHON_TYPES: Final[dict[str, type]] = {"boolean": bool, "string": str, "object": dict}

Kind = Integer | Names | ListOf | MapOf | Named | Word

BOOL: Final = Word("bool", "boolean", "a boolean")
STRING: Final = Word("string", "string", "a string")
PATH: Final = Word("path", "string", "path string")
MAC: Final = Word("mac", "string", "a string")
IP: Final = Word("ip", "string", "IpAddr")
ANY: Final = Word("any", "object", "a map")
U8: Final = Integer("u8", 0, 0xFF)
U16: Final = Integer("u16", 0, 0xFFFF)
U32: Final = Integer("u32", 0, 0xFFFF_FFFF)
U64: Final = Integer("u64", 0, 0xFFFF_FFFF_FFFF_FFFF)
USIZE: Final = Integer("usize", 0, 0xFFFF_FFFF_FFFF_FFFF)
I32: Final = Integer("i32", -0x8000_0000, 0x7FFF_FFFF)
I64: Final = Integer("i64", -0x8000_0000_0000_0000, 0x7FFF_FFFF_FFFF_FFFF)


class Field(NamedTuple):
    """A member of a structure.

    `need` is the program's opinion of whether it must be there, `described_need` that of the API
    description (the same unless said). `default` is what the program fills in; a callable is
    called. A member whose value is None is not written, unless `writes_null`.
    """

    name: str
    kind: Kind
    need: bool = False
    default: Any = None
    described: bool = True
    described_need: bool | None = None
    described_name: str | None = None
    aliases: tuple[str, ...] = ()
    feature: str | None = None
    writes_null: bool = False
    omit_false: bool = False


class Struct(NamedTuple):
    """A structure; `denies_unknown` ones refuse a name that they do not know."""

    name: str
    fields: tuple[Field, ...]
    denies_unknown: bool = False
    described: bool = True


def _show(value: Any) -> str:
    """Say what a value is, as the deserialiser does.

    >>> _show("x"), _show(3), _show(None)
    ('string "x"', 'integer `3`', 'null')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"boolean `{str(value).lower()}`"
    if isinstance(value, int):
        return f"integer `{value}`"
    if isinstance(value, float):
        return f"floating point `{value}`"
    if isinstance(value, str):
        return f'string "{value}"'
    return "sequence" if isinstance(value, list) else "map"


def _one_of(values: tuple[str, ...]) -> str:
    quoted = [f"`{value}`" for value in values]
    if len(quoted) < 3:
        return " or ".join(quoted)
    return f"one of {', '.join(quoted)}"


class Codec:
    """Reads and writes the structures of one table, for a program built with some features."""

    def __init__(self, structs: dict[str, Struct], features: frozenset[str]) -> None:
        self._structs = structs
        self._features = features

    def fields(self, name: str) -> list[Field]:
        """Return the members that a program with these features has."""
        return [
            field
            for field in self._structs[name].fields
            if field.feature is None or field.feature in self._features
        ]

    def decode(self, kind: Kind, value: Any) -> Any:
        """Read a value of the kind.

        :raises DecodeError: when the program would not take it
        """
        if isinstance(kind, Named):
            return self._decode_struct(kind.name, value)
        if isinstance(kind, ListOf):
            if not isinstance(value, list):
                raise DecodeError(f"invalid type: {_show(value)}, expected a sequence")
            return [self.decode(kind.item, item) for item in value]
        if isinstance(kind, Integer):
            return _decode_integer(kind, value)
        if isinstance(kind, Names):
            if not isinstance(value, str):
                raise DecodeError(f"invalid type: {_show(value)}, expected string or map")
            if value not in kind.values:
                raise DecodeError(f"unknown variant `{value}`, expected {_one_of(kind.values)}")
            return value
        assert isinstance(kind, Word)
        return _decode_word(kind, value)

    def _decode_struct(self, name: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise DecodeError(f"invalid type: {_show(value)}, expected struct {name}")
        fields = self.fields(name)
        out: dict[str, Any] = {}
        known: set[str] = set()
        for field in fields:
            names = (field.name, *field.aliases)
            known.update(names)
            given = [each for each in names if each in value]
            if len(given) > 1:
                raise DecodeError(f"duplicate field `{field.name}`")
            if not given:
                if field.need:
                    raise DecodeError(f"missing field `{field.name}`")
                out[field.name] = self._fill(field)
            elif value[given[0]] is None and field.default is None and not field.need:
                out[field.name] = None
            else:
                out[field.name] = self.decode(field.kind, value[given[0]])
        if self._structs[name].denies_unknown and (unknown := set(value) - known):
            expected = _one_of(tuple(field.name for field in fields))
            raise DecodeError(f"unknown field `{min(unknown)}`, expected {expected}")
        return out

    def _fill(self, field: Field) -> Any:
        default = field.default() if callable(field.default) else field.default
        if isinstance(field.kind, Named) and default is not None:
            return self.decode(field.kind, default)
        return default

    def encode(self, kind: Kind, value: Any) -> Any:
        """Write a value that `decode` read, in the program's order."""
        if isinstance(kind, Named):
            out: dict[str, Any] = {}
            for field in self.fields(kind.name):
                member = value.get(field.name)
                if (member is None and not field.writes_null) or (
                    field.omit_false and member is False
                ):
                    continue
                out[field.name] = None if member is None else self.encode(field.kind, member)
            return out
        if isinstance(kind, ListOf):
            return [self.encode(kind.item, item) for item in value]
        return value


def _decode_integer(kind: Integer, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise DecodeError(f"invalid type: {_show(value)}, expected {kind.name}")
    if not kind.low <= value <= kind.high:
        raise DecodeError(f"invalid value: integer `{value}`, expected {kind.name}")
    return value


def _decode_word(kind: Word, value: Any) -> Any:
    python: Any = PYTHON_TYPES[kind.json]
    if not isinstance(value, python):
        raise DecodeError(f"invalid type: {_show(value)}, expected {kind.expected}")
    if kind is MAC and _MAC.fullmatch(value) is None:
        raise DecodeError(f'invalid value: string "{value}", expected MAC address')
    if kind is IP:
        try:
            ipaddress.ip_address(value)
        except ValueError:
            raise DecodeError("invalid IP address syntax") from None
    return value
