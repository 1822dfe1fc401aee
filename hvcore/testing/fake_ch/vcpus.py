"""The threads of virtual CPUs: they do nothing, but have the names by which they are found."""

from __future__ import annotations

import threading
from pathlib import Path


class VcpuThreads:
    """One thread for each virtual CPU that is there, called ``vcpuN``."""

    def __init__(self) -> None:
        self._running: list[tuple[threading.Thread, threading.Event]] = []

    def match(self, count: int) -> None:
        """Have ``count`` threads, the others ended; return when they have their names."""
        while len(self._running) < count:
            self._start(f"vcpu{len(self._running)}")
        while len(self._running) > count:
            thread, over = self._running.pop()
            over.set()
            thread.join()

    def _start(self, name: str) -> None:
        named, over = threading.Event(), threading.Event()

        def work() -> None:
            # The name of a thread in Python is not the one that the kernel shows.
            Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name)
            named.set()
            over.wait()

        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        named.wait()
        self._running.append((thread, over))
