"""Where the data of a disk is: the <source> of every type, with what stands inside it.

Disks, their backing stores, mirrors and data stores share these classes; which one stands in a
document is told by the ``type`` attribute of the element around <source>.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final
from typing import Literal

import attrs

from hvcore.errors import ErrorClass
from hvcore.model.devices.base import PciAddress
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import UINT
from hvcore.xml.codecs import ULONG
from hvcore.xml.codecs import UUID
from hvcore.xml.codecs import YESNO
from hvcore.xml.codecs import Codec
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import child
from hvcore.xml.fields import children
from hvcore.xml.fields import choice
from hvcore.xml.fields import element
from hvcore.xml.fields import scaled
from hvcore.xml.fields import text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping

    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import ParseContext

StorageType = Literal["file", "block", "dir", "network", "volume", "nvme", "vhostuser", "vhostvdpa"]
StorageFormat = Literal[
    "raw", "dir", "bochs", "cloop", "dmg", "iso", "vpc", "vdi", "fat", "vhd", "ploop", "cow",
    "qcow", "qcow2", "qed", "vmdk",
]  # fmt: skip
NetworkProtocol = Literal[
    "nbd", "rbd", "sheepdog", "gluster", "iscsi", "http", "https", "ftp", "ftps", "tftp", "ssh",
    "vxhs", "nfs",
]  # fmt: skip
Transport = Literal["tcp", "unix", "rdma", "fd"]
PoolMode = Literal["host", "direct"]
AuthType = Literal["chap", "ceph"]
EncryptionFormat = Literal["default", "qcow", "luks", "luks2", "luks-any"]
EncryptionEngine = Literal["qemu", "librbd"]
EncryptionSecretType = Literal["passphrase"]
StartupPolicy = Literal["mandatory", "requisite", "optional"]

DEFAULT_PORTS: Final[Mapping[str, int]] = {
    "http": 80,
    "https": 443,
    "ftp": 21,
    "ftps": 990,
    "tftp": 69,
    "sheepdog": 7000,
    "nbd": 10809,
    "ssh": 22,
    "iscsi": 3260,
    "gluster": 24007,
    "vxhs": 9999,
}
"""TCP port of each protocol that has a usual one."""

_HTTP: Final = frozenset({"http", "https"})
_CURL: Final = frozenset({"http", "https", "ftp", "ftps"})
# What means something for some protocols only; elsewhere libvirt does not even read it.
_PROTOCOLS: Final[Mapping[str, frozenset[str]]] = {
    "query": _HTTP,
    "cookies": _HTTP,
    "ssl_verify": frozenset({"https", "ftps"}),
    "reconnect_delay": frozenset({"nbd"}),
    "readahead": _CURL,
    "timeout": _CURL,
    "known_hosts": frozenset({"ssh"}),
}
_MAX_PORT: Final = 65535
_NOT_IN_COOKIES: Final = frozenset({*map(chr, range(0x21)), *'",;\\'})
_NOT_IN_COOKIE_NAMES: Final = _NOT_IN_COOKIES | frozenset("()<>@:/[]?={}")
_POOL_AND_IMAGE: Final = frozenset({"gluster", "rbd"})


@element("secret")
class Secret(Element):
    """A reference to a secret, by UUID or by what it is used for."""

    type: str | None = attr("@type", doc="usage type, such as iscsi or ceph")
    uuid: str | None = attr("@uuid", UUID, refused="invalid secret uuid '{value}'")
    usage: str | None = attr("@usage")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Require one way of finding the secret."""
        uuid, usage = el.get("uuid"), el.get("usage")
        if uuid is None and usage is None:
            ctx.issue(el, "missing secret uuid or usage attribute")
        elif uuid is not None and usage is not None:
            ctx.issue(el, "either secret uuid or usage expected")


@element("auth")
class Auth(Element):
    """Credentials for network storage."""

    type: AuthType | None = attr(
        "@type",
        ENUM(AuthType),
        refused="unsupported configuration: unknown auth type '{value}'",
    )
    username: str | None = attr("@username", required=True, missing="missing username for auth")
    secret: Secret | None = child("secret", Secret)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Require the secret."""
        if self.secret is None:
            ctx.issue(el, "Missing <secret> element in auth")


@element("secret")
class EncryptionSecret(Element):
    """The passphrase of an encrypted image."""

    type: EncryptionSecretType = attr(
        "@type",
        ENUM(EncryptionSecretType),
        required=True,
        missing="unknown volume encryption secret type",
        refused="unsupported configuration: unknown volume encryption secret type {value}",
    )
    uuid: str | None = attr("@uuid", UUID, refused="invalid secret uuid '{value}'")
    usage: str | None = attr("@usage")

    parsed = Secret.parsed


@element("encryption")
class Encryption(Element):
    """How an image is encrypted."""

    format: EncryptionFormat = attr(
        "@format",
        ENUM(EncryptionFormat),
        required=True,
        missing="unknown volume encryption format",
        refused="unsupported configuration: unknown volume encryption format type {value}",
    )
    engine: EncryptionEngine | None = attr("@engine", ENUM(EncryptionEngine))
    secrets: list[EncryptionSecret] = children("secret", EncryptionSecret)
    cipher: str | None = attr("cipher/@name")
    cipher_size: int | None = attr("cipher/@size", UINT, doc="bits of the key")
    cipher_mode: str | None = attr("cipher/@mode")
    cipher_hash: str | None = attr("cipher/@hash")
    ivgen: str | None = attr("ivgen/@name", doc="how initialization vectors are made")
    ivgen_hash: str | None = attr("ivgen/@hash")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check what libvirt's parser checks of the cipher, which only LUKS has."""
        if self.format != "luks":
            self.cipher = self.cipher_mode = self.cipher_hash = None
            self.ivgen = self.ivgen_hash = None
            self.cipher_size = None
            return
        cipher, ivgen = el.find("cipher"), el.find("ivgen")
        if cipher is not None and self.cipher is None:
            ctx.issue(cipher, "cipher info missing 'name' attribute")
        elif cipher is not None and cipher.get("size") is None:
            ctx.issue(cipher, "Missing required attribute 'size' in element 'cipher'")
        if ivgen is not None and self.cipher is None:
            ctx.issue(ivgen, "ivgen element found, but cipher is missing")
        elif ivgen is not None and self.ivgen is None:
            ctx.issue(ivgen, "missing ivgen info name string")


@element("reservations")
class Reservations(Element):
    """Persistent SCSI reservations through a helper process."""

    managed: bool = attr("@managed", YESNO, required=True, doc="the helper is ours")
    type: str | None = attr("source/@type")
    path: str | None = attr("source/@path", doc="socket of the helper")
    mode: str | None = attr("source/@mode")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Require a complete socket where there is one."""
        if self.managed is False or self.type or self.path or self.mode:
            for value, what in (
                (self.type, "connection type"),
                (self.path, "path"),
                (self.mode, "connection mode"),
            ):
                if not value:
                    ctx.issue(el, f"missing {what} for <reservations/>")
        if self.type and self.type != "unix":
            ctx.issue(el, f"unsupported connection type for <reservations/>: {self.type}")
        if self.mode and self.mode != "client":
            ctx.issue(el, f"unsupported connection mode for <reservations/>: {self.mode}")


@element("slice")
class Slice(Element):
    """The part of the file that holds the image."""

    type: str | None = attr("@type")
    offset: int | None = attr(
        "@offset",
        ULONG,
        required=True,
        missing="missing offset or size attribute of slice",
        refused="malformed value '{value}' of 'offset' attribute of slice",
        doc="bytes from the beginning",
    )
    size: int | None = attr(
        "@size",
        ULONG,
        required=True,
        missing="missing offset or size attribute of slice",
        refused="malformed value '{value}' of 'size' attribute of slice",
        doc="bytes",
    )


@element("seclabel")
class DeviceSeclabel(Element):
    """A security label for one file, overriding that of the domain."""

    model: str | None = attr("@model")
    labelskip: bool | None = attr("@labelskip", YESNO, omit=(False,))
    relabel: bool | None = attr("@relabel", YESNO)
    label: str | None = text("label")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check label against relabelling, and make the default explicit."""
        name = self.model or "<null>"
        if self.label and self.relabel is False:
            ctx.issue(el, f"Cannot specify a label if relabelling is turned off. model={name}")
        if self.relabel and not self.label:
            ctx.issue(el, f"Cannot specify relabel if label is missing. model={name}")
        if self.relabel is None and not self.labelskip:
            self.relabel = True

    @property
    def empty(self) -> bool:
        """The element says nothing beyond the default."""
        return bool(self.relabel) and not self.label


def check_seclabels(labels: list[DeviceSeclabel], el: XmlElement, ctx: ParseContext) -> None:
    """Refuse two labels of one model, and drop those that say nothing."""
    models: set[str] = set()
    for label in labels:
        if label.model is not None and label.model in models:
            ctx.issue(
                el,
                f"seclabel for model {label.model} is already provided",
                kind=ErrorClass.XML_DETAIL,
            )
        models.add(label.model or "")
    labels[:] = [label for label in labels if not label.empty]


@element("source", omit_empty=True)
class Source(Element):
    """What all sources of disks have."""

    startup_policy: StartupPolicy | None = attr(
        "@startupPolicy", ENUM(StartupPolicy), doc="what happens when the medium is missing"
    )
    index: int | None = attr(
        "@index",
        UINT,
        omit=(0,),
        refused="invalid disk index '{value}'",
        doc="number of the block node of a running domain",
    )
    slice: Slice | None = child("slices/slice", Slice)
    seclabels: list[DeviceSeclabel] = children("seclabel", DeviceSeclabel)
    auth: Auth | None = child("auth", Auth)
    encryption: Encryption | None = child("encryption", Encryption)
    reservations: Reservations | None = child("reservations", Reservations)
    data_store: DataStore | None = child("dataStore", lambda: DataStore)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check the labels."""
        check_seclabels(self.seclabels, el, ctx)

    @property
    def empty(self) -> bool:
        """There is no medium."""
        return getattr(self, "path", None) is None


PATH: Final = Codec("string", convert=lambda text: text or None, escaped=True)
"""A path; an empty one is as good as none."""


@element("source", omit_empty=True)
class FileSource(Source):
    """A file of the host."""

    path: str | None = attr("@file", PATH, doc="absolute path")
    fdgroup: str | None = attr("@fdgroup", doc="name of descriptors that the caller passed")


@element("source", omit_empty=True)
class BlockSource(Source):
    """A block device of the host."""

    path: str | None = attr("@dev", PATH, doc="absolute path")


@element("source", omit_empty=True)
class DirSource(Source):
    """A directory of the host, shown to the guest as a FAT file system."""

    path: str | None = attr("@dir", PATH, doc="absolute path")


@element("source", omit_empty=True)
class VolumeSource(Source):
    """A volume of a storage pool."""

    pool: str | None = attr("@pool")
    volume: str | None = attr("@volume")
    mode: PoolMode | None = attr("@mode", ENUM(PoolMode), doc="how an iSCSI LUN is reached")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Require both names or none."""
        Source.parsed(self, el, ctx)
        if (self.pool is None) != (self.volume is None):
            ctx.issue(el, "'pool' and 'volume' must be specified together for 'pool' type source")
        # The pool knows how to authenticate.
        self.auth = None

    @property
    def empty(self) -> bool:
        """There is no medium."""
        return self.pool is None


@element("source", omit_empty=True)
class NvmeSource(Source):
    """A namespace of an NVMe controller of the host, driven by the hypervisor itself."""

    type: str | None = attr(
        "@type", required=True, missing="missing 'type' attribute to disk source"
    )
    managed: bool | None = attr("@managed", YESNO)
    namespace: int | None = attr("@namespace", ULONG, required=True)
    address: PciAddress | None = child("address", PciAddress)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Require the address of the controller."""
        Source.parsed(self, el, ctx)
        if self.type is not None and self.type != "pci":
            ctx.issue(el, f"unsupported source type '{self.type}'")
        if self.address is None:
            ctx.issue(el, "NVMe disk source is missing address")
            return
        address = self.address
        address.domain = address.domain or 0
        address.bus = address.bus or 0
        address.slot = address.slot or 0
        address.function = address.function or 0

    @property
    def empty(self) -> bool:
        """There is always a medium."""
        return False


@element("source", omit_empty=True)
class VhostUserSource(Source):
    """A vhost-user process that serves the disk."""

    type: str | None = attr("@type")
    path: str | None = attr("@path", doc="socket of the process")
    reconnect: bool | None = attr("reconnect/@enabled", YESNO)
    reconnect_timeout: int | None = attr("reconnect/@timeout", UINT, doc="seconds")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Require a unix socket."""
        if self.type is None:
            ctx.issue(el, "missing 'type' attribute for vhostuser disk source")
        elif self.type != "unix":
            ctx.issue(el, "invalid 'type' attribute for vhostuser disk source")
        if self.path is None:
            ctx.issue(el, "missing 'path' attribute for vhostuser disk source")
        reconnect = el.find("reconnect")
        if reconnect is not None and self.reconnect and self.reconnect_timeout is None:
            ctx.issue(reconnect, "Missing required attribute 'timeout' in element 'reconnect'")
        if not self.reconnect:
            self.reconnect_timeout = None
        Source.parsed(self, el, ctx)

    @property
    def empty(self) -> bool:
        """There is always a process."""
        return False


@element("source", omit_empty=True)
class VhostVdpaSource(Source):
    """A vhost-vdpa device of the host."""

    dev: str | None = attr("@dev", required=True)

    @property
    def empty(self) -> bool:
        """There is always a device."""
        return False


@element("host")
class Host(Element):
    """A server."""

    name: str | None = attr("@name", doc="name or IP address")
    port: int | None = attr(
        "@port",
        UINT,
        omit=(0,),
        refused="invalid argument: failed to parse port number '{value}'",
    )
    transport: Transport | None = attr("@transport", ENUM(Transport), omit=("tcp",))
    socket: str | None = attr("@socket", doc="path of a unix socket")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Require what the transport needs."""
        if self.port is not None and self.port > _MAX_PORT:
            ctx.issue(el, f"port '{self.port}' out of range", kind=ErrorClass.INVALID_ARG)
        if self.transport == "unix":
            if self.socket is None:
                ctx.issue(el, "missing socket for unix transport")
            self.name = self.port = None
            return
        if self.transport == "fd":
            ctx.issue(el, "transport 'fd' is now allowed")
            return
        if self.socket is not None:
            transport = self.transport or "tcp"
            ctx.issue(el, f"transport '{transport}' does not support socket attribute")
        if self.name is None:
            ctx.issue(el, "missing name for host")


@element("cookie")
class Cookie(Element):
    """An HTTP cookie."""

    name: str | None = attr("@name")
    value: str | None = text()

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Require a name and a value that can stand in an HTTP header."""
        name, value = self.name, self.value
        if not name:
            ctx.issue(el, "missing cookie name")
        elif not value:
            ctx.issue(el, f"missing value for cookie '{name}'")
        elif not _NOT_IN_COOKIE_NAMES.isdisjoint(name):
            ctx.issue(el, f"cookie name '{name}' contains invalid characters")
        else:
            quoted = value.startswith('"') and value.endswith('"')
            if not _NOT_IN_COOKIES.isdisjoint(value[1:-1] if quoted else value):
                ctx.issue(el, f"value of cookie '{name}' contains invalid characters")


@element("identity")
class NfsIdentity(Element):
    """Who we are towards an NFS server."""

    user: str | None = attr("@user")
    group: str | None = attr("@group")


@element("identity")
class SshIdentity(Element):
    """Who we are towards an SSH server."""

    username: str | None = attr("@username", required=True)
    keyfile: str | None = attr("@keyfile")
    agentsock: str | None = attr("@agentsock")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Require a key or an agent."""
        if not self.keyfile and not self.agentsock:
            ctx.issue(el, "element 'identity' requires either 'keyfile' or 'agentsock' attribute")


@element("source", omit_empty=True)
class NetworkSource(Source):
    """Storage that the hypervisor reaches over a network."""

    protocol: NetworkProtocol = attr("@protocol", ENUM(NetworkProtocol), required=True)
    name: str | None = attr("@name", doc="path, volume or export on the server")
    query: str | None = attr("@query", doc="query part of an HTTP URL")
    tls: bool | None = attr("@tls", YESNO)
    tls_hostname: str | None = attr("@tlsHostname", doc="name in the server's certificate")
    hosts: list[Host] = children("host", Host)
    reconnect_delay: int | None = attr("reconnect/@delay", UINT, omit=(0,), doc="seconds")
    snapshot: str | None = attr("snapshot/@name", doc="internal snapshot of the image")
    config_file: str | None = attr("config/@file", doc="ceph configuration")
    initiator: str | None = attr("initiator/iqn/@name", doc="our iSCSI name")
    ssl_verify: bool | None = attr("ssl/@verify", YESNO)
    cookies: list[Cookie] = children("cookies/cookie", Cookie, show="secure")
    readahead: int | None = attr(
        "readahead/@size", ULONG, omit=(0,), refused="invalid readahead size or timeout"
    )
    timeout: int | None = attr(
        "timeout/@seconds", ULONG, omit=(0,), refused="invalid readahead size or timeout"
    )
    known_hosts: str | None = attr("knownHosts/@path")
    identity: NfsIdentity | SshIdentity | None = choice(
        "identity", "protocol", {"nfs": NfsIdentity, "ssh": SshIdentity}
    )
    tls_from_config: bool = attrs.field(default=False, eq=False, repr=False)
    """Of a running domain: the driver's settings decided about TLS."""

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check the name, and drop what means nothing for the protocol."""
        for field, protocols in _PROTOCOLS.items():
            if self.protocol not in protocols:
                setattr(self, field, [] if field == "cookies" else None)
        if self.name is None and self.protocol != "nbd":
            ctx.issue(el, "missing name for disk source")
        elif self.protocol in _POOL_AND_IMAGE and (self.name or "").find("/") <= 0:
            ctx.issue(el, f"can't split path '{self.name}' into pool name and image name")
        hosts = el.find("knownHosts")
        if self.protocol == "ssh" and hosts is not None and not self.known_hosts:
            ctx.issue(hosts, "Missing required attribute 'path' in element 'knownHosts'")
        names = [cookie.name for cookie in self.cookies]
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated:
            ctx.issue(el, f"duplicate cookie '{repeated}'")
        for host in self.hosts:
            if host.transport in (None, "tcp") and not host.port:
                host.port = DEFAULT_PORTS.get(self.protocol)
        # Nobody labels what a server has.
        self.seclabels = []

    @property
    def empty(self) -> bool:
        """There is always a server."""
        return False


SOURCES: Final[dict[str, type[Element]]] = {
    "file": FileSource,
    "block": BlockSource,
    "dir": DirSource,
    "network": NetworkSource,
    "volume": VolumeSource,
    "nvme": NvmeSource,
    "vhostuser": VhostUserSource,
    "vhostvdpa": VhostVdpaSource,
}


def _format_codec(extra: Mapping[str, str]) -> Codec:
    values = ENUM(StorageFormat)
    return Codec("enum", table={**(values.table or {}), **extra}, rng=values.rng, json=values.json)


DRIVER_FORMAT: Final = _format_codec({"aio": "raw"})
"""Image formats; ``aio`` is what Xen called raw images."""


@element("dataStore")
class DataStore(Element):
    """The file outside a qcow2 image that holds the guest's data."""

    type: StorageType = attr(
        "@type",
        ENUM(StorageType),
        required=True,
        refused="unknown storage source type '{value}'",
    )
    format: StorageFormat | None = attr(
        "format/@type", ENUM(StorageFormat), refused="unknown storage source format '{value}'"
    )
    source: Source | None = choice("source", "type", SOURCES)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Require format and source."""
        form = el.find("format")
        if form is None or not form.get("type"):
            ctx.issue(el, "missing data file store format")
        elif self.source is None:
            ctx.issue(el, "missing disk data file store source")
        if self.source is not None:
            self.source.startup_policy = None  # only the top image of a disk has one


@element("backingStore")
class BackingStore(Element):
    """The image below another one; without a type the end of the chain."""

    type: StorageType | None = attr(
        "@type", ENUM(StorageType), refused="unknown storage source type '{value}'"
    )
    index: int | None = attr(
        "@index", UINT, omit=(0,), refused="invalid storage source index '{value}'"
    )
    format: StorageFormat | None = attr(
        "format/@type", ENUM(StorageFormat), refused="unknown storage source format '{value}'"
    )
    metadata_cache: int | None = scaled(
        "format/metadata_cache/max_size", unit="bytes", omit=(0,), doc="bytes at most"
    )
    source: Source | None = choice("source", "type", SOURCES)
    backing_store: BackingStore | None = child("backingStore", lambda: BackingStore)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Require format and source, or nothing at all."""
        if self.type is None and el.get("type") is None:
            self.index = self.format = self.metadata_cache = None
            self.source = self.backing_store = None
            return
        form = el.find("format")
        if form is None or not form.get("type"):
            ctx.issue(el, "missing disk backing store format")
        elif el.find("source") is None:
            ctx.issue(el, "missing disk backing store source")
        if self.source is not None:
            self.source.startup_policy = None  # only the top image of a disk has one

    def chain(self) -> Iterator[BackingStore]:
        """Yield this and every image below, without the end mark."""
        layer: BackingStore | None = self
        while layer is not None and layer.type is not None:
            yield layer
            layer = layer.backing_store


@element("queue")
class IOThreadQueue(Element):
    """A virtqueue that an I/O thread serves."""

    id: int = attr("@id", UINT, required=True)


@element("iothread")
class IOThreadMapping(Element):
    """Which virtqueues an I/O thread serves; none listed means a share of all."""

    id: int = attr("@id", UINT, required=True)
    queues: list[IOThreadQueue] = children("queue", IOThreadQueue)
