"""The <smartcard> element."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import ClassVar
from typing import Final
from typing import Literal

from hvcore.model.devices.chardev_source import UNKNOWN_TYPE
from hvcore.model.devices.chardev_source import CharDevice
from hvcore.model.devices.chardev_source import ChardevType
from hvcore.model.devices.chardev_source import check_chardev
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import NONEMPTY
from hvcore.xml.fields import attr
from hvcore.xml.fields import element
from hvcore.xml.fields import text
from hvcore.xml.fields import texts

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import ParseContext

SmartcardMode = Literal["host", "host-certificates", "passthrough"]

_CERTIFICATES: Final = 3


@element("smartcard")
class Smartcard(CharDevice):
    """A smartcard of the host, one made of certificates, or one that another program emulates."""

    leading: ClassVar[tuple[str, ...]] = ()

    mode: SmartcardMode = attr("@mode", ENUM(SmartcardMode), required=True)
    type: ChardevType | None = attr(  # type: ignore[assignment] # only passthrough has one
        "@type", ENUM(ChardevType), refused=UNKNOWN_TYPE
    )
    certificates: list[str] = texts("certificate", doc="names of three certificates")
    database: str | None = text("database", NONEMPTY, doc="directory of the certificates")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check what belongs to the mode, and drop the rest."""
        if self.mode == "passthrough":
            if self.type is None and el.get("type") is None:
                ctx.issue(el, "passthrough mode requires a character device type attribute")
            check_chardev(self, el, ctx)
        else:
            self.type = self.protocol = self.log_file = self.log_append = None
            self.sources = []
        if self.mode != "host-certificates":
            self.certificates, self.database = [], None
        elif len(self.certificates) != _CERTIFICATES:
            ctx.issue(el, "host-certificates mode needs exactly three certificates")
        elif self.database is not None and not self.database.startswith("/"):
            ctx.issue(el, f"expecting absolute path: {self.database}")
