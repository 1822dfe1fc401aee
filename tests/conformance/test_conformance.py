"""libvirt's own test data, case by case: only the known gaps may fail, and all of them have to."""

from __future__ import annotations

import functools

import pytest

from tests.conformance import suite as suites


@functools.cache
def _suite(name: str) -> suites.Suite:
    return suites.open_suite(name)


def _cases() -> list[object]:
    found: list[object] = []
    for name in suites.suite_names():
        if not suites.has_data(name, suites.data_of(name)):
            skip = pytest.mark.skip(
                reason=f"no data in {suites.data_of(name)} (see {suites.VARIABLE})"
            )
            found.append(pytest.param(name, "", False, id=name, marks=skip))
            continue
        gaps = suites.known_gaps(name)
        found += [
            pytest.param(name, case_id, case_id in gaps, id=f"{name}-{case_id}")
            for case_id in _suite(name).cases
        ]
    return found


@pytest.mark.parametrize(("name", "case_id", "known_gap"), _cases())
def test_case(name: str, case_id: str, known_gap: bool) -> None:
    outcome = _suite(name).run(case_id)
    if known_gap:
        assert not outcome.ok, f"passes now: take it out of known_gaps/{name}.txt"
    else:
        assert outcome.ok, f"[{outcome.stage}] {outcome.detail}"


@pytest.mark.parametrize("name", suites.suite_names())
def test_known_gaps_are_cases(name: str) -> None:
    if not suites.has_data(name, suites.data_of(name)):
        pytest.skip(f"no data in {suites.data_of(name)} (see {suites.VARIABLE})")
    assert suites.known_gaps(name) - set(_suite(name).cases) == set()
