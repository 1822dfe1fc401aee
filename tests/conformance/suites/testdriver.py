"""The test driver through virsh: what it says, and what hv says to the same.

The output of a case is what all of its commands said, so a command is looked for behind the one
before it. Facts count, and not how they are laid out: blank lines, rules under headings and the
width of columns are left out, as is what :data:`UNTOLD` and :data:`OTHER` list, each with its
reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import shlex
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from typing import ClassVar
from typing import Final
from unittest import mock

from click.testing import CliRunner

from hvcore.cli.main import VERBS
from hvcore.cli.main import hv
from hvcore.host import connect
from tests.conformance.suite import CaseFailedError
from tests.conformance.suite import Progress
from tests.conformance.suite import Suite

_OWN: Final = "virsh's own, for its shell and its tests"
_EACH: Final = "every hv command names its connection"
_LATER: Final = "hvcore does not have the operation yet"

NOT_SERVED: Final = {
    "-d": "virsh's own log of how it understood its options",
    "attach-disk": "attach-device takes the document of any device",
    "blkiotune": _LATER,
    "checkpoint-create": _LATER,
    "checkpoint-create-as": _LATER,
    "checkpoint-delete": _LATER,
    "checkpoint-dumpxml": _LATER,
    "checkpoint-info": _LATER,
    "checkpoint-list": _LATER,
    "complete": "completion is the shell's, from 'hv completion'",
    "connect": _EACH,
    "domcontrol": "there is no daemon whose connection could be stuck",
    "echo": _OWN,
    "help": _OWN,
    "pool-define-as": "storage pools are not part of hvcore yet",
    "schedinfo": _LATER,
    "uri": _EACH,
}
"""Commands and options that hv does not have, and why."""

CHANGING: Final = frozenset(
    {
        "attach-disk",
        "blkiotune",
        "checkpoint-create",
        "checkpoint-create-as",
        "checkpoint-delete",
        "connect",
        "pool-define-as",
        "schedinfo",
    }
)
"""Which of them may change what later commands find; a case is only compared up to the first that
virsh has not refused."""

UNTOLD: Final = {
    "Messages": _LATER,
    "Security model": "hvcore labels nothing",
    "Security DOI": "hvcore labels nothing",
    "Security label": "hvcore labels nothing",
    "deprecated configuration": _LATER,
    "tainted": _LATER,
}
"""How lines begin that hv does not print, and why."""

MORE: Final = {
    "CPU time": "libvirt's driver counts none",
    "balloon.": "libvirt's driver has only the state",
    "block.": "libvirt's driver has only the state",
    "cpu.": "libvirt's driver has only the state",
    "net.": "libvirt's driver has only the state",
    "vcpu.": "libvirt's driver has only the state",
}
"""How lines begin that only hv prints, and why."""

ALONE: Final = {
    "inactiveDomain": "libvirt's driver does not keep what the next start would have been",
}
"""Elements that only hv's documents have, and why."""

OTHER: Final = {
    r"OS Type: linux\nOS Type: \w+": "libvirt's driver calls every guest linux",
    r"(\d+) 0(-\d+)?\n\1 0-\d+": "libvirt's driver takes the guest's CPUs for those of the host",
}
"""What virsh prints and what hv prints there, and why."""

_NOISE: Final = re.compile(r"-*|Usage: .*|Try '.*|hint: .*")
_EXIT: Final = "## Exit code:"
_ELEMENTS: Final = re.compile(rf" *<({'|'.join(ALONE)})\b.*?</\1>\n", re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """Return the commands of a script of virsh, each as its words."""
    text = re.sub(r"(?<!\S)#[^\n]*", "", text.replace("\\\n", ""))
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";\n")
    lexer.commenters = ""
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= {";", "\n"}:
            found.append([])
        else:
            found[-1].append(word)
    return [words for words in found if words]


def facts(text: str, left_out: Iterable[str]) -> list[str]:
    """Return what is said, line by line.

    :param left_out: how lines begin that do not count.
    """
    lines = (" ".join(each.split()) for each in text.splitlines())
    return [
        re.sub("^Error: ", "error: ", line)
        for line in lines
        if not _NOISE.fullmatch(line) and not line.startswith(tuple(left_out))
    ]


class NotComparableError(Exception):
    """What follows depends on something that hv cannot do."""


class Alignment:
    """What virsh said, from the command that is looked for to the end."""

    def __init__(self, expected: str) -> None:
        self.lines = facts(expected, UNTOLD)
        self.failed = bool(self.lines) and self.lines[-1].startswith(_EXIT)
        if self.failed:
            self.lines.pop()
        self._at = 0
        self._gap = False
        self._unsure = ""

    def skip(self, changing: str = "") -> None:
        """Let there be something unknown.

        :param changing: the command, where what comes then may depend on it.
        """
        self._gap = True
        self._unsure = self._unsure or changing

    def take(self, said: list[str]) -> None:
        """Find what hv said.

        :raises CaseFailedError: virsh said something else.
        :raises NotComparableError: virsh did something before that hv cannot do.
        """
        if not said:
            return
        starts = range(self._at, len(self.lines) + 1) if self._gap else (self._at,)
        for start in starts:
            end = _same(self.lines, start, said)
            if end is not None:
                refused = all(line.startswith("error: ") for line in self.lines[self._at : start])
                if self._unsure and not refused:
                    raise NotComparableError(self._unsure)
                self._at, self._gap, self._unsure = end, False, ""
                return
        if self._unsure:
            raise NotComparableError(self._unsure)
        there = self.lines[self._at : self._at + len(said)]
        raise CaseFailedError("\n".join([*(f"- {s}" for s in there), *(f"+ {s}" for s in said)]))

    def finish(self) -> None:
        """Make sure that nothing is left over.

        :raises CaseFailedError: there is.
        """
        if not self._gap and self._at < len(self.lines):
            raise CaseFailedError("\n".join(f"- {line}" for line in self.lines[self._at :]))


def _same(lines: list[str], start: int, said: list[str]) -> int | None:
    """Return where what was said ends in ``lines``; None where it does not begin at ``start``."""
    there = lines[start : start + len(said)]
    same = len(there) == len(said) and all(map(_agree, there, said))
    return start + len(said) if same else None


def _agree(theirs: str, ours: str) -> bool:
    pair = f"{theirs}\n{ours}"
    return theirs == ours or any(re.fullmatch(pattern, pair) for pattern in OTHER)


class Cases(Suite):
    """Cases with at least one command that hv has."""

    name: ClassVar[str] = "testdriver"

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the cases that can be run; what is left out is in :meth:`notes`."""
        self.all = super().rows()
        return {case_id: row for case_id, row in self.all.items() if self._can_run(row)}

    def _can_run(self, row: dict[str, Any]) -> bool:
        options, script = self._commands(row)
        before = itertools.takewhile(lambda words: words[0] not in CHANGING, script)
        verbs = {words[0] for words in before}
        return not verbs.isdisjoint(VERBS) and NOT_SERVED.keys().isdisjoint(options)

    def notes(self) -> list[str]:
        """Return what hv does not have or say, and why."""
        missing: Counter[str] = Counter()
        for row in self.all.values():
            options, script = self._commands(row)
            names = {*options, *(words[0] for words in script)}
            missing.update(name for name in names if name not in VERBS and name in NOT_SERVED)
        return [
            f"{len(self.all) - len(self.cases)} cases have no command that can be compared",
            *(
                f"not served: {name} ({count} cases): {NOT_SERVED[name]}"
                for name, count in sorted(missing.items())
            ),
            *(f"not told: {name}: {reason}" for name, reason in UNTOLD.items()),
            *(f"told by hv alone: {name}: {reason}" for name, reason in MORE.items()),
            *(f"element of hv alone: {name}: {reason}" for name, reason in ALONE.items()),
            *(f"different: {reason}" for reason in OTHER.values()),
        ]

    def check(self, case: dict[str, Any], progress: Progress) -> None:
        """Run one case."""
        try:
            self._compare(case, progress)
        except NotComparableError as reason:
            progress.remark(f"not compared from '{progress.current}' on: {reason}")

    def _compare(self, case: dict[str, Any], progress: Progress) -> None:
        options, script = self._commands(case)
        alignment = Alignment(self._expected(case))
        uri = self._uri(case)
        code: int | None = 0
        with _one_host(uri), contextlib.chdir(self.folder), _fifo(script) as fifo:
            for words in script:
                verb, *rest = (word.replace("<FIFO>", fifo) for word in words)
                with progress.stage(" ".join(words)):
                    if verb in VERBS:
                        run = CliRunner().invoke(hv, ["-c", uri, *options, verb, *rest])
                        if run.exception and not isinstance(run.exception, SystemExit):
                            raise run.exception
                        code = run.exit_code
                        text = _drop(case, _ELEMENTS.sub("", run.output.replace(fifo, "")))
                        alignment.take(facts(text, MORE))
                    elif verb in _HARNESS:
                        code = 0
                        alignment.take(facts(_HARNESS[verb](rest), ()))
                    elif verb in NOT_SERVED:
                        code = None
                        alignment.skip(verb if verb in CHANGING else "")
                    else:
                        raise CaseFailedError(f"nobody said why hv has no '{verb}'")
        alignment.finish()
        if code is not None and bool(code) is not alignment.failed:
            raise CaseFailedError(f"exit code {code}")

    def _commands(self, row: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
        """Return the options that mean something for hv, and the commands."""
        words = [word.replace("<ABS_SRCDIR>", str(self.folder)) for word in row["argv"]]
        options = []
        while words and words[0].startswith("-") and (option := words.pop(0)) != "--":
            options += [option[:2]] if option[:2] in ("-q", "-d") else []
        if row.get("script"):
            words.append((self.folder / row["script"]).read_text("utf-8"))
        return options, commands(words[0]) if len(words) == 1 else [words]

    def _uri(self, row: dict[str, Any]) -> str:
        connect: str = row["connect"] or "test:///default"
        return re.sub("<abs path of (.*)>", lambda found: f"{self.folder / found[1]}", connect)

    def _expected(self, row: dict[str, Any]) -> str:
        return _drop(row, (self.folder / row["expected"]).read_text("utf-8"))


def _drop(row: dict[str, Any], text: str) -> str:
    """Return a text without what is different each time."""
    mark = row.get("drop_lines_from")
    return re.sub(f"{re.escape(mark)}[^\n]*", "", text) if mark else text


@contextlib.contextmanager
def _one_host(uri: str) -> Iterator[None]:
    """Keep a host for as long as a case runs: commands share a host only if they share a loop."""
    with asyncio.Runner() as runner:
        host = runner.run(connect(uri))
        try:
            with mock.patch.object(asyncio, "run", runner.run):
                yield
        finally:
            runner.run(host.close())


@contextlib.contextmanager
def _fifo(script: list[list[str]]) -> Iterator[str]:
    """Give a pipe through which a large document comes, to scripts that name one."""
    if not any("<FIFO>" in words for words in script):
        yield "<FIFO>"
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "fifo")
        os.mkfifo(path)
        threading.Thread(target=path.write_text, args=(_BIG,), daemon=True).start()
        yield str(path)


def _cd(words: list[str]) -> str:
    os.chdir(words[0])
    return ""


_HARNESS: Final = {"echo": " ".join, "cd": _cd}
"""What is done here for the other commands of a script."""

_BIG: Final = (
    " " * (140 * 1024)
    + """<domain type='test' id='2'><name>t2</name><uuid>004b96e1-2d78-c30f-5aa5-000000000000</uuid>
<memory>8388608</memory><vcpu>2</vcpu><os><type>xen</type></os></domain>"""
)
