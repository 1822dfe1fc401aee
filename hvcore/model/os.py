"""The <os>, <idmap> section."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from typing import Final
from typing import Literal

from hvcore.model.devices.storage import SOURCES
from hvcore.model.devices.storage import Source
from hvcore.model.devices.storage import StorageFormat
from hvcore.model.devices.storage import StorageType
from hvcore.xml.codecs import EMPTY_OR_ENUM
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import INT
from hvcore.xml.codecs import NONEMPTY
from hvcore.xml.codecs import STR
from hvcore.xml.codecs import UINT
from hvcore.xml.codecs import YESNO
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import child
from hvcore.xml.fields import children
from hvcore.xml.fields import choice
from hvcore.xml.fields import element
from hvcore.xml.fields import text
from hvcore.xml.fields import texts

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import ParseContext

OsType = Literal["hvm", "xen", "linux", "exe", "uml", "xenpvh"]
Arch = Literal[
    "alpha", "armv6l", "armv7l", "armv7b", "aarch64", "cris", "i686", "ia64", "lm32",
    "loongarch64", "m68k", "microblaze", "microblazeel", "mips", "mipsel", "mips64", "mips64el",
    "openrisc", "parisc", "parisc64", "ppc", "ppcle", "ppc64", "ppc64le", "ppcemb", "riscv32",
    "riscv64", "s390", "s390x", "sh4", "sh4eb", "sparc", "sparc64", "unicore32", "x86_64",
    "xtensa", "xtensaeb",
]  # fmt: skip
Firmware = Literal["bios", "efi"]
FirmwareFeatureName = Literal["enrolled-keys", "secure-boot"]
LoaderType = Literal["rom", "pflash"]
AcpiTableType = Literal["raw", "rawset", "slic", "msdm"]
BootDeviceName = Literal["fd", "cdrom", "hd", "network"]
SmbiosMode = Literal["none", "emulate", "host", "sysinfo"]

BOOT_DEVICES: Final = 4
"""How many <boot dev=.../> count; libvirt has room for one of each kind."""

FIRMWARE_FORMATS: Final = ("raw", "qcow2")
"""The image formats that firmware and its variables can have."""


def sanitize_path(path: str) -> str:
    """Return ``path`` without repeated and trailing slashes; two leading ones have a meaning."""
    lead = "//" if path.startswith("//") and not path.startswith("///") else ""
    tidy = re.sub("/+", "/", path.removeprefix(lead) if lead else path)
    return lead + (tidy if tidy == "/" else tidy.rstrip("/"))


@element("feature")
class FirmwareFeature(Element):
    """Something that the firmware to be selected must, or must not, have."""

    enabled: bool = attr("@enabled", YESNO, required=True)
    name: FirmwareFeatureName = attr("@name", ENUM(FirmwareFeatureName), required=True)


@element("initenv")
class InitEnv(Element):
    """A variable in the environment of a container's first process."""

    name: str = attr("@name", STR, required=True, missing="No name supplied for <initenv> element")
    value: str | None = text("", NONEMPTY)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse a variable without a value."""
        if self.value is None:
            ctx.issue(el, f"No value supplied for <initenv name='{self.name}'> element")


@element("loader")
class Loader(Element):
    """The firmware image."""

    readonly: bool | None = attr("@readonly", YESNO)
    secure: bool | None = attr("@secure", YESNO, doc="the image implements secure boot")
    type: LoaderType | None = attr("@type", ENUM(LoaderType))
    stateless: bool | None = attr("@stateless", YESNO, doc="there is no variable store")
    format: StorageFormat | None = attr("@format", ENUM(StorageFormat))
    path: str | None = text("", NONEMPTY)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse formats that no firmware has."""
        if self.format is not None and self.format not in FIRMWARE_FORMATS:
            ctx.issue(el, f"Unsupported loader format '{self.format}'")


@element("nvram")
class Nvram(Element):
    """The firmware's variable store."""

    template: str | None = attr("@template", NONEMPTY, doc="what a new store is copied from")
    template_format: StorageFormat | None = attr("@templateFormat", ENUM(StorageFormat))
    type: StorageType | None = attr("@type", ENUM(StorageType))
    format: StorageFormat | None = attr("@format", ENUM(StorageFormat))
    path: str | None = text("", NONEMPTY, doc="of a file, where there is no type")
    source: Source | None = choice("source", "type", SOURCES)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse formats that no variable store has."""
        if self.template_format is not None and self.template_format not in FIRMWARE_FORMATS:
            ctx.issue(el, f"Unsupported nvram template format '{self.template_format}'")
        if self.format is not None and self.format not in FIRMWARE_FORMATS:
            ctx.issue(el, f"Unsupported nvram format '{self.format}'")


@element("table")
class AcpiTable(Element):
    """A table that the firmware hands to the guest."""

    type: AcpiTableType = attr("@type", ENUM(AcpiTableType), required=True)
    path: str = text("", STR, default="")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Tidy the path."""
        del el, ctx
        self.path = sanitize_path(self.path)


@element("boot")
class BootDevice(Element):
    """A kind of device to boot from."""

    dev: BootDeviceName = attr("@dev", ENUM(BootDeviceName), required=True)


@element("os")
class Os(Element):
    """Machine, firmware, kernel and boot order."""

    firmware: Firmware | None = attr(
        "@firmware",
        EMPTY_OR_ENUM(Firmware),
        show="not_migratable",
        refused="unknown firmware value {value}",
    )
    arch: Arch | None = attr(
        "type/@arch",
        EMPTY_OR_ENUM(Arch),
        refused="unsupported configuration: Unknown architecture {value}",
    )
    machine: str | None = attr("type/@machine", NONEMPTY)
    type: OsType | None = text(
        "type", ENUM(OsType), refused="unsupported configuration: unknown OS type '{value}'"
    )
    firmware_features: list[FirmwareFeature] = children(
        "firmware/feature", FirmwareFeature, show="not_migratable"
    )
    init: str | None = text("init", NONEMPTY, doc="first process of a container")
    initargs: list[str] = texts("initarg")
    initenv: list[InitEnv] = children("initenv", InitEnv)
    initdir: str | None = text("initdir", NONEMPTY)
    inituser: str | None = text("inituser", NONEMPTY)
    initgroup: str | None = text("initgroup", NONEMPTY)
    loader: Loader | None = child("loader", Loader)
    nvram: Nvram | None = child("nvram", Nvram)
    kernel: str | None = text("kernel", NONEMPTY)
    initrd: str | None = text("initrd", NONEMPTY)
    cmdline: str | None = text("cmdline", NONEMPTY)
    shim: str | None = text("shim", NONEMPTY)
    dtb: str | None = text("dtb", NONEMPTY)
    root: str | None = text("root", NONEMPTY)
    acpi_tables: list[AcpiTable] = children("acpi/table", AcpiTable)
    boot: list[BootDevice] = children("boot", BootDevice)
    bootmenu: bool | None = attr("bootmenu/@enable", YESNO)
    bootmenu_timeout: int | None = attr("bootmenu/@timeout", UINT, doc="in milliseconds")
    bios_useserial: bool | None = attr("bios/@useserial", YESNO)
    bios_reboot_timeout: int | None = attr(
        "bios/@rebootTimeout", INT, doc="in milliseconds, -1 for never"
    )
    smbios_mode: SmbiosMode | None = attr(
        "smbios/@mode",
        EMPTY_OR_ENUM(SmbiosMode),
        omit=("none",),
        refused="unsupported configuration: unknown smbios mode '{value}'",
    )

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Keep what counts for this type of guest, and refuse what appears too often."""
        self._keep_relevant()
        if self.loader is None and self.nvram is not None:
            # The firmware has to have the format of its variables.
            self.loader = Loader(format=self.nvram.format)
        if any(not arg for arg in self.initargs):
            ctx.issue(el, "No data supplied for <initarg> element")
        wanted = {feature.name: feature for feature in self.firmware_features}
        self.firmware_features = sorted(wanted.values(), key=lambda feature: str(feature.name))
        seen: set[str] = set()
        for table in self.acpi_tables:
            if table.type in seen and table.type != "raw":
                ctx.issue(el, f"ACPI table type '{table.type}' may only appear once")
            seen.add(table.type)
        del self.boot[BOOT_DEVICES:]
        if not self.bootmenu:
            # Without a menu nobody reads how long it stays.
            self.bootmenu_timeout = None
            ctx.forget("/bootmenu/@timeout")

    def _keep_relevant(self) -> None:
        """Drop what libvirt does not read for this type of guest."""
        if self.type != "exe":
            self.init = self.initdir = self.inituser = self.initgroup = None
            self.initargs, self.initenv = [], []
        if self.type in ("exe", "linux"):
            self.kernel = self.initrd = self.shim = self.dtb = self.root = None
            self.loader = self.nvram = None
        if self.type == "linux":
            self.cmdline = None
        if self.type != "hvm":
            self.firmware = self.bootmenu = self.bios_useserial = self.bios_reboot_timeout = None
            self.firmware_features, self.acpi_tables, self.boot = [], [], []


_IDMAP: Final = "invalid idmap start/target/count settings"


@element("uid")
class IdRange(Element):
    """A range of identifiers in the container and what they are outside."""

    start: int = attr("@start", UINT, required=True, refused=_IDMAP, missing=_IDMAP)
    target: int = attr("@target", UINT, required=True, refused=_IDMAP, missing=_IDMAP)
    count: int = attr("@count", UINT, required=True, refused=_IDMAP, missing=_IDMAP)


@element("idmap")
class IdMap(Element):
    """User namespace of containers."""

    uids: list[IdRange] = children("uid", IdRange)
    gids: list[IdRange] = children("gid", IdRange)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Sort the ranges as the kernel wants them."""
        del el, ctx
        self.uids.sort(key=lambda entry: entry.start)
        self.gids.sort(key=lambda entry: entry.start)
