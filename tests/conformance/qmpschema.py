"""Checking command line JSON against QEMU's description of its monitor.

The options whose JSON is an argument of a QMP command are checked as if they were given to that
command: unknown, deprecated and unstable members are errors.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from typing import Final

from tests.conformance.suite import CaseFailedError

COMMANDS: Final = {
    "-blockdev": "blockdev-add",
    "-netdev": "netdev_add",
    "-object": "object-add",
    "-device": "device_add",
    "-chardev": "chardev-add",
}
INCOMPLETE: Final = frozenset({"device_add"})
"""Commands that take more members than their schema lists."""

_JSON_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "int": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_REJECTED: Final = ("unstable", "deprecated")


@functools.lru_cache(maxsize=4)
def schema_of(replies: Path) -> QmpSchema:
    """Return the schema in a transcript of QMP replies."""
    text = replies.read_text("utf-8")
    command = text.index('"execute": "query-qmp-schema"')
    start = text.index("\n{", text.index("\n}", command)) + 1
    reply, _ = json.JSONDecoder().raw_decode(text, start)
    return QmpSchema(reply["return"])


class QmpSchema:
    """The reply of ``query-qmp-schema``, for validating."""

    def __init__(self, entries: list[dict[str, Any]]) -> None:
        self._entries = {entry["name"]: entry for entry in entries}

    def check_arguments(self, arguments: list[str]) -> None:
        """Check all JSON arguments of a command line.

        :raises CaseFailedError: at the first that the schema refuses.
        """
        for option, value in itertools.pairwise(arguments):
            command = COMMANDS.get(option)
            if command is None or not value.startswith("{"):
                continue
            wrong = self.problem(command, json.loads(value))
            if wrong:
                raise CaseFailedError(f"{option} {value}: {wrong}", (f"{option}: {wrong}",))

    def problem(self, command: str, arguments: Any) -> str | None:
        """Return why ``command`` refuses ``arguments``, or None."""
        entry = self._entries[command]
        rejected = _rejected(entry, command)
        if rejected:
            return rejected
        return self._value(arguments, entry["arg-type"], incomplete=command in INCOMPLETE)

    def _value(self, value: Any, type_name: str, *, incomplete: bool = False) -> str | None:
        entry = self._entries[type_name]
        match entry["meta-type"]:
            case "builtin":
                return _builtin(value, entry["json-type"])
            case "enum":
                return _enum(value, entry)
            case "array":
                if not isinstance(value, list):
                    return f"{value!r} is not an array"
                found = (self._value(item, entry["element-type"]) for item in value)
                return next((wrong for wrong in found if wrong), None)
            case "alternate":
                tried = [self._value(value, member["type"]) for member in entry["members"]]
                return (
                    None if None in tried else f"no alternative fits: {'; '.join(map(str, tried))}"
                )
            case _:
                return self._object(value, entry, incomplete=incomplete)

    def _object(self, value: Any, entry: dict[str, Any], *, incomplete: bool) -> str | None:
        if not isinstance(value, dict):
            return f"{value!r} is not an object"
        members = {member["name"]: member for member in entry["members"]}
        tag = entry.get("tag")
        if tag is not None:
            if tag not in value:
                return f"discriminator '{tag}' is missing"
            cases = {variant["case"]: variant["type"] for variant in entry["variants"]}
            if value[tag] not in cases:
                return f"'{value[tag]}' is no case of '{tag}'"
            variant = self._entries[cases[value[tag]]]
            members |= {member["name"]: member for member in variant["members"]}
        for name, item in value.items():
            member = members.pop(name, None)
            if member is None:
                if incomplete:
                    continue
                return f"member '{name}' is not in the schema"
            wrong = _rejected(member, name) or self._value(item, member["type"])
            if wrong:
                return f"{name}: {wrong}" if not wrong.startswith(name) else wrong
        missing = [name for name, member in members.items() if "default" not in member]
        return f"member '{missing[0]}' is missing" if missing else None


def _rejected(entry: dict[str, Any], name: str) -> str | None:
    for feature in _REJECTED:
        if feature in entry.get("features", ()):
            return f"'{name}' is {feature}"
    return None


def _builtin(value: Any, json_type: str) -> str | None:
    if json_type == "value":
        return None
    kinds = _JSON_TYPES[json_type]
    # In Python a bool is an int; in JSON it is not a number.
    if isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool)):
        return None
    return f"{value!r} is not of type {json_type}"


def _enum(value: Any, entry: dict[str, Any]) -> str | None:
    if not isinstance(value, str):
        return f"{value!r} is not a string"
    # QEMU 6.2 added "members", which have features; "values" is their older, plain form.
    members = entry.get("members") or [{"name": name} for name in entry["values"]]
    for member in members:
        if member["name"] == value:
            return _rejected(member, value)
    return f"'{value}' is not a value of the enum"
