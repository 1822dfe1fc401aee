"""Verbs for snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import click

from hvcore.cli.session import domain_argument
from hvcore.cli.session import read_document
from hvcore.errors import ErrorClass
from hvcore.errors import HvError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hvcore.cli.session import Session
    from hvcore.domain import Domain
    from hvcore.host import Host
    from hvcore.snapshots import SnapshotInfo


def _taking(command: Any) -> Any:
    """Add what both ways to take a snapshot have."""
    for option, text in (
        ("--atomic", "take all or nothing, as is always done"),
        ("--quiesce", "have the guest hold its file systems still"),
        ("--reuse-external", "the new images are there already"),
        ("--disk-only", "leave the memory out"),
        ("--halt", "end the domain afterwards"),
        ("--no-metadata", "do not remember it"),
    ):
        command = click.option(option, is_flag=True, help=text)(command)
    return command


def _flags(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "disk_only": options["disk_only"],
        "reuse": options["reuse_external"],
        "quiesce": options["quiesce"],
        "halt": options["halt"],
        "metadata": not options["no_metadata"],
    }


@click.command()
@domain_argument
@click.argument("xmlfile", required=False, type=click.Path())
@click.option("--redefine", is_flag=True, help="remember what was taken by others")
@click.option("--current", is_flag=True, help="with --redefine, it is the current one")
@click.option("--validate", is_flag=True, help="accepted for scripts written for virsh")
@_taking
@click.pass_obj
def snapshot_create(session: Session, /, domain: str, xmlfile: str | None, **options: Any) -> None:
    """Take a snapshot as a document says."""
    document = None if xmlfile is None else read_document(xmlfile, session)

    async def work(host: Host, found: Domain) -> str:
        del host
        redefine, current = options["redefine"], options["current"]
        info = await found.create_snapshot(
            document, redefine=redefine, current=current, **_flags(options)
        )
        return info.name

    name = session.on(domain, work, source=document or b"")
    origin = "" if xmlfile is None else f" from '{xmlfile}'"
    session.done(f"Domain snapshot {name} created{origin}", name=name)


@click.command()
@domain_argument
@click.argument("name", required=False)
@click.argument("description", required=False)
@click.argument(
    "diskspec",
    nargs=-1,
    metavar="[DISK[,snapshot=TYPE][,driver=TYPE][,stype=TYPE][,file=NAME]]...",
)
@click.option("--print-xml", is_flag=True, help="show the document, and do nothing")
@click.option("--live", is_flag=True, help="let the guest run while its memory is written")
@click.option("--memspec", metavar="[file=]NAME[,snapshot=TYPE]", help="where its memory goes")
@_taking
@click.pass_obj
def snapshot_create_as(
    session: Session,
    /,
    domain: str,
    name: str | None,
    description: str | None,
    diskspec: tuple[str, ...],
    **options: Any,
) -> None:
    """Take a snapshot as options say."""
    document = _document(session, name or None, description or None, options["memspec"], diskspec)
    if options["print_xml"]:
        click.echo(document)
        return

    async def work(host: Host, found: Domain) -> str:
        del host
        live = options["live"]
        return (await found.create_snapshot(document, live=live, **_flags(options))).name

    made = session.on(domain, work)
    session.done(f"Domain snapshot {made} created", name=made)


def _document(
    session: Session,
    name: str | None,
    description: str | None,
    memspec: str | None,
    diskspecs: tuple[str, ...],
) -> str:
    """Return the document that virsh would make of its options."""
    from xml.sax.saxutils import escape  # noqa: PLC0415 - only here

    lines = ["<domainsnapshot>"]
    if name is not None:
        lines.append(f"  <name>{escape(name)}</name>")
    if description is not None:
        lines.append(f"  <description>{escape(description)}</description>")
    if memspec is not None:
        fields = _fields(session, memspec, {"file", "snapshot"}, "memspec", first="file")
        order = {"snapshot": fields.get("snapshot"), "file": fields.get("file")}
        lines.append(f"  <memory{_attributes(order)}/>")
    if diskspecs:
        lines.append("  <disks>")
        for spec in diskspecs:
            lines += _disk(session, spec)
        lines.append("  </disks>")
    return "\n".join([*lines, "</domainsnapshot>\n"])


def _fields(
    session: Session, spec: str, known: set[str], what: str, *, first: str
) -> dict[str, str]:
    """Return the fields of a list; two commas in a row are one of a value."""
    parts = spec.replace(",,", "\0").split(",")
    found: dict[str, str] = {}
    for number, part in enumerate(parts):
        key, is_field, value = part.replace("\0", ",").partition("=")
        if number == 0 and not (is_field and key == first):
            found[first] = part.replace("\0", ",")
        elif is_field and key in known and key not in found:
            found[key] = value
        else:
            session.refuse(f"unable to parse {what}: {spec}")
    return found


def _disk(session: Session, spec: str) -> list[str]:
    known = {"snapshot", "driver", "file", "stype"}
    fields = _fields(session, spec, known, "diskspec", first="name")
    kind = fields.get("stype")
    if kind not in (None, "file", "block"):
        session.refuse(f"Unknown storage type: '{kind}'")
    head = {"name": fields["name"], "snapshot": fields.get("snapshot"), "type": kind}
    inner = []
    if "driver" in fields:
        inner.append(f"      <driver{_attributes({'type': fields['driver']})}/>")
    if "file" in fields:
        where = "dev" if kind == "block" else "file"
        inner.append(f"      <source{_attributes({where: fields['file']})}/>")
    if not inner:
        return [f"    <disk{_attributes(head)}/>"]
    return [f"    <disk{_attributes(head)}>", *inner, "    </disk>"]


def _attributes(values: dict[str, str | None]) -> str:
    from xml.sax.saxutils import escape  # noqa: PLC0415 - only here

    quotes = {"'": "&apos;"}
    return "".join(
        f" {name}='{escape(value, quotes)}'" for name, value in values.items() if value is not None
    )


# -- looking --------------------------------------------------------------------------------------


_LIST_FLAGS: Final = (
    ("parent", "show the parent of each"),
    ("roots", "only those without a parent"),
    ("leaves", "only those without children"),
    ("no-leaves", "only those with children"),
    ("inactive", "only those taken while the domain did not run"),
    ("active", "only those taken while it ran"),
    ("disk-only", "only those without memory"),
    ("internal", "only those inside the images"),
    ("external", "only those outside of them"),
    ("tree", "show who is whose child"),
    ("descendants", "with --from, also children of children"),
    ("name", "show names alone"),
    ("topological", "parents before their children"),
)


_FILTERS: Final[tuple[dict[str, Callable[[SnapshotInfo], bool]], ...]] = (
    {
        "inactive": lambda info: info.state == "shutoff",
        "active": lambda info: info.state not in ("shutoff", "disk-snapshot"),
        "disk_only": lambda info: info.state == "disk-snapshot",
    },
    {"internal": lambda info: not info.external, "external": lambda info: info.external},
    {
        "roots": lambda info: info.parent is None,
        "leaves": lambda info: not info.children,
        "no_leaves": lambda info: info.children > 0,
    },
)
"""Options by which a list is filtered; of each group, any that is given is enough."""


def _listing(command: Any) -> Any:
    for name, text in reversed(_LIST_FLAGS):
        command = click.option(f"--{name}", is_flag=True, help=text)(command)
    return command


@click.command()
@domain_argument
@click.option("--from", "from_", metavar="NAME", help="only children of this one")
@click.option("--current", is_flag=True, help="only children of the current one")
@_listing
@click.pass_obj
def snapshot_list(session: Session, /, domain: str, **options: Any) -> None:
    """List the snapshots of a domain."""
    excluding = (
        ("tree", "name"),
        ("parent", "roots"),
        ("parent", "tree"),
        ("roots", "tree"),
        ("roots", "from_"),
        ("roots", "current"),
    )
    for first, second in excluding:
        if options[first] and options[second]:
            other = second.rstrip("_")
            session.refuse(f"Options --{first} and --{other} are mutually exclusive")

    async def work(host: Host, found: Domain) -> tuple[list[SnapshotInfo], str | None]:
        del host
        start = options["from_"]
        if options["current"]:
            start = (await found.snapshot()).name
        elif start is not None:
            await found.snapshot(start)
        return await found.snapshots(), start

    infos, start = session.on(domain, work)
    shown = _chosen(infos, start, options)
    if session.as_json:
        import attrs  # noqa: PLC0415 - only to print

        session.value([attrs.asdict(info) for info in shown], "")
    elif options["tree"]:
        click.echo("\n".join(_tree(infos, start)))
    elif options["name"]:
        parents = options["parent"]
        for info in shown:
            click.echo(f"{info.name}\t{info.parent}" if parents and info.parent else info.name)
    else:
        _table(session, shown, parents=options["parent"])


def _chosen(
    infos: list[SnapshotInfo], start: str | None, options: dict[str, Any]
) -> list[SnapshotInfo]:
    """Return what the options leave of a list."""
    if options["topological"]:
        infos = [info for root in infos if root.parent is None for info in _below(infos, root)]
    if start is not None:
        deep = options["descendants"] or options["tree"]
        family = {info.name for info in infos if info.parent == start}
        while deep:
            more = {info.name for info in infos if info.parent in family} - family
            if not more:
                break
            family |= more
        infos = [info for info in infos if info.name in family]
    for group in _FILTERS:
        wanted = [test for name, test in group.items() if options[name]]
        if wanted:
            infos = [info for info in infos if any(test(info) for test in wanted)]
    return infos


def _below(infos: list[SnapshotInfo], info: SnapshotInfo) -> list[SnapshotInfo]:
    children = [each for each in infos if each.parent == info.name]
    return [info, *[found for child in children for found in _below(infos, child)]]


def _tree(infos: list[SnapshotInfo], start: str | None) -> list[str]:
    """Return the lines of a tree, as virsh draws it."""
    lines: list[str] = []

    def draw(info: SnapshotInfo, indent: str, *, last: bool, root: bool) -> None:
        lines.append(f"{indent}{'' if root else '+- '}{info.name}")
        if not root:
            indent += "  " if last else "| "
        children = [each for each in infos if each.parent == info.name]
        if children:
            lines.append(f"{indent}  |")
        for child in children:
            draw(child, f"{indent}  ", last=child is children[-1], root=False)
        if last and not children:
            lines.append(indent)

    for info in infos:
        if (start is None and info.parent is None) or info.name == start:
            draw(info, "", last=True, root=True)
    return lines


def _table(session: Session, infos: list[SnapshotInfo], *, parents: bool) -> None:
    from datetime import datetime  # noqa: PLC0415 - only here

    columns = ["Name", "Creation Time", "State"]
    rows = []
    for info in infos:
        when = datetime.fromtimestamp(info.creation_time).astimezone()
        row = [info.name, when.strftime("%Y-%m-%d %H:%M:%S %z"), info.state]
        rows.append([*row, info.parent or ""] if parents else row)
    session.table([*columns, "Parent"] if parents else columns, rows)


def _named(command: Any) -> Any:
    command = click.argument("snapshotname", required=False)(command)
    return click.option("--current", is_flag=True, help="the current one")(command)


def _name(session: Session, snapshotname: str | None, *, current: bool) -> str | None:
    """Return which snapshot is meant, None for the current one."""
    if snapshotname is not None and current:
        session.refuse("--snapshotname and --current are mutually exclusive")
    if snapshotname is None and not current:
        session.refuse("--snapshotname or --current is required")
    return snapshotname


@click.command()
@domain_argument
@_named
@click.pass_obj
def snapshot_info(
    session: Session, domain: str, *, snapshotname: str | None, current: bool
) -> None:
    """Show what is known of a snapshot."""
    wanted = _name(session, snapshotname, current=current)

    async def work(host: Host, found: Domain) -> tuple[str, SnapshotInfo]:
        del host
        return found.name, await found.snapshot(wanted)

    name, info = session.on(domain, work)
    import attrs  # noqa: PLC0415 - only to print

    rows = (
        ("Name", info.name),
        ("Domain", name),
        ("Current", "yes" if info.current else "no"),
        ("State", info.state),
        ("Location", "external" if info.external else "internal"),
        ("Parent", info.parent or "-"),
        ("Children", info.children),
        ("Descendants", info.descendants),
        ("Metadata", "yes"),
    )
    text = "\n".join(f"{label + ':':<15} {value}" for label, value in rows)
    session.value({**attrs.asdict(info), "domain": name}, text + "\n")


@click.command()
@domain_argument
@_named
@click.option("--security-info", is_flag=True, help="with passwords")
@click.pass_obj
def snapshot_dumpxml(
    session: Session,
    domain: str,
    *,
    snapshotname: str | None,
    current: bool,
    security_info: bool,
) -> None:
    """Show the document of a snapshot."""
    wanted = _name(session, snapshotname, current=current)

    async def work(host: Host, found: Domain) -> str:
        del host
        return await found.snapshot_xml(wanted, secure=security_info)

    text = session.on(domain, work)
    session.value({"xml": text}, text)


@click.command()
@domain_argument
@_named
@click.pass_obj
def snapshot_parent(
    session: Session, domain: str, *, snapshotname: str | None, current: bool
) -> None:
    """Show after which snapshot another was taken."""
    wanted = _name(session, snapshotname, current=current)

    async def work(host: Host, found: Domain) -> SnapshotInfo:
        del host
        return await found.snapshot(wanted)

    info = session.on(domain, work)
    if info.parent is None:
        session.refuse(f"snapshot '{info.name}' has no parent")
    session.value({"parent": info.parent}, info.parent)


@click.command()
@domain_argument
@click.argument("snapshotname", required=False)
@click.option("--name", is_flag=True, help="show the name alone")
@click.option("--security-info", is_flag=True, help="with passwords")
@click.pass_obj
def snapshot_current(
    session: Session, domain: str, *, snapshotname: str | None, name: bool, security_info: bool
) -> None:
    """Show the current snapshot, or say which it is."""
    if name and snapshotname is not None:
        session.refuse("Options --name and --snapshotname are mutually exclusive")

    async def work(host: Host, found: Domain) -> str:
        del host
        if snapshotname is not None:
            document = await found.snapshot_xml(snapshotname, secure=True)
            await found.create_snapshot(document, redefine=True, current=True)
            return snapshotname
        try:
            if name:
                return (await found.snapshot()).name
            return await found.snapshot_xml(secure=security_info)
        except HvError as error:
            if error.kind is not ErrorClass.NO_DOMAIN_SNAPSHOT:
                raise
            session.refuse(f"domain '{domain}' has no current snapshot")

    text = session.on(domain, work)
    if snapshotname is not None:
        session.done(f"Snapshot {snapshotname} set as current")
    else:
        session.value({"name" if name else "xml": text}, text)


# -- going back -----------------------------------------------------------------------------------


@click.command()
@domain_argument
@_named
@click.option("--running", is_flag=True, help="let the domain run afterwards")
@click.option("--paused", is_flag=True, help="leave its CPUs stopped afterwards")
@click.option("--force", is_flag=True, help="also where something could be lost")
@click.pass_obj
def snapshot_revert(session: Session, /, domain: str, **options: Any) -> None:
    """Let a domain be what it was when a snapshot was taken."""
    wanted = _name(session, options["snapshotname"], current=options["current"])

    async def work(host: Host, found: Domain) -> str:
        del host
        name = wanted or (await found.snapshot()).name
        flags = {flag: options[flag] for flag in ("running", "paused", "force")}
        await found.revert_to_snapshot(name, **flags)
        return name

    failing = f"Failed to revert snapshot {wanted}" if wanted else ""
    name = session.on(domain, work, failing=failing)
    session.done(f"Domain snapshot {name} reverted")


@click.command()
@domain_argument
@_named
@click.option("--children", is_flag=True, help="and all that were taken after it")
@click.option("--children-only", is_flag=True, help="only those that were taken after it")
@click.option("--metadata", is_flag=True, help="only what is remembered")
@click.pass_obj
def snapshot_delete(session: Session, /, domain: str, **options: Any) -> None:
    """Forget a snapshot."""
    wanted = _name(session, options["snapshotname"], current=options["current"])

    async def work(host: Host, found: Domain) -> str:
        del host
        name = wanted or (await found.snapshot()).name
        flags = {flag: options[flag] for flag in ("children", "children_only", "metadata")}
        await found.delete_snapshot(name, **flags)
        return name

    failing = f"Failed to delete snapshot {wanted}" if wanted else ""
    name = session.on(domain, work, failing=failing)
    what = " children" if options["children_only"] else ""
    session.done(f"Domain snapshot {name}{what} deleted")
