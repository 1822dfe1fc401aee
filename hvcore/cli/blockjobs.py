"""Verbs for jobs that work on the images of disks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import click

from hvcore.cli.session import domain_argument
from hvcore.cli.session import read_document
from hvcore.cli.words import Number
from hvcore.cli.words import Positional
from hvcore.cli.words import Timeout

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from collections.abc import Callable

    from hvcore.blockjobs import BlockJobInfo
    from hvcore.cli.session import Session
    from hvcore.domain import Domain
    from hvcore.events import BlockJobStatus
    from hvcore.host import Host

_SCALED: Final = re.compile(r"(?P<digits>[0-9]{1,20})(?P<unit>[a-zA-Z]*)")

_LOOK: Final = 0.5
"""Seconds between two looks at how far a job is."""


class Bandwidth(click.ParamType[tuple[int, bool]]):
    """A number, and whether it is of bytes because it has a unit."""

    name = "NUMBER"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, bool]:
        """Return the number."""
        from hvcore.xml.codecs import unit_factor  # noqa: PLC0415 - only for verbs with a size

        del param
        number = _SCALED.fullmatch(str(value))
        try:
            if number is not None:
                unit = number["unit"]
                return int(number["digits"]) * (unit_factor(unit) if unit else 1), bool(unit)
        except ValueError:
            pass  # said below
        text = f"Scaled numeric value '{value}' for <--bandwidth> option is malformed"
        raise click.UsageError(f"{text} or out of range", ctx)


def _common(command: Any) -> Any:
    """Add what all verbs that start a job have."""
    for option, text in (
        ("--verbose", "with --wait, show how far it is"),
        ("--wait", "wait until it is over, or ready"),
    ):
        command = click.option(option, is_flag=True, help=text)(command)
    text = "the bandwidth is in bytes"
    return click.option("--bytes", "in_bytes", is_flag=True, help=text)(command)


_bandwidth_option = click.option(
    "--bandwidth", cls=Positional, type=Bandwidth(), help="MiB per second at most"
)
_timeout_option = click.option(
    "--timeout",
    cls=Positional,
    type=Timeout(),
    help="with --wait, end it after so many seconds",
)


def _bandwidth(options: dict[str, Any]) -> int:
    """Return bytes per second."""
    number, scaled = options["bandwidth"] or (0, False)
    if options["in_bytes"]:
        return number
    return (number >> 20 if scaled else number) << 20


async def _wait(found: Domain, path: str, title: str, options: dict[str, Any]) -> BlockJobStatus:
    """Wait for a job; end it when it takes too long or nobody wants to wait any more."""
    import asyncio  # noqa: PLC0415 - only who waits has a loop

    watching = asyncio.create_task(_watch(found, path, title)) if options["verbose"] else None
    try:
        async with asyncio.timeout(options["timeout"]):
            status = await found.wait_for_block_job(path)
    except (TimeoutError, asyncio.CancelledError):
        await found.abort_block_job(path)
        from hvcore.events import BlockJobStatus  # noqa: PLC0415 - only here

        return BlockJobStatus.CANCELED
    finally:
        if watching is not None:
            watching.cancel()
    if options["verbose"]:
        click.echo(f"\r{title}: [100.00 %]", err=True)
    return status


async def _watch(found: Domain, path: str, title: str) -> None:
    import asyncio  # noqa: PLC0415 - as above

    from hvcore.errors import HvError  # noqa: PLC0415

    while True:
        await asyncio.sleep(_LOOK)
        try:
            info = await found.block_job(path)
        except HvError:
            return
        if info is not None:
            click.echo(f"\r{title}: [{_percent(info):6.2f} %]", nl=False, err=True)


def _percent(info: BlockJobInfo) -> float:
    """Return how far a job is; only what is over is complete."""
    if info.end == 0:
        return 0.0
    if info.cur >= info.end:
        return 100.0
    return min(100 * info.cur / info.end, 99.99)


def _run(
    session: Session,
    domain: str,
    work: Callable[[Host, Domain], Awaitable[tuple[str, bool]]],
) -> None:
    text, failed = session.on(domain, work)
    session.done(text)
    if failed:
        raise SystemExit(1)


@click.command()
@domain_argument
@click.argument("path")
@_bandwidth_option
@click.option("--base", cls=Positional, metavar="IMAGE", help="image that stays")
@_timeout_option
@_common
@click.pass_obj
def blockpull(session: Session, /, domain: str, path: str, **options: Any) -> None:
    """Pull what is below into the image that the guest writes to."""
    if options["verbose"] and not options["wait"]:
        session.refuse("Option --wait is required by option --verbose")

    async def work(host: Host, found: Domain) -> tuple[str, bool]:
        del host
        await found.block_pull(path, base=options["base"], bandwidth=_bandwidth(options))
        if not options["wait"]:
            return "Block Pull started", False
        return _said("Pull", await _wait(found, path, "Block Pull", options), "Pull complete")

    _run(session, domain, work)


def _said(what: str, status: BlockJobStatus, done: str) -> tuple[str, bool]:
    """Return what virsh says of how a job ended, and whether that is a failure."""
    failures = {"canceled": f"{what} aborted", "failed": f"{what} failed"}
    if str(status) in failures:
        return failures[str(status)], True
    return done, False


@click.command()
@domain_argument
@click.argument("path")
@_bandwidth_option
@click.option(
    "--base",
    cls=Positional,
    metavar="IMAGE",
    help="image to commit into; the last unless given",
)
@click.option("--top", cls=Positional, metavar="IMAGE", help="first image to be committed")
@_timeout_option
@click.option("--shallow", is_flag=True, help="commit into the image directly below")
@click.option("--active", is_flag=True, help="commit the image that the guest writes to")
@click.option("--delete", is_flag=True, help="remove the images that were committed")
@click.option("--pivot", is_flag=True, help="--active --wait, then go on with the base")
@click.option("--keep-overlay", is_flag=True, help="--active --wait, then go on as before")
@_common
@click.pass_obj
def blockcommit(session: Session, /, domain: str, path: str, **options: Any) -> None:
    """Commit images into one below."""
    pivot, keep = options["pivot"], options["keep_overlay"]
    if pivot and keep:
        session.refuse("Options --pivot and --keep-overlay are mutually exclusive")
    waits = options["wait"] or pivot or keep or options["timeout"]
    if options["verbose"] and not waits:
        session.refuse(
            "--verbose requires at least one of --timeout, --wait, --pivot, or --keep-overlay"
        )
    active = options["active"] or pivot or keep

    async def work(host: Host, found: Domain) -> tuple[str, bool]:
        del host
        await found.block_commit(
            path,
            base=options["base"],
            top=options["top"],
            shallow=options["shallow"],
            active=active,
            delete=options["delete"],
            bandwidth=_bandwidth(options),
        )
        if not waits:
            return f"{'Active ' if active else ''}Block Commit started", False
        status = await _wait(found, path, "Block commit", options)
        text = "Now in synchronized phase" if active else "Commit complete"
        if active and str(status) == "ready" and (pivot or keep):
            await found.abort_block_job(path, pivot=pivot)
            text = "Successfully pivoted" if pivot else "Commit complete, overlay image kept"
        return _said("Commit", status, text)

    _run(session, domain, work)


@click.command()
@domain_argument
@click.argument("path")
@click.option("--dest", cls=Positional, metavar="PATH", help="where the copy is to be")
@_bandwidth_option
@_timeout_option
@click.option(
    "--xml", cls=Positional, metavar="FILE", help="document of the copy", type=click.Path()
)
@click.option("--format", "format_", cls=Positional, metavar="FORMAT", help="format of the copy")
@click.option(
    "--granularity", cls=Positional, type=Number(), help="bytes copied at once, a power of 2"
)
@click.option("--buf-size", cls=Positional, type=Number(wide=True), help="bytes on the way at most")
@click.option("--blockdev", is_flag=True, help="the copy is a block device")
@click.option("--shallow", is_flag=True, help="copy the first image alone")
@click.option("--reuse-external", is_flag=True, help="the copy is there already")
@click.option("--transient-job", is_flag=True, help="the job may be lost when the domain stops")
@click.option("--synchronous-writes", is_flag=True, help="write to the copy as the guest writes")
@click.option("--pivot", is_flag=True, help="--wait, then go on with the copy")
@click.option("--finish", is_flag=True, help="--wait, then go on as before")
@click.option("--print-xml", is_flag=True, help="show the document of the copy, and do nothing")
@_common
@click.pass_obj
def blockcopy(session: Session, /, domain: str, path: str, **options: Any) -> None:
    """Copy a disk elsewhere."""
    dest = options["dest"]
    pivot, finish = options["pivot"], options["finish"]
    _check_copy(session, options)
    waits = options["wait"] or pivot or finish or options["timeout"]
    if options["verbose"] and not waits:
        session.refuse("--verbose requires at least one of --timeout, --wait, --pivot, or --finish")
    if options["xml"] is not None:
        document = read_document(options["xml"], session)
    else:
        document = _document(dest, options["format_"], blockdev=options["blockdev"]).encode()
    if options["print_xml"]:
        click.echo(document.decode())
        return

    async def work(host: Host, found: Domain) -> tuple[str, bool]:
        del host
        await found.block_copy(
            path,
            document,
            shallow=options["shallow"],
            reuse=options["reuse_external"],
            transient=options["transient_job"],
            synchronous=options["synchronous_writes"],
            bandwidth=_bandwidth(options),
            granularity=options["granularity"],
            buffer=options["buf_size"],
        )
        if not waits:
            return "Block Copy started", False
        status = await _wait(found, path, "Block Copy", options)
        text = "Now in mirroring phase"
        if str(status) == "ready" and (pivot or finish):
            await found.abort_block_job(path, pivot=pivot)
            text = "Successfully pivoted" if pivot else "Successfully copied"
        return _said("Copy", status, text)

    _run(session, domain, work)


def _check_copy(session: Session, options: dict[str, Any]) -> None:
    """Refuse what excludes each other."""
    given = {name: options[name] for name in ("dest", "blockdev", "pivot")}
    given["format"] = options["format_"]
    for first, second in (("dest", "xml"), ("format", "xml"), ("blockdev", "xml")):
        if given[first] and options[second]:
            session.refuse(f"Options --{first} and --{second} are mutually exclusive")
    if given["pivot"] and options["finish"]:
        session.refuse("Options --pivot and --finish are mutually exclusive")
    if not given["dest"] and not options["xml"]:
        session.refuse("need either --dest or --xml")


def _document(dest: str, format_: str | None, *, blockdev: bool) -> str:
    from hvcore.xml.codecs import escape  # noqa: PLC0415 - only here

    kind, attribute = ("block", "dev") if blockdev else ("file", "file")
    driver = "" if format_ is None else f"  <driver type='{escape(format_)}'/>\n"
    return f"<disk type='{kind}'>\n  <source {attribute}='{escape(dest)}'/>\n{driver}</disk>\n"


@click.command()
@domain_argument
@click.argument("path")
@click.option("--abort", is_flag=True, help="end the job")
@click.option("--async", "async_", is_flag=True, help="--abort, and do not wait for its end")
@click.option("--pivot", is_flag=True, help="--abort, and go on with what it wrote")
@click.option("--info", is_flag=True, help="show the job, as without any option")
@click.option("--raw", is_flag=True, help="show its numbers")
@click.option("--bytes", "in_bytes", is_flag=True, help="the bandwidth is in bytes")
@_bandwidth_option
@click.pass_obj
def blockjob(session: Session, /, domain: str, path: str, **options: Any) -> None:
    """Show, limit or end the job of a disk."""
    asked = {name for name, value in options.items() if value is not None and value is not False}
    for first in ("raw", "info"):
        for second in ("abort", "pivot", "async_", "bandwidth"):
            if {first, second} <= asked:
                other = second.rstrip("_")
                session.refuse(f"Options --{first} and --{other} are mutually exclusive")
    for second in ("abort", "pivot", "async_"):
        if {"in_bytes", second} <= asked:
            other = second.rstrip("_")
            session.refuse(f"Options --bytes and --{other} are mutually exclusive")

    async def work(host: Host, found: Domain) -> BlockJobInfo | None:
        del host
        if options["bandwidth"] is not None:
            await found.set_block_job_speed(path, _bandwidth(options))
        elif asked & {"abort", "pivot", "async_"}:
            wait = not options["async_"]
            await found.abort_block_job(path, pivot=options["pivot"], wait=wait)
        else:
            return await found.block_job(path)
        return None

    info = session.on(domain, work)
    if asked & {"abort", "pivot", "async_", "bandwidth"}:
        session.done("")
        return
    _show(session, path, info, raw=options["raw"], in_bytes=options["in_bytes"])


def _show(
    session: Session, path: str, info: BlockJobInfo | None, *, raw: bool, in_bytes: bool
) -> None:
    if info is None:
        session.value({}, "" if raw else f"No current block job for {path}")
        return
    import attrs  # noqa: PLC0415 - only to print

    data = {**attrs.asdict(info), "type": str(info.type)}
    if raw:
        bandwidth = info.bandwidth if in_bytes else -(-info.bandwidth // (1 << 20))
        text = f" type={info.type}\n bandwidth={bandwidth}\n cur={info.cur}\n end={info.end}\n"
        session.value(data, text)
        return
    from hvcore.cli.migration import pretty_size  # noqa: PLC0415 - only here

    text = f"{info.type}: [{_percent(info):6.2f} %]"
    if info.bandwidth:
        shown = pretty_size(info.bandwidth)
        text += f"    Bandwidth limit: {info.bandwidth} bytes/s ({shown}/s)"
    session.value(data, text)
