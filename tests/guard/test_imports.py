"""Who may import whom, and what importing costs.

``hvcore`` knows no driver and no plugin. A driver knows ``hvcore`` only. A plugin knows
``hvcore.plugin`` and ``hvcore.model``; a driver's types may stand in its annotations.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]

DRIVERS = {path.name: path for path in (ROOT / "drivers").glob("*/hvcore_*") if path.is_dir()}
PLUGINS = ROOT / "plugins" / "hvcore_plugins"
PLUGIN_MAY_IMPORT = ("hvcore.plugin", "hvcore.model", "hvcore_plugins")
OURS = ("hvcore", "hvcore_plugins", *DRIVERS)


class Import(NamedTuple):
    """One imported module and where it is imported."""

    module: str
    where: str
    for_types_only: bool


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def imports_of(source: str, path: str, package: str) -> list[Import]:
    """Return every import of a module, those inside functions too.

    :param package: the dotted package the module is in, for relative imports.
    """
    found: list[Import] = []

    def visit(node: ast.AST, for_types_only: bool) -> None:
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            for child in node.body:
                visit(child, True)
            for child in node.orelse:
                visit(child, for_types_only)
            return
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                above = parents[: len(parents) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            # ``from hvcore import model`` imports hvcore.model.
            names = [f"{base}.{alias.name}" for alias in node.names]
        found.extend(Import(name, f"{path}:{node.lineno}", for_types_only) for name in names)
        for child in ast.iter_child_nodes(node):
            visit(child, for_types_only)

    visit(ast.parse(source), False)
    return found


def imports_below(folder: Path) -> list[Import]:
    """Return the imports of all modules of a package."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        inside = path.relative_to(folder.parent).parent.parts
        where = str(path.relative_to(ROOT))
        found.extend(imports_of(path.read_text(), where, ".".join(inside)))
    return found


def within(module: str, packages: tuple[str, ...]) -> bool:
    """Tell whether a module is one of the packages or below one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _assert_none(wrong: list[Import], rule: str) -> None:
    assert not wrong, f"{rule}:\n" + "\n".join(f"  {i.where}: {i.module}" for i in wrong)


def test_the_core_knows_no_driver_and_no_plugin():
    others = tuple(name for name in OURS if name != "hvcore")
    wrong = [i for i in imports_below(ROOT / "hvcore") if within(i.module, others)]
    _assert_none(wrong, "hvcore must not import drivers or plugins")


@pytest.mark.parametrize("driver", sorted(DRIVERS))
def test_a_driver_knows_the_core_only(driver):
    others = tuple(name for name in OURS if name not in {"hvcore", driver})
    wrong = [i for i in imports_below(DRIVERS[driver]) if within(i.module, others)]
    _assert_none(wrong, f"{driver} must not import other drivers or plugins")


def test_a_plugin_knows_the_plugin_interface_only():
    wrong = [
        i
        for i in imports_below(PLUGINS)
        if within(i.module, OURS)
        and not within(i.module, PLUGIN_MAY_IMPORT)
        and not (i.for_types_only and within(i.module, tuple(DRIVERS)))
    ]
    _assert_none(wrong, "plugins import hvcore.plugin and hvcore.model, driver types for checking")


def test_only_the_kit_for_tests_needs_what_tests_need():
    kit = ROOT / "hvcore" / "testing"
    needed = ("pytest", "_pytest", "pytest_asyncio", "hypothesis")
    wrong = [
        i
        for folder in (ROOT / "hvcore", *DRIVERS.values(), PLUGINS)
        for i in imports_below(folder)
        if within(i.module, needed) and not i.where.startswith(str(kit.relative_to(ROOT)))
    ]
    _assert_none(wrong, "only hvcore.testing imports what tests need")


def test_imports_are_found_wherever_they_stand():
    source = (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import hvcore_qemu.command\n"
        "else:\n    import a.b\n"
        "def f():\n    from ..x import y\n    from . import z\n"
    )
    found = [(i.module, i.for_types_only) for i in imports_of(source, "m.py", "p.q")]
    assert found == [
        ("typing.TYPE_CHECKING", False),
        ("hvcore_qemu.command", True),
        ("a.b", False),
        ("p.x.y", False),
        ("p.q.z", False),
    ]


def modules_after(statement: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*sys.modules, file=sys.stderr)"
    # -S would hide the editable install; site itself loads nothing of what is guarded.
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stderr.split())


CONNECT = """
import asyncio, hvcore
async def main():
    await (await hvcore.connect("test:///default")).close()
asyncio.run(main())
"""


LIST = """
import tempfile
from hvcore.cli.main import hv
with tempfile.TemporaryDirectory() as root:
    try:
        hv(["-c", "qemu:///embed?root=" + root, "list"])
    except SystemExit as done:
        assert not done.code
"""


@pytest.mark.parametrize(
    ("statement", "banned"),
    [
        ("import hvcore", ("asyncio", "attr", "click", "lxml", "pluggy", "qemu", "rich")),
        ("import hvcore.errors", ("asyncio", "click", "lxml", "pluggy", "qemu", "rich")),
        # One driver is loaded, that of the URI, and nothing of the command line.
        (CONNECT, ("click", "cryptography", "hvcore.cli", "hvcore_qemu", "qemu", "rich")),
        # No document is looked at, and nothing is started or asked.
        (
            LIST,
            (
                "hvcore.hostinfo",
                "hvcore.model.domain",
                "hvcore.rules",
                "hvcore_qemu.capabilities",
                "hvcore_qemu.command",
                "hvcore_qemu.devices",
                "hvcore_qemu.monitor",
                "hvcore_qemu.realhost",
                "lxml",
                "qemu",
                "rich",
            ),
        ),
    ],
    ids=["hvcore", "hvcore.errors", "connect", "list"],
)
def test_importing_stays_cheap(statement, banned):
    loaded = sorted(name for name in modules_after(statement) if within(name, banned))
    assert not loaded, f"{statement} loads {', '.join(loaded)}"
