"""The manager's memory: what is wanted, where it was put, and how it is defined there."""

from __future__ import annotations

import json
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

from vm_manager.machine import Machine


@dataclass
class Entry:
    """One machine.

    :ivar host: where it is, or may be; None while no host has it.
    :ivar definition: the document to define it by; once a host took it, the host's version of it.
    :ivar destination: where it is on its way to, or has arrived since.
    :ivar unsettled: sizes ("cpus", "memory") that the running guest does not have yet.
    """

    machine: Machine
    definition: str
    host: str | None = None
    destination: str | None = None
    unsettled: set[str] = field(default_factory=set)


class Inventory:
    """All entries by name, in a file that survives the manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.entries: dict[str, Entry] = {}
        if path.exists():
            for name, kept in json.loads(path.read_text()).items():
                kept["machine"] = Machine(**kept["machine"])
                kept["unsettled"] = set(kept["unsettled"])
                self.entries[name] = Entry(**kept)

    def save(self) -> None:
        """Write everything down; a reader sees the old file or the new one."""
        kept = {name: asdict(entry) for name, entry in self.entries.items()}
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(kept, default=sorted, indent=1))
        new.replace(self._path)

    def on(self, host: str) -> list[Entry]:
        """Return what a host has or is about to have, by name."""
        entries = [entry for _, entry in sorted(self.entries.items())]
        return [each for each in entries if host in (each.host, each.destination)]
