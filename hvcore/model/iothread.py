"""The <iothreadids>, <defaultiothread> and <throttlegroups> sections."""

from __future__ import annotations

from hvcore.xml.codecs import INTEGER
from hvcore.xml.codecs import POSITIVE
from hvcore.xml.codecs import STR
from hvcore.xml.codecs import ULONG
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import element
from hvcore.xml.fields import text

_POOL = INTEGER(0, 2**31 - 1, expected="Expected non-negative integer value")


@element("iothread")
class IOThread(Element):
    """One I/O thread below <iothreadids>."""

    id: int = attr("@id", POSITIVE, required=True)
    thread_pool_min: int | None = attr("@thread_pool_min", _POOL)
    thread_pool_max: int | None = attr("@thread_pool_max", _POOL)
    poll_max: int | None = attr("poll/@max", ULONG, doc="nanoseconds")
    poll_grow: int | None = attr("poll/@grow", ULONG)
    poll_shrink: int | None = attr("poll/@shrink", ULONG)


@element("defaultiothread", omit_empty=True)
class DefaultIOThread(Element):
    """Limits of the main loop's pool."""

    thread_pool_min: int | None = attr("@thread_pool_min", _POOL)
    thread_pool_max: int | None = attr("@thread_pool_max", _POOL)


def _limit(name: str) -> int | None:
    found: int | None = text(
        name, ULONG, omit=(0,), refused=f"throttle group field '{name}' must be an integer"
    )
    return found


@element("throttlegroup")
class ThrottleGroup(Element):
    """Limits that several disks share; zero means none."""

    total_bytes_sec: int | None = _limit("total_bytes_sec")
    read_bytes_sec: int | None = _limit("read_bytes_sec")
    write_bytes_sec: int | None = _limit("write_bytes_sec")
    total_iops_sec: int | None = _limit("total_iops_sec")
    read_iops_sec: int | None = _limit("read_iops_sec")
    write_iops_sec: int | None = _limit("write_iops_sec")
    total_bytes_sec_max: int | None = _limit("total_bytes_sec_max")
    read_bytes_sec_max: int | None = _limit("read_bytes_sec_max")
    write_bytes_sec_max: int | None = _limit("write_bytes_sec_max")
    total_iops_sec_max: int | None = _limit("total_iops_sec_max")
    read_iops_sec_max: int | None = _limit("read_iops_sec_max")
    write_iops_sec_max: int | None = _limit("write_iops_sec_max")
    size_iops_sec: int | None = _limit("size_iops_sec")
    total_bytes_sec_max_length: int | None = _limit("total_bytes_sec_max_length")
    read_bytes_sec_max_length: int | None = _limit("read_bytes_sec_max_length")
    write_bytes_sec_max_length: int | None = _limit("write_bytes_sec_max_length")
    total_iops_sec_max_length: int | None = _limit("total_iops_sec_max_length")
    read_iops_sec_max_length: int | None = _limit("read_iops_sec_max_length")
    write_iops_sec_max_length: int | None = _limit("write_iops_sec_max_length")
    group_name: str = text("group_name", STR, required=True, missing="missing group name")
