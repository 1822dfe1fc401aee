"""Of several mistakes in a document, the first reported is the one libvirt would have met first."""

from __future__ import annotations

import pytest

from hvcore.errors import Issue
from hvcore.errors import ValidationFailed
from hvcore.model import reading
from hvcore.pipeline import Pipeline
from hvcore.registry import Registry


@pytest.mark.parametrize(
    ("document", "messages"),
    [
        (
            "<os><type>hvm</type><boot dev='moon'/></os><on_crash>explode</on_crash>",
            [
                "unsupported configuration: unknown on_crash action: explode",
                "XML error: Invalid value for attribute 'dev' in element 'boot': 'moon'.",
            ],
        ),
        (
            "<on_crash>explode</on_crash>",
            [
                "XML error: an os <type> must be specified",
                "unsupported configuration: unknown on_crash action: explode",
            ],
        ),
    ],
)
def test_issues_stand_in_the_order_of_reading(document: str, messages: list[str]) -> None:
    with pytest.raises(ValidationFailed) as failed:
        Pipeline(Registry()).parse(f"<domain type='test'><name>n</name>{document}</domain>")
    assert [str(issue) for issue in failed.value.issues] == messages


def test_places_inside_an_element_count_as_the_element() -> None:
    inner = Issue("", path="/domain/devices/disk[2]/driver/@name")
    assert reading.rank(inner) == reading.rank(Issue("", path="/domain/devices/disk"))
    assert reading.rank(Issue("")) < reading.rank(inner)
