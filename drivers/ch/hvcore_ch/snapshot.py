"""What a saved guest consists of, and how that gets into one file: no more than is needed.

cloud-hypervisor writes a snapshot as a directory: a configuration, the state of the devices, and
the memory. In the file they stand behind each other as a tar archive, preceded by what the
configuration does not know: which name belongs to the device at which address.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.model.devices.base import PciAddress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hvcore.model.domain import Domain

NAMES: Final = "names.json"
CONFIG: Final = "config.json"
PARTS: Final = (CONFIG, "state.json", "memory-ranges")
"""The files of a snapshot."""

_CHUNK: Final = 1 << 20
_OF_HOST: Final = ("path", "file", "socket", "vhost_socket")
"""Members that say where something is on the host, which may have changed."""


def names_of(domain: Domain) -> dict[str, str]:
    """Return the names of devices by their address on the guest's PCI bus."""
    return {
        place: device.alias
        for device in domain.devices.walk()
        if device.alias is not None and (place := _place(device.address)) is not None
    }


def give_names(domain: Domain, names: Mapping[str, str]) -> None:
    """Give devices the names that they had when the guest was saved."""
    for device in domain.devices.walk():
        place = _place(device.address)
        if place is not None and place in names:
            device.alias = names[place]


def _place(address: Any) -> str | None:
    if not isinstance(address, PciAddress) or address.slot is None:
        return None
    return f"{address.domain or 0:04x}:{address.slot:02x}"


def moved(saved: dict[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return a saved configuration with what is on the host where ``wanted`` has it.

    What the guest sees stays as it was saved.
    """
    places = {}
    for member in wanted.values():
        for each in member if isinstance(member, list) else [member]:
            if isinstance(each, dict) and "id" in each:
                places[each["id"]] = each
    for member in saved.values():
        for each in member if isinstance(member, list) else [member]:
            if isinstance(each, dict) and each.get("id") in places:
                mine = places[each["id"]]
                each.update({name: mine[name] for name in _OF_HOST if name in mine})
    for name in ("serial", "console", "tpm"):
        if name in wanted and isinstance(saved.get(name), type(wanted[name])):
            saved[name] = wanted[name]
    # How the process is confined is a matter of this host alone.
    saved["landlock_enable"] = wanted.get("landlock_enable", False)
    saved["landlock_rules"] = wanted.get("landlock_rules")
    return saved


def pack(folder: Path, names: Mapping[str, str], fd: int) -> None:
    """Write the snapshot in ``folder`` to ``fd``, from where that stands.

    :raises DriverError: it cannot be written.
    """
    try:
        with (
            open(fd, "wb", closefd=False, buffering=0) as file,
            tarfile.open(fileobj=file, mode="w|", bufsize=_CHUNK) as archive,
        ):
            text = json.dumps(dict(names)).encode()
            entry = tarfile.TarInfo(NAMES)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))
            for name in PARTS:
                archive.add(folder / name, arcname=name)
    except OSError as error:
        raise DriverError(
            f"failed to write domain state: {error.strerror}", kind=ErrorClass.SYSTEM
        ) from error


def unpack(fd: int, folder: Path) -> dict[str, str]:
    """Write the snapshot at ``fd`` into ``folder``; return the names of devices.

    :raises DriverError: it is none, or cannot be read.
    """
    names: dict[str, str] | None = None
    found = set()
    try:
        with (
            open(fd, "rb", closefd=False, buffering=0) as file,
            tarfile.open(fileobj=file, mode="r|", bufsize=_CHUNK) as archive,
        ):
            for entry in archive:
                data = archive.extractfile(entry)
                if data is None:
                    continue
                if entry.name == NAMES:
                    names = json.loads(data.read())
                elif entry.name in PARTS:
                    # A name in an archive is no path to be followed.
                    _write(folder / entry.name, data)
                    found.add(entry.name)
    except (OSError, ValueError, tarfile.TarError) as error:
        raise DriverError(f"failed to read domain state: {error}") from error
    if names is None or found != set(PARTS):
        raise DriverError("failed to read domain state: it is incomplete")
    return names


def _write(path: Path, data: Any) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with open(os.open(path, flags, 0o600), "wb") as file:  # noqa: PTH123 - 0600 from the beginning
        shutil.copyfileobj(data, file, _CHUNK)


def copy(path: Path, fd: int) -> None:
    """Append a file to ``fd``.

    :raises DriverError: that fails.
    """
    try:
        with (
            path.open("rb") as source,
            open(fd, "wb", closefd=False) as sink,
        ):
            shutil.copyfileobj(source, sink, _CHUNK)
    except OSError as error:
        raise DriverError(
            f"failed to write core dump: {error.strerror}", kind=ErrorClass.SYSTEM
        ) from error
