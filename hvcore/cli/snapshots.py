"""Verbs for snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import click

from hvcore.cli.session import domain_argument
from hvcore.cli.session import read_document
from hvcore.cli.words import Positional
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
        ("--live", "let the guest run while its memory is written"),
        ("--validate", "refuse elements and attributes nothing knows"),
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
        "live": options["live"],
        "strict": options["validate"],
    }


@click.command()
@domain_argument
@click.argument("xmlfile", required=False, type=click.Path())
@click.option("--redefine", is_flag=True, help="remember what was taken by others")
@click.option("--current", is_flag=True, help="with --redefine, it is the current one")
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
@click.option("--name", cls=Positional, metavar="NAME", help="of the snapshot")
@click.option("--description", cls=Positional, metavar="TEXT", help="what it is for")
@click.option("--print-xml", is_flag=True, help="show the document, and do nothing")
@click.option("--memspec", metavar="[file=]NAME[,snapshot=TYPE]", help="where its memory goes")
@click.option(
    "--diskspec",
    cls=Positional,
    multiple=True,
    metavar="DISK[,snapshot=TYPE][,driver=TYPE][,stype=TYPE][,file=NAME]",
    help="what is done with a disk",
)
@_taking
@click.pass_obj
def snapshot_create_as(session: Session, /, domain: str, **options: Any) -> None:
    """Take a snapshot as options say."""

    async def work(host: Host, found: Domain) -> str | None:
        del host
        for name in ("name", "description", "memspec"):
            if options[name] == "":
                session.refuse(f"Failed to get option '{name}': Option argument is empty")
        document = _document(session, options)
        if options["print_xml"]:
            click.echo(document)
            return None
        return (await found.create_snapshot(document, **_flags(options))).name

    made = session.on(domain, work)
    if made is not None:
        session.done(f"Domain snapshot {made} created", name=made)


def _document(session: Session, options: dict[str, Any]) -> str:
    """Return the document that virsh would make of its options."""
    from hvcore.xml.codecs import escape  # noqa: PLC0415 - only here

    lines = ["<domainsnapshot>"]
    lines += [
        f"  <{name}>{escape(options[name])}</{name}>"
        for name in ("name", "description")
        if options[name] is not None
    ]
    memory = options["memspec"]
    if memory is not None:
        fields = _fields(session, _parts(memory), ("snapshot", "file"), "memspec", memory)
        lines.append(f"  <memory{_attributes(fields)}/>")
    if options["diskspec"]:
        lines.append("  <disks>")
        for spec in options["diskspec"]:
            lines += _disk(session, spec)
        lines.append("  </disks>")
    return "\n".join([*lines, "</domainsnapshot>\n"])


def _parts(spec: str) -> list[str]:
    """Return the parts of a list; two commas in a row are one of a value."""
    return [part.replace("\0", ",") for part in spec.replace(",,", "\0").split(",")]


def _fields(
    session: Session, parts: list[str], known: tuple[str, ...], what: str, spec: str
) -> dict[str, str | None]:
    """Return what parts say of ``known``, in that order; an absolute path needs no name."""
    found: dict[str, str | None] = dict.fromkeys(known)
    for part in parts:
        key, is_field, value = part.partition("=")
        if is_field and key in found and found[key] is None:
            found[key] = value
        elif what == "memspec" and part.startswith("/") and found["file"] is None:
            found["file"] = part
        else:
            session.refuse(f"unable to parse {what}: {spec}")
    return found


def _disk(session: Session, spec: str) -> list[str]:
    name, *parts = _parts(spec)
    fields = _fields(session, parts, ("snapshot", "driver", "stype", "file"), "diskspec", spec)
    kind = fields["stype"]
    if kind not in (None, "file", "block"):
        session.refuse(f"Unknown storage type: '{kind}'\nerror: unable to parse diskspec: {spec}")
    head = {"name": name, "snapshot": fields["snapshot"], "type": kind}
    inner = []
    if fields["driver"] is not None:
        inner.append(f"      <driver{_attributes({'type': fields['driver']})}/>")
    if fields["file"] is not None:
        where = "dev" if kind == "block" else "file"
        inner.append(f"      <source{_attributes({where: fields['file']})}/>")
    if not inner:
        return [f"    <disk{_attributes(head)}/>"]
    return [f"    <disk{_attributes(head)}>", *inner, "    </disk>"]


def _attributes(values: dict[str, str | None]) -> str:
    from hvcore.xml.codecs import escape  # noqa: PLC0415 - only here

    return "".join(
        f" {name}='{escape(value)}'" for name, value in values.items() if value is not None
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
    ("metadata", "only those that are remembered, as all are"),
    ("no-metadata", "only those that are not remembered"),
    ("internal", "only those inside the images"),
    ("external", "only those outside of them"),
    ("tree", "show who is whose child"),
    ("descendants", "with --from, also children of children"),
    ("name", "show names alone"),
    ("topological", "parents before their children"),
)


_NOT_IN_TREES: Final = (
    "leaves",
    "no-leaves",
    "inactive",
    "active",
    "disk-only",
    "internal",
    "external",
)


_FILTERS: Final[tuple[dict[str, Callable[[SnapshotInfo], bool]], ...]] = (
    {
        "inactive": lambda info: info.state == "shutoff",
        "active": lambda info: info.state not in ("shutoff", "disk-snapshot"),
        "disk_only": lambda info: info.state == "disk-snapshot",
    },
    {"internal": lambda info: not info.external, "external": lambda info: info.external},
    {"roots": lambda info: info.parent is None},
    {"metadata": lambda _: True, "no_metadata": lambda _: False},
    {
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
@click.option("--from", "from_", cls=Positional, metavar="NAME", help="only children of this one")
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
    for name in _NOT_IN_TREES:
        if options["tree"] and options[name.replace("-", "_")]:
            session.refuse(f"--{name} and --tree are mutually exclusive")
    if options["descendants"] and not (options["from_"] or options["current"]):
        session.refuse("--descendants requires either --from or --current")

    async def work(host: Host, found: Domain) -> tuple[list[SnapshotInfo], str | None]:
        del host
        start = options["from_"]
        if start is not None and options["current"]:
            session.refuse("--from and --current are mutually exclusive")
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
        click.echo("\n".join(_tree([info for info in infos if info.name == start] + shown, start)))
    elif options["name"]:
        for info in shown:
            parent = f"\t{info.parent}" if options["parent"] and info.parent else ""
            click.echo(f"{info.name}{parent}")
    else:
        _table(session, shown, parents=options["parent"])


def _chosen(
    infos: list[SnapshotInfo], start: str | None, options: dict[str, Any]
) -> list[SnapshotInfo]:
    """Return what the options leave of a list."""
    infos = sorted(infos, key=lambda info: info.name.lower())
    if options["topological"]:
        infos = [info for root in infos if root.parent is None for info in _below(infos, root)]
    if start is not None:
        family = {info.name for info in infos if info.parent == start}
        while options["descendants"]:
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


async def _meant(
    session: Session, found: Domain, snapshotname: str | None, *, current: bool
) -> SnapshotInfo:
    """Return which snapshot is meant."""
    if snapshotname is not None and current:
        session.refuse("--snapshotname and --current are mutually exclusive")
    if snapshotname is None and not current:
        session.refuse("--snapshotname or --current is required")
    return await found.snapshot(snapshotname)


@click.command()
@domain_argument
@_named
@click.pass_obj
def snapshot_info(
    session: Session, domain: str, *, snapshotname: str | None, current: bool
) -> None:
    """Show what is known of a snapshot."""

    async def work(host: Host, found: Domain) -> tuple[str, SnapshotInfo]:
        del host
        return found.name, await _meant(session, found, snapshotname, current=current)

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
@click.argument("snapshotname")
@click.option("--security-info", is_flag=True, help="with passwords")
@click.pass_obj
def snapshot_dumpxml(
    session: Session, domain: str, snapshotname: str, *, security_info: bool
) -> None:
    """Show the document of a snapshot."""

    async def work(host: Host, found: Domain) -> str:
        del host
        return await found.snapshot_xml(snapshotname, secure=security_info)

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

    async def work(host: Host, found: Domain) -> SnapshotInfo:
        del host
        return await _meant(session, found, snapshotname, current=current)

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
        current = next((info.name for info in await found.snapshots() if info.current), None)
        if current is None:
            session.refuse(f"domain '{found.name}' has no current snapshot")
        return current if name else await found.snapshot_xml(current, secure=security_info)

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

    async def work(host: Host, found: Domain) -> str:
        del host
        meant = await _meant(session, found, options["snapshotname"], current=options["current"])
        flags = {flag: options[flag] for flag in ("running", "paused", "force")}
        try:
            await found.revert_to_snapshot(meant.name, **flags)
        except HvError as error:
            session.fail(error, failing=f"Failed to revert snapshot {meant.name}")
        return meant.name

    session.done(f"Domain snapshot {session.on(domain, work)} reverted")


@click.command()
@domain_argument
@_named
@click.option("--children", is_flag=True, help="and all that were taken after it")
@click.option("--children-only", is_flag=True, help="only those that were taken after it")
@click.option("--metadata", is_flag=True, help="only what is remembered")
@click.pass_obj
def snapshot_delete(session: Session, /, domain: str, **options: Any) -> None:
    """Forget a snapshot."""

    async def work(host: Host, found: Domain) -> str:
        del host
        meant = await _meant(session, found, options["snapshotname"], current=options["current"])
        flags = {flag: options[flag] for flag in ("children", "children_only", "metadata")}
        try:
            await found.delete_snapshot(meant.name, **flags)
        except HvError as error:
            session.fail(error, failing=f"Failed to delete snapshot {meant.name}")
        return meant.name

    name = session.on(domain, work)
    what = " children" if options["children_only"] else ""
    session.done(f"Domain snapshot {name}{what} deleted")
