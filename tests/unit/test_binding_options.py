"""Options of declarations: bare attributes, mixed content, paired tags, derived values, order."""

from __future__ import annotations

from typing import Literal

import pytest

from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import INTEGER
from hvcore.xml.codecs import NONEMPTY
from hvcore.xml.codecs import ONOFF
from hvcore.xml.codecs import STR
from hvcore.xml.codegen import Binding
from hvcore.xml.context import FormatContext
from hvcore.xml.context import ParseContext
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import child
from hvcore.xml.fields import children
from hvcore.xml.fields import element
from hvcore.xml.fields import fields_of
from hvcore.xml.fields import scaled
from hvcore.xml.fields import text
from hvcore.xml.reader import read

Color = Literal["red", "green"]


@element("item")
class Item(Element):
    name: str = attr("@name", STR)


@element("pair", paired=True)
class Pair(Element):
    item: Item | None = child("item", Item)


@element("mixed")
class Mixed(Element):
    path: str | None = text("", NONEMPTY)
    item: Item | None = child("item", Item)


@element("repeated", last_wins=True)
class Repeated(Element):
    state: bool | None = attr("switch/@state", ONOFF)


@element("thing")
class Thing(Element):
    state: bool | None = attr("switch/@state", ONOFF, bare=True)
    pair: Pair | None = child("pair", Pair)
    mixed: Mixed | None = child("mixed", Mixed)
    repeated: Repeated | None = child("repeated", Repeated)
    color: Color | None = text("color", ENUM(Color))
    size: int | None = scaled("size", refused="internal error: no size")
    items: list[Item] = children("items/item", Item, show="not_migratable")


def roundtrip(xml: str, *, migratable: bool = False) -> tuple[Thing, str]:
    binding = Binding()
    ctx = ParseContext()
    thing = binding.parse(Thing, read(f"<thing>{xml}</thing>", "thing"), ctx)
    assert not ctx.issues
    out = binding.format(thing, FormatContext(migratable=migratable))
    return thing, "".join(line.strip() for line in out.splitlines()[1:-1])


@pytest.mark.parametrize(
    ("xml", "state"), [("<switch/>", True), ("<switch state='off'/>", False), ("", None)]
)
def test_bare_attribute(xml: str, state: bool | None) -> None:
    assert roundtrip(xml)[0].state is state


def test_paired_element_keeps_its_closing_tag() -> None:
    assert roundtrip("<pair/>")[1] == "<pair></pair>"


@pytest.mark.parametrize(
    "xml", ["<mixed>text</mixed>", "<mixed><item name='a'/></mixed>", "<mixed/>"]
)
def test_mixed_content(xml: str) -> None:
    assert roundtrip(xml)[1] == xml


def test_white_space_between_children_is_no_text() -> None:
    mixed = roundtrip("<mixed>\n  <item name='a'/>\n</mixed>")[0].mixed
    assert mixed is not None
    assert mixed.path is None


def test_children_left_out_of_migratable_output() -> None:
    xml = "<items><item name='a'/></items>"
    assert roundtrip(xml)[1] == xml
    assert "items" not in roundtrip(xml, migratable=True)[1]


def test_of_repeated_elements_the_last_counts() -> None:
    thing, xml = roundtrip("<repeated><switch state='on'/><switch state='off'/></repeated>")
    assert thing.repeated is not None
    assert thing.repeated.state is False
    assert xml == "<repeated><switch state='off'/></repeated>"


def test_empty_text_of_an_enumeration_is_absent() -> None:
    assert roundtrip("<color/>")[0].color is None


@pytest.mark.parametrize("size", ["<size>x</size>", "<size unit='parsec'>1</size>"])
def test_refused_size(size: str) -> None:
    ctx = ParseContext()
    Binding().parse(Thing, read(f"<thing>{size}</thing>", "thing"), ctx)
    assert [str(issue) for issue in ctx.issues] == ["internal error: no size"]


def test_omitted_wrapper_leaves_no_trace_in_its_parent() -> None:
    assert roundtrip("<switch state='on'/>")[1] == "<switch state='on'/>"


@element("")
class Base(Element):
    first: str | None = attr("@first")
    last: str | None = attr("@last")


def _even(owner: Derived, ctx: FormatContext) -> list[Item]:
    del ctx
    return owner.items[::2]


@element("derived")
class Derived(Base):
    leading = ("first",)

    own: str | None = attr("@own")
    sum: str | None = attr(
        "@sum", written=lambda owner, ctx: None if ctx.migratable else f"{owner.first}{owner.own}"
    )
    items: list[Item] = children("item", Item, written=_even)


def test_leading_fields_are_written_before_the_own_ones() -> None:
    assert [name for name, _ in fields_of(Derived)] == ["first", "own", "sum", "items", "last"]


@pytest.mark.parametrize(("migratable", "shown"), [(False, " sum='ab'"), (True, "")])
def test_written_values_come_from_the_function(migratable: bool, shown: str) -> None:
    value = Derived(first="a", own="b", sum="?", items=[Item(name=name) for name in "xyz"])
    assert Binding().format(value, FormatContext(migratable=migratable)) == (
        f"<derived first='a' own='b'{shown}>\n  <item name='x'/>\n  <item name='z'/>\n</derived>\n"
    )


@element("signed")
class Signed(Element):
    number: int | None = attr("@number", INTEGER(0, 2**31 - 1, negative="Expected no minus"))


@pytest.mark.parametrize(
    ("number", "expected"),
    [("x", "Expected integer value"), ("-1", "Expected no minus"), ("9" * 99, "Expected integer")],
)
def test_negative_numbers_have_a_refusal_of_their_own(number: str, expected: str) -> None:
    ctx = ParseContext()
    Binding().parse(Signed, read(f"<signed number='{number}'/>", "signed"), ctx)
    assert expected in str(ctx.issues[0])


def test_a_size_without_unit_has_the_default_one() -> None:
    binding, ctx = Binding(), ParseContext()
    assert (
        binding.parse(Thing, read("<thing><size unit=''>7</size></thing>", "thing"), ctx).size == 7
    )
