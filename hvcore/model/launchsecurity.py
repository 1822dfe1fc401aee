"""The <launchSecurity>, <keywrap> section."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import ClassVar
from typing import Final
from typing import Literal
from typing import get_args

from hvcore.errors import ErrorClass
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import INTEGER
from hvcore.xml.codecs import NONEMPTY
from hvcore.xml.codecs import ONOFF
from hvcore.xml.codecs import UINT
from hvcore.xml.codecs import YESNO
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import children
from hvcore.xml.fields import element
from hvcore.xml.fields import text

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import ParseContext

CipherName = Literal["aes", "dea"]

_POLICY: Final = "failed to get launch security policy"
_CBITPOS: Final = "Invalid format for launch security cbitpos"
_REDUCED: Final = "Invalid format for launch security reduced-phys-bits"


@element("launchSecurity")
class LaunchSecurity(Element):
    """How the guest's memory is protected from the host; the class tells the technology."""

    selector: ClassVar[str | None] = "type"
    type: ClassVar[str]


@element("launchSecurity")
class Sev(LaunchSecurity):
    """AMD Secure Encrypted Virtualization (and SEV-ES)."""

    type: ClassVar[str] = "sev"

    kernel_hashes: bool | None = attr("@kernelHashes", YESNO, doc="measure the kernel as well")
    cbitpos: int | None = text("cbitpos", UINT, refused=_CBITPOS)
    reduced_phys_bits: int | None = text("reducedPhysBits", UINT, refused=_REDUCED)
    policy: int = text(
        "policy",
        INTEGER(0, 2**32 - 1, base=16, form="#06x"),
        required=True,
        refused=_POLICY,
        missing=_POLICY,
    )
    dh_cert: str | None = text("dhCert", NONEMPTY, doc="the owner's key, base64")
    session: str | None = text("session", NONEMPTY, doc="the owner's session, base64")


@element("launchSecurity")
class SevSnp(LaunchSecurity):
    """AMD SEV with Secure Nested Paging."""

    type: ClassVar[str] = "sev-snp"

    kernel_hashes: bool | None = attr("@kernelHashes", YESNO, doc="measure the kernel as well")
    author_key: bool | None = attr("@authorKey", YESNO)
    vcek: bool | None = attr("@vcek", YESNO)
    cbitpos: int | None = text("cbitpos", UINT, refused=_CBITPOS)
    reduced_phys_bits: int | None = text("reducedPhysBits", UINT, refused=_REDUCED)
    policy: int = text(
        "policy",
        INTEGER(0, 2**64 - 1, base=16, form="#010x"),
        required=True,
        refused=_POLICY,
        missing=_POLICY,
    )
    guest_visible_workarounds: str | None = text("guestVisibleWorkarounds", NONEMPTY)
    id_block: str | None = text("idBlock", NONEMPTY)
    id_auth: str | None = text("idAuth", NONEMPTY)
    host_data: str | None = text("hostData", NONEMPTY)


@element("launchSecurity")
class S390Pv(LaunchSecurity):
    """IBM Secure Execution."""

    type: ClassVar[str] = "s390-pv"


LAUNCH_SECURITY: Final[dict[str, type[Element]]] = {
    "sev": Sev, "sev-snp": SevSnp, "s390-pv": S390Pv,
}  # fmt: skip


@element("cipher")
class Cipher(Element):
    """One kind of key that can be protected."""

    name: CipherName = attr("@name", ENUM(CipherName), required=True)
    state: bool = attr("@state", ONOFF, required=True)


@element("keywrap", omit_empty=True)
class Keywrap(Element):
    """S390x: key wrapping."""

    ciphers: list[Cipher] = children("cipher", Cipher)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse a cipher given twice, and keep them in libvirt's order."""
        seen: set[str] = set()
        for cipher in self.ciphers:
            if cipher.name in seen:
                ctx.issue(
                    el,
                    "A domain definition can have no more than one cipher node with name "
                    f"{cipher.name}",
                    kind=ErrorClass.INTERNAL,
                )
            seen.add(cipher.name)
        order = get_args(CipherName)
        self.ciphers.sort(key=lambda c: order.index(c.name) if c.name in order else 0)

    def cipher(self, name: CipherName) -> bool | None:
        """Return whether keys for ``name`` are wrapped, None where nothing is said."""
        return next((cipher.state for cipher in self.ciphers if cipher.name == name), None)
