"""Verbs that make definitions and take them away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hvcore.cli.session import domain_argument
from hvcore.cli.session import read_document

if TYPE_CHECKING:
    from hvcore.cli.session import Session
    from hvcore.domain import Domain
    from hvcore.host import Host


@click.command()
@click.argument("file", type=click.Path())
@click.option("--validate", is_flag=True, help="refuse elements and attributes nothing knows")
@click.pass_obj
def define(session: Session, file: str, *, validate: bool) -> None:
    """Make a domain persistent, or change the definition of its next start."""
    document = read_document(file, session)

    async def work(host: Host) -> Domain:
        return await host.define(document, strict=validate)

    domain = session.run(work, failing=f"Failed to define domain from {file}", source=document)
    session.done(f"Domain '{domain.name}' defined from {file}", uuid=domain.uuid)


@click.command()
@click.argument("file", type=click.Path())
@click.option("--validate", is_flag=True, help="refuse elements and attributes nothing knows")
@click.option("--paused", is_flag=True, help="leave the CPUs stopped")
@click.option("--console", is_flag=True, help="connect to the console after the start")
@click.pass_obj
def create(session: Session, file: str, *, validate: bool, paused: bool, console: bool) -> None:
    """Start a domain straight from a document; it vanishes when it stops."""
    document = read_document(file, session)

    async def work(host: Host) -> str:
        domain = await host.create(document, paused=paused, strict=validate)
        if console:
            from hvcore.cli.console import attach  # noqa: PLC0415 - only on request

            await attach(session, domain, None)
        return domain.name

    name = session.run(work, failing=f"Failed to create domain from {file}", source=document)
    session.done(f"Domain '{name}' created from {file}")


@click.command()
@domain_argument
@click.option("--managed-save", is_flag=True, help="remove its saved state, too")
@click.option("--snapshots-metadata", is_flag=True, help="forget its snapshots, too")
@click.pass_obj
def undefine(
    session: Session, domain: str, *, managed_save: bool, snapshots_metadata: bool
) -> None:
    """Remove the definition of a domain; a running one goes on as a transient one."""

    async def work(host: Host, found: Domain) -> None:
        del host
        await found.undefine(managed_save=managed_save, snapshots_metadata=snapshots_metadata)

    session.on(domain, work, failing=f"Failed to undefine domain '{domain}'")
    session.done(f"Domain '{domain}' has been undefined")


@click.command()
@domain_argument
@click.option("--disable", is_flag=True, help="do not start it any more")
@click.option("--once", is_flag=True, help="only when the host starts next")
@click.pass_obj
def autostart(session: Session, domain: str, *, disable: bool, once: bool) -> None:
    """Start a domain when the host does."""

    async def work(host: Host, found: Domain) -> None:
        del host
        await found.set_autostart(autostart=not disable, once=once)

    prefix = "un" if disable else ""
    when = " on next boot" if once else ""
    failing = f"Failed to {prefix}mark domain '{domain}' as autostarted{when}"
    session.on(domain, work, failing=failing)
    session.done(f"Domain '{domain}' {prefix}marked as autostarted{when}")
