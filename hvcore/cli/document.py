"""Verbs about documents: show, check, lower, edit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hvcore.cli.session import domain_argument
from hvcore.cli.session import read_document
from hvcore.errors import HvError

if TYPE_CHECKING:
    from hvcore.cli.session import Session
    from hvcore.domain import Domain
    from hvcore.host import Host


@click.command()
@domain_argument
@click.option("--inactive", is_flag=True, help="show the definition of the next start")
@click.option("--security-info", is_flag=True, help="show passwords")
@click.option("--migratable", is_flag=True, help="fit for a migration target")
@click.pass_obj
def dumpxml(
    session: Session, domain: str, *, inactive: bool, security_info: bool, migratable: bool
) -> None:
    """Show the document of a domain."""

    async def work(host: Host, found: Domain) -> str:
        del host
        return await found.xml(inactive=inactive, secure=security_info, migratable=migratable)

    text = session.on(domain, work)
    session.value({"xml": text}, text)


@click.command("domxml-to-native")
@click.argument("format_", metavar="[FORMAT]", required=False, default="")
@click.argument("file", required=False, type=click.Path())
@click.option("--domain", help="a domain instead of a file")
@click.pass_obj
def domxml_to_native(
    session: Session, format_: str, file: str | None, *, domain: str | None
) -> None:
    """Show what would be started for FILE or a domain.

    FORMAT may be given as for virsh (``qemu-argv``); each driver has one format of its own.
    """
    if file is None and domain is None:
        # A single argument is the file, as in `hv domxml-to-native guest.xml`.
        format_, file = "", format_
    if not file and domain is None:
        raise click.UsageError("a file or --domain is needed")
    document = b"" if domain is not None else read_document(file or "-", session)

    async def work(host: Host) -> str:
        if domain is None:
            return await host.lower(document)
        found = await host.lookup(domain)
        return await host.lower(await found.xml(inactive=True, secure=True))

    text = session.run(work, source=document)
    session.value({"native": text, "format": format_ or None}, text.rstrip("\n"))


@click.command()
@click.argument("file", type=click.Path())
@click.option("--lenient", is_flag=True, help="let unknown elements and attributes pass")
@click.pass_obj
def validate(session: Session, file: str, *, lenient: bool) -> None:
    """Check a document and show every issue with its line; nothing is defined."""
    document = read_document(file, session)

    async def work(host: Host) -> str:
        return (await host.check(document, strict=not lenient)).name

    name = session.run(work, failing=f"{file} is not valid", source=document)
    session.done(f"{file} validates as domain '{name}'")


@click.command("abi-check")
@click.argument("source", type=click.Path())
@click.argument("target", type=click.Path())
@click.option("--volatile", is_flag=True, help="compare also what changes while a guest runs")
@click.pass_obj
def abi_check(session: Session, source: str, target: str, *, volatile: bool) -> None:
    """Show what the guest of SOURCE would find changed under the document TARGET.

    SOURCE is a document or, where there is no such file, a domain.
    """
    from pathlib import Path  # noqa: PLC0415 - only here

    is_file = source == "-" or Path(source).exists()
    guest = read_document(source, session) if is_file else b""
    document = read_document(target, session)

    async def work(host: Host) -> None:
        if is_file:
            await host.check_abi(guest, document, volatile=volatile)
        else:
            await (await host.lookup(source)).check_abi(document, volatile=volatile)

    failing = f"{target} does not keep the ABI of {source}"
    session.run(work, failing=failing, source=document)
    session.done(f"{target} keeps the ABI of {source}")


@click.command()
@domain_argument
@click.pass_obj
def edit(session: Session, domain: str) -> None:
    """Change the document of a domain in $VISUAL or $EDITOR.

    A document that is refused is offered for editing again with the issues shown; nothing that
    was typed is lost.
    """

    async def read(host: Host, found: Domain) -> tuple[str, str]:
        del host
        return found.name, await found.xml(inactive=True, secure=True)

    name, text = session.on(domain, read)
    original = text
    while True:
        edited = click.edit(text, extension=".xml", require_save=True)
        if edited is None or edited == original:
            session.done(f"Domain '{name}' XML not changed")
            return
        try:
            defined = _define(session, edited)
        except HvError as error:
            text = edited
            _show(session, error, edited)
            if not click.confirm("Failed. Edit again?", default=True, err=True):
                kept = _keep(name, edited)
                click.echo(f"The edited document is kept in {kept}", err=True)
                raise SystemExit(1) from None
        else:
            session.done(f"Domain '{defined}' XML configuration edited")
            return


def _define(session: Session, text: str) -> str:
    import asyncio  # noqa: PLC0415 - only here

    from hvcore.host import connect  # noqa: PLC0415

    async def work() -> str:
        async with await connect(session.uri) as host:
            return (await host.define(text)).name

    return asyncio.run(work())


def _show(session: Session, error: HvError, text: str) -> None:
    try:
        session.fail(error, source=text.encode())
    except SystemExit:
        return  # shown; the user is asked what to do next


def _keep(name: str, text: str) -> str:
    import os  # noqa: PLC0415 - only on failure
    import tempfile  # noqa: PLC0415

    safe = "".join(c if c.isalnum() else "-" for c in name)[:40]
    handle, path = tempfile.mkstemp(prefix=f"hv-{safe}-", suffix=".xml")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
    return path
