"""The HTTP server of Cloud Hypervisor's API: HTTP/1.1 on a unix socket, with its manners.

One request after the other: while one is worked on, no other is read. Descriptors come with the
bytes of a request (SCM_RIGHTS). A body of more than 51,200 bytes is refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable
from typing import Any
from typing import Final
from typing import NamedTuple

_MAX_BODY: Final = 51200
_MAX_FDS: Final = 253
_DROPPED: Final = "All previous unanswered requests will be dropped."


class Request(NamedTuple):
    """A request as it came."""

    method: str
    path: str
    body: bytes | None
    fds: list[int]


class Answer(NamedTuple):
    """An answer; `body` is JSON text, or None for none."""

    status: int
    body: str | None = None
    server: str = "Cloud Hypervisor API"

    def encode(self) -> bytes:
        """Return the bytes of the answer; the status line has no reason."""
        head = f"HTTP/1.1 {self.status} \r\nServer: {self.server}\r\nConnection: keep-alive\r\n"
        if self.body is None and self.status == 204:
            return f"{head}\r\n".encode()
        body = (self.body or "").encode()
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body


def refusal(message: str, status: int = 400) -> Answer:
    """Answer what is no HTTP that the server knows."""
    text = f'{{ "error": "{message}\n{_DROPPED}" }}'
    return Answer(status, text, "Firecracker API")


def errors(status: int, *messages: str) -> Answer:
    """Answer a failure: an array of messages, the cause last."""
    return Answer(status, json.dumps(messages, separators=(",", ":"), ensure_ascii=False))


class Connection:
    """One client; `handle` answers a request, or None to close without an answer."""

    def __init__(self, peer: socket.socket, handle: Callable[[Request], Answer | None]) -> None:
        self.peer = peer
        self._handle = handle
        self._text = b""
        self._fds: list[int] = []

    def readable(self) -> bool:
        """Read, and answer every request that is whole; say whether the client is still there."""
        try:
            part, fds, _, _ = socket.recv_fds(self.peer, 65536, _MAX_FDS)
        except OSError:
            return False
        self._fds += fds
        if not part:
            self.close()
            return False
        self._text += part
        while (parsed := self._parse()) is not None:
            answer = parsed if isinstance(parsed, Answer) else self._handle(parsed)
            if answer is None or not self._write(answer.encode()):
                return False
            if isinstance(parsed, Answer):
                self._text = b""
                break
        return True

    def _write(self, data: bytes) -> bool:
        try:
            self.peer.sendall(data)
        except OSError:
            return False
        return True

    def _parse(self) -> Request | Answer | None:
        """Take one request off what was read; None when it is not whole."""
        head, ended, rest = self._text.partition(b"\r\n\r\n")
        if not ended:
            return None
        line, *lines = head.decode("latin-1").split("\r\n")
        words = line.split(" ")
        if len(words) != 3:
            return refusal("Invalid request.")
        method, path, version = words
        if method not in {"GET", "PUT", "PATCH"}:
            return refusal("Invalid HTTP Method: Unsupported HTTP method.")
        if version not in {"HTTP/1.0", "HTTP/1.1"}:
            return refusal("Invalid HTTP Version: Unsupported HTTP version.")
        headers = dict(_header(each) for each in lines)
        try:
            length = int(headers.get("content-length", "0"))
        except ValueError:
            return refusal("Invalid header. Reason: Invalid value.")
        if length > _MAX_BODY:
            return refusal(
                f"Request payload with size {length} is larger than the limit of {_MAX_BODY} "
                "allowed by server."
            )
        if headers.get("expect") == "100-continue" and len(rest) < length:
            self._write(Answer(100, "").encode().partition(b"\r\n")[0] + b"\r\n\r\n")
        if len(rest) < length:
            return None
        self._text = rest[length:]
        fds, self._fds = self._fds, []
        if path.startswith("http://"):
            path = "/" + path.removeprefix("http://").partition("/")[2]
        return Request(method, path, rest[:length] if length else None, fds)

    def close(self) -> None:
        """Close the connection, and the descriptors that nobody took."""
        self.peer.close()
        for fd in self._fds:
            with contextlib.suppress(OSError):
                os.close(fd)


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()


def read_json(body: bytes) -> Any:
    """Read a body; the messages are those of the program, without the exact place.

    :raises ValueError: when it is no JSON
    """
    try:
        return json.loads(body)
    except ValueError as error:
        lines = body.decode("utf-8", "replace").split("\n")
        where = f"at line {len(lines)} column {len(lines[-1])}"
        text = str(error)
        problem = "expected value"
        if "Extra data" in text:
            problem = "trailing characters"
        elif "Expecting ',' delimiter" in text or "Unterminated" in text:
            problem = "EOF while parsing a value"
        raise ValueError(f"{problem} {where}") from None
