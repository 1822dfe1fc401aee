"""Every Python block of the documentation and the README runs, every XML block is well-formed.

The blocks of one file share a namespace and a directory of their own, in the order they stand, and
may use ``await`` at the top. What must not run says ``.. not run: why`` (in Markdown
``<!-- not run: why -->``) on the line before the block.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
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


def blocks(path: Path) -> list[Block]:
    """Return the blocks of a file that are to run."""
    source = path.read_text() + "\n"
    found = []
    for match in (_MARKDOWN if path.suffix == ".md" else _RST).finditer(source):
        if match["skip"]:
            continue
        body = _OPTIONS.sub(lambda options: "\n" * options[0].count("\n"), match["body"])
        line = source.count("\n", 0, match.start("body"))
        found.append(Block(match["language"], textwrap.dedent(body), line))
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


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_blocks_of(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(path):
        if block.language == "python":
            run(block, path, namespace)
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


def test_block_may_await_and_fails_where_it_stands(tmp_path):
    block = Block("python", "import asyncio\nawait asyncio.sleep(0)\n1 / 0\n", 7)
    with pytest.raises(ZeroDivisionError) as caught:
        run(block, tmp_path / "page.rst", {})
    assert caught.traceback[-1].lineno == 9
