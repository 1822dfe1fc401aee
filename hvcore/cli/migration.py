"""Verbs that move guests to other hosts, and those for the long jobs that domains are busy with."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import click

from hvcore.cli.session import domain_argument
from hvcore.cli.session import read_document

if TYPE_CHECKING:
    import asyncio

    from hvcore.cli.session import Session
    from hvcore.domain import Domain
    from hvcore.host import Host
    from hvcore.jobinfo import JobInfo

_LOOK: Final = 0.5
"""Seconds between two looks at how far a migration is."""


@click.command()
@domain_argument
@click.argument("desturi", metavar="DESTURI")
@click.option("--live", is_flag=True, help="let the guest run meanwhile")
@click.option("--offline", is_flag=True, help="move the definition of a domain that does not run")
@click.option("--persistent", is_flag=True, help="make it persistent on the destination")
@click.option("--undefinesource", is_flag=True, help="remove its definition here")
@click.option("--suspend", is_flag=True, help="leave its CPUs stopped on the destination")
@click.option("--dname", metavar="NAME", help="its name on the destination")
@click.option("--xml", metavar="FILE", help="document of what runs there", type=click.Path())
@click.option(
    "--persistent-xml", metavar="FILE", help="document of its next start there", type=click.Path()
)
@click.option("--bandwidth", type=click.IntRange(min=1), help="MiB per second at most")
@click.option("--verbose", is_flag=True, help="show how far it is")
@click.pass_obj
def migrate(session: Session, /, domain: str, desturi: str, **options: Any) -> None:
    """Move a guest to the host behind another URI."""
    from hvcore.host import connect  # noqa: PLC0415 - only who migrates opens two hosts

    if options["live"] and options["offline"]:
        session.refuse("Options --live and --offline are mutually exclusive")
    if options["persistent_xml"] and not options["persistent"]:
        session.refuse("Option --persistent is required by option --persistent-xml")
    documents = {
        name: None if options[name] is None else read_document(options[name], session)
        for name in ("xml", "persistent_xml")
    }

    async def work(host: Host, found: Domain) -> None:
        del host
        async with await connect(desturi) as target:
            watching = _watch(found) if options["verbose"] else None
            try:
                await found.migrate(
                    target,
                    live=options["live"],
                    offline=options["offline"],
                    persistent=options["persistent"],
                    undefine_source=options["undefinesource"],
                    paused=options["suspend"],
                    name=options["dname"],
                    bandwidth=options["bandwidth"],
                    **documents,
                )
            finally:
                if watching is not None:
                    watching.cancel()
        if options["verbose"]:
            click.echo("\rMigration: [100.00 %]", err=True)

    session.on(domain, work, source=documents["xml"] or b"")
    session.done("")


def _watch(domain: Domain) -> asyncio.Task[None]:
    """Show how far a migration is until cancelled."""
    import asyncio  # noqa: PLC0415 - only here

    from hvcore.errors import HvError  # noqa: PLC0415

    async def watch() -> None:
        while True:
            await asyncio.sleep(_LOOK)
            try:
                info = await domain.job_info()
            except HvError:
                return
            if info.data_total:
                done = 100 - 100 * min(1, info.data_remaining / info.data_total)
                # Only what has come to its end is complete.
                click.echo(f"\rMigration: [{min(done, 99.99):6.2f} %]", nl=False, err=True)

    return asyncio.create_task(watch())


# -- jobs ------------------------------------------------------------------------------------------


@click.command()
@domain_argument
@click.option("--completed", is_flag=True, help="of the last job that came to its end")
@click.option("--keep-completed", is_flag=True, help="do not forget it")
@click.option("--anystats", is_flag=True, help="of any kind of job, also of failed ones")
@click.option("--rawstats", is_flag=True, help="as they are")
@click.pass_obj
def domjobinfo(session: Session, /, domain: str, **options: bool) -> None:
    """Show the long job that a domain is busy with."""
    if options["keep_completed"] and not options["completed"]:
        session.refuse("Option --completed is required by option --keep-completed")

    async def work(host: Host, found: Domain) -> JobInfo:
        del host
        keep = options["keep_completed"]
        return await found.job_info(completed=options["completed"], keep=keep)

    info = session.on(domain, work)
    data = {"type": str(info.type), **info.parameters()}
    if options["rawstats"]:
        lines = [f"Job type: {int(info.type)}", ""]
        lines += [f"{name}: {value}" for name, value in info.parameters().items()]
        session.value(data, "\n".join(lines) + "\n")
        return
    session.value(data, "\n".join(f"{label:<17} {text}" for label, text in _rows(info)) + "\n")


def _rows(info: JobInfo) -> list[tuple[str, str]]:
    """Return what virsh shows of a job, and in its order."""
    from hvcore.jobinfo import JobType  # noqa: PLC0415 - only here

    rows = [("Job type:", f"{info.type!s:<12}")]
    if info.type is JobType.NONE:
        return rows
    rows.append(("Operation:", f"{info.operation!s:<12}"))
    rows.append(("Time elapsed:", f"{info.elapsed:<12} ms"))
    known = info.parameters()
    for group, bandwidth in (("data", None), ("memory", "memory_bps"), ("disk", "disk_bps")):
        sizes = {part: known[f"{group}_{part}"] for part in ("processed", "remaining", "total")}
        if any(sizes.values()):
            word = "File" if group == "disk" else group.capitalize()
            rows += [(f"{word} {part}:", pretty_size(value)) for part, value in sizes.items()]
            if bandwidth is not None and known.get(bandwidth):
                rows.append((f"{word} bandwidth:", f"{pretty_size(known[bandwidth])}/s"))
        if group == "memory" and any(sizes.values()):
            rows += _known(known, _MEMORY)
    downtime = "Total" if info.type is JobType.COMPLETED else "Expected"
    pages = (*_PAGES, ("downtime", f"{downtime} downtime:", " ms"), *_REST)
    return rows + _known(known, pages)


_MEMORY: Final = (
    ("memory_dirty_rate", "Dirty rate:", " pages/s"),
    ("memory_page_size", "Page size:", " bytes"),
    ("memory_iteration", "Iteration:", ""),
)
_PAGES: Final = (
    ("memory_constant", "Constant pages:", ""),
    ("memory_normal", "Normal pages:", ""),
    ("memory_normal_bytes", "Normal data:", None),
)
_REST: Final = (("setup_time", "Setup time:", " ms"),)


def _known(
    known: dict[str, int], rows: tuple[tuple[str, str, str | None], ...]
) -> list[tuple[str, str]]:
    """Return the rows whose numbers are known; a row without a unit is a size."""
    return [
        (label, pretty_size(known[name]) if unit is None else f"{known[name]:<12}{unit}")
        for name, label, unit in rows
        if name in known
    ]


def pretty_size(value: float) -> str:
    """Return bytes as virsh shows them."""
    units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        del units[0]
    return f"{value:.3f} {units[0]}"


@click.command()
@domain_argument
@click.pass_obj
def domjobabort(session: Session, domain: str) -> None:
    """Abort the long job that a domain is busy with."""

    async def work(host: Host, found: Domain) -> None:
        del host
        await found.abort_job()

    session.on(domain, work)
    session.done("")
