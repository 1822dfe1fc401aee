"""Images as QEMU opens them: the nodes of the block layer.

Each image of a disk becomes up to three nodes: the *storage* node says where the bytes are, a
*slice* node picks a part of them, and the *format* node what they mean. Raw images need no format
node where QEMU can do without. A node is written as the JSON of ``-blockdev``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from urllib.parse import quote

import attrs

from hvcore.errors import Issue
from hvcore.model.devices.storage import BlockSource
from hvcore.model.devices.storage import DirSource
from hvcore.model.devices.storage import FileSource
from hvcore.model.devices.storage import NetworkSource
from hvcore.model.devices.storage import NfsIdentity
from hvcore.model.devices.storage import NvmeSource
from hvcore.model.devices.storage import SshIdentity
from hvcore.model.devices.storage import VhostVdpaSource
from hvcore.model.devices.storage import VolumeSource
from hvcore_qemu.command import present
from hvcore_qemu.credentials import secret_object
from hvcore_qemu.credentials import tls_credentials
from hvcore_qemu.props import Props
from hvcore_qemu.props import positive
from hvcore_qemu.props import refuse

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from hvcore.model.devices.storage import Auth
    from hvcore.model.devices.storage import Encryption
    from hvcore.model.devices.storage import Host
    from hvcore.model.devices.storage import Source
    from hvcore_qemu.command import Command
    from hvcore_qemu.credentials import Secret
    from hvcore_qemu.resources import FdSet

WITH_BACKING: Final = frozenset({"cow", "qcow", "qcow2", "qed", "vmdk"})
"""Formats of images that can be on top of another."""

CACHE: Final[Mapping[str, tuple[bool, bool, bool]]] = {
    # mode: (write-back at the device, O_DIRECT, ignore flushes); see qemu-options.hx
    "none": (True, True, False),
    "writethrough": (False, False, False),
    "writeback": (True, False, False),
    "directsync": (False, True, False),
    "unsafe": (True, False, True),
}

_FORMAT_DRIVERS: Final = {
    "fat": "raw",  # the storage node already makes a file system of a directory
    "raw": "raw",
    "ploop": "parallels",
    "vhd": "vhdx",
    **{name: name for name in ("bochs", "cloop", "dmg", "vdi", "vpc", "qed", "vmdk")},
}
_ENCRYPTIONS: Final = {"qcow": "aes", "luks": "luks"}
_RBD_ENCRYPTIONS: Final = frozenset({"luks", "luks2", "luks-any"})
_URL_SAFE: Final = "-_.!~*'()/;@&=+$,:"


@attrs.define(kw_only=True, eq=False)
class Image:
    """One image, prepared for QEMU.

    :ivar source: where it is; a volume is already replaced by what it stands for.
    :ivar storage: name of the storage node.
    :ivar layer: name of the format node; None where the image needs none.
    :ivar slice: name of the slice node.
    :ivar io, cache, discard, detect_zeroes, discard_no_unref: as in <driver>.
    :ivar secrets: passphrases of the image.
    :ivar auth_secret, cookie_secret: what is shown to the server.
    :ivar tls: id of the credentials for the connection.
    :ivar reservations: id of the helper for persistent reservations, and its socket where it is
        not the one of the whole domain.
    :ivar uid, gid: who we are towards an NFS server.
    :ivar proxy: socket of the nbdkit that serves the image.
    :ivar data_store: the image that holds the data of this one.
    """

    source: Source
    storage: str
    format: str = "raw"
    layer: str | None = None
    slice: str | None = None
    readonly: bool = False
    floppy: bool = False
    host_cdrom: bool = False
    io: str | None = None
    cache: str | None = None
    discard: str | None = None
    detect_zeroes: str | None = None
    discard_no_unref: bool | None = None
    metadata_cache: int | None = None
    auth: Auth | None = None
    encryption: Encryption | None = None
    secrets: list[Secret] = attrs.field(factory=list)
    auth_secret: Secret | None = None
    cookie_secret: Secret | None = None
    tls: str | None = None
    tls_dir: str = ""
    tls_secret: Secret | None = None
    reservations: tuple[str, str | None] | None = None
    fds: FdSet | None = None
    fds_writable: bool = False
    uid: int | None = None
    gid: int | None = None
    debug_level: int | None = None
    proxy: str | None = None
    data_store: Image | None = None

    @property
    def node(self) -> str:
        """Name of the node through which the image is used."""
        return self.layer or self.slice or self.storage

    @property
    def luks(self) -> bool:
        """The image is raw data encrypted by LUKS."""
        return self.format == "raw" and is_luks(self.encryption)


def is_luks(encryption: Encryption | None) -> bool:
    """Tell whether QEMU itself has to undo LUKS."""
    return encryption is not None and encryption.engine == "qemu" and encryption.format == "luks"


# --- where the bytes are ---


def storage_props(image: Image, *, legacy: bool = False) -> Props:
    """Return the storage node of ``image``.

    :param legacy: for ``-drive``, which knows nothing of nodes.
    :raises ValidationFailed: when the source cannot be expressed.
    """
    write = _SOURCES.get(type(image.source))
    if write is None:
        source = image.source
        if isinstance(source, VolumeSource):
            refuse(
                Issue.internal(
                    f"storage source pool '{source.pool}' volume '{source.volume}' is not"
                    " translated"
                )
            )
        refuse(Issue.internal("unable to create blockdev props for vhostuser disk type"))
    props = write(image)
    if legacy:
        return props
    effective = image.layer is None and image.slice is None
    return {**props, **_common(image, image.storage, effective=effective)}


def _common(image: Image, node: str, *, effective: bool) -> Props:
    """Return what all nodes have.

    :param effective: the node is the one through which the image is used.
    """
    props: Props = {"node-name": node}
    if effective:
        zeroes = detect_zeroes(image.discard, image.detect_zeroes)
        props |= {
            "read-only": image.readonly,
            "discard": image.discard,
            "detect-zeroes": zeroes,
        }
    elif image.fds is not None and len(image.fds.descriptors) == 1:
        # With one descriptor there is no other to switch to.
        props |= {
            "read-only": False if image.fds_writable else image.readonly,
            "discard": "unmap",
        }
    else:
        props |= {"auto-read-only": True, "discard": "unmap"}
    flags = CACHE.get(image.cache or "")
    if flags is not None:
        props["cache"] = {"direct": flags[1], "no-flush": flags[2]}
    return props


def detect_zeroes(discard: str | None, mode: str | None) -> str | None:
    """Return what happens to zeroes written: ``unmap`` makes no sense unless discards do."""
    return "on" if mode == "unmap" and discard != "unmap" else mode


def _file(image: Image) -> Props:
    source = image.source
    assert isinstance(source, FileSource | BlockSource)
    driver = "file"
    if isinstance(source, BlockSource):
        driver = "host_cdrom" if image.host_cdrom else "host_device"
    return {
        "driver": driver,
        "filename": source.path if image.fds is None else image.fds.path,
        "aio": image.io,
        "pr-manager": image.reservations[0] if image.reservations is not None else None,
    }


def _directory(image: Image) -> Props:
    source = image.source
    assert isinstance(source, DirSource)
    return {
        "driver": "vvfat",
        "dir": source.path,
        "floppy": image.floppy,
        "rw": not image.readonly,
    }


def nvme_address(source: NvmeSource) -> str:
    """Return where the controller is, as ``0000:01:00.0``."""
    at = source.address
    assert at is not None  # the parser requires it
    return f"{at.domain or 0:04x}:{at.bus or 0:02x}:{at.slot or 0:02x}.{at.function or 0:x}"


def _nvme(image: Image) -> Props:
    source = image.source
    assert isinstance(source, NvmeSource)
    return {"driver": "nvme", "device": nvme_address(source), "namespace": source.namespace}


def _vdpa(image: Image) -> Props:
    assert image.fds is not None  # opened in preparation
    return {"driver": "virtio-blk-vhost-vdpa", "path": image.fds.path}


def _network(image: Image) -> Props:
    source = image.source
    assert isinstance(source, NetworkSource)
    if image.proxy is not None:
        return {"driver": "nbd", "server": {"type": "unix", "path": image.proxy}}
    write = _PROTOCOLS.get(source.protocol)
    if write is None:
        refuse(Issue.internal("unsupported disk protocol"))
    return {"driver": source.protocol, **write(image, source)}


_SOURCES: Final[Mapping[type[Source], Callable[[Image], Props]]] = {
    FileSource: _file,
    BlockSource: _file,
    DirSource: _directory,
    NvmeSource: _nvme,
    VhostVdpaSource: _vdpa,
    NetworkSource: _network,
}


# --- network protocols ---


def _only_host(source: NetworkSource, what: str) -> Host:
    if len(source.hosts) != 1:
        refuse(Issue.internal(f"{what} accepts only one host"))
    return source.hosts[0]


def _socket(host: Host) -> Props:
    if host.transport == "unix":
        return {"type": "unix", "path": host.socket}
    if host.transport not in (None, "tcp"):
        refuse(Issue.internal(f"transport protocol '{host.transport}' is not yet supported"))
    return {"type": "inet", **_inet(host)}


def _inet(host: Host) -> Props:
    if host.transport not in (None, "tcp"):
        refuse(Issue.internal("only TCP protocol can be converted to InetSocketAddress"))
    return {"host": host.name, "port": str(host.port or 0)}


def _split(source: NetworkSource) -> tuple[str, str]:
    """Return pool (or volume) and image."""
    pool, _, image = (source.name or "").partition("/")
    return pool, image


def _gluster(image: Image, source: NetworkSource) -> Props:
    volume, path = _split(source)
    return {
        "volume": volume,
        "path": path,
        "server": [_socket(host) for host in source.hosts],
        "debug": image.debug_level,
    }


def _vxhs(image: Image, source: NetworkSource) -> Props:
    host = _only_host(source, "VxHS protocol")
    return {"tls-creds": image.tls, "vdisk-id": source.name, "server": _inet(host)}


def _nfs(image: Image, source: NetworkSource) -> Props:
    return {
        "server": {"host": source.hosts[0].name if source.hosts else None, "type": "inet"},
        "path": source.name,
        "user": image.uid,
        "group": image.gid,
    }


def _url(source: NetworkSource) -> str:
    host = _only_host(source, f"protocol '{source.protocol}'")
    tcp = host.transport in (None, "tcp")
    scheme = source.protocol if tcp else f"{source.protocol}+{host.transport}"
    name = host.name or ""
    server = f"[{name}]" if ":" in name else name
    port = f":{host.port}" if tcp and host.port else ""
    path = source.name or ""
    path = quote(path if path.startswith("/") else f"/{path}", safe=_URL_SAFE)
    query = f"?{source.query}" if source.query else ""
    return f"{scheme}://{server}{port}{path}{query}"


def _curl(image: Image, source: NetworkSource) -> Props:
    return {
        "url": _url(source),
        "username": image.auth.username if image.auth is not None else None,
        "password-secret": _alias(image.auth_secret),
        "sslverify": source.ssl_verify,
        "cookie-secret": _alias(image.cookie_secret),
        "timeout": positive(source.timeout),
        "readahead": positive(source.readahead),
    }


def _iscsi(image: Image, source: NetworkSource) -> Props:
    host = _only_host(source, "iSCSI protocol")
    target, _, lun = (source.name or "").partition("/")
    if lun and not (lun.isascii() and lun.isdigit()):
        refuse(Issue.internal(f"cannot parse target for lunStr '{target}'"))
    name, port = host.name or "(null)", host.port or 0  # as libvirt writes what is missing
    return {
        "portal": f"[{name}]:{port}" if ":" in name else f"{name}:{port}",
        "target": target,
        "lun": int(lun or 0),
        "transport": "tcp",
        "user": image.auth.username if image.auth is not None else None,
        "password-secret": _alias(image.auth_secret),
        "initiator-name": source.initiator,
    }


def _nbd(image: Image, source: NetworkSource) -> Props:
    return {
        "server": _socket(_only_host(source, "nbd protocol")),
        "export": source.name,
        "tls-creds": image.tls,
        "tls-hostname": source.tls_hostname,
        "reconnect-delay": positive(source.reconnect_delay),
    }


def _rbd(image: Image, source: NetworkSource) -> Props:
    pool, name = _split(source)
    return {
        "pool": pool,
        "image": name,
        "snapshot": source.snapshot,
        "conf": source.config_file,
        "server": [_inet(host) for host in source.hosts] or None,
        "encrypt": _rbd_encryption(image),
        "user": image.auth.username if image.auth is not None else None,
        "auth-client-required": ["cephx", "none"] if image.auth is not None else None,
        "key-secret": _alias(image.auth_secret),
    }


def _rbd_encryption(image: Image) -> Props | None:
    """Return the passphrases of the image and of those it was cloned from, innermost first."""
    encryption = image.encryption
    if encryption is None or encryption.engine != "librbd":
        return None
    inner: Props | None = None
    for secret in reversed(image.secrets):
        props: Props = {"format": encryption.format, "key-secret": secret.alias}
        if inner is not None:
            props["parent"] = inner
        inner = props
    return inner


def _ssh(image: Image, source: NetworkSource) -> Props:
    host = _only_host(source, "ssh protocol")
    user = image.auth.username if image.auth is not None else None
    if user is None and isinstance(source.identity, SshIdentity):
        user = source.identity.username
    return {"path": source.name, "server": _inet(host), "user": user}


_PROTOCOLS: Final[Mapping[str, Callable[[Image, NetworkSource], Props]]] = {
    "gluster": _gluster,
    "vxhs": _vxhs,
    "http": _curl,
    "https": _curl,
    "ftp": _curl,
    "ftps": _curl,
    "tftp": _curl,
    "iscsi": _iscsi,
    "nbd": _nbd,
    "rbd": _rbd,
    "ssh": _ssh,
    "nfs": _nfs,
}


def _alias(secret: Secret | None) -> str | None:
    return None if secret is None else secret.alias


def nfs_identity(source: Source) -> NfsIdentity | None:
    """Return who to be towards an NFS server, if ``source`` is on one and says so."""
    identity = source.identity if isinstance(source, NetworkSource) else None
    return identity if isinstance(identity, NfsIdentity) else None


# --- what the bytes mean ---


def slice_props(image: Image) -> Props:
    """Return the node that shows a part of the storage node."""
    part = image.source.slice
    assert part is not None
    assert image.slice is not None
    return {
        "driver": "raw",
        "file": image.storage,
        "offset": part.offset,
        "size": part.size,
        **_common(image, image.slice, effective=image.layer is None),
    }


def format_props(image: Image, backing: Image | None, *, ends: bool) -> Props:
    """Return the format node of ``image``.

    :param backing: the image below.
    :param ends: the chain is known to end here; QEMU must not look for more.
    :raises ValidationFailed: when QEMU does not know the format.
    """
    assert image.layer is not None
    if backing is not None and image.format not in WITH_BACKING:
        refuse(Issue.unsupported(f"storage format '{image.format}' does not support backing store"))
    props: dict[str, Any] = present(
        {
            **_common(image, image.layer, effective=True),
            **_format(image),
            "file": image.slice or image.storage,
        }
    )
    if backing is not None:
        props["backing"] = backing.node
    elif ends and image.format in WITH_BACKING:
        props["backing"] = None  # null: do not look for one
    return props


def _format(image: Image) -> Props:
    if image.luks:
        if not image.secrets:
            refuse(Issue.internal("missing secret info for 'luks' driver"))
        return {"driver": "luks", "key-secret": image.secrets[0].alias}
    if image.format in ("qcow", "qcow2"):
        props: Props = {"driver": image.format, "encrypt": _encryption(image)}
        if image.format == "qcow2":
            props |= {
                "cache-size": positive(image.metadata_cache),
                "discard-no-unref": image.discard_no_unref,
                "data-file": image.data_store.node if image.data_store is not None else None,
            }
        return props
    driver = _FORMAT_DRIVERS.get(image.format)
    if driver is None:
        refuse(Issue.internal(f"mishandled storage format '{image.format}'"))
    return {"driver": driver}


def _encryption(image: Image) -> Props | None:
    encryption = image.encryption
    if encryption is None or encryption.engine != "qemu" or not image.secrets:
        return None
    return {
        "format": _ENCRYPTIONS[encryption.format],
        "key-secret": image.secrets[0].alias,
    }


# --- the options ---


def credentials(cmd: Command, image: Image) -> None:
    """Append the objects that the nodes of ``image`` refer to."""
    if image.reservations is not None and image.reservations[1] is not None:
        alias, path = image.reservations
        cmd.object({"qom-type": "pr-manager-helper", "id": alias, "path": path})
    for secret in (image.auth_secret, image.cookie_secret):
        if secret is not None:
            secret_object(cmd, secret)
    if image.tls is not None:
        tls_credentials(
            cmd, image.tls, image.tls_dir, server=False, verify=True, secret=image.tls_secret
        )
    for secret in image.secrets:
        secret_object(cmd, secret)


def add_image(cmd: Command, image: Image, backing: Image | None, *, ends: bool) -> None:
    """Append the nodes of ``image`` and what they refer to; parameters as for format_props."""
    credentials(cmd, image)
    if image.fds is not None:
        cmd.pass_fds(image.fds)
    cmd.option("-blockdev", present(storage_props(image)))
    if image.slice is not None:
        cmd.option("-blockdev", present(slice_props(image)))
    if image.layer is not None:
        cmd.option("-blockdev", format_props(image, backing, ends=ends))


def add_chain(cmd: Command, images: list[Image], *, ends: bool) -> None:
    """Append the nodes of a chain, from the bottom up.

    :param images: from the top.
    :param ends: the document says that the chain ends after the last.
    """
    for position in range(len(images) - 1, -1, -1):
        image = images[position]
        last = position == len(images) - 1
        if image.data_store is not None:
            add_image(cmd, image.data_store, None, ends=False)
        add_image(cmd, image, None if last else images[position + 1], ends=last and ends)


@attrs.define(kw_only=True, eq=False)
class DiskBackend:
    """What is below the device of one disk.

    :ivar images: the chain, from the top.
    :ivar ends: the document says that the chain ends after the last image.
    :ivar copy_on_read: name of the filter that copies what is read into the top image.
    :ivar filters: throttle groups with the names of their nodes, from the bottom.
    :ivar vhost_user: another process serves the disk; there are no images.
    """

    images: list[Image] = attrs.field(factory=list)
    ends: bool = False
    copy_on_read: str | None = None
    filters: list[tuple[str, str]] = attrs.field(factory=list)
    vhost_user: bool = False

    @property
    def node(self) -> str | None:
        """Name of the node that the device is on; None without a medium."""
        if not self.images:
            return None
        if self.filters:
            return self.filters[-1][1]
        return self.copy_on_read or self.images[0].node
