"""Opening documents from anywhere, including from people who mean harm.

libxml2 with every door closed: no entities, no network, no DOCTYPE, no huge trees (so at most 256
levels), and no more than :data:`LIMIT` bytes.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import cast

from lxml import etree

from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import Issue
from hvcore.errors import XmlSyntaxError

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

LIMIT: Final = 4 * 1024 * 1024
"""Largest accepted document in bytes: the longest string libvirt's protocol carries."""

_ENCODING: Final = re.compile(r"\A\s*<\?xml[^>]*encoding[^>]*\?>")


def _parser() -> etree.XMLParser:
    return etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        huge_tree=False,
        load_dtd=False,
        dtd_validation=False,
        remove_comments=True,
        remove_pis=True,
        remove_blank_text=True,
    )


def read(xml: str | bytes, root: str | None, *, source: str = "domain_definition") -> XmlElement:
    """Return the root element of ``xml``.

    :param root: the expected name of the root element; None for any.
    :param source: what libvirt calls the text in messages.
    :raises XmlSyntaxError: when the text is too large, not well-formed, has a DOCTYPE, or another
        root element.
    """
    data = xml.encode("utf-8", "surrogatepass") if isinstance(xml, str) else xml
    if len(data) > LIMIT:
        raise XmlSyntaxError(
            f"({source}): document of {len(data)} bytes is larger than the limit of {LIMIT} bytes",
            line=1,
        )
    if isinstance(xml, str) and _ENCODING.match(xml):
        # The declaration speaks of bytes that once were; the text itself is already decoded.
        data = _ENCODING.sub(lambda m: "\n" * m.group().count("\n"), xml, count=1).encode(
            "utf-8", "surrogatepass"
        )
    try:
        element = etree.fromstring(data, _parser())
    except etree.XMLSyntaxError as error:
        raise _syntax_error(error, data, source) from None
    except ValueError as error:
        raise XmlSyntaxError(f"({source}):1: {error}", line=1) from None
    info = element.getroottree().docinfo
    if info.internalDTD is not None or info.doctype:
        raise XmlSyntaxError(
            f"({source}):1: a document type declaration is not accepted",
            line=1,
            hint="remove <!DOCTYPE ...>; domain documents need no DTD",
        )
    if root is not None and element.tag != root:
        raise XmlSyntaxError(
            f"unexpected root element <{element.tag}>, expecting <{root}>",
            kind=ErrorClass.XML,
            line=cast("int | None", element.sourceline),
        )
    return element


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Return the contents of a document's file.

    :raises HvError: when it cannot be opened or read, with libvirt's words.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - accepts what os.PathLike does
            return file.read(LIMIT + 1)
    except OSError as error:
        raise HvError(
            f"Failed to open file '{os.fspath(path)}': {error.strerror}", kind=ErrorClass.SYSTEM
        ) from error


def _syntax_error(error: etree.XMLSyntaxError, data: bytes, source: str) -> XmlSyntaxError:
    """Return the error in libvirt's layout: place, message, the line and a mark below it."""
    line, column = error.position
    line = max(line or 1, 1)
    message = re.sub(r", line \d+, column \d+.*\Z", "", error.msg or "not well-formed")
    lines = data.splitlines()
    shown = ""
    if line <= len(lines):
        text = lines[line - 1].decode("utf-8", "replace")
        start = max(0, (column or 1) - 60)
        text = text[start : start + 78]
        shown = f"\n{text}\n{'-' * max(0, (column or 1) - start - 1)}^"
    return XmlSyntaxError(f"({source}):{line}: {message}{shown}", line=line)


_PROSE: Final = frozenset({"description", "title", "cmdline", "bootloader_args", "metadata"})
"""Elements whose text may run over several lines."""


_BROKEN: Final = etree.XPath("//text()[contains(., '\n')] | //@*[contains(., '\n')]")
_BROKEN_TEXT: Final = etree.XPath("//text()[contains(., '\n')]")


def control_characters(root: XmlElement, xml: str | bytes) -> list[Issue]:
    """Return an issue for each line break inside a value.

    No path, name or identifier holds one; in a log, a status file or a command line it would
    pretend to be a line of its own.

    :param xml: what ``root`` was read from.
    """
    # Attributes get line breaks only by character references, and going through all of them takes
    # longer than reading the document. (Bytes may be in an encoding where "&#" looks different.)
    plain = isinstance(xml, str) and "&#" not in xml
    find = _BROKEN_TEXT if plain else _BROKEN
    issues = []
    for text in cast("list[Any]", find(root)):
        element = text.getparent()
        if text.is_attribute:
            where, path = f"attribute '{text.attrname}' of element '{element.tag}'", text.attrname
        elif text.is_text and not len(element) and text.strip() and not _is_prose(element):
            where, path = f"element '{element.tag}'", None
        else:
            continue
        issues.append(
            Issue(
                f"invalid line break in {where}",
                ErrorClass.XML_DETAIL,
                path=element.getroottree().getpath(element) + (f"/@{path}" if path else ""),
                line=element.sourceline,
            )
        )
    return issues


def _is_prose(element: XmlElement) -> bool:
    return element.tag in _PROSE or any(e.tag in _PROSE for e in element.iterancestors())
