"""What asking a QEMU costs, beside the least it can cost.

The floor is a script that starts the same processes with the same arguments, sends the same
commands in the same batches, reads each reply as JSON and concludes nothing.
"""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import subprocess
import time
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hvcore_qemu import probe_qmp
from hvcore_qemu.detect import ask
from hvcore_qemu.detect import ask_tcg
from hvcore_qemu.probe import cache_at
from hvcore_qemu.probe import cached
from hvcore_qemu.probe import probe_binary

Batches = list[list[dict[str, Any]]]


class _Monitor:
    """A process and its monitor, and nothing else."""

    def __init__(self, binary: str, accelerators: str) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                probe_qmp.arguments(binary, accelerators, theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._socket = ours
        self._lines = ours.makefile("rb")

    def negotiate(self) -> None:
        self._lines.readline()
        self.send([{"execute": "qmp_capabilities"}])

    def send(self, batch: list[dict[str, Any]]) -> list[Any]:
        self._socket.sendall(b"".join(json.dumps(command).encode() + b"\n" for command in batch))
        return [json.loads(self._lines.readline()) for _ in batch]

    def close(self) -> None:
        self._process.kill()
        self._lines.close()
        self._socket.close()
        self._process.wait()


def _lead(monitor: _Monitor, conversation: Generator[Any, Any, Any]) -> tuple[Batches, Any]:
    """Return the batches of a conversation, and what it concluded."""
    monitor.negotiate()
    batches: Batches = []
    batch = next(conversation)
    try:
        while True:
            batches.append(batch)
            batch = conversation.send(monitor.send(batch))
    except StopIteration as stop:
        return batches, stop.value


def commands(binary: str) -> dict[str, Batches]:
    """Return what a probe sends, by the accelerators of the process it is sent to."""
    with ExitStack() as stack:
        first = _Monitor(binary, "kvm:tcg")
        stack.callback(first.close)
        batches, caps = _lead(first, ask(binary))
        found = {"kvm:tcg": batches}
        if {"kvm", "tcg"} <= caps.names:
            second = _Monitor(binary, "tcg")
            stack.callback(second.close)
            found["tcg"], _ = _lead(second, ask_tcg(caps))
    return found


def bare(binary: str, batches: dict[str, Batches]) -> float:
    """Return the seconds that sending the commands takes, the processes side by side."""
    before = time.perf_counter()
    with ExitStack() as stack:
        monitors = [_Monitor(binary, accelerators) for accelerators in batches]
        for monitor in monitors:
            stack.callback(monitor.close)
        for monitor, each in zip(monitors, batches.values(), strict=True):
            monitor.negotiate()
            for batch in each:
                monitor.send(batch)
    return time.perf_counter() - before


def measure(binary: str, rounds: int, root: Path) -> dict[str, float]:
    """Return median seconds of a cold probe, its floor, and a warm answer."""
    batches = commands(binary)
    asyncio.run(probe_binary(binary))  # imports
    samples: dict[str, list[float]] = {"floor": [], "cold": [], "warm": []}
    for number in range(rounds):
        # Alternating, so that both see the same moods of the machine.
        samples["floor"].append(bare(binary, batches))
        cache = cache_at(root / f"probe{number}")
        before = time.perf_counter()
        asyncio.run(probe_binary(binary, cache=cache))
        samples["cold"].append(time.perf_counter() - before)
        before = time.perf_counter()
        assert cached(binary, cache) is not None
        samples["warm"].append(time.perf_counter() - before)
    return {name: statistics.median(values) for name, values in samples.items()}
