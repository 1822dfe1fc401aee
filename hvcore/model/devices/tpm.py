"""The <tpm> element."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import ClassVar
from typing import Final
from typing import Literal

from hvcore.errors import ErrorClass
from hvcore.model.devices.base import Device
from hvcore.model.devices.chardev_source import ChardevType
from hvcore.model.devices.chardev_source import SourceMode
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import NONEMPTY
from hvcore.xml.codecs import UINT
from hvcore.xml.codecs import UUID
from hvcore.xml.codecs import YESNO
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import choice
from hvcore.xml.fields import element
from hvcore.xml.fields import flag

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import FormatContext
    from hvcore.xml.context import ParseContext

TpmModel = Literal["tpm-tis", "tpm-crb", "tpm-spapr", "spapr-tpm-proxy"]
TpmVersion = Literal["1.2", "2.0"]
StateType = Literal["file", "dir"]
RemoveDisabled = Literal["check", "fips-host"]

DEFAULT_DEVICE: Final = "/dev/tpm0"


@element("backend")
class TpmBackend(Element):
    """What the guest's TPM is on the host."""

    selector: ClassVar[str | None] = "type"
    type: ClassVar[str]


@element("backend")
class PassthroughTpm(TpmBackend):
    """The host's own TPM."""

    type: ClassVar[str] = "passthrough"

    device: str = attr("device/@path", NONEMPTY, default=DEFAULT_DEVICE)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Take the usual device where none is named."""
        del el, ctx
        self.device = self.device or DEFAULT_DEVICE


def _profile(name: str) -> Any:
    """Return what writes a part of the profile, which needs a name or a source."""

    def written(owner: EmulatorTpm, ctx: FormatContext) -> Any:
        del ctx
        named = owner.profile_source is not None or owner.profile_name is not None
        return getattr(owner, name) if named else None

    return written


@element("backend")
class EmulatorTpm(TpmBackend):
    """A TPM in software, which starts together with the guest."""

    type: ClassVar[str] = "emulator"

    version: TpmVersion | None = attr("@version", ENUM(TpmVersion))
    persistent_state: bool | None = attr(
        "@persistent_state",
        YESNO,
        omit=(False,),
        refused="internal error: Invalid persistent_state value, either 'yes' or 'no'",
        doc="keep the state when a transient domain ends",
    )
    debug: int | None = attr("@debug", UINT, omit=(0,), doc="level of the emulator's messages")
    secret: str | None = attr(
        "encryption/@secret",
        UUID,
        refused="internal error: Unable to parse secret uuid '{value}'",
        doc="secret that encrypts the state",
    )
    sha1: bool = flag("active_pcr_banks/sha1")
    sha256: bool = flag("active_pcr_banks/sha256")
    sha384: bool = flag("active_pcr_banks/sha384")
    sha512: bool = flag("active_pcr_banks/sha512")
    state_type: StateType | None = attr("source/@type", ENUM(StateType), doc="what the state is in")
    state_path: str | None = attr("source/@path")
    profile_source: str | None = attr("profile/@source", doc="profile to take from the host")
    profile_remove_disabled: RemoveDisabled | None = attr(
        "profile/@removeDisabled",
        ENUM(RemoveDisabled),
        written=_profile("profile_remove_disabled"),
        doc="algorithms to leave out",
    )
    profile_name: str | None = attr("profile/@name", doc="profile that the TPM was made with")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse unknown banks; a place of the state needs a type."""
        for bank in el.iterfind("active_pcr_banks/*"):
            if bank.tag not in BANKS:
                ctx.issue(
                    el, f"Unsupported PCR banks '{bank.tag}'", kind=ErrorClass.CONFIG_UNSUPPORTED
                )
        source = el.find("source")
        if source is not None and self.state_path is None:
            ctx.issue(source, "missing TPM source path")
        if self.state_type is None:
            self.state_path = None

    @property
    def banks(self) -> tuple[str, ...]:
        """The PCR banks that are active; none means that the emulator decides."""
        return tuple(name for name in BANKS if getattr(self, name))


BANKS: Final = ("sha1", "sha256", "sha384", "sha512")


def _unix(name: str) -> Any:
    """Return what writes a part of the source, of which libvirt writes sockets only."""

    def written(owner: ExternalTpm, ctx: FormatContext) -> Any:
        del ctx
        return getattr(owner, name) if owner.source_type == "unix" else None

    return written


@element("backend")
class ExternalTpm(TpmBackend):
    """A TPM in software that somebody else started."""

    type: ClassVar[str] = "external"

    source_type: ChardevType | None = attr(
        "source/@type",
        ENUM(ChardevType),
        written=_unix("source_type"),
        refused="unsupported configuration: unknown backend source type '{value}' for external TPM",
    )
    mode: SourceMode = attr(
        "source/@mode", ENUM(SourceMode), default="connect", written=_unix("mode")
    )
    path: str | None = attr("source/@path", written=_unix("path"))

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Require a source."""
        sources = el.findall("source")
        if not sources or sources[0].get("type") is None:
            ctx.issue(el, "missing external TPM backend source type")
        elif len(sources) > 1:
            ctx.issue(el, "only one source element is allowed for character device")


TPM_BACKENDS: Final[dict[str, type[Element]]] = {
    cls.type: cls for cls in (PassthroughTpm, EmulatorTpm, ExternalTpm)
}


@element("tpm")
class Tpm(Device):
    """A trusted platform module."""

    model: TpmModel | None = attr("@model", ENUM(TpmModel))
    backend: TpmBackend = choice("backend", "@type", TPM_BACKENDS)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Require one backend."""
        count = len(el.findall("backend"))
        if count > 1:
            ctx.issue(el, "only one TPM backend is supported")
        elif not count:
            ctx.issue(el, "missing TPM device backend")
