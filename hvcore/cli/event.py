"""The event verb: what happens, as it happens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from typing import Any

import attrs
import click

from hvcore.cli.words import Timeout

if TYPE_CHECKING:
    from hvcore.cli.session import Session
    from hvcore.events import Event
    from hvcore.host import Host


@click.command()
@click.option("--domain", help="only of this domain")
@click.option("--event", "kind", help="only of this kind, see --list")
@click.option("--all", "all_", is_flag=True, help="of every kind")
@click.option("--loop", is_flag=True, help="until interrupted, rather than one event")
@click.option("--timeout", type=Timeout(), help="seconds to wait at most")
@click.option("--timestamp", is_flag=True, help="print when each event happened")
@click.option("--list", "list_kinds", is_flag=True, help="list the kinds")
@click.pass_obj
def event(session: Session, /, **options: Any) -> None:
    """Show what happens."""
    from hvcore import events  # noqa: PLC0415 - only here

    kinds = _kinds(events)
    if options["list_kinds"]:
        session.value(sorted(kinds), "\n".join(sorted(kinds)))
        return
    if options["kind"] is None and not options["all_"]:
        raise click.UsageError("one of --list, --all or --event KIND is needed")
    if options["kind"] is not None and options["kind"] not in kinds:
        raise click.UsageError(f"unknown event kind '{options['kind']}'")
    wanted = () if options["all_"] else kinds[options["kind"]]
    count = session.run(lambda host: _watch(host, session, wanted, options))
    if not session.as_json and not session.quiet:
        click.echo(f"events received: {count}")
    if count == 0 and options["timeout"] is not None:
        raise SystemExit(1)


def _kinds(module: Any) -> dict[str, tuple[type[Event], ...]]:
    found: dict[str, tuple[type[Event], ...]] = {}
    for cls in vars(module).values():
        if isinstance(cls, type) and issubclass(cls, module.Event) and cls is not module.Event:
            kind: type[Event] = cls
            found[kind.kind] = (*found.get(kind.kind, ()), kind)
    return found


async def _watch(
    host: Host, session: Session, kinds: tuple[type[Event], ...], options: dict[str, Any]
) -> int:
    import asyncio  # noqa: PLC0415 - only while watching

    from hvcore.events import Overflow  # noqa: PLC0415
    from hvcore.events import StreamClosed  # noqa: PLC0415

    domain = None if options["domain"] is None else await host.lookup(options["domain"])
    count = 0
    try:
        async with asyncio.timeout(options["timeout"]):
            async for item in host.events(kinds, domain=domain):
                if isinstance(item, StreamClosed):
                    break
                if isinstance(item, Overflow):
                    click.echo(f"{item.dropped} events were lost", err=True)
                    continue
                count += 1
                _print(session, item, stamp=options["timestamp"])
                if not options["loop"]:
                    break
    except TimeoutError:
        click.echo("event loop timed out", err=True)
    return count


def _print(session: Session, item: Event, *, stamp: bool) -> None:
    details = {
        field.name: getattr(item, field.name)
        for field in attrs.fields(type(item))
        if field.name not in ("domain", "seq", "time")
    }
    data = {
        "seq": item.seq,
        "time": item.time,
        "event": item.kind,
        "type": type(item).__name__,
        "domain": item.domain.name,
        "uuid": item.domain.uuid,
        **{name: str(value) for name, value in details.items()},
    }
    when = time.strftime("%Y-%m-%d %H:%M:%S: ", time.localtime(item.time)) if stamp else ""
    what = " ".join([type(item).__name__, *(str(value) for value in details.values())])
    text = f"{when}event '{item.kind}' for domain '{item.domain.name}': {what}"
    if session.as_json:
        import json  # noqa: PLC0415 - one object a line, for pipes

        text = json.dumps(data)
    click.echo(text)
