"""The manager of examples/vm-manager, installed as its users would: the same for every driver."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "vm-manager"
FASTEST = 5.0
"""Seconds of a processor that its tests may take on a host in memory."""
FAULTS = 15
"""Faults it is tested with, at least."""

pytestmark = pytest.mark.timeout(300)


class Outcome(NamedTuple):
    passed: int
    seconds: float


def spent():
    """Return what ended processes used; unlike the time that passed, not what others use."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """Return a function that runs the tests of the installed manager."""
    folder = tmp_path_factory.mktemp("manager")
    # A copy: building leaves files beside what it builds.
    source, site = shutil.copytree(EXAMPLE, folder / "source"), folder / "site"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    installed = subprocess.run(
        [*pip, "install", "--no-deps", "--no-build-isolation", "--target", site, source],
        capture_output=True,
        text=True,
        check=False,
    )
    assert installed.returncode == 0, installed.stderr
    shutil.rmtree(source / "vm_manager")  # what is tested is what was installed

    def run(*arguments):
        before = spent()
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
            cwd=source,
            env={**os.environ, "PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found = re.search(r"(\d+) passed", done.stdout)
        assert found is not None, done.stdout
        return Outcome(int(found[1]), spent() - before)

    return run


@pytest.fixture(scope="module")
def everywhere(example):
    """Return how many tests there are that need no fault."""
    return example("-m", "not faults").passed


def test_on_a_host_in_memory_with_faults(example, everywhere):
    outcome = example()
    assert outcome.passed - everywhere >= FAULTS
    assert outcome.seconds < FASTEST


def test_unchanged_on_a_host_with_the_capabilities_of_a_qemu(example, everywhere):
    outcome = example("--hv-uri", "test:///?caps=qemu-10.0.0-x86_64&{host}")
    assert outcome.passed - everywhere >= FAULTS


@pytest.mark.qemu
def test_unchanged_on_qemu(qemu, example, everywhere):
    assert example("--hv-uri", "qemu:///embed?root={root}").passed == everywhere


def test_unchanged_on_cloud_hypervisor(example, everywhere):
    assert example("--hv-uri", "ch:///embed?root={root}").passed == everywhere
