"""What is remembered of snapshots, one directory of documents for each domain."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import HvError

if TYPE_CHECKING:
    from pathlib import Path

    from hvcore.model.snapshot import Snapshot
    from hvcore.registry import Registry
    from hvcore.state import StateDirectory

_log = logging.getLogger(__name__)

_CURRENT: Final = ".current"
"""The file that names the current snapshot; no snapshot can have a name like this."""


class SnapshotStore:
    """Documents of snapshots below a state directory, or in memory where there is none."""

    def __init__(self, directory: StateDirectory | None, registry: Registry) -> None:
        self._directory = directory
        self._registry = registry
        self._known: dict[str, dict[str, Snapshot]] = {}
        self._current: dict[str, str] = {}

    def of(self, uuid: str) -> dict[str, Snapshot]:
        """Return the snapshots of a domain, by name."""
        if uuid not in self._known:
            self._known[uuid] = self._load(uuid)
        return self._known[uuid]

    def count(self, uuid: str) -> int:
        """Return how many there are; without reading them where there are none."""
        if self._directory is not None and not self._folder(uuid).exists():
            return 0
        return len(self.of(uuid)) if self._directory is not None or uuid in self._known else 0

    def current(self, uuid: str) -> str | None:
        """Return the name of the current snapshot of a domain."""
        self.of(uuid)
        return self._current.get(uuid)

    def put(self, uuid: str, snapshot: Snapshot) -> None:
        """Remember a snapshot, or what has changed of it.

        :raises DriverError: it cannot be written.
        """
        if self._directory is not None:
            from hvcore.state import make_directory  # noqa: PLC0415 - only to write
            from hvcore.state import write_file  # noqa: PLC0415

            folder = self._folder(uuid)
            make_directory(folder)
            text = self.document(snapshot, secure=True)
            write_file(folder / f"{snapshot.label}.xml", text.encode(), durable=True)
        self.of(uuid)[snapshot.label] = snapshot

    def set_current(self, uuid: str, name: str | None) -> None:
        """Note which snapshot is the current one.

        :raises DriverError: it cannot be written.
        """
        self.of(uuid)
        if self._directory is not None and self._folder(uuid).exists():
            from hvcore.state import write_file  # noqa: PLC0415 - only to write

            write_file(self._folder(uuid) / _CURRENT, (name or "").encode(), durable=True)
        self._current.pop(uuid, None)
        if name is not None:
            self._current[uuid] = name

    def drop(self, uuid: str, name: str) -> None:
        """Forget a snapshot."""
        if self._directory is not None:
            (self._folder(uuid) / f"{name}.xml").unlink(missing_ok=True)
        self.of(uuid).pop(name, None)

    def forget(self, uuid: str) -> None:
        """Forget all snapshots of a domain that is gone."""
        if self._directory is not None and self._folder(uuid).exists():
            import shutil  # noqa: PLC0415 - domains with snapshots are few

            shutil.rmtree(self._folder(uuid), ignore_errors=True)
        self._known.pop(uuid, None)
        self._current.pop(uuid, None)

    def document(self, snapshot: Snapshot, *, secure: bool) -> str:
        """Return the document of a snapshot.

        :param secure: with passwords.
        """
        from hvcore.xml.context import FormatContext  # noqa: PLC0415 - only for documents

        ctx = FormatContext(inactive=True, secure=secure)
        return self._registry.binding.format(snapshot, ctx)

    def read(self, xml: str | bytes, *, strict: bool = False) -> Snapshot:
        """Return the snapshot of a document, as it stands.

        :param strict: refuse elements and attributes that nothing claims.
        :raises ConfigError: it is refused.
        """
        from hvcore.errors import ValidationFailed  # noqa: PLC0415 - only for documents
        from hvcore.model.snapshot import Snapshot  # noqa: PLC0415
        from hvcore.xml.context import ParseContext  # noqa: PLC0415
        from hvcore.xml.reader import read  # noqa: PLC0415

        root = read(xml, "domainsnapshot", source="domainsnapshot")
        for element in root.findall("domain"):
            # Old ones only name the domain.
            if element.get("type") is None:
                root.remove(element)
        ctx = ParseContext(strict=strict)
        found: Snapshot = self._registry.binding.parse(Snapshot, root, ctx)
        if ctx.issues:
            raise ValidationFailed(ctx.issues)
        return found

    def _folder(self, uuid: str) -> Path:
        assert self._directory is not None  # whoever asks has checked
        return self._directory.snapshots(uuid)

    def _load(self, uuid: str) -> dict[str, Snapshot]:
        if self._directory is None or not self._folder(uuid).exists():
            return {}
        found = {}
        for path in sorted(self._folder(uuid).glob("*.xml")):
            try:
                snapshot = self.read(path.read_bytes())
                found[snapshot.label] = snapshot
            except (HvError, OSError) as error:
                # The file stays for its owner to repair; the others must work without it.
                _log.warning("Failed to load snapshot '%s': %s", path, error)
        try:
            current = (self._folder(uuid) / _CURRENT).read_text()
        except OSError:
            current = ""
        if current in found:
            self._current[uuid] = current
        return found
