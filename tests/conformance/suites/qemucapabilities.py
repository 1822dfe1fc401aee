"""Probing QEMU: recorded conversations, and what libvirt concludes from them."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any
from typing import ClassVar

import attrs

from hvcore_qemu.capabilities import QemuCapabilities
from hvcore_qemu.detect import ask
from hvcore_qemu.detect import ask_tcg
from tests.conformance.compare import same_text
from tests.conformance.suite import CaseFailedError
from tests.conformance.suite import Progress
from tests.conformance.suite import Suite

Exchange = tuple[dict[str, Any], dict[str, Any]]


def conversations(path: Path) -> list[list[Exchange]]:
    """Return what each process was asked and answered, without the negotiation."""
    documents = [json.loads(text) for text in path.read_text("utf-8").split("\n\n")]
    found: list[list[Exchange]] = []
    for command, reply in zip(documents[::2], documents[1::2], strict=True):
        if command["execute"] == "qmp_capabilities":
            found.append([])
        else:
            found[-1].append((command, reply))
    return found


def replay(
    conversation: Generator[Any, Any, QemuCapabilities], exchanges: list[Exchange]
) -> QemuCapabilities:
    """Lead a conversation with the recorded replies.

    :raises CaseFailedError: when another command comes than the recorded one.
    """
    rest = iter(exchanges)
    try:
        batch = next(conversation)
        while True:
            batch = conversation.send([_reply(rest, command) for command in batch])
    except StopIteration as stop:
        left = [command for command, _ in rest]
        if left:
            raise CaseFailedError(f"never asked: {left[0]}") from None
        caps: QemuCapabilities = stop.value
        return caps


def _reply(rest: Any, command: dict[str, Any]) -> dict[str, Any]:
    expected, reply = next(rest, ({}, {}))
    wanted = {name: value for name, value in expected.items() if name != "id"}
    if command != wanted:
        raise CaseFailedError(f"- {wanted}\n+ {command}")
    answer: dict[str, Any] = reply
    return answer


class Cases(Suite):
    """The suite ``qemucapabilities``: each recording, and each file read and written again."""

    name: ClassVar[str] = "qemucapabilities"
    listing: ClassVar[str] = "manifest.json"

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return two cases for each recording."""
        rows = super().rows()
        kinds = ("probe", "copy")
        return {f"{kind} {i}": {**row, "kind": kind} for i, row in rows.items() for kind in kinds}

    def check(self, case: dict[str, Any], progress: Progress) -> None:
        path = self.folder / case["xml"]
        expected = path.read_text("utf-8")
        if case["kind"] == "copy":
            with progress.stage("xml"):
                same_text(expected, QemuCapabilities.load(path).to_xml())
            return
        with progress.stage("probe"):
            first, *second = conversations(self.folder / case["replies"])
            caps = replay(ask(case["emulator"], hvf="hvf" in case["variant"]), first)
            if second:
                caps = replay(ask_tcg(caps), second[0])
                # Made up by libvirt's test; QEMU is never asked for it.
                caps = attrs.evolve(caps, microcode_version=case["microcodeVersion"])
        with progress.stage("xml"):
            same_text(expected, caps.to_xml())
