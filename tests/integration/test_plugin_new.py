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


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Make a virtual environment that has hvcore and what tests need, without a network."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    [site] = folder.glob("lib/python*/site-packages")
    installed = [path for path in sys.path if path and Path(path).is_dir()]
    ours = [path for path in installed if not path.startswith(sys.base_prefix)]
    (site / "installed-already.pth").write_text("\n".join(ours) + "\n")
    return folder / "bin" / "python"


@pytest.mark.parametrize(("kind", "at_least"), [("driver", 40), ("feature", 10)])
def test_a_new_package_passes_its_own_tests(kind, at_least, environment, tmp_path):
    made = CliRunner().invoke(
        hv, ["plugin", "new", f"paper-{kind}", "--kind", kind, "--directory", str(tmp_path)]
    )
    assert made.exit_code == 0, made.output
    source = tmp_path / f"hvcore-paper-{kind}"
    pip = [sys.executable, "-m", "pip", "--python", str(environment), "--quiet"]
    installed = subprocess.run(
        [*pip, "install", "--no-deps", "--no-build-isolation", "--no-index", str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert installed.returncode == 0, installed.stderr
    (source / f"hvcore_paper_{kind}.py").unlink()  # what is tested is what was installed
    done = subprocess.run(
        [str(environment), "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=source,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= at_least
