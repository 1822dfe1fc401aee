"""The process: its loop, its signals, its events, and how it begins and ends."""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import json
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from typing import Final

from hvcore.testing.fake_ch import arguments
from hvcore.testing.fake_ch import migration
from hvcore.testing.fake_ch.api import ROOT
from hvcore.testing.fake_ch.arguments import Arguments
from hvcore.testing.fake_ch.consoles import Consoles
from hvcore.testing.fake_ch.faults import Faults
from hvcore.testing.fake_ch.http import Answer
from hvcore.testing.fake_ch.http import Connection
from hvcore.testing.fake_ch.http import Request
from hvcore.testing.fake_ch.machine import Vmm
from hvcore.testing.fake_ch.schemas import STRUCTS
from hvcore.testing.fake_ch.service import Service
from hvcore.testing.fake_ch.tree import os_error
from hvcore.testing.fake_ch.vcpus import VcpuThreads
from hvcore.testing.fake_ch.wire import Codec

INJECTED: Final = "Injected"
"""The server that answers what a test wants to be answered, so that it can be told apart."""

_START: Final = "Failed to start the VMM thread"


class Process:
    """A running fake; the `Process` that the VMM sees."""

    def __init__(self, given: Arguments, faults: Faults) -> None:
        self._started = time.monotonic()
        self._given = given
        self._faults = faults
        self._consoles = Consoles()
        self._events: int | None = None
        self._writing = threading.Lock()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._waiting: list[Callable[[], None]] = []
        self._count = 0
        self._code: int | None = None
        self._selector = selectors.DefaultSelector()
        self._awake, self._wake = socket.socketpair()
        self._vcpus = VcpuThreads()
        codec = Codec(STRUCTS, frozenset(faults["features"]))
        self._vmm = Vmm(self, faults, codec, no_shutdown=given.no_shutdown)
        self._service = Service(self._vmm, faults, codec, self._send)

    # What the VMM asks for ----------------------------------------------------------------

    def event(self, source: str, event: str, properties: dict[str, str] | None = None) -> None:
        """Publish an event: indented JSON and an empty line."""
        if self._events is None:
            return
        nanoseconds = int((time.monotonic() - self._started) * 1e9)
        document = {
            "timestamp": {"secs": nanoseconds // 10**9, "nanos": nanoseconds % 10**9},
            "source": source,
            "event": event,
            "properties": properties,
        }
        data = json.dumps(document, indent=2).encode() + b"\n\n"
        # A reader that went away or does not read loses events, as the real program's does.
        with self._writing, contextlib.suppress(OSError):
            while data:
                data = data[os.write(self._events, data) :]

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Call the action from the loop after a while."""
        self._count += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._count, action))

    def open_consoles(self, config: dict[str, Any]) -> None:
        """Create the consoles of a configuration."""
        self._consoles.create(config)

    def close_consoles(self) -> None:
        """Close them."""
        self._consoles.close()

    def stop(self, code: int, *messages: str) -> None:
        """End the loop."""
        if self._code is None:
            self._code = code
            if messages:
                complain(*messages)

    def _send(self, url: str, document: dict[str, Any], pause: Callable[[], None] | None) -> None:
        def done(failed: bool) -> None:
            self._from_thread(lambda: self._vmm.migration_done(failed=failed))

        migration.send(migration.Sender(url, document, self._faults, self.event, pause, done))

    def _from_thread(self, action: Callable[[], None]) -> None:
        self._waiting.append(action)
        self._wake.send(b"x")

    # Requests -----------------------------------------------------------------------------

    def _handle(self, peer: socket.socket, request: Request) -> Answer | None:
        answer = self._answer(peer, request)
        self._match_vcpus()
        return answer

    def _match_vcpus(self) -> None:
        vm = self._vmm.vm
        self._vcpus.match(0 if vm is None else vm.present_vcpus)

    def _answer(self, peer: socket.socket, request: Request) -> Answer | None:
        fault = self._faults.of_request(request.path.removeprefix(f"{ROOT}/"))
        if fault is None:
            answer = self._service.handle(request)
            return answer._replace(server=INJECTED) if self._faults["drop"] else answer
        kind = fault["do"]
        if kind == "answer":
            body = fault.get("body", ["Injected failure"])
            return Answer(fault.get("status", 500), json.dumps(body), INJECTED)
        if kind == "hang":
            while True:
                time.sleep(3600)
        if kind == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "close":
            return None
        if kind == "garbage":
            peer.sendall(b"\x00\xffthis is no HTTP\r\n\r\n")
            return None
        cut = self._service.handle(request).encode()
        if kind == "die-after":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind != "half":
            raise ValueError(f"unknown fault: {kind}")
        peer.sendall(cut[: len(cut) // 2])
        return None

    # Life ---------------------------------------------------------------------------------

    def _open_events(self) -> None:
        if self._given.event_fd is not None:
            self._events = self._given.event_fd
        elif self._given.event_path is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            try:
                self._events = os.open(self._given.event_path, flags, 0o666)
            except OSError as error:
                raise arguments.Refused("Error doing event monitor I/O", os_error(error)) from None
        if self._events is not None:
            os.set_blocking(self._events, False)

    def _listen(self) -> socket.socket | None:
        """Return the API's socket."""
        if self._given.api_fd is not None:
            return socket.socket(fileno=self._given.api_fd)
        path = self._given.api_path
        if path is None:
            return None
        try:
            lock = os.open(f"{path}.lock", os.O_WRONLY | os.O_CREAT, 0o666)
            try:
                # The lock is this process's until it ends.
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise arguments.Refused(
                    _START, f'API socket "{path}" is already in use by another running instance'
                ) from None
            Path(path).unlink(missing_ok=True)
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(path)
            listener.listen()
        except OSError as error:
            raise arguments.Refused(
                _START, "Error creation API server's socket", os_error(error)
            ) from None
        return listener

    def run(self) -> int:
        """Serve until the end; return the exit code.

        :raises Refused: when it cannot begin
        """
        self._open_events()
        self.event("vmm", "starting")
        listener = self._listen()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, self._signalled)
        self._awake.setblocking(False)
        self._wake.setblocking(False)
        self._selector.register(self._awake, selectors.EVENT_READ, self._woken)
        if listener is not None:
            self._selector.register(listener, selectors.EVENT_READ, lambda: self._accept(listener))
        while not self._ended():
            timeout = None
            if self._timers:
                timeout = max(0.0, self._timers[0][0] - time.monotonic())
            for key, _ in self._selector.select(timeout):
                if not self._ended():
                    key.data()
            self._run_timers()
            self._match_vcpus()
        self._vcpus.match(0)
        self._vmm.close()
        self._consoles.close()
        if self._code == 0 and self._given.api_path is not None:
            Path(self._given.api_path).unlink(missing_ok=True)
        return self._code or 0

    def _ended(self) -> bool:
        return self._code is not None

    def _run_timers(self) -> None:
        while self._timers and self._timers[0][0] <= time.monotonic() and not self._ended():
            heapq.heappop(self._timers)[2]()

    def _signalled(self, number: int, _frame: Any) -> None:
        if number == signal.SIGUSR1:
            actions = {
                "poweroff": self._vmm.guest_poweroff,
                "reset": self._vmm.guest_reset,
                "panic": self._vmm.guest_panic,
            }
            self._from_thread(actions[self._faults["guest"]])
        else:
            self._from_thread(self._vmm.terminate)

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._awake.recv(4096)
        while self._waiting and self._code is None:
            self._waiting.pop(0)()

    def _accept(self, listener: socket.socket) -> None:
        peer, _ = listener.accept()
        connection = Connection(peer, lambda request: self._handle(peer, request))

        def readable() -> None:
            if not connection.readable():
                self._selector.unregister(peer)
                connection.close()

        self._selector.register(peer, selectors.EVENT_READ, readable)


def complain(*messages: str) -> None:
    """Say on standard error why the process ends."""
    lines = ["Error: Cloud Hypervisor exited with the following chain of errors:"]
    lines += [f"  {number}: {message}" for number, message in enumerate(messages)]
    sys.stderr.write("\n".join(lines) + "\n")


def main(argv: list[str] | None = None) -> int:
    """Run a fake cloud-hypervisor; return its exit code."""
    os.umask(0o077)
    faults = Faults()
    try:
        given = arguments.parse(sys.argv[1:] if argv is None else argv)
        if given.version:
            sys.stdout.write(f"cloud-hypervisor {faults['build_version']}\n")
            sys.stdout.write("Migration Protocol Versions: 0\n")
            return 0
        if given.help:
            sys.stdout.write(
                "Launch a cloud-hypervisor VMM.\n\nUsage: cloud-hypervisor [OPTIONS]\n"
            )
            return 0
        if given.log_file is not None:
            Path(given.log_file).write_text("")
        return Process(given, faults).run()
    except arguments.UsageError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except arguments.Refused as error:
        complain(*error.args)
        return 1
