"""The <sysinfo> section."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from typing import ClassVar
from typing import Final

from hvcore.errors import ErrorClass
from hvcore.model.os import sanitize_path
from hvcore.xml.codecs import NONEMPTY
from hvcore.xml.codecs import STR
from hvcore.xml.codecs import UUID
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import child
from hvcore.xml.fields import children
from hvcore.xml.fields import element
from hvcore.xml.fields import text
from hvcore.xml.fields import texts

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import ParseContext

_DATE: Final = re.compile(r"\s*([+-]?[0-9]{1,9})/\s*([+-]?[0-9]{1,9})/\s*([+-]?[0-9]{1,9})")


@element("entry")
class Entry(Element):
    """A named value of a table."""

    name: str | None = attr("@name", STR)
    value: str | None = text("", NONEMPTY)


@element("")
class Table(Element):
    """A table of SMBIOS: named values, written in the order of ``names``."""

    names: ClassVar[tuple[str, ...]] = ()

    entries: list[Entry] = children("entry", Entry)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Keep the first value of each known name, in order."""
        del el, ctx
        found: dict[str | None, Entry] = {}
        for entry in self.entries:
            found.setdefault(entry.name, entry)
        self.entries = [found[n] for n in self.names if n in found and found[n].value]

    def values(self) -> dict[str, str]:
        """Return the values by name."""
        return {entry.name or "": entry.value or "" for entry in self.entries}


@element("bios", omit_empty=True)
class BiosTable(Table):
    """Type 0: the firmware."""

    names: ClassVar[tuple[str, ...]] = ("vendor", "version", "date", "release")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check the layout of the date: mm/dd/yyyy, or mm/dd/yy for the last century."""
        Table.parsed(self, el, ctx)
        date = self.values().get("date")
        if date is None:
            return
        match = _DATE.fullmatch(date)
        month, day, year = (int(part) for part in match.groups()) if match else (0, 0, 0)
        if not (1 <= month <= 12 and 1 <= day <= 31 and (0 <= year < 100 or year >= 1900)):
            ctx.issue(el, "Invalid BIOS 'date' format", kind=ErrorClass.XML_DETAIL)


@element("system", omit_empty=True)
class SystemTable(Table):
    """Type 1: the machine."""

    names: ClassVar[tuple[str, ...]] = (
        "manufacturer", "product", "version", "serial", "uuid", "sku", "family",
    )  # fmt: skip

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Bring the UUID into its usual layout."""
        Table.parsed(self, el, ctx)
        assert UUID.convert is not None
        for entry in self.entries:
            if entry.name == "uuid":
                try:
                    entry.value = UUID.convert(entry.value or "")
                except ValueError:
                    ctx.issue(el, "malformed <sysinfo> uuid element", kind=ErrorClass.XML_DETAIL)


@element("baseBoard", omit_empty=True)
class BaseBoardTable(Table):
    """Type 2: a board."""

    names: ClassVar[tuple[str, ...]] = (
        "manufacturer", "product", "version", "serial", "asset", "location",
    )  # fmt: skip


@element("chassis", omit_empty=True)
class ChassisTable(Table):
    """Type 3: the case."""

    names: ClassVar[tuple[str, ...]] = ("manufacturer", "version", "serial", "asset", "sku")


@element("sysinfo")
class SysInfo(Element):
    """What the firmware tells the guest about its machine."""

    selector: ClassVar[str | None] = "type"
    type: ClassVar[str]


@element("sysinfo")
class SmbiosInfo(SysInfo):
    """Tables of SMBIOS."""

    type: ClassVar[str] = "smbios"

    bios: BiosTable | None = child("bios", BiosTable)
    system: SystemTable | None = child("system", SystemTable)
    base_boards: list[BaseBoardTable] = children("baseBoard", BaseBoardTable)
    chassis: ChassisTable | None = child("chassis", ChassisTable)
    oem_strings: list[str] = texts("oemStrings/entry")


@element("entry")
class FwCfgEntry(Element):
    """A file in QEMU's firmware configuration device."""

    name: str = attr(
        "@name", STR, required=True, missing="Firmware entry is missing 'name' attribute"
    )
    file: str | None = attr("@file", STR)
    value: str | None = text("", NONEMPTY)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse an entry without content; a file counts more than a value."""
        if self.file is not None:
            self.file = sanitize_path(self.file)
            self.value = None
        elif self.value is None:
            ctx.issue(el, "Firmware entry must have either value or 'file' attribute")


@element("sysinfo")
class FwCfgInfo(SysInfo):
    """Files in the firmware configuration device."""

    type: ClassVar[str] = "fwcfg"

    entries: list[FwCfgEntry] = children("entry", FwCfgEntry)


SYSINFO: Final[dict[str, type[Element]]] = {"smbios": SmbiosInfo, "fwcfg": FwCfgInfo}
