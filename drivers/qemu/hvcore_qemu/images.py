"""Preparation of disks for a start: names of nodes, secrets, descriptors, volumes.

Disks are prepared from the last to the first, as libvirt does it; numbers of nodes and sets of
descriptors depend on that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import Issue
from hvcore.model.devices.storage import BackingStore
from hvcore.model.devices.storage import BlockSource
from hvcore.model.devices.storage import DirSource
from hvcore.model.devices.storage import FileSource
from hvcore.model.devices.storage import NetworkSource
from hvcore.model.devices.storage import NvmeSource
from hvcore.model.devices.storage import VhostVdpaSource
from hvcore.model.devices.storage import VolumeSource
from hvcore_qemu.blockdev import DiskBackend
from hvcore_qemu.blockdev import Image
from hvcore_qemu.blockdev import nfs_identity
from hvcore_qemu.blockdev import nvme_address
from hvcore_qemu.credentials import seal
from hvcore_qemu.credentials import tls_secret
from hvcore_qemu.devices.disk_checks import check_image
from hvcore_qemu.machines import machine_of
from hvcore_qemu.props import refuse
from hvcore_qemu.volumes import translate

if TYPE_CHECKING:
    from hvcore.model.devices.disk import Disk
    from hvcore.model.devices.storage import Auth
    from hvcore.model.devices.storage import EncryptionSecret
    from hvcore.model.devices.storage import Secret as SecretReference
    from hvcore.model.devices.storage import Source
    from hvcore_qemu.credentials import Secret
    from hvcore_qemu.prepare import Preparation

MANAGED_HELPER: Final = "pr-helper0"
"""Id of the helper for persistent reservations that all disks of a domain share."""

_USAGES: Final = {"rbd": "ceph"}
_CURL_PROTOCOLS: Final = frozenset({"http", "https", "ftp", "ftps", "tftp"})


def managed_helper_socket(domain_dir: str) -> str:
    """Return where the shared helper for persistent reservations listens."""
    return f"{domain_dir}/{MANAGED_HELPER}.sock"


def prepare(work: Preparation) -> None:
    """Make all disks ready, from the last to the first.

    :raises ValidationFailed: when QEMU or the machine cannot have one of them.
    :raises HvError: when a volume, secret or group of descriptors is missing.
    """
    disks = work.domain.devices.disks
    for disk in disks:
        _check_start(disk, work)
    for disk in reversed(list(disks)):
        try:
            _check_files(disk, work)
            found = disk_backend(work, disk)
        except HvError:
            if not _may_be_missing(disk, new=work.new):
                raise
            if disk.device not in ("cdrom", "floppy"):
                disks.remove(disk)
                continue
            disk.source = None
            found = DiskBackend()
        assert disk.alias is not None  # aliases are assigned before
        work.resources.disks[disk.alias] = found


def prepare_host(work: Preparation) -> None:
    """Open the devices that disks are on; later than everything that only needs to be named."""
    images = [
        image
        for disk in work.domain.devices.disks
        for image in work.resources.disks[disk.alias or ""].images
    ]
    if any(image.reservations == (MANAGED_HELPER, None) for image in images):
        work.host.pr_helper(managed_helper_socket(work.resources.domain_dir))
    for disk in work.domain.devices.disks:
        if disk.transient and isinstance(disk.source, FileSource):
            work.host.transient(disk.source.path or "")
    for image in images:
        source = image.source
        if isinstance(source, NvmeSource) and source.managed:
            work.host.managed_nvme(nvme_address(source))
        if isinstance(source, VhostVdpaSource):
            fd = work.host.vdpa(source.dev or "")
            image.fds = work.resources.new_fd_set([(fd, f"{image.storage}-vdpa")])


def _check_files(disk: Disk, work: Preparation) -> None:
    """Refuse to start without the files that the document names."""
    top = getattr(disk.source, "path", None)
    for source in (disk.source, *(layer.source for layer in disk.backing_chain())):
        if not isinstance(source, FileSource | BlockSource | DirSource):
            continue
        fdgroup = getattr(source, "fdgroup", None)
        problem = work.host.file_problem(source.path) if source.path and not fdgroup else None
        if problem is not None:
            what = "storage file" if source is disk.source else "backing file"
            of = "" if source is disk.source else f" of storage file '{top}'"
            raise HvError(
                f"Cannot access {what} '{source.path}'{of}: {problem}", kind=ErrorClass.SYSTEM
            )


def _may_be_missing(disk: Disk, *, new: bool) -> bool:
    """Tell whether a guest may do without the medium.

    :param new: the guest starts afresh; one that is migrated must have what it had.
    """
    source = disk.source
    if not isinstance(source, VolumeSource | FileSource | BlockSource | DirSource):
        return False
    if source.startup_policy == "optional":
        return new or disk.device in ("cdrom", "floppy")
    return source.startup_policy == "requisite" and not new


def _check_start(disk: Disk, work: Preparation) -> None:
    """Refuse what can be defined but not started."""
    source = disk.source
    if isinstance(source, NetworkSource) and source.protocol == "vxhs":
        refuse(Issue.unsupported("VxHS protocol is not supported with this QEMU binary"))
    if disk.device == "floppy" and machine_of(work.domain).pseries:
        refuse(Issue.unsupported("PowerPC pseries machines do not support floppy device"))
    if disk.type == "nvme" and "drive-nvme" not in work.caps:
        refuse(Issue.unsupported("NVMe disks are not supported with this QEMU binary"))


def disk_backend(work: Preparation, disk: Disk) -> DiskBackend:
    """Return what is below the device of ``disk``; see :func:`prepare` for what is raised."""
    if disk.type == "vhostuser":
        return DiskBackend(vhost_user=True)
    if disk.cache in (None, "default") and disk.shareable and not disk.readonly:
        # Whoever shares the disk must see what was written.
        disk.cache = "none"
    found = DiskBackend()
    if disk.copy_on_read:
        found.copy_on_read = f"libvirt-CoR-{disk.target}"
    if not disk.empty:
        found.images = _chain(work, disk)
        last = disk.backing_store
        while last is not None and last.type is not None:
            last = last.backing_store
        found.ends = last is not None
        if last is None:
            _note_end(disk, found.images[-1])
    elif disk.bus != "sd":
        work.resources.next_node()  # libvirt's numbers count a medium that may come later
    for each in disk.throttle_filters:
        node = f"libvirt-{work.resources.next_node()}-filter"
        found.filters.append((each.group or "", node))
    return found


def _note_end(disk: Disk, lowest: Image) -> None:
    """Let the definition say that nothing is below an image whose format cannot have anything."""
    if lowest.format != "raw" or not isinstance(lowest.source, FileSource | BlockSource):
        return
    owner: Disk | BackingStore = disk
    while owner.backing_store is not None:
        owner = owner.backing_store
    owner.backing_store = BackingStore()


def _chain(work: Preparation, disk: Disk) -> list[Image]:
    source, auth = disk.source, disk.source_auth
    assert source is not None  # the caller checked
    if isinstance(source, VolumeSource):
        source, auth = translate(work.host, source)
    top = _image(
        work, disk, source, format_=disk.format or default_format(source), auth=auth, top=True
    )
    if disk.source is not None:
        disk.source.index = source.index
    top.encryption = disk.source_encryption
    top.readonly = disk.readonly
    top.metadata_cache = disk.metadata_cache
    images = [top]
    _finish(work, disk, top)
    if disk.bus == "sd":
        return images  # QEMU looks for what is below by itself
    for layer in disk.backing_chain():
        assert layer.source is not None  # the parser requires it
        below = layer.source
        layer_auth = below.auth
        if isinstance(below, VolumeSource):
            below, layer_auth = translate(work.host, below)
        image = _image(work, disk, below, format_=layer.format or "raw", auth=layer_auth, top=False)
        layer.index, below.index = below.index, None
        image.encryption = layer.source.encryption
        image.readonly = True
        image.metadata_cache = layer.metadata_cache
        _finish(work, disk, image)
        images.append(image)
    return images


def default_format(source: Source) -> str:
    """Return the format of a volume whose definition does not tell."""
    return "fat" if isinstance(source, DirSource) else "raw"


def _image(
    work: Preparation, disk: Disk, source: Source, *, format_: str, auth: Auth | None, top: bool
) -> Image:
    storage, layer, part = disk.alias or "", None, None
    if disk.bus != "sd":  # those are not made of nodes
        number = source.index = work.resources.next_node()
        storage, layer = f"libvirt-{number}-storage", f"libvirt-{number}-format"
        part = f"libvirt-{number}-slice-sto" if source.slice is not None else None
    return Image(
        source=source,
        format=format_,
        auth=auth,
        storage=storage,
        layer=layer,
        slice=part,
        io=disk.io,
        cache=disk.cache,
        discard=disk.discard,
        discard_no_unref=disk.discard_no_unref,
        detect_zeroes=disk.detect_zeroes if top else None,
        floppy=disk.device == "floppy",
    )


def _finish(work: Preparation, disk: Disk, image: Image) -> None:
    """Get what an image needs, and the image that holds its data."""
    source = image.source
    open_image(work, image)
    image.host_cdrom = (
        disk.device == "cdrom"
        and image.format == "raw"
        and isinstance(source, BlockSource)
        and work.host.is_host_cdrom(source.path or "")
    )
    store = source.data_store
    if store is not None and store.source is not None:
        data = _image(
            work, disk, store.source, format_="raw", auth=store.source.auth,
            top=disk.source is source,
        )  # fmt: skip
        data.encryption = store.source.encryption
        data.readonly = image.readonly
        _finish(work, disk, data)
        image.data_store = data


def open_image(work: Preparation, image: Image) -> None:
    """Get what an image needs, in libvirt's order, and do without a format node if possible."""
    _pass_fds(work, image)
    if not _needs_layer(work, image):
        image.layer = None
    _encryption(work, image, image.layer or image.storage)
    for issue in check_image(image, work.caps):
        refuse(issue)
    complete_image(work, image, image.storage)


def complete_image(work: Preparation, image: Image, owner: str) -> None:
    """Get what the connection to an image's storage needs.

    :param owner: what the ids of objects are derived from.
    """
    source = image.source
    if isinstance(source, NetworkSource):
        if source.protocol == "gluster":
            image.debug_level = work.config.gluster_debug_level
        image.proxy = _proxy(work, source, owner)
        if image.proxy is None:
            _auth(work, image, source, owner)
    _reservations(work, image, owner)
    if isinstance(source, NetworkSource):
        _tls(work, image, source, owner)
    identity = nfs_identity(source)
    if identity is not None:
        image.uid = work.host.user_id(identity.user) if identity.user else None
        image.gid = work.host.group_id(identity.group) if identity.group else None


def _needs_layer(work: Preparation, image: Image) -> bool:
    if "blockjob.backing-mask-protocol" not in work.caps:
        return True
    if image.format != "raw" or image.luks:
        return True
    # A read-only view of what can only be opened for writing.
    return image.fds is not None and len(image.fds.descriptors) == 1 and image.fds_writable


def _pass_fds(work: Preparation, image: Image) -> None:
    source = image.source
    if not isinstance(source, FileSource) or not source.fdgroup:
        return
    group = work.host.fd_group(source.fdgroup)
    if group is None:
        refuse(
            Issue.invalid_arg(
                f"file descriptor group '{source.fdgroup}' was not associated with the domain"
            )
        )
    image.fds = work.resources.new_fd_set(
        [(fd, f"{image.storage}{position}") for position, fd in enumerate(group.fds)]
    )
    image.fds_writable = group.writable


def _encryption(work: Preparation, image: Image, owner: str) -> None:
    if image.encryption is None:
        return
    image.secrets = [
        _secret(work, f"{owner}-encryption-secret{position}", "volume", secret)
        for position, secret in enumerate(image.encryption.secrets)
    ]


def _secret(
    work: Preparation, alias: str, usage_type: str, secret: SecretReference | EncryptionSecret
) -> Secret:
    value = work.host.secret(usage_type, uuid=secret.uuid, usage=secret.usage)
    return seal(work, alias, value)


def _auth(work: Preparation, image: Image, source: NetworkSource, owner: str) -> None:
    if image.auth is not None and image.auth.secret is not None:
        usage = _USAGES.get(source.protocol, "iscsi")
        image.auth_secret = _secret(work, f"{owner}-auth-secret0", usage, image.auth.secret)
    if source.cookies:
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in source.cookies)
        image.cookie_secret = seal(work, f"{owner}-httpcookie-secret0", cookies.encode())


def _proxy(work: Preparation, source: NetworkSource, owner: str) -> str | None:
    """Return the socket of an nbdkit in front of the server, where that is wanted."""
    if not work.config.storage_use_nbdkit:
        return None
    able = work.host.nbdkit()
    if able is None:
        return None
    plugin = "plugin-curl" if source.protocol in _CURL_PROTOCOLS else f"plugin-{source.protocol}"
    if plugin not in able or source.protocol not in {*_CURL_PROTOCOLS, "ssh"}:
        return None
    return f"{work.resources.domain_dir}/nbdkit-{owner}.socket"


def _reservations(work: Preparation, image: Image, owner: str) -> None:
    wanted = image.source.reservations
    if wanted is None:
        return
    if wanted.managed and not wanted.path:
        wanted.path = managed_helper_socket(work.resources.domain_dir)
        wanted.type, wanted.mode = "unix", "client"
    if wanted.managed:
        image.reservations = (MANAGED_HELPER, None)
    else:
        image.reservations = (f"pr-helper-{owner}", wanted.path)


def _tls(work: Preparation, image: Image, source: NetworkSource, owner: str) -> None:
    config = work.config
    if source.protocol not in ("vxhs", "nbd"):
        if source.tls:
            refuse(
                Issue.unsupported(
                    f"TLS transport is not supported for disk protocol '{source.protocol}'"
                )
            )
        return
    nbd = source.protocol == "nbd"
    if source.tls is None:
        source.tls = config.nbd_tls if nbd else config.vxhs_tls
        source.tls_from_config = True
    if not source.tls:
        return
    if nbd and "nbd-tls" not in work.caps:
        refuse(Issue.unsupported("this qemu does not support TLS transport for NBD"))
    image.tls = f"obj{owner}_tls0"
    image.tls_dir = config.nbd_tls_x509_cert_dir if nbd else config.vxhs_tls_x509_cert_dir
    uuid = config.nbd_tls_x509_secret_uuid if nbd else config.vxhs_tls_x509_secret_uuid
    if uuid is not None:
        image.tls_secret = tls_secret(work, image.tls, uuid)
