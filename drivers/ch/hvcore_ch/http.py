"""HTTP/1.1 as cloud-hypervisor speaks it, without any I/O: requests as bytes, replies from bytes.

Its server answers with a length or without a body; it knows no chunks and no redirections.
"""

from __future__ import annotations

import json
from typing import Any
from typing import Final

import attrs

ROOT: Final = "/api/v1/"
READS: Final = frozenset({"vmm.ping", "vm.info", "vm.counters"})
"""Endpoints that are asked by GET; all others are told by PUT."""

_HEAD_END: Final = b"\r\n\r\n"
_LONGEST_HEAD: Final = 16384
_LONGEST_BODY: Final = 1 << 28


class NotHttp(ValueError):
    """What came is no reply."""


@attrs.frozen
class Reply:
    """One reply.

    :ivar body: parsed JSON; None without a body.
    """

    status: int
    body: Any = None

    @property
    def ok(self) -> bool:
        """Whether what was asked was done."""
        return 200 <= self.status < 300

    @property
    def messages(self) -> list[str]:
        """The chain of reasons of a failure, from the general to the particular."""
        if isinstance(self.body, list):
            return [str(each) for each in self.body]
        return [str(self.body)] if self.body is not None else []


def request(endpoint: str, body: Any = None) -> bytes:
    """Return a request for ``endpoint``, with ``body`` as JSON."""
    method = "GET" if endpoint in READS else "PUT"
    head = f"{method} {ROOT}{endpoint} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n"
    if body is None:
        return f"{head}\r\n".encode()
    data = json.dumps(body, separators=(",", ":")).encode()
    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


class Reader:
    """Puts a reply together from what arrives."""

    def __init__(self) -> None:
        self._data = b""

    @property
    def begun(self) -> bool:
        """Whether anything has arrived."""
        return bool(self._data)

    def feed(self, data: bytes) -> Reply | None:
        """Take what arrived; return the reply once it is complete.

        :raises NotHttp: it cannot become one.
        """
        self._data += data
        head, found, body = self._data.partition(_HEAD_END)
        if not found:
            if len(head) > _LONGEST_HEAD or not b"HTTP/1.".startswith(head[:7]):
                raise NotHttp(head[:80])
            return None
        status, length = _head(head)
        if len(body) < length:
            return None
        return Reply(status, _json(body[:length]))


def _head(head: bytes) -> tuple[int, int]:
    """Return the status and the length of the body."""
    first, *lines = head.split(b"\r\n")
    words = first.split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise NotHttp(first[:80])
    length = 0
    for line in lines:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            if not value.strip().isdigit() or int(value) > _LONGEST_BODY:
                raise NotHttp(line[:80])
            length = int(value)
    return int(words[1]), length


def _json(body: bytes) -> Any:
    if not body:
        return None
    try:
        return json.loads(body)
    except ValueError:
        # Failures before the API is reached are told in plain text.
        return body.decode(errors="replace")
