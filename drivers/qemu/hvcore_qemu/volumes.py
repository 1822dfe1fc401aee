"""Volumes of storage pools: what they stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import HvError
from hvcore.errors import Issue
from hvcore.model.devices.storage import DEFAULT_PORTS
from hvcore.model.devices.storage import Auth
from hvcore.model.devices.storage import BlockSource
from hvcore.model.devices.storage import DirSource
from hvcore.model.devices.storage import FileSource
from hvcore.model.devices.storage import Host as Server
from hvcore.model.devices.storage import NetworkSource
from hvcore.model.devices.storage import Secret
from hvcore.xml.reader import read
from hvcore_qemu.props import refuse

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.model.devices.storage import Source
    from hvcore.model.devices.storage import VolumeSource
    from hvcore_qemu.resources import Host
    from hvcore_qemu.resources import Volume

_LOCAL_POOLS: Final = frozenset(
    {"dir", "fs", "netfs", "logical", "disk", "scsi", "zfs", "vstorage"}
)
_ISCSI_NAME_PARTS: Final = 4


def translate(host: Host, source: VolumeSource) -> tuple[Source, Auth | None]:
    """Return what ``source`` stands for, and the credentials that the pool has for it.

    :raises ValidationFailed: when QEMU cannot use volumes of such a pool.
    :raises HvError: when there is no such volume, or its pool is not active.
    """
    volume = host.volume(source.pool or "", source.volume or "")
    pool = read(volume.pool_xml.encode(), "pool")
    kind = pool.get("type") or ""
    if source.mode is not None and kind != "iscsi":
        refuse(Issue.xml("disk source mode is only valid when storage pool is of iscsi type"))
    auth: Auth | None = None
    found: Source
    if kind in _LOCAL_POOLS:
        found = _local(kind, volume)
    elif kind == "iscsi-direct" or (kind == "iscsi" and source.mode == "direct"):
        found, auth = _iscsi(pool, source)
    elif kind == "iscsi":
        source.mode = "host"
        found = BlockSource(path=volume.path)
    else:
        refuse(
            Issue.unsupported(
                f"using '{kind}' pools for backing 'volume' disks isn't yet supported"
            )
        )
    for name in ("startup_policy", "slice", "seclabels", "encryption", "reservations"):
        setattr(found, name, getattr(source, name))
    found.data_store = source.data_store
    return found, auth


def _local(pool: str, volume: Volume) -> Source:
    match volume.kind:
        case "file" | "ploop":
            return FileSource(path=volume.path)
        case "dir":
            return DirSource(path=volume.path)
        case "block":
            return BlockSource(path=volume.path)
    raise HvError(f"unexpected storage volume type '{volume.kind}' for storage pool type '{pool}'")


def _iscsi(pool: XmlElement, source: VolumeSource) -> tuple[NetworkSource, Auth | None]:
    hosts = pool.findall("source/host")
    if len(hosts) != 1:
        refuse(Issue.unsupported("Expected exactly 1 host for the storage pool"))
    parts = (source.volume or "").split(":")  # unit:0:0:LUN
    if len(parts) != _ISCSI_NAME_PARTS:
        refuse(Issue.internal(f"unexpected iscsi volume name '{source.volume}'"))
    device = pool.find("source/device")
    iqn = pool.find("source/initiator/iqn")
    found = NetworkSource(
        protocol="iscsi",
        name=f"{device.get('path') if device is not None else ''}/{parts[3]}",
        hosts=[
            Server(
                name=hosts[0].get("name"),
                port=int(hosts[0].get("port") or DEFAULT_PORTS["iscsi"]),
            )
        ],
        initiator=iqn.get("name") if iqn is not None else None,
    )
    return found, _pool_auth(pool)


def _pool_auth(pool: XmlElement) -> Auth | None:
    auth = pool.find("source/auth")
    secret = auth.find("secret") if auth is not None else None
    if auth is None or secret is None:
        return None
    return Auth(
        username=auth.get("username") or "",
        secret=Secret(
            type=secret.get("type") or "iscsi", uuid=secret.get("uuid"), usage=secret.get("usage")
        ),
    )
