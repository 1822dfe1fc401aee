"""Verbs that show what domains use."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import click

from hvcore.cli.session import domain_argument
from hvcore.cli.words import Number
from hvcore.cli.words import Positional

if TYPE_CHECKING:
    from hvcore.cli.session import Session
    from hvcore.domain import Domain
    from hvcore.host import Host
    from hvcore.model.types import NodeSet
    from hvcore.statistics import BlockInfo

_BLOCK: Final = (
    ("read_requests", "rd_req", "number of read operations:"),
    ("read_bytes", "rd_bytes", "number of bytes read:"),
    ("write_requests", "wr_req", "number of write operations:"),
    ("write_bytes", "wr_bytes", "number of bytes written:"),
    ("errors", "errs", "error count:"),
    ("flush_requests", "flush_operations", "number of flush operations:"),
    ("read_time", "rd_total_times", "total duration of reads (ns):"),
    ("write_time", "wr_total_times", "total duration of writes (ns):"),
    ("flush_time", "flush_total_times", "total duration of flushes (ns):"),
)
"""Our name, virsh's and its words, in virsh's order."""

_SELECTORS: Final = {
    "state": "state",
    "cpu_total": "cpu-total",
    "balloon": "balloon",
    "vcpu": "vcpu",
    "interface": "interface",
    "block": "block",
    "iothread": "iothread",
}


def _data(found: Any) -> dict[str, Any]:
    import attrs  # noqa: PLC0415 - only to print

    return attrs.asdict(found)


# -- CPUs and memory ------------------------------------------------------------------------------


@click.command()
@domain_argument
@click.option("--pretty", is_flag=True, help="show CPU affinity as a list")
@click.pass_obj
def vcpuinfo(session: Session, domain: str, *, pretty: bool) -> None:
    """Show virtual CPUs: where each is, where it may be and what it used."""

    async def work(host: Host, found: Domain) -> tuple[int, list[dict[str, Any]]]:
        count = (await host.nodeinfo()).cpus
        if not found.is_active:
            pins = await found.vcpu_pins()
            online = await found.vcpu_count()
            rows = [{"number": n, "affinity": pins[n]} for n in range(online)]
            return count, rows
        infos = await found.vcpu_info()
        return count, [
            {
                "number": info.number,
                "affinity": info.affinity,
                "cpu": info.cpu,
                "state": str(info.state),
                "cpu_time": info.cpu_time,
            }
            for info in infos
        ]

    count, rows = session.on(domain, work)
    if session.as_json:
        session.value([{**row, "affinity": _list(row["affinity"], count)} for row in rows], "")
        return
    click.echo("\n\n".join(_vcpu(row, count, pretty=pretty) for row in rows))


def _vcpu(row: dict[str, Any], count: int, *, pretty: bool) -> str:
    lines = [
        ("VCPU:", row["number"]),
        ("CPU:", row.get("cpu", "N/A")),
        ("State:", row.get("state", "N/A")),
    ]
    if "state" not in row:
        lines.append(("CPU time", "N/A"))
    elif row["cpu_time"]:
        lines.append(("CPU time:", f"{row['cpu_time'] / 1e9:.1f}s"))
    allowed = _list(row["affinity"], count)
    if pretty:
        from hvcore.model.types import NodeSet  # noqa: PLC0415 - only here

        lines.append(("CPU Affinity:", f"{NodeSet(allowed)} (out of {count})"))
    else:
        mask = "".join("y" if n in allowed else "-" for n in range(count))
        lines.append(("CPU Affinity:", mask))
    return "\n".join(f"{label:<15} {value}" for label, value in lines)


def _list(mask: NodeSet | None, count: int) -> list[int]:
    return [n for n in range(count) if mask is None or n in mask]


@click.command()
@domain_argument
@click.pass_obj
def dommemstat(session: Session, domain: str) -> None:
    """Show what is known of a guest's memory, in KiB."""

    async def work(host: Host, found: Domain) -> dict[str, int]:
        del host
        return await found.memory_stats()

    failing = f"Failed to get memory statistics for domain {domain}"
    stats = session.on(domain, work, failing=failing)
    session.value(stats, "\n".join(f"{name} {value}" for name, value in stats.items()))


@click.command("cpu-stats")
@domain_argument
@click.option("--total", is_flag=True, help="only all CPUs together")
@click.option(
    "--start", cls=Positional, type=Number(signed=True), help="number of the first CPU to show"
)
@click.option("--count", cls=Positional, type=Number(signed=True), help="how many CPUs to show")
@click.pass_obj
def cpu_stats(
    session: Session, domain: str, *, total: bool, start: int | None, count: int | None
) -> None:
    """Show how much of the host's CPUs a domain used."""
    if start is not None and start < 0:
        session.refuse("Invalid value for start CPU")
    if count is not None and count < 0:
        session.refuse("Invalid value for number of CPUs to show")
    single = start is not None or count is not None or not total

    async def work(host: Host, found: Domain) -> dict[str, Any]:
        del host
        return _data(await found.cpu_stats())

    failing = f"Failed to retrieve CPU statistics for domain '{domain}'"
    stats = session.on(domain, work, failing=failing)
    first = start or 0
    chosen = list(stats["per_cpu"].items())[first : None if count is None else first + count]
    lines = []
    if single:
        if not chosen:
            lines.append("No per-CPU stats available")
        for number, used in chosen:
            lines += [f"CPU{number}:", _seconds("cpu_time", used)]
    if total or (start is None and count is None):
        names = ("cpu_time", "user_time", "system_time")
        lines += ["Total:", *(_seconds(name, stats[name]) for name in names)]
    session.value(stats, "\n".join(lines))


def _seconds(name: str, used: int) -> str:
    return f"\t{name:<12} {used // 1_000_000_000:>9}.{used % 1_000_000_000:09} seconds"


# -- disks and interfaces -------------------------------------------------------------------------


@click.command()
@domain_argument
@click.argument("device", required=False)
@click.option("--human", is_flag=True, help="with words")
@click.pass_obj
def domblkstat(session: Session, domain: str, device: str | None, *, human: bool) -> None:
    """Show what a guest did with a disk, or with all of them."""

    async def work(host: Host, found: Domain) -> dict[str, Any]:
        del host
        return _data(await found.block_stats(device))

    failing = f"Failed to get block stats for domain '{domain}' device '{device or ''}'"
    stats = session.on(domain, work, failing=failing)
    lines = [f"Device: {device or ''}"] if human else []
    for name, short, words in _BLOCK:
        if stats[name] is not None:
            text = (
                f" {words:<31} {stats[name]}" if human else f"{device or ''} {short} {stats[name]}"
            )
            lines.append(text)
    session.value(stats, "\n".join(lines))


@click.command()
@domain_argument
@click.argument("interface")
@click.pass_obj
def domifstat(session: Session, domain: str, interface: str) -> None:
    """Show what a guest received and sent."""

    async def work(host: Host, found: Domain) -> dict[str, Any]:
        del host
        return _data(await found.interface_stats(interface))

    failing = f"Failed to get interface stats {domain} {interface}"
    stats = session.on(domain, work, failing=failing)
    lines = []
    for name, value in stats.items():
        if value is not None:
            shown = name.replace("errors", "errs").replace("drops", "drop")
            lines.append(f"{interface} {shown} {value}")
    session.value(stats, "\n".join(lines))


@click.command()
@domain_argument
@click.argument("device", required=False)
@click.option("--all", "all_", is_flag=True, help="of every disk")
@click.option("--human", is_flag=True, help="with units")
@click.pass_obj
def domblkinfo(
    session: Session, domain: str, device: str | None, *, all_: bool, human: bool
) -> None:
    """Show how large a disk is: for the guest, in use, and on the host."""
    if all_ and device is not None:
        raise click.UsageError("Options --all and --device are mutually exclusive")
    if not all_ and device is None:
        session.refuse("command 'domblkinfo' requires <device> option")

    async def work(host: Host, found: Domain) -> list[tuple[str, BlockInfo | None]]:
        del host
        if device is not None:
            return [(device, await found.block_info(device))]
        return [
            (
                row["target"],
                None if row["source"] is None else await found.block_info(row["target"]),
            )
            for row in await _disks(found, inactive=False)
        ]

    rows = session.on(domain, work)
    cells = [(name, *_sizes(info, human=human)) for name, info in rows]
    if session.as_json:
        session.value({name: None if info is None else _data(info) for name, info in rows}, "")
    elif all_:
        session.table(("Target", "Capacity", "Allocation", "Physical"), cells)
    else:
        labels = ("Capacity:", "Allocation:", "Physical:")
        shown = zip(labels, cells[0][1:], strict=True)
        click.echo("\n".join(f"{label:<15} {value}" for label, value in shown))


def _sizes(info: BlockInfo | None, *, human: bool) -> tuple[str, str, str]:
    if info is None or not (info.capacity or info.allocation or info.physical):
        return ("-", "-", "-")
    sizes = (info.capacity, info.allocation, info.physical)
    if not human:
        first, second, third = map(str, sizes)
    else:
        first, second, third = map(_pretty, sizes)
    return (first, second, third)


def _pretty(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{size:.3f} {unit}"
        size /= 1024
    return f"{size:.3f} PiB"


async def _disks(found: Domain, *, inactive: bool) -> list[dict[str, Any]]:
    from hvcore.xml.reader import read  # noqa: PLC0415 - only to list

    names = ("file", "dev", "dir", "name", "volume", "path")
    rows = []
    for disk in read(await found.xml(inactive=inactive), "domain").findall("devices/disk"):
        source, target = disk.find("source"), disk.find("target")
        where = [] if source is None else [source.get(name) for name in names if source.get(name)]
        rows.append(
            {
                "type": disk.get("type"),
                "device": disk.get("device"),
                "target": None if target is None else target.get("dev"),
                "source": where[0] if where else None,
            }
        )
    return rows


@click.command()
@domain_argument
@click.option("--inactive", is_flag=True, help="of the next start")
@click.option("--details", is_flag=True, help="with type and device")
@click.pass_obj
def domblklist(session: Session, domain: str, *, inactive: bool, details: bool) -> None:
    """List the disks of a domain."""

    async def work(host: Host, found: Domain) -> list[dict[str, Any]]:
        del host
        return await _disks(found, inactive=inactive)

    rows = session.on(domain, work)
    names = ("type", "device", "target", "source") if details else ("target", "source")
    _list_of(session, rows, names)


@click.command()
@domain_argument
@click.option("--inactive", is_flag=True, help="of the next start")
@click.pass_obj
def domiflist(session: Session, domain: str, *, inactive: bool) -> None:
    """List the interfaces of a domain."""

    async def work(host: Host, found: Domain) -> list[dict[str, Any]]:
        from hvcore.xml.reader import read  # noqa: PLC0415 - only to list

        del host
        rows = []
        for each in read(await found.xml(inactive=inactive), "domain").findall("devices/interface"):
            parts = {name: each.find(name) for name in ("source", "target", "model", "mac")}
            get = {name: {} if el is None else dict(el.attrib) for name, el in parts.items()}
            names = ("bridge", "dev", "network", "name", "path")
            where = [get["source"][name] for name in names if name in get["source"]]
            rows.append(
                {
                    "interface": get["target"].get("dev"),
                    "type": each.get("type"),
                    "source": where[0] if where else None,
                    "model": get["model"].get("type"),
                    "MAC": get["mac"].get("address"),
                }
            )
        return rows

    rows = session.on(domain, work)
    _list_of(session, rows, ("interface", "type", "source", "model", "MAC"))


def _list_of(session: Session, rows: list[dict[str, Any]], names: tuple[str, ...]) -> None:
    if session.as_json:
        session.value(rows, "")
        return
    columns = [name[0].upper() + name[1:] for name in names]
    session.table(
        columns, [["-" if row[n] is None else str(row[n]) for n in names] for row in rows]
    )


# -- all of it ------------------------------------------------------------------------------------


def _selectors(command: Any) -> Any:
    for name in _SELECTORS.values():
        command = click.option(f"--{name}", is_flag=True, help=f"only the group {name}")(command)
    return command


_LISTS: Final = (
    {"active": "that run", "inactive": "that do not run"},
    {"persistent": "that are defined", "transient": "that vanish when they stop"},
    {
        "running": "whose CPUs run",
        "paused": "whose CPUs are stopped",
        "shutoff": "that are shut off",
        "other": "in any other state",
    },
)
"""Which domains can be asked for; of each group, any that is given is enough."""


def _lists(command: Any) -> Any:
    for name, text in reversed([item for group in _LISTS for item in group.items()]):
        option = click.option(f"--list-{name}", is_flag=True, help=f"only of domains {text}")
        command = option(command)
    return command


async def _is_listed(domain: Domain, options: dict[str, Any]) -> bool:
    state = str((await domain.state())[0])
    known = {
        "active" if domain.is_active else "inactive",
        "persistent" if domain.is_persistent else "transient",
        {"shut off": "shutoff"}.get(state, state if state in ("running", "paused") else "other"),
    }
    wanted = [{name for name in group if options[f"list_{name}"]} for group in _LISTS]
    return all(not names or names & known for names in wanted)


@click.command()
@click.argument("domain", nargs=-1, metavar="[DOMAIN]...")
@_lists
@click.option("--nowait", is_flag=True, help="accepted for scripts written for virsh")
@click.option("--raw", is_flag=True, help="accepted for scripts written for virsh")
@_selectors
@click.pass_obj
def domstats(session: Session, /, domain: tuple[str, ...], **options: Any) -> None:
    """Show all statistics of domains, or of all domains."""
    groups = [group for name, group in _SELECTORS.items() if options[name]]

    async def work(host: Host) -> dict[str, dict[str, Any]]:
        chosen = [await session.lookup(host, key) for key in domain]
        found = {}
        for each in chosen if domain else await host.domains():
            if await _is_listed(each, options):
                found[each.name] = await each.stats(groups)
        return found

    found = session.run(work)
    blocks = [
        "\n".join([f"Domain: '{name}'", *(f"  {key}={value}" for key, value in stats.items())])
        for name, stats in found.items()
    ]
    session.value(found, "\n\n".join(blocks))
