"""Questions to QEMU's own description of its monitor (the reply of ``query-qmp-schema``).

A question is a path: ``COMMAND_OR_EVENT/(arg-type|ret-type)/member/...``. A plain word selects a
member of an object, ``*member`` one that is optional, ``+case`` the branch of a union. As the last
word ``^value`` asks for a value of an enum, ``!type`` for a JSON type and ``$feature`` for a
feature of what was reached (also after a command or ``^value``). Arrays are looked through,
alternates are tried in turn. The notation is libvirt's (qemu_qapi.c).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Mapping
    from collections.abc import Sequence

#: QEMU's deepest path has a dozen steps; one that needs many more refers to itself.
MAX_DEPTH: Final = 100


@final
class Schema:
    """A schema, indexed by the names of its entries.

    :param entries: the list that ``query-qmp-schema`` returns.
    """

    def __init__(self, entries: Iterable[Mapping[str, Any]]) -> None:
        self._entries: Final = {entry["name"]: entry for entry in entries}

    def has(self, path: str) -> bool:
        """Return whether a path exists."""
        name, *steps = path.split("/")
        return self._reach(name, steps, 0)

    def entry(self, name: str) -> Mapping[str, Any] | None:
        """Return the entry of a command, event or type id."""
        return self._entries.get(name)

    def _reach(self, name: str | None, steps: Sequence[str], depth: int) -> bool:
        entry = self._entries.get(name) if name is not None else None
        if entry is None or depth > MAX_DEPTH:
            return False
        if not steps:
            return True
        match entry["meta-type"]:
            case "array":
                return self._reach(entry["element-type"], steps, depth + 1)
            case "alternate":
                return any(
                    self._reach(member["type"], steps, depth + 1) for member in entry["members"]
                )
            case "enum":
                return _has_value(entry, steps)
            case "builtin":
                return list(steps) == ["!" + entry["json-type"]]
            case "object":
                following = _member(entry, steps[0])
            case _:  # command, event
                following = entry.get(steps[0]) if steps[0][0].isalpha() else None
        if steps[0][0] == "$":
            return len(steps) == 1 and steps[0][1:] in entry.get("features", ())
        return self._reach(following, steps[1:], depth + 1)


def _member(entry: Mapping[str, Any], step: str) -> str | None:
    """Return the type of the member or union branch that a step selects."""
    if step[0] == "+":
        for variant in entry.get("variants", ()):
            if variant["case"] == step[1:]:
                return str(variant["type"])
        return None
    optional = step[0] == "*"
    for member in entry.get("members", ()):
        if member["name"] == step.removeprefix("*"):
            return str(member["type"]) if "default" in member or not optional else None
    return None


def _has_value(entry: Mapping[str, Any], steps: Sequence[str]) -> bool:
    if steps[0][0] != "^":
        return False
    # QEMU 6.2 added "members", which have features; "values" is their older, plain form.
    members = entry.get("members") or [{"name": value} for value in entry.get("values", ())]
    for member in members:
        if member["name"] == steps[0][1:]:
            wanted = [step.removeprefix("$") for step in steps[1:]]
            return len(wanted) <= 1 and all(name in member.get("features", ()) for name in wanted)
    return False
