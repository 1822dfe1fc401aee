"""Ports of the host on which servers of displays listen.

A port is taken from the moment it is chosen until its holder gives it back; after that the server
itself, which listens by then, keeps others away.
"""

from __future__ import annotations

import errno
import socket
import threading
from typing import Final

import attrs

from hvcore.errors import ErrorClass
from hvcore.errors import HvError

_WILDCARDS: Final = ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0"))  # noqa: S104 - a test


@attrs.frozen
class PortRange:
    """The ports for one kind of server.

    :ivar name: what messages call it.
    """

    name: str
    first: int
    last: int = 65535


DISPLAYS: Final = PortRange("display", 5900)
WEBSOCKETS: Final = PortRange("webSocket", 5700)
RDP: Final = PortRange("rdp", 3389)


class PortPool:
    """Which ports of this host are in use or about to be."""

    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._lock = threading.Lock()

    def take(self, wanted: PortRange) -> int:
        """Return the lowest free port and keep it.

        :raises HvError: when all are in use.
        """
        with self._lock:
            for port in range(wanted.first, wanted.last + 1):
                if port not in self._taken and _is_free(port):
                    self._taken.add(port)
                    return port
        raise HvError(
            f"Unable to find an unused port in range '{wanted.name}'"
            f" ({wanted.first}-{wanted.last})",
            kind=ErrorClass.INTERNAL,
        )

    def reserve(self, port: int) -> bool:
        """Keep ``port`` from being chosen; return False when it has been already."""
        with self._lock:
            if port in self._taken:
                return False
            self._taken.add(port)
            return True

    def give_back(self, port: int) -> None:
        """Make ``port`` available again."""
        with self._lock:
            self._taken.discard(port)


def _is_free(port: int) -> bool:
    """Return whether nobody listens on ``port``, on any address of either protocol."""
    for family, address in _WILDCARDS:
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                # As the servers do: connections that linger are no reason to avoid the port.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            # A host without IPv6, or without the right to this port: the server will tell.
    return True
