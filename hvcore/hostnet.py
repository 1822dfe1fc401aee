"""Taps of the host: made, plugged into bridges and tuned by the kernel's own interfaces."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Final

import attrs

from hvcore.errors import DriverError
from hvcore.errors import ErrorClass

if TYPE_CHECKING:
    from collections.abc import Callable

# linux/if_tun.h, linux/sockios.h, linux/if.h, linux/ethtool.h
_TUNSETIFF: Final = 0x400454CA
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_IFF_MULTI_QUEUE: Final = 0x0100
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_SIOCGIFMTU: Final = 0x8921
_SIOCSIFMTU: Final = 0x8922
_SIOCSIFHWADDR: Final = 0x8924
_SIOCGIFINDEX: Final = 0x8933
_SIOCETHTOOL: Final = 0x8946
_SIOCBRADDIF: Final = 0x89A2
_ETHTOOL_GCOALESCE: Final = 0x0E
_ETHTOOL_SCOALESCE: Final = 0x0F
_COALESCE_NUMBERS: Final = 23
_RX_FRAMES: Final = 2  # position of rx_max_coalesced_frames
_ARPHRD_ETHER: Final = 1
_IFF_UP: Final = 0x1
_IFNAMSIZ: Final = 16
_NETWORKS: Final = Path("/sys/class/net")


@attrs.frozen
class Tap:
    """A network interface of the host that a guest drives.

    :ivar name: the interface's name, which the host may have chosen.
    :ivar fds: one descriptor for each queue.
    """

    name: str
    fds: tuple[int, ...]


@attrs.frozen(kw_only=True)
class TapOptions:
    """How an interface wants its tap.

    :ivar queues: pairs of queues, with a descriptor for each.
    :ivar path: the device that makes taps.
    :ivar vnet_header: packets carry what virtio says about them.
    :ivar mac: the guest's address.
    :ivar existing: the tap is there and set up by somebody else.
    :ivar isolated: the port cannot talk to other isolated ones of the bridge.
    :ivar learning: the bridge finds out by itself who is behind the port.
    :ivar rx_frames: packets that are collected at most.
    :ivar script: a program that is run with the tap's name.
    :ivar others: what else is asked for, in words for a refusal.
    """

    queues: int = 1
    path: str = "/dev/net/tun"
    vnet_header: bool = True
    mac: str | None = None
    mtu: int | None = None
    existing: bool = False
    isolated: bool = False
    learning: bool = True
    rx_frames: int | None = None
    script: str | None = None
    others: tuple[str, ...] = ()


def failed(message: str, error: OSError) -> DriverError:
    """Return the error that tells what failed and why."""
    return DriverError(f"{message}: {error.strerror or error}", kind=ErrorClass.SYSTEM)


def make_tap(open_device: Callable[[str], int], name: str | None, options: TapOptions) -> Tap:
    """Create a tap, or open the existing one, with a descriptor for each pair of queues.

    :param open_device: opens a device for reading and writing.
    :raises DriverError: when the kernel does not allow it.
    """
    flags = _IFF_TAP | _IFF_NO_PI
    flags |= _IFF_VNET_HDR if options.vnet_header else 0
    flags |= _IFF_MULTI_QUEUE if options.queues > 1 else 0
    # "vnet%d" lets the kernel choose a number that is free.
    wanted = name or "vnet%d"
    descriptors = []
    for _ in range(options.queues):
        descriptor = open_device(options.path)
        request = struct.pack("16sH22x", wanted.encode(), flags)
        try:
            reply = fcntl.ioctl(descriptor, _TUNSETIFF, request)
        except OSError as error:
            raise failed(f"Unable to create tap device {wanted}", error) from error
        wanted = reply[:_IFNAMSIZ].rstrip(b"\0").decode()
        descriptors.append(descriptor)
    return Tap(wanted, tuple(descriptors))


def set_up(tap: Tap, options: TapOptions, bridge: str | None = None) -> None:
    """Give a tap its address and size, plug it into ``bridge``, and switch it on.

    :raises DriverError: when a part of that fails.
    """
    name = tap.name
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        if options.mac is not None:
            _set_mac(control, name, options.mac)
        mtu = options.mtu
        if mtu is None and bridge is not None:
            # A bridge takes the smallest size of its ports.
            mtu = _number(control, _SIOCGIFMTU, bridge, f"Cannot get interface MTU on '{bridge}'")
        if mtu is not None:
            _request(
                control, _SIOCSIFMTU, struct.pack("16si20x", name.encode(), mtu),
                f"Cannot set interface MTU on '{name}'",
            )  # fmt: skip
        if bridge is not None:
            _plug(control, name, bridge)
            _tune_port(name, options)
        if options.rx_frames is not None:
            _set_coalesce(control, name, options.rx_frames)
        flags = _number(control, _SIOCGIFFLAGS, name, f"Cannot get interface flags on '{name}'")
        _request(
            control, _SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), flags | _IFF_UP),
            f"Cannot set interface flags on '{name}'",
        )  # fmt: skip


def run_script(script: str, name: str) -> None:
    """Run what the document wants to be run for an interface of the host.

    :raises DriverError: when it cannot be run, or fails.
    """
    try:
        subprocess.run([script, name], stdin=subprocess.DEVNULL, check=True)
    except OSError as error:
        raise failed(f"Cannot find '{script}' in path", error) from error
    except subprocess.CalledProcessError as error:
        raise DriverError(
            f"Child process ({script} {name}) unexpected exit status {error.returncode}",
            kind=ErrorClass.INTERNAL,
        ) from error


def is_macvtap(name: str) -> bool:
    """Return whether an interface of the host is a macvtap rather than a tap."""
    return (_NETWORKS / name / "macvtap").exists()


def _set_mac(control: socket.socket, name: str, guest: str) -> None:
    # The host's end must not have the guest's address: the kernel would see its own packets.
    first, _, rest = guest.partition(":")
    mac = bytes.fromhex(("fa" if first == "fe" else "fe") + rest.replace(":", ""))
    _request(
        control, _SIOCSIFHWADDR, struct.pack("16sH6s16x", name.encode(), _ARPHRD_ETHER, mac),
        f"Cannot set interface MAC to {mac.hex(':')} on '{name}'",
    )  # fmt: skip


def _plug(control: socket.socket, name: str, bridge: str) -> None:
    message = f"Unable to add bridge {bridge} port {name}"
    index = _number(control, _SIOCGIFINDEX, name, message)
    _request(control, _SIOCBRADDIF, struct.pack("16si20x", bridge.encode(), index), message)


def _tune_port(name: str, options: TapOptions) -> None:
    settings = {}
    if options.isolated:
        settings["isolated"] = "1"
    if not options.learning:
        # Whoever manages the bridge's table enters the address.
        settings |= {"learning": "0", "unicast_flood": "0"}
    for setting, value in settings.items():
        try:
            (_NETWORKS / name / "brport" / setting).write_text(value, "ascii")
        except OSError as error:
            raise failed(f"Unable to set bridge port {name} {setting} to {value}", error) from error


def _set_coalesce(control: socket.socket, name: str, rx_frames: int) -> None:
    message = f"Cannot set coalesce info on '{name}'"
    numbers = array.array("I", [0] * _COALESCE_NUMBERS)
    request = struct.pack("16sP", name.encode(), numbers.buffer_info()[0])
    numbers[0] = _ETHTOOL_GCOALESCE
    _request(control, _SIOCETHTOOL, request, message)
    numbers[0] = _ETHTOOL_SCOALESCE
    numbers[_RX_FRAMES] = rx_frames
    _request(control, _SIOCETHTOOL, request, message)


def _number(control: socket.socket, code: int, name: str, message: str) -> int:
    """Return the number that the kernel answers; flags are one as well."""
    reply = _request(control, code, struct.pack("16si20x", name.encode(), 0), message)
    found: int = struct.unpack_from("H" if code == _SIOCGIFFLAGS else "i", reply, _IFNAMSIZ)[0]
    return found


def _request(control: socket.socket, code: int, request: bytes, message: str) -> bytes:
    try:
        return fcntl.ioctl(control, code, request)
    except OSError as error:
        raise failed(message, error) from error
