"""Rules of changing the size of memory and disks, and of finding what is meant: libvirt's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.rules.domain_memory import numa_cells

if TYPE_CHECKING:
    from hvcore.model.devices.disk import Disk
    from hvcore.model.devices.interface import Interface
    from hvcore.model.domain import Domain


def check_size(size: int) -> None:
    """Refuse to leave a guest no memory.

    :raises HvError: with libvirt's words.
    """
    if size <= 0:
        raise HvError(
            "memory in virDomainSetMemoryFlags must not be zero", kind=ErrorClass.INVALID_ARG
        )


def set_max_memory(domain: Domain, size: int) -> None:
    """Change the memory that a guest starts with.

    :param size: KiB.
    :raises InvalidState: its nodes say how much it is, or there can be no more.
    """
    if numa_cells(domain):
        raise InvalidState(
            "initial memory size of a domain with NUMA nodes cannot be modified with this API"
        )
    if domain.max_memory and domain.max_memory < size:
        raise InvalidState("cannot set initial memory size greater than the maximum memory size")
    domain.memory = size
    domain.current_memory = min(domain.current_memory or size, size)


def check_memory(domain: Domain, size: int) -> None:
    """Refuse to give a guest more than it can have.

    :param size: KiB.
    :raises HvError: with libvirt's words.
    """
    if size > (domain.memory or 0):
        raise HvError("cannot set memory higher than max memory", kind=ErrorClass.INVALID_ARG)


def disk_of(domain: Domain, wanted: str) -> Disk:
    """Return the disk with this target or this image.

    :raises HvError: there is none.
    """
    for disk in domain.devices.disks:
        if wanted in (disk.target, getattr(disk.source, "path", None)):
            return disk
    raise HvError(
        f"disk '{wanted}' was not found in the domain config", kind=ErrorClass.INVALID_ARG
    )


def resizable(domain: Domain, wanted: str) -> Disk:
    """Return the disk with this target or this image, which can be resized.

    :raises HvError: there is none, or it cannot be, in libvirt's words.
    """
    disk = disk_of(domain, wanted)
    if disk.empty or disk.readonly:
        raise HvError(
            f"can't resize empty or readonly disk '{disk.target}'",
            kind=ErrorClass.OPERATION_UNSUPPORTED,
        )
    if disk.type == "vhostuser":
        raise HvError(
            "block resize is not supported for vhostuser disk",
            kind=ErrorClass.OPERATION_UNSUPPORTED,
        )
    return disk


def interface_of(domain: Domain, wanted: str) -> Interface:
    """Return the interface with this name on the host, this MAC address or this alias.

    :raises HvError: there is none, in the words of ``virDomainNetFind``.
    """
    for interface in domain.devices.interfaces:
        if wanted in (interface.target, interface.mac, interface.alias):
            return interface
    raise HvError(f"'{wanted}' is not a known interface", kind=ErrorClass.INVALID_ARG)
