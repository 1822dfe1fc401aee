"""hv plugin new: what it writes, and what it refuses."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from hvcore.cli.main import hv


def run(*arguments, exit_code=0):
    done = CliRunner().invoke(hv, ["plugin", "new", *map(str, arguments)])
    assert done.exit_code == exit_code, done.output
    return done.output


@pytest.mark.parametrize("kind", ["driver", "feature"])
def test_a_package_has_an_entry_point_one_module_and_tests(kind, tmp_path):
    assert "Package '" in run("paper-plane", "--kind", kind, "--directory", tmp_path)
    folder = tmp_path / "hvcore-paper-plane"
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {
        "README.rst",
        "hvcore_paper_plane.py",
        "pyproject.toml",
        "tests/test_paper_plane.py",
    }
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == "hvcore-paper-plane"
    assert project["entry-points"] == {
        {"driver": "hvcore.drivers", "feature": "hvcore.plugins"}[kind]: {
            "paper-plane": "hvcore_paper_plane"
        }
    }
    source = (folder / "hvcore_paper_plane.py").read_text()
    assert "class PaperPlane" in source
    assert "$" not in source


@pytest.mark.parametrize("name", ["Paper", "paper_plane", "-x", "../x", "1x", ""])
def test_a_wrong_name_is_refused(name, tmp_path):
    text = run("--kind", "driver", "--directory", tmp_path, "--", name, exit_code=1)
    assert "is no name of a package" in text
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path):
    run("paper", "--kind", "driver", "--directory", tmp_path)
    path = tmp_path / "hvcore-paper" / "hvcore_paper.py"
    path.write_text("mine")
    assert "File exists" in run("paper", "--kind", "driver", "--directory", tmp_path, exit_code=1)
    assert path.read_text() == "mine"


def test_a_kind_has_to_be_chosen():
    assert "Missing option '--kind'" in run("paper", exit_code=2)
    assert not Path("hvcore-paper").exists()
