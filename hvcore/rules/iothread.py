"""Rules of <iothreads>, <iothreadids>, <defaultiothread> and <throttlegroups>."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import Issue
from hvcore.model.iothread import IOThread
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping

    from hvcore.model.devices.controller import Controller
    from hvcore.model.devices.disk import Disk
    from hvcore.model.domain import Domain
    from hvcore.model.iothread import DefaultIOThread
    from hvcore.pipeline import Context

rules = Rules()


def iothreads(domain: Domain) -> list[IOThread]:
    """Return all I/O threads, also where the document only counts them.

    The list of the document comes first; the count is filled up with the lowest free numbers.
    """
    listed = list(domain.iothreadids)
    taken = {thread.id for thread in listed}
    number = 0
    while len(listed) < (domain.iothreads or 0):
        number += 1
        if number not in taken:
            listed.append(IOThread(id=number))
    return listed


def iothread_ids(domain: Domain) -> set[int]:
    """Return the numbers of all I/O threads."""
    return {thread.id for thread in iothreads(domain)}


@rules.post_parse_early
def _numbers(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Make count and list agree; a list is written only where it says more than the count."""
    del ctx
    seen: set[int] = set()
    for thread in domain.iothreadids:
        if thread.id in seen:
            yield Issue.xml(f"duplicate iothread id '{thread.id}' found", line=thread.line)
        seen.add(thread.id)
    if domain.iothreadids:
        domain.iothreadids = iothreads(domain)
        domain.iothreads = len(domain.iothreadids)
    domain.iothreads = domain.iothreads or None
    names: set[str] = set()
    for group in domain.throttlegroups:
        if group.group_name in names:
            yield Issue.xml(f"duplicate group name '{group.group_name}' found", line=group.line)
        names.add(group.group_name)
    default = domain.defaultiothread
    if default and default.thread_pool_min is None and default.thread_pool_max is None:
        domain.defaultiothread = None


@rules.check_domain
def _pools(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Limits of thread pools must leave room."""
    del ctx
    pools: list[IOThread | DefaultIOThread] = [*domain.iothreadids]
    if domain.defaultiothread is not None:
        pools.append(domain.defaultiothread)
    for pool in pools:
        if pool.thread_pool_max == 0:
            yield Issue.unsupported("thread_pool_max must be a positive integer", line=pool.line)
        # An absent maximum counts as -1, so that a minimum needs one.
        elif _or_absent(pool.thread_pool_min) > _or_absent(pool.thread_pool_max):
            yield Issue.unsupported(
                "thread_pool_min must be smaller or equal to thread_pool_max", line=pool.line
            )


def _or_absent(value: int | None) -> int:
    return -1 if value is None else value


@rules.check_domain
def _throttle_groups(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Refuse a total together with limits of reading and writing alone."""
    del ctx
    for group in domain.throttlegroups:
        for name in ("bytes_sec", "iops_sec", "bytes_sec_max", "iops_sec_max"):
            if getattr(group, f"total_{name}") and (
                getattr(group, f"read_{name}") or getattr(group, f"write_{name}")
            ):
                yield Issue.xml(
                    f"total and read/write {name} cannot be set at the same time", line=group.line
                )


# -- changes ---------------------------------------------------------------------------------------


def _invalid(message: str) -> HvError:
    return HvError(message, kind=ErrorClass.INVALID_ARG)


def check_number(number: int) -> None:
    """Refuse a number that no I/O thread can have.

    :raises HvError: with libvirt's words.
    """
    if number <= 0:
        raise _invalid("invalid value of 0 for iothread_id")


def check_new(domain: Domain, number: int) -> None:
    """Refuse a second I/O thread of one number.

    :raises HvError: there is one.
    """
    if number in iothread_ids(domain):
        raise _invalid(f"an IOThread is already using iothread_id '{number}'")


def check_there(domain: Domain, number: int) -> None:
    """Refuse a number that no I/O thread has.

    :raises HvError: there is none.
    """
    if number not in iothread_ids(domain):
        raise _invalid(f"cannot find IOThread '{number}' in iothreadids list")


def check_unused(domain: Domain, number: int) -> None:
    """Refuse to remove an I/O thread that is not there, or that devices use.

    :raises HvError: with libvirt's words.
    """
    check_there(domain, number)
    for disk in domain.devices.disks:
        if _uses(disk, number):
            raise _invalid(
                f"cannot remove IOThread {number} since it is being used by disk '{disk.target}'"
            )
    for controller in domain.devices.controllers:
        if _uses(controller, number):
            raise _invalid(
                f"cannot remove IOThread '{number}' since it is being used by controller"
            )


def _uses(device: Disk | Controller, number: int) -> bool:
    return number in (device.iothread, *(each.id for each in device.iothreads))


def add(domain: Domain, number: int) -> None:
    """Add an I/O thread."""
    domain.iothreadids = [*iothreads(domain), IOThread(id=number)]
    domain.iothreads = len(domain.iothreadids)


def remove(domain: Domain, number: int) -> None:
    """Remove an I/O thread and its pin."""
    domain.iothreadids = [thread for thread in iothreads(domain) if thread.id != number]
    domain.iothreads = len(domain.iothreadids) or None
    if domain.cputune is not None:
        pins = domain.cputune.iothreadpins
        domain.cputune.iothreadpins = [pin for pin in pins if pin.iothread != number]


def adjust(domain: Domain, number: int, settings: Mapping[str, int]) -> None:
    """Change polling and the pool of workers of an I/O thread.

    :param settings: by field of :class:`hvcore.model.iothread.IOThread`.
    :raises HvError: there is no such thread, or more workers are wanted than allowed.
    """
    check_there(domain, number)
    threads = iothreads(domain)
    [thread] = [each for each in threads if each.id == number]
    least, most = (
        _or_absent(settings.get(name, getattr(thread, name)))
        for name in ("thread_pool_min", "thread_pool_max")
    )
    if least > most:
        raise _invalid(f"thread_pool_min ({least}) can't be greater than thread_pool_max ({most})")
    for name, value in settings.items():
        setattr(thread, name, value)
    domain.iothreadids = threads
