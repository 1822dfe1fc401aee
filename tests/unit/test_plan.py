"""A plan keeps its sections in order, whoever adds to it, and shows itself and its changes."""

from __future__ import annotations

import attrs
import pytest

from hvcore.plan import Plan


@attrs.frozen
class Word:
    """A step that is one line."""

    text: str

    def lines(self) -> list[str]:
        return [self.text]


@pytest.fixture
def plan() -> Plan[Word]:
    made: Plan[Word] = Plan(("name", "memory", "devices"))
    made.section("devices").steps.append(Word("-device a"))
    made.section("name").steps += [Word("-name b"), Word("-uuid c")]
    return made


def test_steps_come_in_the_order_of_sections_not_of_their_making(plan):
    assert [step.text for step in plan.steps()] == ["-name b", "-uuid c", "-device a"]
    assert plan.text() == "# name\n  -name b\n  -uuid c\n# devices\n  -device a\n"


def test_a_section_of_a_plugin_stands_where_it_asked(plan):
    plan.insert("mine", after="memory").steps.append(Word("-mine"))
    assert [section.name for section in plan.sections()] == ["name", "mine", "devices"]
    assert plan.insert("mine", after="name") is plan.section("mine")


def test_a_section_after_one_that_is_not_there_is_refused(plan):
    with pytest.raises(KeyError, match="disks"):
        plan.insert("mine", after="disks")
    with pytest.raises(KeyError, match="disks"):
        plan.section("disks")


def test_diff_shows_what_changes(plan):
    other: Plan[Word] = Plan(("name", "memory", "devices"))
    other.section("name").steps += [Word("-name b"), Word("-uuid c")]
    assert plan.diff(plan) == ""
    changed = [line for line in plan.diff(other).splitlines() if line[0] in "+-"]
    assert changed == ["--- before", "+++ after", "-# devices", "-  -device a"]
