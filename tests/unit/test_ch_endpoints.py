"""The tables of the documentation are those of the API and of the driver."""

from __future__ import annotations

import ast
import importlib.util
import os
from pathlib import Path

import pytest
import yaml

import hvcore_ch
from hvcore.testing import fake_ch
from hvcore_ch.endpoints import UNUSED
from hvcore_ch.endpoints import USED

ROOT = Path(__file__).parents[2]


def words():
    """Return every string in the driver's code but the table itself."""
    found = set()
    for path in Path(hvcore_ch.__file__).parent.rglob("*.py"):
        if path.name != "endpoints.py":
            tree = ast.parse(path.read_text())
            found |= {
                node.value
                for node in ast.walk(tree)
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            }
    return found


def test_each_endpoint_of_the_api_is_used_or_not_for_a_reason():
    described = {path.removeprefix("/") for path in fake_ch.document()["paths"]}
    assert len(described) == 31
    assert {*USED, *UNUSED} == described
    assert not USED.keys() & UNUSED.keys()


def test_the_description_is_the_programs_own():
    path = os.environ.get("HVCORE_TEST_CH_OPENAPI")
    if path is None:
        pytest.skip("HVCORE_TEST_CH_OPENAPI does not say where cloud-hypervisor's own is")
    theirs = yaml.safe_load(Path(path).read_text())
    ours = fake_ch.document()
    for part in ("paths", "components"):
        assert without_words(theirs[part]) == without_words(ours[part])


WORDS = {"description", "default", "format", "deprecated", "operationId", "summary"}


def without_words(value):
    """Return a description without what says nothing about which values are possible."""
    if isinstance(value, dict):
        # Names of members may be the same words.
        return {
            str(key): {name: without_words(each) for name, each in value[key].items()}
            if key == "properties"
            else without_words(value[key])
            for key in value
            if key not in WORDS
        }
    if isinstance(value, list):
        return sorted(value) if all(isinstance(each, str) for each in value) else value
    return value


def test_what_is_used_is_in_the_code_and_the_rest_is_not():
    assert set(USED) <= words()
    assert not set(UNUSED) & words()


def test_generating_the_tables_again_changes_nothing():
    path = ROOT / "tools" / "generate_ch_docs.py"
    spec = importlib.util.spec_from_file_location("generate_ch_docs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.generate() == (ROOT / "docs" / "ch-tables.inc").read_text()
