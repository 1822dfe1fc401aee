"""A feature is its plugin file and its tests: nothing else of hvcore knows of it.

The measure is acpi-generic-initiator, for which libvirt needed 18 files.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGIN = "plugins/hvcore_plugins/acpi_generic_initiator.py"
NAMES = re.compile(r"generic.?initiator|acpi.?nodeset", re.IGNORECASE)
OTHERS = ("changelog.d/", "docs/", "tests/")
"""Where users read of a feature, and where it is tested."""


def files():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a checkout")
    return listed.stdout.splitlines()


def names_it(path):
    found = ROOT / path
    return found.is_file() and NAMES.search(found.read_bytes().decode("utf-8", "ignore"))


def test_generic_initiators_are_one_file():
    known = {path for path in files() if names_it(path) and not path.startswith(OTHERS)}
    assert known == {PLUGIN}
