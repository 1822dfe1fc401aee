"""Each of libvirt's documents keeps the ABI of itself, however often it was read and written."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from hvcore import abi
from hvcore.model.domain import Domain
from hvcore.pipeline import Context
from hvcore.pipeline import Definition
from hvcore_qemu.migratable import ABI_CHECKS
from hvcore_qemu.migratable import make_migratable
from tests.conformance import suite as suites
from tests.conformance.suite import Progress
from tests.conformance.suites.qemuxmlconf import Cases

EXAMPLES = 60
"""Documents in a run; others in the next one."""


class Standin:
    """As much of a driver as comparing takes, with the host and QEMU of a case."""

    def __init__(self, suite: Cases, case: dict[str, Any]) -> None:
        self.suite, self.case, self.registry = suite, case, suite.registry

    def pipeline(self) -> Any:
        return self.suite.pipeline

    async def context(self, domain: Domain) -> Context:
        del domain
        return self.suite._context(self.case)

    def migratable(self, domain: Domain, record: None) -> None:
        del record
        make_migratable(domain, self.suite._context(self.case))

    def abi_checks(self) -> Any:
        return ABI_CHECKS


@functools.cache
def _suite() -> Cases:
    return Cases(suites.data_of("qemuxmlconf"))


@functools.cache
def _cases() -> list[dict[str, Any]]:
    return [case for case in _suite().cases.values() if case["expect"] != "parse-error"]


def check(case: dict[str, Any]) -> None:
    """Compare the document of a case with itself, with a written copy, and the live one."""
    driver: Any = Standin(_suite(), case)
    domain, _ = _suite()._load(case, Progress())
    definition = Definition(domain, _suite().registry)
    parse = driver.pipeline().parse

    async def compare() -> None:
        await abi.require_same(driver, domain, domain, volatile=True)
        for inactive, migratable in ((True, False), (True, True), (False, False)):
            copy = definition.xml(inactive=inactive, migratable=migratable, secure=True)
            await abi.require_same(driver, domain, parse(copy), document=copy, volatile=True)

    asyncio.run(compare())


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_document_keeps_its_own_abi(data):
    if not suites.has_data("qemuxmlconf", suites.data_of("qemuxmlconf")):
        pytest.skip(f"no data in {suites.data_of('qemuxmlconf')} (see {suites.VARIABLE})")
    check(data.draw(st.sampled_from(_cases())))
