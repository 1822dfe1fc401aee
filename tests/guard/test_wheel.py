"""What users install: the names it puts into the world, and that it works where nothing else is."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import hvcore

ROOT = Path(__file__).parents[2]
TOP_LEVEL = {"hvcore", "hvcore_ch", "hvcore_qemu", "hvcore_test", "hvcore_plugins"}

_NO_INDEX = re.compile(
    r"No matching distribution found for|Could not find a version|Failed to establish|"
    r"Temporary failure in name resolution|Connection (?:refused|reset)|ReadTimeout"
)


def _pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel with the build backend that the tests have installed."""
    target = tmp_path_factory.mktemp("wheel")
    built = _pip("wheel", "--no-deps", "--no-build-isolation", "-w", str(target), str(ROOT))
    assert built.returncode == 0, built.stderr
    (found,) = target.glob("*.whl")
    return found


def test_wheel_owns_exactly_our_names(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.partition("/")[0] for name in names}
    (metadata,) = {name for name in top if name.endswith(".dist-info")}
    assert top - {metadata} == TOP_LEVEL
    for package in TOP_LEVEL:
        assert f"{package}/__init__.py" in names
        assert f"{package}/py.typed" in names
    assert any(name.startswith(f"{metadata}/licenses/") for name in names)


def test_wheel_carries_every_file_of_the_packages(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    folders = [ROOT / "hvcore", ROOT / "plugins" / "hvcore_plugins"]
    folders += [path for path in (ROOT / "drivers").glob("*/hvcore_*") if path.is_dir()]
    expected = {
        path.relative_to(folder.parent).as_posix()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert expected - names == set()


@pytest.mark.network
@pytest.mark.timeout(300)
def test_wheel_works_in_an_empty_environment(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    installed = _pip("--python", str(python), "install", "--quiet", str(wheel))
    if installed.returncode and _NO_INDEX.search(installed.stderr):
        pytest.skip("no package index can be reached")
    assert installed.returncode == 0, installed.stderr

    def run(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert hvcore.__version__ in run(str(python.with_name("hv")), "--version")
    # Both would be hidden by folders named as they are at an import root.
    run(str(python), "-c", "import qemu.qmp, test.support")
    assert run(str(python), "-c", "import hvcore; print(hvcore.__version__)") == (
        f"{hvcore.__version__}\n"
    )
