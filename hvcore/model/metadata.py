"""The <metadata> element: other programs' XML, kept as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.xml.context import verbatim

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import FormatContext
    from hvcore.xml.context import ParseContext


class _Metadata:
    """Reads the element into its text and writes that again, indented."""

    tags: tuple[str, ...] = ("metadata",)
    rng: str = '<element name="metadata"><zeroOrMore><ref name="anyXml"/></zeroOrMore></element>'
    json: Mapping[str, Any] = {"type": "string"}

    def parse(self, elements: list[XmlElement], ctx: ParseContext, owner: Any) -> str | None:
        """Return the element as text, or None.

        Programs own what is in their namespace: one element each, and nothing without one.
        """
        del ctx, owner
        if not elements:
            return None
        element = elements[0]
        element.text = None
        owners: set[str] = set()
        for entry in list(element):
            uri, brace, _ = entry.tag.removeprefix("{").partition("}")
            if not brace or uri in owners:
                element.remove(entry)
            owners.add(uri)
            entry.tail = None
        return verbatim(element)

    def format(
        self, value: str, out: list[str], indent: str, ctx: FormatContext, owner: Any
    ) -> None:
        """Append the element."""
        del ctx, owner
        out.extend(f"{indent}{line}\n" for line in value.split("\n"))

    def clone(self, value: str) -> str:
        """Return ``value``: text is immutable."""
        return value


METADATA: Final = _Metadata()
