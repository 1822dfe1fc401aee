"""Verbs that show domains."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

import click

from hvcore.cli.session import domain_argument

if TYPE_CHECKING:
    from hvcore.cli.session import Session
    from hvcore.domain import Domain
    from hvcore.host import Host

_STATES = ("running", "paused", "shutoff", "other")


def _state_options(command: Any) -> Any:
    for state in _STATES:
        command = click.option(
            f"--state-{state}", is_flag=True, help=f"list domains that are {state}"
        )(command)
    return command


def _kind(state: str) -> str:
    return {"running": "running", "paused": "paused", "shut off": "shutoff"}.get(state, "other")


@click.command("list")
@click.option("--all", "all_", is_flag=True, help="list inactive and active domains")
@click.option("--inactive", is_flag=True, help="list inactive domains")
@click.option("--persistent", is_flag=True, help="list persistent domains")
@click.option("--transient", is_flag=True, help="list transient domains")
@click.option("--autostart", is_flag=True, help="list domains with autostart enabled")
@click.option("--no-autostart", is_flag=True, help="list domains with autostart disabled")
@click.option("--name", is_flag=True, help="list names only")
@click.option("--uuid", is_flag=True, help="list UUIDs only")
@click.option("--id", "ids", is_flag=True, help="list numbers only")
@click.option("--title", is_flag=True, help="show the title of each domain")
@_state_options
@click.pass_obj
def list_(session: Session, /, **options: Any) -> None:
    """List domains; only running ones unless asked otherwise."""
    wanted = {state for state in _STATES if options[f"state_{state}"]}
    active = None if options["all_"] or wanted else not options["inactive"]

    async def work(host: Host) -> list[dict[str, Any]]:
        rows = []
        for domain in await host.domains(active=active):
            if not _selected(domain, options):
                continue
            state, _ = await domain.state()
            if wanted and _kind(str(state)) not in wanted:
                continue
            row = {"id": domain.id, "name": domain.name, "uuid": domain.uuid, "state": str(state)}
            if options["title"]:
                row["title"] = await _title(domain)
            rows.append(row)
        # As virsh does: running ones by number, then the others by name.
        return sorted(rows, key=lambda r: (r["id"] is None, r["id"] or 0, r["name"]))

    rows = session.run(work)
    only = [key for key in ("uuid", "id", "name") if options["ids" if key == "id" else key]]
    if session.as_json:
        session.value(rows, "")
    elif only:
        for row in rows:
            click.echo(" ".join("-" if row[key] is None else str(row[key]) for key in only))
    else:
        columns = ["Id", "Name", "State"] + (["Title"] if options["title"] else [])
        keys = ["id", "name", "state"] + (["title"] if options["title"] else [])
        cells = [["-" if row[k] is None else str(row[k]) for k in keys] for row in rows]
        session.table(columns, cells)


def _selected(domain: Domain, options: dict[str, Any]) -> bool:
    pairs = (
        ("persistent", "transient", domain.is_persistent),
        ("autostart", "no_autostart", domain.autostart),
    )
    for yes, no, value in pairs:
        if (options[yes] or options[no]) and not (options[yes] if value else options[no]):
            return False
    return True


async def _title(domain: Domain) -> str:
    from hvcore.xml.reader import read  # noqa: PLC0415 - only on request

    return read(await domain.xml(), "domain").findtext("title") or ""


@click.command()
@domain_argument
@click.pass_obj
def dominfo(session: Session, domain: str) -> None:
    """Show what a domain has and uses."""

    async def work(host: Host, found: Domain) -> dict[str, Any]:
        del host
        from hvcore.xml.reader import read  # noqa: PLC0415 - only here

        info = await found.info()
        os_type = read(await found.xml(), "domain").findtext("os/type")
        return {
            "id": found.id,
            "name": found.name,
            "uuid": found.uuid,
            "os_type": os_type,
            "state": str(info.state),
            "vcpus": info.vcpus,
            "cpu_time": info.cpu_time,
            "max_memory": info.max_memory,
            "memory": info.memory,
            "persistent": found.is_persistent,
            "autostart": found.autostart,
            "managed_save": found.has_managed_save,
        }

    data = session.on(domain, work)
    rows: list[tuple[str, Any]] = [
        ("Id", "-" if data["id"] is None else data["id"]),
        ("Name", data["name"]),
        ("UUID", data["uuid"]),
        ("OS Type", data["os_type"]),
        ("State", data["state"]),
        ("CPU(s)", data["vcpus"]),
    ]
    if data["id"] is not None:
        rows.append(("CPU time", f"{data['cpu_time'] / 1e9:.1f}s"))
    rows += [
        ("Max memory", f"{data['max_memory']} KiB"),
        ("Used memory", f"{data['memory']} KiB"),
        ("Persistent", "yes" if data["persistent"] else "no"),
        ("Autostart", "enable" if data["autostart"] else "disable"),
        ("Managed save", "yes" if data["managed_save"] else "no"),
    ]
    session.facts(rows, data)


@click.command()
@domain_argument
@click.option("--reason", is_flag=True, help="also show why")
@click.pass_obj
def domstate(session: Session, domain: str, *, reason: bool) -> None:
    """Show what a domain is doing."""

    async def work(host: Host, found: Domain) -> tuple[str, str]:
        del host
        state, why = await found.state()
        return str(state), str(why)

    state, why = session.on(domain, work)
    session.value({"state": state, "reason": why}, f"{state} ({why})" if reason else state)


def _identity(verb: str, attribute: str, text: str) -> click.Command:
    """Return a command that prints one identifier of a domain."""

    @click.command(verb, help=text)
    @domain_argument
    @click.pass_obj
    def command(session: Session, domain: str) -> None:
        async def work(host: Host, found: Domain) -> Any:
            del host
            return getattr(found, attribute)

        value = session.on(domain, work)
        session.value({attribute: value}, "-" if value is None else str(value))

    return command


domid = _identity("domid", "id", "Show the number of a running domain.")
domname = _identity("domname", "name", "Show the name of a domain.")
domuuid = _identity("domuuid", "uuid", "Show the UUID of a domain.")
