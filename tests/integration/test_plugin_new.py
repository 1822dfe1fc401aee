"""Packages that hv plugin new writes pass their own tests where nothing else of the tree is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from click.testing import CliRunner

from hvcore.cli.main import hv

pytestmark = pytest.mark.timeout(180)


ROOT = Path(__file__).parents[2]


def run(*argv, cwd=None):
    """Run a command without what leads back to the tree; return what it printed."""
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Fresh:
    """A virtual environment of its own, into which packages are installed without a network."""

    def __init__(self, folder):
        venv.create(folder, with_pip=False, symlinks=True)
        self.folder = folder
        self.python = folder / "bin" / "python"
        [site] = folder.glob("lib/python*/site-packages")
        # What hvcore and tests depend on is there already; the tree itself is left out.
        dependencies = [
            path for path in sys.path if path.endswith(("site-packages", "dist-packages"))
        ]
        (site / "dependencies.pth").write_text("\n".join(dependencies) + "\n")

    def install(self, source):
        pip = [sys.executable, "-m", "pip", "--python", self.python, "--quiet"]
        options = ["--no-deps", "--no-build-isolation", "--no-index", "--ignore-installed"]
        run(*pip, "install", *options, source)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Return a virtual environment that has hvcore."""
    fresh = Fresh(tmp_path_factory.mktemp("fresh") / "venv")
    fresh.install(ROOT)
    found = run(fresh.python, "-c", "import hvcore, hvcore_qemu; print(hvcore_qemu.__file__)")
    assert found.startswith(str(fresh.folder))
    return fresh


@pytest.mark.parametrize(("kind", "at_least"), [("driver", 40), ("feature", 10)])
def test_a_new_package_passes_its_own_tests(kind, at_least, environment, tmp_path):
    made = CliRunner().invoke(
        hv, ["plugin", "new", f"paper-{kind}", "--kind", kind, "--directory", str(tmp_path)]
    )
    assert made.exit_code == 0, made.output
    source = tmp_path / f"hvcore-paper-{kind}"
    environment.install(source)
    (source / f"hvcore_paper_{kind}.py").unlink()  # what is tested is what was installed
    tests = [environment.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    printed = run(*tests, cwd=source)
    passed = re.search(r"(\d+) passed", printed)
    assert passed is not None
    assert int(passed[1]) >= at_least
