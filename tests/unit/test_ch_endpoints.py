"""The tables of the documentation are those of the API and of the driver."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

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


def test_what_is_used_is_in_the_code_and_the_rest_is_not():
    assert set(USED) <= words()
    assert not set(UNUSED) & words()


def test_generating_the_tables_again_changes_nothing():
    path = ROOT / "tools" / "generate_ch_docs.py"
    spec = importlib.util.spec_from_file_location("generate_ch_docs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.generate() == (ROOT / "docs" / "ch-tables.inc").read_text()
