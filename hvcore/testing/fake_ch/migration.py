"""How the fakes hand a VM over: requests and answers over the sockets that are named.

The frames of the real program's protocol are spoken, in its order, but there is no memory in them
and the state is the fakes' own. A VM goes from a fake to a fake.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any
from typing import Final
from typing import NamedTuple
from typing import Self

from hvcore.testing.fake_ch.faults import Faults
from hvcore.testing.fake_ch.tree import os_error
from hvcore.testing.fake_ch.vm import Failure

_MAX_CONNECTIONS: Final = 128
_RECEIVE: Final = "Failed to receive migratable component snapshot"
_ITERATION: Final = 0.05
_HEAD: Final = struct.Struct("<H6xQ")
_START, _CONFIG, _STATE, _MEMORY, _COMPLETE, _COMPLETE_PAUSED = 1, 2, 3, 4, 5, 8
_OK, _ERROR = 1, 2
_AWAY: Final = ("Socket error", "failed to fill whole buffer")


def _address(url: str) -> tuple[str, int] | str | None:
    """Return the host and port, or the path, of a migration's URL; None for no such URL.

    >>> _address("tcp:127.0.0.1:4000"), _address("unix:/a"), _address("file:///a")
    (('127.0.0.1', 4000), '/a', None)
    """
    if url.startswith("unix:") and len(url) > len("unix:"):
        return url.removeprefix("unix:")
    host, _, port = url.removeprefix("tcp:").rpartition(":")
    if url.startswith("tcp:") and host and port.isdigit():
        return host.strip("[]"), int(port)
    return None


def send_problem(body: dict[str, Any]) -> str | None:
    """Return why v53 does not begin such a migration, or None."""
    address = _address(body["destination_url"])
    top = "Error validating send migration parameters: "
    problem = None
    unix = isinstance(address, str)
    if address is None:
        problem = "destination_url must use tcp:<host>:<port> or unix:<path>."
    elif unix and body["connections"] > 1:
        problem = "UNIX sockets and connections option cannot be used at the same time."
    elif unix and body["tls_dir"] is not None:
        problem = "UNIX sockets and TLS encryption cannot be used at the same time."
    elif body["connections"] > _MAX_CONNECTIONS:
        problem = f"connections must not exceed {_MAX_CONNECTIONS}."
    elif body["local"] and not unix:
        problem = "local option is only supported with UNIX sockets."
    elif body["tls_dir"] is not None and not Path(body["tls_dir"]).is_dir():
        problem = "invalid TLS configuration for send-migration: no such directory"
    elif body["memory_mode"] == "Postcopy" and body["local"]:
        problem = "memory_mode=postcopy and local options are mutually exclusive."
    elif body["memory_mode"] == "Postcopy" and body["connections"] > 1:
        problem = "memory_mode=postcopy currently requires a single connection (connections=1)."
    return None if problem is None else top + problem


def receive_problem(body: dict[str, Any]) -> str | None:
    """Return why v53 does not wait for such a migration, or None."""
    address = _address(body["receiver_url"])
    top = "Error validating receive migration parameters: "
    if address is None:
        return f"{top}receiver_url must use tcp:<host>:<port> or unix:<path>."
    if isinstance(address, str) and body["tls_dir"] is not None:
        return f"{top}UNIX sockets and TLS encryption cannot be used at the same time."
    return None


class Receiver:
    """The receiving side's socket."""

    def __init__(self, url: str) -> None:
        """Listen.

        :raises Failure: when that is not possible
        """
        address = _address(url)
        unix = isinstance(address, str)
        self._socket = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        try:
            if not unix:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(address or "")
        except OSError as error:
            self._socket.close()
            kind = "UNIX" if unix else "TCP"
            raise Failure(_RECEIVE, f"Error binding to {kind} socket", os_error(error)) from None
        self._socket.listen()
        self._peer: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()
        if self._peer is not None:
            self._peer.close()

    def accept(self) -> None:
        """Wait for the sender."""
        self._peer, _ = self._socket.accept()

    def read(self) -> dict[str, Any]:
        """Read what the sender has to say, until it is to be taken over.

        :raises Failure: when it goes away first
        """
        found: dict[str, Any] = {}
        while True:
            number, body = self._request()
            if number in (_COMPLETE, _COMPLETE_PAUSED):
                return {**found, "running": number == _COMPLETE}
            if number == _CONFIG:
                found["config"] = json.loads(body)["vm_config"]
            elif number == _STATE:
                found["state"] = json.loads(body)
            self.answer(accepted=True)

    def _request(self) -> tuple[int, bytes]:
        assert self._peer is not None
        number, length = _HEAD.unpack(_exactly(self._peer, _HEAD.size))
        return number, _exactly(self._peer, length)

    def answer(self, *, accepted: bool) -> None:
        """Tell the sender."""
        assert self._peer is not None
        self._peer.sendall(_HEAD.pack(_OK if accepted else _ERROR, 0))


def _exactly(peer: socket.socket, count: int) -> bytes:
    """Return so many bytes.

    :raises Failure: when there are not as many
    """
    text = b""
    while len(text) < count:
        part = peer.recv(count - len(text))
        if not part:
            raise Failure(*_AWAY)
        text += part
    return text


class Sender(NamedTuple):
    """What the sending side needs: the VM, where to, and whom to tell.

    `pause` stops the VM for the last step (None where it is paused); `done` is called from the
    sending thread with whether it failed.
    """

    url: str
    document: dict[str, Any]
    faults: Faults
    event: Callable[..., None]
    pause: Callable[[], None] | None
    done: Callable[[bool], None]


def send(sender: Sender) -> None:
    """Send a VM in a thread."""

    def work() -> None:
        sender.event("vm", "migration-started")
        failed = not _send(sender)
        sender.event("vm", "migration-failed" if failed else "migration-finished")
        sender.done(failed)

    threading.Thread(target=work, name="migration-worker", daemon=True).start()


def _send(sender: Sender) -> bool:
    """Hand the VM over; say whether the other side took it."""
    address = _address(sender.url)
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as peer:
        try:
            peer.connect(address or "")
            _ask(peer, _START)
            _ask(peer, _CONFIG, {"vm_config": sender.document["config"]})
            end = time.monotonic() + sender.faults["migration_seconds"]
            count = 0
            while True:
                sender.event("vm", "migration-memory-iteration", {"id": str(count)})
                count += 1
                _ask(peer, _MEMORY)
                hangs = sender.faults["migration"] == "hang"
                if not hangs and time.monotonic() >= end:
                    break
                time.sleep(_ITERATION)
            if sender.pause is not None:
                sender.pause()
            if sender.faults["migration"] == "fail":
                return False
            _ask(peer, _STATE, sender.document["state"])
            _ask(peer, _COMPLETE if sender.document["running"] else _COMPLETE_PAUSED)
        except (OSError, Failure):
            return False
        return True


def _ask(peer: socket.socket, number: int, body: Any = None) -> None:
    """Make a request and wait for its answer.

    :raises Failure: when it is none, or a refusal
    """
    data = b"" if body is None else json.dumps(body).encode()
    peer.sendall(_HEAD.pack(number, len(data)) + data)
    if _HEAD.unpack(_exactly(peer, _HEAD.size))[0] != _OK:
        raise Failure("Receiver reported error")
