"""QEMU's own speed: the argv that hvcore started, started again by a bare script."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path


def argv_of(pid: int) -> list[str]:
    """Return the command line of a running process."""
    parts = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    return [part.decode() for part in parts]


def measure(argv: list[str], directory: Path, key: bytes) -> tuple[float, float]:
    """Return seconds from the spawn to a running guest, and from the kill to its end.

    :param argv: as hvcore started it; monitor descriptor and key file are replaced by our own.
    :param key: contents of the master key file.
    """
    key_file = directory / "key"
    key_file.write_bytes(key)
    listener = socket.socket(socket.AF_UNIX)
    path = str(directory / "monitor")
    Path(path).unlink(missing_ok=True)
    listener.bind(path)
    listener.listen(1)
    # Only what belongs to the run before is exchanged, so that QEMU does the same work.
    fixed = [re.sub(r"(id=charmonitor,fd=)\d+", rf"\g<1>{listener.fileno()}", a) for a in argv]
    fixed = [re.sub(r'"file":"[^"]*master-key[^"]*"', f'"file":"{key_file}"', a) for a in fixed]
    before = time.perf_counter()
    process = subprocess.Popen(
        fixed,
        pass_fds=(listener.fileno(),),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    stream = client.makefile("rwb")
    stream.readline()
    for command in ("qmp_capabilities", "cont", "query-status"):
        stream.write(json.dumps({"execute": command}).encode() + b"\n")
        stream.flush()
        while b'"return"' not in stream.readline():
            pass  # events
    started = time.perf_counter() - before
    before = time.perf_counter()
    os.kill(process.pid, signal.SIGTERM)
    process.wait()
    stopped = time.perf_counter() - before
    client.close()
    listener.close()
    return started, stopped
