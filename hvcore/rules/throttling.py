"""Rules of changing the limits that several disks share: libvirt's."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.model.iothread import ThrottleGroup
from hvcore.xml.fields import fields_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hvcore.model.domain import Domain

LIMITS: Final = tuple(name for name, _ in fields_of(ThrottleGroup) if name != "group_name")
"""Names of limits, as in libvirt's document."""

_PAIRS: Final = ("bytes_sec", "iops_sec", "bytes_sec_max", "iops_sec_max")


def _invalid(message: str) -> HvError:
    return HvError(message, kind=ErrorClass.INVALID_ARG)


def limits(group: ThrottleGroup) -> dict[str, int]:
    """Return the limits that a group has."""
    return {name: value for name in LIMITS if (value := getattr(group, name))}


def check_limits(wanted: Mapping[str, int]) -> None:
    """Refuse limits that there are not, or that say two things of one.

    :raises HvError: with libvirt's words.
    """
    for name in wanted:
        if name not in LIMITS:
            raise _invalid(f"parameter '{name}' not supported")
    for name in _PAIRS:
        parts = [wanted.get(f"{way}_{name}") for way in ("read", "write")]
        if wanted.get(f"total_{name}") and any(parts):
            raise _invalid(f"total and read/write of {name} cannot be set at the same time")


def changed(domain: Domain, name: str, wanted: Mapping[str, int]) -> ThrottleGroup:
    """Return a group as it is to be: one that is there keeps what is not given.

    A total takes the place of its parts, and the parts that of their total.
    """
    merged: dict[str, int] = {}
    for group in domain.throttlegroups:
        if group.group_name == name:
            merged = limits(group)
    for pair in _PAIRS:
        total, parts = f"total_{pair}", (f"read_{pair}", f"write_{pair}")
        if wanted.get(total):
            merged = {key: value for key, value in merged.items() if key not in parts}
        elif any(wanted.get(part) for part in parts):
            merged.pop(total, None)
    return ThrottleGroup(group_name=name, **{**merged, **wanted})


def put(domain: Domain, group: ThrottleGroup) -> None:
    """Add a group, or let it take the place of the one with its name."""
    groups = domain.throttlegroups
    names = [each.group_name for each in groups]
    if group.group_name in names:
        groups[names.index(group.group_name)] = group
    else:
        groups.append(group)


def check_unused(domain: Domain, name: str) -> None:
    """Refuse to remove a group that is not there, or that a disk uses.

    :raises HvError: with libvirt's words.
    """
    if name not in [group.group_name for group in domain.throttlegroups]:
        raise _invalid(f"throttle group '{name}' not found")
    for disk in domain.devices.disks:
        if name in [each.group for each in disk.throttle_filters]:
            raise _invalid(f"throttle group '{name}' is still being used by disk {disk.target}")


def remove(domain: Domain, name: str) -> None:
    """Remove a group."""
    groups = domain.throttlegroups
    domain.throttlegroups = [group for group in groups if group.group_name != name]
