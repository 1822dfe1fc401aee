"""The <filesystem> element."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import ClassVar
from typing import Final
from typing import Literal

from hvcore.errors import ErrorClass
from hvcore.model.devices.base import VirtioDevice
from hvcore.model.devices.storage import StorageFormat
from hvcore.model.os import IdMap
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import INT
from hvcore.xml.codecs import INTEGER
from hvcore.xml.codecs import NONEMPTY
from hvcore.xml.codecs import ONOFF
from hvcore.xml.codecs import ULONG
from hvcore.xml.codecs import UNIT
from hvcore.xml.codecs import unit_factor
from hvcore.xml.fields import attr
from hvcore.xml.fields import child
from hvcore.xml.fields import element
from hvcore.xml.fields import flag
from hvcore.xml.fields import scaled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import ParseContext

FilesystemType = Literal["mount", "block", "file", "template", "ram", "bind", "volume"]
AccessMode = Literal["passthrough", "mapped", "squash"]
FilesystemModel = Literal["virtio", "virtio-transitional", "virtio-non-transitional"]
Multidevs = Literal["default", "remap", "forbid", "warn"]
FilesystemDriver = Literal[
    "default", "path", "handle", "loop", "nbd", "ploop", "virtiofs", "mtp"
]  # fmt: skip
WritePolicy = Literal["default", "immediate"]
CacheMode = Literal["none", "always"]
Sandbox = Literal["namespace", "chroot"]

_EXPECTED: Final = "Expected non-negative integer value"
_MODE: Final = INTEGER(0, 2**32 - 1, base=8, form="04o", expected=_EXPECTED)
_PERMISSIONS: Final = 0o777
# What names the source of each type.
_SOURCES: Final[Mapping[str, tuple[str, ...]]] = {
    "mount": ("source_dir", "socket"),
    "bind": ("source_dir", "socket"),
    "file": ("source_file",),
    "block": ("source_dev",),
    "template": ("source_name",),
    "ram": ("usage", "units"),
    "volume": ("pool", "volume"),
}
_ALL_SOURCES: Final = tuple(name for names in _SOURCES.values() for name in names)
_VIRTIOFS_ONLY: Final = (
    "queue", "binary", "xattr", "cache", "sandbox", "posix_lock", "flock", "thread_pool_size",
    "openfiles", "idmap",
)  # fmt: skip


@element("filesystem")
class Filesystem(VirtioDevice):
    """A directory, image or block device of the host that the guest mounts."""

    trailing: ClassVar[tuple[str, ...]] = ("space_hard_limit", "space_soft_limit")

    type: FilesystemType = attr("@type", ENUM(FilesystemType), default="mount")
    accessmode: AccessMode | None = attr("@accessmode", ENUM(AccessMode))
    model: FilesystemModel | None = attr("@model", ENUM(FilesystemModel))
    multidevs: Multidevs | None = attr("@multidevs", ENUM(Multidevs), omit=("default",))
    fmode: int | None = attr("@fmode", _MODE, omit=(0,), doc="permissions of new files")
    dmode: int | None = attr("@dmode", _MODE, omit=(0,), doc="permissions of new directories")
    driver_type: FilesystemDriver | None = attr(
        "driver/@type", ENUM(FilesystemDriver), omit=("default",)
    )
    format: StorageFormat | None = attr(
        "driver/@format",
        ENUM(StorageFormat),
        refused="unsupported configuration: unknown driver format value '{value}'",
    )
    wrpolicy: WritePolicy | None = attr("driver/@wrpolicy", ENUM(WritePolicy), omit=("default",))
    queue: int | None = attr(
        "driver/@queue",
        ULONG,
        omit=(0,),
        refused="cannot parse queue size '{value}' for virtiofs",
    )
    binary: str | None = attr("binary/@path", NONEMPTY, doc="path of virtiofsd")
    xattr: bool | None = attr("binary/@xattr", ONOFF)
    cache: CacheMode | None = attr("binary/cache/@mode", ENUM(CacheMode))
    sandbox: Sandbox | None = attr("binary/sandbox/@mode", ENUM(Sandbox))
    posix_lock: bool | None = attr("binary/lock/@posix", ONOFF)
    flock: bool | None = attr("binary/lock/@flock", ONOFF)
    thread_pool_size: int | None = attr(
        "binary/thread_pool/@size",
        INT,
        refused="cannot parse thread pool size '{value}' for virtiofs",
    )
    openfiles: int | None = attr(
        "binary/openfiles/@max",
        ULONG,
        omit=(0,),
        refused="cannot parse openfiles '{value}' for virtiofs",
    )
    idmap: IdMap | None = child("idmap", IdMap)
    source_dir: str | None = attr("source/@dir")
    socket: str | None = attr("source/@socket", doc="of a virtiofsd that runs already")
    source_file: str | None = attr("source/@file")
    source_dev: str | None = attr("source/@dev")
    source_name: str | None = attr("source/@name", doc="template of a container")
    usage: int | None = attr(
        "source/@usage",
        ULONG,
        refused="cannot parse usage '{value}' for RAM filesystem",
        doc="KiB of memory",
    )
    units: str | None = attr("source/@units", UNIT, refused="invalid argument: {cause}")
    pool: str | None = attr("source/@pool")
    volume: str | None = attr("source/@volume")
    target: str | None = attr("target/@dir", NONEMPTY, doc="mount point, or tag for the guest")
    readonly: bool = flag("readonly")
    space_hard_limit: int | None = scaled("space_hard_limit", unit="bytes", omit=(0,))
    space_soft_limit: int | None = scaled("space_soft_limit", unit="bytes", omit=(0,))

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check what libvirt's parser checks, and drop what means nothing here."""
        for name in ("fmode", "dmode"):
            value = getattr(self, name)
            if value is not None and value > _PERMISSIONS:
                ctx.issue(el, f"invalid {name}: '0{value:o}'")
        if self.driver_type in (None, "default"):
            self.format = self.wrpolicy = None
        if self.driver_type != "virtiofs":
            for name in _VIRTIOFS_ONLY:
                setattr(self, name, None)
        if self.thread_pool_size is not None and self.thread_pool_size < 0:
            self.thread_pool_size = None
        for name in _ALL_SOURCES:
            if name not in _SOURCES[self.type] and name != "socket":
                setattr(self, name, None)
        self._check_source(el, ctx)

    def _check_source(self, el: XmlElement, ctx: ParseContext) -> None:
        if self.type == "ram":
            if self.usage is None:
                ctx.issue(el, "missing 'usage' attribute for RAM filesystem")
                return
            factor = unit_factor(self.units) if self.units else 1024
            self.usage, self.units = self.usage * factor // 1024, "KiB"
        elif self.type == "volume":
            if (self.pool is None) != (self.volume is None):
                ctx.issue(
                    el, "'pool' and 'volume' must be specified together for 'pool' type source"
                )
        elif self.path is None and self.socket is None:
            about = f" {self.target}" if self.target else ""
            ctx.issue(
                el, f"missing source information for device{about}", kind=ErrorClass.NO_SOURCE
            )
        if self.socket is not None:
            self.source_dir = None

    @property
    def path(self) -> str | None:
        """Where the files are, whatever the type."""
        return self.source_dir or self.source_file or self.source_dev or self.source_name
