"""Macvtaps of the host: an interface's second identity, whose packets a guest gets.

Unlike a tap a macvtap stays when nobody has it open, so whoever makes one has to remove it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.hostnet import Tap
from hvcore.hostnet import failed

if TYPE_CHECKING:
    from collections.abc import Callable

    from hvcore.hostnet import TapOptions

# linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/if_tun.h
_REQUEST_ACK: Final = 0x5
_CREATE_EXCLUSIVE: Final = 0x600
_RTM_NEWLINK: Final = 16
_RTM_DELLINK: Final = 17
_NLMSG_ERROR: Final = 2
_IFLA_ADDRESS: Final = 1
_IFLA_IFNAME: Final = 3
_IFLA_MTU: Final = 4
_IFLA_LINK: Final = 5
_IFLA_LINKINFO: Final = 18
_IFLA_INFO_KIND: Final = 1
_IFLA_INFO_DATA: Final = 2
_IFLA_MACVLAN_MODE: Final = 1
_IFF_UP: Final = 0x1
_TUNSETIFF: Final = 0x400454CA
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_IFF_MULTI_QUEUE: Final = 0x0100

_MODES: Final = {"private": 1, "vepa": 2, "bridge": 4}
"""Modes that leave the interface below its own address."""

_HEAD: Final = struct.Struct("=IHHII")
_LINK: Final = struct.Struct("=BxHiII")
_NETWORKS: Final = Path("/sys/class/net")


def make(
    open_device: Callable[[str], int],
    name: str | None,
    link: str,
    mode: str,
    options: TapOptions,
) -> Tap:
    """Create a macvtap on top of an interface, with a descriptor for each pair of queues.

    :param open_device: opens a device for reading and writing.
    :param link: the interface below.
    :param mode: libvirt's name of it.
    :raises DriverError: the kernel does not allow it; nothing is left.
    """
    made = _create(name, link, mode, options)
    try:
        return Tap(made, _open(open_device, made, options.queues))
    except BaseException:
        remove(made)
        raise


def remove(name: str) -> None:
    """Remove a macvtap; one that is gone already is no error."""
    with contextlib.suppress(OSError):
        _ask(_RTM_DELLINK, 0, b"", index=_index(name))


def _create(name: str | None, link: str, mode: str, options: TapOptions) -> str:
    """Return the name of a new macvtap: the one that is wanted, or the first that is free."""
    for number in itertools.count():
        wanted = name or f"macvtap{number}"
        try:
            data = _description(wanted, _index(link), mode, options)
            _ask(_RTM_NEWLINK, _CREATE_EXCLUSIVE, data, up=True)
        except OSError as error:
            if error.errno == errno.EEXIST and name is None:
                continue
            shown = options.mac or "<null>"
            raise failed(
                f"error creating macvtap interface {wanted}@{link} ({shown})", error
            ) from error
        return wanted
    raise AssertionError("there are endless names")


def _description(name: str, link: int, mode: str, options: TapOptions) -> bytes:
    kind = _attribute(_IFLA_INFO_KIND, b"macvtap")
    settings = _attribute(_IFLA_MACVLAN_MODE, struct.pack("=I", _MODES[mode]))
    found = _attribute(_IFLA_IFNAME, name.encode() + b"\0")
    found += _attribute(_IFLA_LINK, struct.pack("=I", link))
    if options.mac is not None:
        found += _attribute(_IFLA_ADDRESS, bytes.fromhex(options.mac.replace(":", "")))
    if options.mtu is not None:
        found += _attribute(_IFLA_MTU, struct.pack("=I", options.mtu))
    return found + _attribute(_IFLA_LINKINFO, kind + _attribute(_IFLA_INFO_DATA, settings))


def _open(open_device: Callable[[str], int], name: str, queues: int) -> tuple[int, ...]:
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | (_IFF_MULTI_QUEUE if queues > 1 else 0)
    request = struct.pack("16sH22x", b"", flags)
    descriptors = []
    for _ in range(queues):
        descriptor = open_device(f"/dev/tap{_index(name)}")
        try:
            fcntl.ioctl(descriptor, _TUNSETIFF, request)
        except OSError as error:
            raise failed("unable to set vnet or multiqueue flags on macvtap", error) from error
        descriptors.append(descriptor)
    return tuple(descriptors)


def _index(name: str) -> int:
    """Return the number of an interface.

    :raises OSError: there is none.
    """
    return int((_NETWORKS / name / "ifindex").read_text("ascii"))


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def _ask(kind: int, flags: int, attributes: bytes, *, index: int = 0, up: bool = False) -> None:
    """Ask the kernel to change its interfaces.

    :raises OSError: it does not.
    """
    wanted = _IFF_UP if up else 0
    body = _LINK.pack(socket.AF_UNSPEC, 0, index, wanted, wanted) + attributes
    head = _HEAD.pack(_HEAD.size + len(body), kind, _REQUEST_ACK | flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.sendto(head + body, (0, 0))
        answer = kernel.recv(1 << 16)
    _, answered, _, _, _ = _HEAD.unpack_from(answer)
    code = struct.unpack_from("=i", answer, _HEAD.size)[0]
    if answered != _NLMSG_ERROR:
        raise DriverError("the kernel answered with something else", kind=ErrorClass.INTERNAL)
    if code:
        raise OSError(-code, os.strerror(-code))
