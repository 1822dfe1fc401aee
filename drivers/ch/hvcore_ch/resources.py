"""What a start takes from the host: taps, whose descriptors are handed to cloud-hypervisor."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Final

from hvcore import hostnet
from hvcore import macvtap
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.hostnet import TapOptions
from hvcore.hostnet import failed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hvcore_ch.command import TapRequest

_NETWORKS: Final = Path("/sys/class/net")


class Taps:
    """Taps that are open.

    :ivar fds: descriptors by alias of the interface.
    :ivar names: what the taps are called, by alias.
    :ivar made: those that stay until somebody removes them.
    """

    def __init__(self) -> None:
        self.fds: dict[str, tuple[int, ...]] = {}
        self.names: dict[str, str] = {}
        self.made: list[str] = []
        self._opened: list[int] = []

    def open(self, wanted: Iterable[TapRequest]) -> None:
        """Open taps as interfaces want them.

        :raises DriverError: the host does not allow it.
        :raises HvError: what an interface is to be connected to does not exist.
        """
        for request in wanted:
            self._one(request)

    def close(self) -> None:
        """Close our descriptors; taps that nobody else has vanish."""
        for descriptor in self._opened:
            os.close(descriptor)
        self._opened.clear()

    def remove(self) -> None:
        """Remove what would stay."""
        while self.made:
            macvtap.remove(self.made.pop())

    def _one(self, request: TapRequest) -> None:
        if request.kind == "network":
            raise HvError(
                f"no network with matching name '{request.link}'", kind=ErrorClass.NO_NETWORK
            )
        options = TapOptions(
            queues=request.queues,
            mac=request.mac,
            mtu=request.mtu,
            existing=request.existing,
            isolated=request.isolated,
        )
        if request.existing and request.name is not None and hostnet.is_macvtap(request.name):
            self._node(request, request.name)
            return
        if request.kind == "direct":
            link, mode = request.link or "", request.mode or "vepa"
            tap = macvtap.make(self._open, request.name, link, mode, options)
            self.made.append(tap.name)
            self.fds[request.alias], self.names[request.alias] = tap.fds, tap.name
            return
        tap = hostnet.make_tap(self._open, request.name, options)
        if not request.existing:
            hostnet.set_up(tap, options, request.link)
        self.fds[request.alias], self.names[request.alias] = tap.fds, tap.name

    def _node(self, request: TapRequest, name: str) -> None:
        """Open the device of a macvtap, once for each pair of queues."""
        index = (_NETWORKS / name / "ifindex").read_text("ascii").strip()
        self.fds[request.alias] = tuple(
            self._open(f"/dev/tap{index}") for _ in range(request.queues)
        )
        self.names[request.alias] = name

    def _open(self, path: str) -> int:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise failed(f"Unable to open '{path}'", error) from error
        self._opened.append(descriptor)
        return descriptor
