"""Hypervisor-independent documents: parsed and formatted without any driver."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from typing import ClassVar

from hvcore.errors import HvError
from hvcore.hostinfo import HostInfo
from hvcore.pipeline import Context
from hvcore.pipeline import Definition
from hvcore.pipeline import Pipeline
from hvcore.registry import Registry
from tests.conformance.compare import expected_text
from tests.conformance.compare import same_text
from tests.conformance.fakes import random_bytes
from tests.conformance.suite import CaseFailedError
from tests.conformance.suite import Progress
from tests.conformance.suite import Suite


class Cases(Suite):
    """The suite ``generic``."""

    name: ClassVar[str] = "generic"

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self.registry = Registry()
        self.registry.load_entry_points()
        self.registry.freeze()
        self.pipeline = Pipeline(self.registry)

    def check(self, case: dict[str, Any], progress: Progress) -> None:
        if case["kind"] != "domain":
            raise CaseFailedError(f"documents of kind {case['kind']} are not supported")
        document = (self.folder / case["input"]).read_bytes()
        live = case["live"]
        with progress.stage("parse"):
            ctx = Context(
                registry=self.registry,
                active=live,
                host=HostInfo(arch="x86_64"),
                random_bytes=random_bytes,
            )
            try:
                domain = self.pipeline.load(document, ctx)
            except HvError as error:
                if case["expect"] == "parse-error":
                    return
                raise CaseFailedError(str(error)) from error
        if case["expect"] == "parse-error":
            progress.current = "error"
            raise CaseFailedError("accepted a document that libvirt refuses")
        with progress.stage("xml"):
            # A domain without an id does not run, whatever the format asked for.
            inactive = not live or domain.id is None
            text = Definition(domain, self.registry).xml(inactive=inactive, secure=True)
            same_text(expected_text(self.folder / case["out_xml"]), text)
