"""What every verb shares: the connection, the ways of printing, the ways of failing."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING
from typing import Any
from typing import NoReturn
from typing import TypeVar

import click

from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import NoSuchDomain
from hvcore.errors import ValidationFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from collections.abc import Callable
    from collections.abc import Sequence

    from hvcore.domain import Domain
    from hvcore.errors import Issue
    from hvcore.host import Host

_T = TypeVar("_T")

DOMAIN_HELP = "name, UUID or number of the domain"


class Session:
    """One run of ``hv``.

    :param uri: the connection, or None for the default one.
    :param as_json: print JSON instead of text.
    :param quiet: leave out confirmations.
    """

    def __init__(self, *, uri: str | None, as_json: bool, quiet: bool) -> None:
        self.uri = uri
        self.as_json = as_json
        self.quiet = quiet

    # -- the connection ----------------------------------------------------------------------------

    def run(
        self, work: Callable[[Host], Awaitable[_T]], *, failing: str = "", source: bytes = b""
    ) -> _T:
        """Connect, do ``work`` and return its result; end the program with 1 when it fails.

        :param failing: what virsh says first, such as ``Failed to start domain 'x'``.
        :param source: the document that errors may point into.
        """
        import asyncio  # noqa: PLC0415 - hv --help and --version need no event loop

        from hvcore.host import connect  # noqa: PLC0415 - see above

        async def connected() -> _T:
            async with await connect(self.uri) as host:
                return await work(host)

        try:
            return asyncio.run(connected())
        except HvError as error:
            self.fail(error, failing=failing, source=source)
        except KeyboardInterrupt:
            sys.exit(130)

    def on(
        self,
        key: str,
        work: Callable[[Host, Domain], Awaitable[_T]],
        *,
        failing: str = "",
        source: bytes = b"",
    ) -> _T:
        """Do ``work`` on the domain that ``key`` names; parameters as for :meth:`run`."""

        async def found(host: Host) -> _T:
            return await work(host, await self.lookup(host, key))

        return self.run(found, failing=failing, source=source)

    async def lookup(self, host: Host, key: str) -> Domain:
        """Return the domain that ``key`` names; end the program with 1 when there is none."""
        try:
            return await host.lookup(key)
        except HvError as error:
            failed = f"failed to get domain '{key}'"
            if isinstance(error, NoSuchDomain) and not self.as_json:
                self.refuse(failed)  # virsh says no more than that
            self.fail(error, failing=failed)

    # -- printing ----------------------------------------------------------------------------------

    def value(self, data: Any, text: str) -> None:
        """Print ``data`` as JSON, or ``text``."""
        click.echo(json.dumps(data, indent=2, default=str) if self.as_json else text)

    def done(self, text: str, **facts: Any) -> None:
        """Confirm what was done."""
        if self.as_json:
            click.echo(json.dumps({"done": text, **facts}, default=str))
        elif not self.quiet:
            click.echo(text)

    def facts(self, rows: Sequence[tuple[str, Any]], data: dict[str, Any]) -> None:
        """Print labelled facts in two columns, or ``data`` as JSON."""
        width = max(len(label) for label, _ in rows) + 1
        self.value(data, "\n".join(f"{label + ':':<{width}}  {value}" for label, value in rows))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table: with colours on a terminal, virsh's plain columns elsewhere."""
        if sys.stdout.isatty():
            _rich_table(columns, rows)
            return
        widths = [
            max([len(column), *(len(row[i]) for row in rows)]) for i, column in enumerate(columns)
        ]
        lines = [
            " " + "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            for row in (columns, *rows)
        ]
        lines.insert(1, "-" * (sum(widths) + 3 * len(widths) + 1))
        click.echo("\n".join(line.rstrip() for line in lines))

    # -- failing -----------------------------------------------------------------------------------

    def refuse(self, message: str) -> NoReturn:
        """Print what virsh says itself before it asks anybody, and end the program with 1."""
        self.fail(HvError(message, kind=ErrorClass.SYSTEM))

    def fail(self, error: HvError, *, failing: str = "", source: bytes = b"") -> NoReturn:
        """Print ``error`` with the lines of the document it means, and end the program with 1."""
        issues = error.issues if isinstance(error, ValidationFailed) else ()
        if self.as_json:
            click.echo(json.dumps({"error": _error_data(error, failing, issues)}), err=True)
            sys.exit(1)
        if failing:
            _say("error: ", failing)
        lines = source.splitlines()
        if issues:
            for issue in issues:
                _say("error: ", str(issue))
                _point(issue.line, lines, issue.hint)
        else:
            _say("error: ", str(error))
            _point(None if source else error.line, lines, error.hint)
        sys.exit(1)


def _error_data(error: HvError, failing: str, issues: Sequence[Issue]) -> dict[str, Any]:
    return {
        "code": error.code,
        "number": error.number,
        "kind": type(error).__name__,
        "message": str(error),
        "what": failing or None,
        "line": error.line,
        "path": error.path,
        "hint": error.hint,
        "issues": [
            {
                "message": str(i),
                "number": i.kind.number,
                "line": i.line,
                "path": i.path,
                "hint": i.hint,
            }
            for i in issues
        ],
    }


def _say(label: str, text: str) -> None:
    click.echo(click.style(label, fg="red", bold=True) + text, err=True)


def _point(line: int | None, lines: Sequence[bytes], hint: str | None) -> None:
    """Show the line of the document, numbered, and what could be done."""
    if line is not None and 0 < line <= len(lines):
        shown = lines[line - 1].decode("utf-8", "replace").strip()[:120]
        click.echo(click.style(f"  {line:>5} | ", dim=True) + shown, err=True)
    if hint:
        click.echo(click.style("   hint: ", fg="cyan") + hint, err=True)


_STATE_COLOURS = {"running": "green", "paused": "yellow", "crashed": "red", "shut off": "dim"}


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box  # noqa: PLC0415 - only on a terminal, so here and below
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(Text(cell, style=_STATE_COLOURS.get(cell, "")) for cell in row))
    Console().print(table)


def read_document(file: str, session: Session) -> bytes:
    """Return the contents of ``file``, ``-`` being standard input; end the program without."""
    from hvcore.xml.reader import LIMIT  # noqa: PLC0415 - only verbs that read documents

    try:
        # One byte more than is accepted is enough to be refused; a FIFO cannot fill the memory.
        if file == "-":
            return sys.stdin.buffer.read(LIMIT + 1)
        with open(file, "rb") as stream:  # noqa: PTH123 - also takes /dev/fd/N
            return stream.read(LIMIT + 1)
    except OSError as error:
        session.fail(
            HvError(f"Failed to open file '{file}': {error.strerror}", kind=ErrorClass.SYSTEM)
        )


def complete_domain(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of domains for shell completion; silent when there is no connection."""
    del param
    import asyncio  # noqa: PLC0415 - completion only

    from hvcore.host import connect  # noqa: PLC0415

    root = ctx.find_root()

    async def names() -> list[str]:
        async with await connect(root.params.get("uri")) as host:
            return [domain.name for domain in await host.domains()]

    try:
        return [name for name in asyncio.run(names()) if name.startswith(incomplete)]
    except HvError:
        return []


domain_argument = click.argument("domain", metavar="DOMAIN", shell_complete=complete_domain)
