"""Plans: what would be done, as data.

A plan is a sequence of named sections in a fixed order, each with steps. Building one is a pure
function; carrying one out is the only I/O. Drivers give steps their meaning (an option of a
command line, a field of a request); here is what all of them share: order, printing, comparing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Generic
from typing import Protocol
from typing import TypeVar

import attrs


class Step(Protocol):
    """One step of a plan."""

    def lines(self) -> list[str]:
        """Return the step as text, for people and for comparison."""


_S = TypeVar("_S", bound=Step)


@attrs.define(eq=False)
class Section(Generic[_S]):
    """A named part of a plan, after the element or the purpose it serves."""

    name: str
    steps: list[_S] = attrs.field(factory=list)


class Plan(Generic[_S]):
    """Ordered sections of steps.

    :param order: the names of all sections; a section appears where its name stands.
    """

    def __init__(self, order: tuple[str, ...]) -> None:
        # Section[_S] would be a call through typing for each of them.
        self._sections: dict[str, Section[_S]] = {name: Section(name) for name in order}

    def section(self, name: str) -> Section[_S]:
        """Return the section ``name``.

        :raises KeyError: when the driver declared no such section.
        """
        return self._sections[name]

    def insert(self, name: str, *, after: str) -> Section[_S]:
        """Return a new section right after another; for plugins that amend a plan."""
        if name in self._sections:
            return self._sections[name]
        made: Section[_S] = Section(name)
        reordered: dict[str, Section[_S]] = {}
        for existing, section in self._sections.items():
            reordered[existing] = section
            if existing == after:
                reordered[name] = made
        if name not in reordered:
            raise KeyError(after)
        self._sections = reordered
        return made

    def sections(self) -> Iterator[Section[_S]]:
        """Yield the sections that have steps, in order."""
        return (section for section in self._sections.values() if section.steps)

    def steps(self) -> Iterator[_S]:
        """Yield all steps in order."""
        for section in self._sections.values():
            yield from section.steps

    def text(self) -> str:
        """Return the plan for people: a heading for each section, a line for each step's part."""
        out: list[str] = []
        for section in self.sections():
            out.append(f"# {section.name}")
            for step in section.steps:
                out += [f"  {line}" for line in step.lines()]
        return "\n".join(out) + "\n"

    def diff(self, other: Plan[_S]) -> str:
        """Return what changes from this plan to ``other``, as a unified diff."""
        return "\n".join(
            difflib.unified_diff(
                self.text().splitlines(), other.text().splitlines(), "before", "after", lineterm=""
            )
        )
