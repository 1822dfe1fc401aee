"""What stands in the tree: no name of a place outside it, changelog fragments named by rule."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Written so that this file does not contain what it looks for.
FORBIDDEN = {
    "a path of one machine": r"(?<![\w.$}])/(?:[w]ork|[h]ome/\w+|[U]sers)/",
    "a registry or mirror host": (
        r"\b(?:[d]eb\.debian|[s]ecurity\.debian|[p]ypi|[r]egistry\.npmjs|[c]rates)\.(?:org|io)\b"
        r"|[p]ythonhosted"
    ),
}


def tracked() -> dict[str, str]:
    """Return the text files of the tree by path."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    texts = {}
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / name
        if path.is_file():
            raw = path.read_bytes()
            if b"\0" not in raw:
                texts[name] = raw.decode("utf-8")
    return texts


@pytest.mark.parametrize("what", sorted(FORBIDDEN))
def test_nothing_in_the_tree_names(what):
    pattern = re.compile(FORBIDDEN[what])
    found = [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"
        for name, text in tracked().items()
        # Recorded data is quoted as it is; the licence is not ours to word.
        if not name.startswith(("tests/data/", "LICENSE"))
        for match in pattern.finditer(text)
    ]
    assert not found, f"{what}: " + ", ".join(found)


def test_changelog_fragments_are_named_by_issue_and_type():
    with (ROOT / "pyproject.toml").open("rb") as file:
        types = [kind["directory"] for kind in tomllib.load(file)["tool"]["towncrier"]["type"]]
    name = re.compile(rf"(\d+|\+[\w-]+)\.({'|'.join(types)})(\.\d+)?\.rst")
    fragments = [p.name for p in (ROOT / "changelog.d").iterdir() if p.name != "README.rst"]
    assert [fragment for fragment in fragments if not name.fullmatch(fragment)] == []


def test_every_dependency_gives_a_reason():
    text = (ROOT / "pyproject.toml").read_text()
    listed = text.partition("\ndependencies = [\n")[2].partition("\n]")[0].splitlines()
    assert listed
    assert [line for line in listed if "#" not in line] == []


def test_folders_that_would_shadow_other_packages_stay_namespaces():
    wrong = [p for p in (ROOT / "drivers").glob("**/__init__.py") if p.parent.name[:7] != "hvcore_"]
    wrong = [p for p in wrong if not any(a.name.startswith("hvcore_") for a in p.parents)]
    assert wrong == []
    assert not (ROOT / "tests" / "__init__.py").exists()
