"""Starting a cloud-hypervisor, fake or real, and talking to it."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any
from typing import NamedTuple


class Reply(NamedTuple):
    status: int
    body: Any
    headers: dict[str, str]
    raw: bytes = b""


class Lost(Exception):
    """The program closed the connection before it had answered; the argument is what came."""


class Vmm:
    """A running program: requests, events, and its end."""

    def __init__(self, binary: Path, folder: Path, *more: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.socket = folder / "api.sock"
        self.events_path = folder / "events"
        self.process = subprocess.Popen(
            [
                str(binary),
                "--api-socket",
                f"path={self.socket}",
                "--event-monitor",
                f"path={self.events_path}",
                *more,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=folder,
        )
        self.wait(self._served)

    def _served(self):
        if self.process.poll() is not None:
            return True
        with contextlib.suppress(OSError), self.connect():
            return True
        return False

    def wait(self, condition, seconds=10.0):
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, "nothing happened"
            time.sleep(0.005)
        return found

    def connect(self, seconds=20.0):
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(seconds)
        try:
            peer.connect(str(self.socket))
        except OSError:
            peer.close()
            raise
        return peer

    def send(self, peer, method, name, body=None, fds=()):
        data = b"" if body is None else body if isinstance(body, bytes) else encode(body)
        head = f"{method} /api/v1/{name} HTTP/1.1\r\nHost: localhost\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        socket.send_fds(peer, [head.encode() + b"\r\n" + data], list(fds))

    def receive(self, peer):
        text = b""
        while b"\r\n\r\n" not in text:
            part = peer.recv(65536)
            if not part:
                raise Lost(text)
            text += part
        head, _, rest = text.partition(b"\r\n\r\n")
        line, *lines = head.decode().split("\r\n")
        headers = dict(each.split(": ", 1) for each in lines)
        length = int(headers.get("Content-Length", 0))
        while len(rest) < length:
            part = peer.recv(65536)
            if not part:
                raise Lost(head + rest)
            rest += part
        body = None
        if rest:
            with contextlib.suppress(ValueError):
                body = json.loads(rest)
        return Reply(int(line.split()[1]), body, headers, rest)

    def call(self, name, body=None, *, method=None, fds=(), seconds=20.0):
        gets = {"vmm.ping", "vm.info", "vm.counters"}
        with self.connect(seconds) as peer:
            self.send(peer, method or ("GET" if name in gets else "PUT"), name, body, fds)
            return self.receive(peer)

    def ok(self, name, body=None, **more):
        reply = self.call(name, body, **more)
        assert reply.status in {200, 204}, reply
        return reply.body

    def state(self):
        return self.ok("vm.info")["state"]

    def events(self):
        parts = self.events_path.read_text().split("\n\n")
        return [json.loads(part) for part in parts if part.strip()]

    def names(self):
        return [f"{event['source']} {event['event']}" for event in self.events()]

    def wait_event(self, name, seconds=10.0):
        return self.wait(
            lambda: next((e for e in self.events() if e["event"] == name), None), seconds
        )

    def end(self, seconds=10.0):
        """Wait for the program's own end; return its exit code."""
        return self.process.wait(seconds)

    def signal(self, number):
        self.process.send_signal(number)

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


def encode(body: Any) -> bytes:
    return json.dumps(body).encode()
