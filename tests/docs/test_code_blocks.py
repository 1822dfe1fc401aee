"""Every Python block of the documentation and the README runs, every XML block is well-formed.

The blocks of one file share a namespace and a directory of their own, in the order they stand, and
may use ``await`` at the top. What must not run says ``.. not run: why`` (in Markdown
``<!-- not run: why -->``) on the line before the block.

A Python block with a caption is also appended to the file of that name; tests are only that. In
``console`` blocks, ``$ pytest`` and ``$ hv`` are run and must succeed.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest
from lxml import etree

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.rst")) if path.is_file()
)

_RST = re.compile(
    r"(?P<skip>^\.\. not run: .+\n\n*)?"
    r"^\.\. (?:code-block|sourcecode):: (?P<language>\w+)\n(?P<body>(?:[ \t]+\S.*\n|\n)+)",
    re.MULTILINE,
)
_MARKDOWN = re.compile(
    r"(?P<skip>^<!-- not run: .+ -->\n)?^```(?P<language>\w+)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_OPTIONS = re.compile(r"\A(?:[ \t]+:[\w-]+:.*\n)+")


class Block(NamedTuple):
    """One code block: its language, its text and the line its text begins at."""

    language: str
    text: str
    line: int
    caption: str = ""


def blocks(path: Path) -> list[Block]:
    """Return the blocks of a file that are to run."""
    source = path.read_text() + "\n"
    found = []
    for match in (_MARKDOWN if path.suffix == ".md" else _RST).finditer(source):
        if match["skip"]:
            continue
        options = _OPTIONS.match(match["body"])
        caption = re.search(r":caption: (.*)", options[0]) if options else None
        body = _OPTIONS.sub(lambda options: "\n" * options[0].count("\n"), match["body"])
        line = source.count("\n", 0, match.start("body"))
        text = textwrap.dedent(body)
        found.append(Block(match["language"], text, line, caption[1] if caption else ""))
    return found


def run(block: Block, path: Path, namespace: dict[str, object]) -> None:
    """Run one Python block; its tracebacks point into the file it was read from."""
    code = compile(
        "\n" * block.line + block.text,
        str(path),
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        dont_inherit=True,
    )
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(code, namespace))
    else:
        exec(code, namespace)


def run_command(line: str) -> None:
    """Run a command as its reader would."""
    program, *arguments = shlex.split(line.removeprefix("$ "))
    # Importing hypothesis at the very end, as its plugin does, trips over a bug of Python 3.11.
    quiet = ["-pno:cacheprovider", "-pno:hypothesispytest"]
    quiet += ["-o", "asyncio_default_fixture_loop_scope=function"]
    module = {"pytest": ["pytest", *quiet], "hv": ["hvcore.cli"]}[program]
    done = subprocess.run(
        [sys.executable, "-m", *module, *arguments],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_blocks_of(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(path):
        if block.language == "python":
            if block.caption.endswith(".py"):
                with Path(block.caption).open("a") as file:
                    file.write(block.text)
            if not block.caption.startswith(("test_", "conftest")):
                run(block, path, namespace)
        elif block.language == "console":
            for command in filter(None, block.text.splitlines()):
                run_command(command)
        elif block.language == "xml":
            etree.fromstring(block.text.strip())


def test_blocks_are_found_with_their_lines(tmp_path):
    page = tmp_path / "page.rst"
    page.write_text(
        "Text\n\n.. code-block:: python\n   :caption: x\n\n   a = 1\n\n   b = a\n\nEnd\n\n"
        ".. not run: it needs a host\n\n.. code-block:: python\n\n   c = 2\n"
    )
    (block,) = blocks(page)
    assert block.text.strip() == "a = 1\n\nb = a"
    assert block.caption == "x"


def test_a_command_that_fails_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_command("$ hv --version")
    with pytest.raises(AssertionError, match="no tests ran"):
        run_command("$ pytest -q")


def test_block_may_await_and_fails_where_it_stands(tmp_path):
    block = Block("python", "import asyncio\nawait asyncio.sleep(0)\n1 / 0\n", 7)
    with pytest.raises(ZeroDivisionError) as caught:
        run(block, tmp_path / "page.rst", {})
    assert caught.traceback[-1].lineno == 9
