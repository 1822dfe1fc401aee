"""QEMU guests: document to definition, back to a document, and to a command line."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from typing import ClassVar
from typing import Final

import attrs

from hvcore.capabilities import Deferred
from hvcore.errors import HvError
from hvcore.model.domain import Domain
from hvcore.pipeline import Context
from hvcore.pipeline import Definition
from hvcore.registry import Registry
from hvcore.xml.reader import read_file
from hvcore_qemu.capabilities import QemuCapabilities
from hvcore_qemu.extensions import register
from hvcore_qemu.launch import pipeline
from hvcore_qemu.launch import plan_start
from tests.conformance.compare import expected_text
from tests.conformance.compare import parse_command
from tests.conformance.compare import same_command
from tests.conformance.compare import same_text
from tests.conformance.fakes import FakeHost
from tests.conformance.fakes import config_of
from tests.conformance.fakes import environment_of
from tests.conformance.fakes import find_program
from tests.conformance.fakes import host_info
from tests.conformance.fakes import random_bytes
from tests.conformance.qmpschema import schema_of
from tests.conformance.suite import CaseFailedError
from tests.conformance.suite import Progress
from tests.conformance.suite import Suite

PROTECTED_GUEST: Final = {"confidential-guest-support", "s390-pv-guest"}
"""Flags with which the pretended KVM protects guests of s390x."""

GIC_VERSIONS: Final = {"v2": (2,), "v3": (3,), "both": (2, 3)}


@functools.lru_cache(maxsize=32)
def _capabilities(path: Path, strip_aliases: bool) -> QemuCapabilities:
    found = QemuCapabilities.load(path)
    return found.strip_machine_aliases() if strip_aliases else found


def _without_probed_cpu(caps: QemuCapabilities) -> QemuCapabilities:
    """Return capabilities whose host model is the host's CPU itself: QEMU told nothing of it."""
    accelerators = {
        name: attrs.evolve(found, deferred_host_cpu=Deferred.of(None))
        for name, found in caps.accelerators.items()
    }
    return attrs.evolve(caps, accelerators=accelerators)


class Cases(Suite):
    """The suite ``qemuxmlconf``."""

    name: ClassVar[str] = "qemuxmlconf"

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self.files = self.folder / "data"
        self.registry = Registry()
        self.registry.load_entry_points()
        register(self.registry)
        self.registry.freeze()
        self.pipeline = pipeline(self.registry)

    def check(self, case: dict[str, Any], progress: Progress) -> None:
        expect = case["expect"]
        try:
            domain, ctx = self._load(case, progress)
        except HvError as error:
            if expect != "parse-error":
                raise CaseFailedError(str(error)) from error
            self._same_error(case, error, progress)
            return
        if expect == "parse-error":
            progress.current = "error"
            wanted = expected_text(self.files / case["err"]).strip()
            raise CaseFailedError(f"- {wanted}\n+ (accepted)", (f"- {wanted}",))
        self._check_xml(case, domain, progress)
        self._check_start(case, domain, ctx, progress)

    def _load(self, case: Mapping[str, Any], progress: Progress) -> tuple[Domain, Context]:
        """Return the complete definition of the case's input."""
        ctx = self._context(case)
        name = case["input"] or f"{case['name']}.xml"
        return self._parsed(read_file(self.files / name), ctx, progress), ctx

    def _parsed(self, document: bytes, ctx: Context, progress: Progress) -> Domain:
        progress.current = "parse"
        domain = self.pipeline.parse(document)
        progress.current = "postparse"
        self.pipeline.post_parse(domain, ctx)
        progress.current = "validate"
        self.pipeline.seal(domain, ctx)
        return domain

    def _context(self, case: Mapping[str, Any]) -> Context:
        extra = case["extra"]
        folder = self.data / "qemucapabilities" / "data"
        caps = _capabilities(folder / f"{case['caps']}.xml", case["caps_latest"])
        caps = caps.replace(add=extra.get("caps_add", ()), remove=extra.get("caps_del", ()))
        if caps.names >= PROTECTED_GUEST:
            caps = attrs.evolve(caps, kvm_supports_secure_guest=True)
        if extra.get("gic") in GIC_VERSIONS:
            caps = caps.with_gic(GIC_VERSIONS[extra["gic"]])
        if extra.get("caps_host_cpu_model"):
            caps = _without_probed_cpu(caps)
        return Context(
            registry=self.registry,
            driver="qemu",
            find_capabilities={f"/usr/bin/qemu-system-{case['arch']}": caps}.get,
            find_program=find_program,
            network_forward=FakeHost(self.folder / "aux", extra).network_forward,
            host=host_info(self.folder / "aux", extra),
            config=config_of(self.folder / "aux", extra),
            abi_update=case["abi_update"],
            random_bytes=random_bytes,
            environ=environment_of(extra),
        )

    def _check_xml(self, case: Mapping[str, Any], domain: Domain, progress: Progress) -> None:
        wanted = expected_text(self.files / case["out_xml"])
        with progress.stage("xml"):
            same_text(wanted, Definition(domain, self.registry).xml(secure=True))
        with progress.stage("idempotence"):
            inner = Progress()
            try:
                again = self._parsed(wanted.encode(), self._context(case), inner)
            except HvError as error:
                raise CaseFailedError(f"{inner.current}: {error}") from error
            same_text(wanted, Definition(again, self.registry).xml(secure=True))

    def _check_start(
        self, case: Mapping[str, Any], domain: Domain, ctx: Context, progress: Progress
    ) -> None:
        extra = case["extra"]
        progress.current = "args"
        incoming = extra.get("migrate_from")
        if incoming == "stdio":
            incoming = f"fd:{extra['migrate_fd']}"
        host = FakeHost(self.folder / "aux", extra)
        try:
            plan = plan_start(self.registry.binding.clone(domain), ctx, host, incoming=incoming)
        except HvError as error:
            if case["expect"] != "failure":
                raise CaseFailedError(str(error)) from error
            self._same_error(case, error, progress)
            return
        if case["expect"] == "failure":
            progress.current = "error"
            wanted = expected_text(self.files / case["err"]).strip()
            raise CaseFailedError(f"- {wanted}\n+ (started)", (f"- {wanted}",))
        environment = [f"{name}={value}" for name, value in plan.env.items()]
        same_command(
            parse_command((self.files / case["args"]).read_text("utf-8")), environment, plan.argv
        )
        progress.current = "schema"
        replies = self.data / "qemucapabilities" / "data" / f"{case['caps']}.replies"
        schema_of(replies).check_arguments(plan.argv)

    def _same_error(self, case: Mapping[str, Any], error: HvError, progress: Progress) -> None:
        progress.current = "error"
        said = str(error).replace(str(self.files), "ABS_SRCDIR/qemuxmlconfdata")
        same_text(expected_text(self.files / case["err"]), said)
