"""Other programs' XML: kept as it is, one element for each namespace."""

from __future__ import annotations

import pytest

from hvcore.pipeline import Definition
from hvcore.pipeline import Pipeline
from hvcore.registry import Registry


@pytest.mark.parametrize(
    ("inner", "kept"),
    [
        ("", "  <metadata/>\n"),
        ("text<plain/>", "  <metadata/>\n"),
        (
            "<a:x xmlns:a='http://a/' n='1'><a:y>é &amp; z</a:y></a:x>tail",
            (
                '  <metadata>\n    <a:x xmlns:a="http://a/" n="1">\n'
                "      <a:y>é &amp; z</a:y>\n    </a:x>\n  </metadata>\n"
            ),
        ),
        (
            "<a:x xmlns:a='http://a/'/><b:x xmlns:b='http://b/'/><c:y xmlns:c='http://a/'/>",
            (
                '  <metadata>\n    <a:x xmlns:a="http://a/"/>\n'
                '    <b:x xmlns:b="http://b/"/>\n  </metadata>\n'
            ),
        ),
    ],
)
def test_what_is_kept(inner, kept):
    pipeline = Pipeline(Registry())
    domain = pipeline.parse(
        f"<domain type='test'><name>a</name><metadata>{inner}</metadata></domain>"
    )
    assert kept in Definition(domain, pipeline.registry).xml()
