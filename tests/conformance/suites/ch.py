"""Documents of cloud-hypervisor guests, parsed and formatted as libvirt's driver does."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from typing import ClassVar

from hvcore.errors import HvError
from hvcore.hostinfo import HostInfo
from hvcore.pipeline import Context
from hvcore.pipeline import Definition
from hvcore.registry import Registry
from hvcore_ch.capabilities import ChCapabilities
from hvcore_ch.config import ChConfig
from hvcore_ch.launch import pipeline
from tests.conformance.compare import expected_text
from tests.conformance.compare import same_text
from tests.conformance.fakes import random_bytes
from tests.conformance.suite import CaseFailedError
from tests.conformance.suite import Progress
from tests.conformance.suite import Suite


class Cases(Suite):
    """The suite ``ch``."""

    name: ClassVar[str] = "ch"

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self.registry = Registry()
        self.registry.load_entry_points()
        self.registry.driver("ch")
        self.registry.freeze()
        self.pipeline = pipeline(self.registry)

    def check(self, case: dict[str, Any], progress: Progress) -> None:
        ctx = Context(
            registry=self.registry,
            driver="ch",
            # Both hypervisors that there are exist, whatever this machine has.
            caps=ChCapabilities(names=frozenset({"kvm", "mshv"}), arch="x86_64", version=53000000),
            host=HostInfo(arch="x86_64"),
            config=ChConfig(),
            active=case["live"],
            random_bytes=random_bytes,
            stub_console=False,
        )
        document = (self.folder / case["input"]).read_bytes()
        with progress.stage("parse"):
            try:
                domain = self.pipeline.load(document, ctx)
            except HvError as error:
                if case["expect"] != "success":
                    return
                raise CaseFailedError(str(error)) from error
        if case["expect"] != "success":
            progress.current = "error"
            raise CaseFailedError("accepted a document that libvirt refuses")
        with progress.stage("xml"):
            text = Definition(domain, self.registry).xml(inactive=not case["live"], secure=True)
            same_text(expected_text(self.folder / case["out_xml"]), text)
