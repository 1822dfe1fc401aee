"""Verbs that change what a domain is doing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hvcore.cli.session import domain_argument
from hvcore.cli.words import Timeout

if TYPE_CHECKING:
    from hvcore.cli.session import Session
    from hvcore.domain import Domain
    from hvcore.host import Host


@click.command()
@domain_argument
@click.option("--paused", is_flag=True, help="leave the CPUs stopped")
@click.option("--console", is_flag=True, help="connect to the console after the start")
@click.option("--force-boot", is_flag=True, help="boot, and lose the saved state")
@click.pass_obj
def start(session: Session, domain: str, *, paused: bool, console: bool, force_boot: bool) -> None:
    """Start a defined domain, with its saved state if it has one."""

    async def work(host: Host, found: Domain) -> str:
        del host
        if found.is_active:
            session.refuse("Domain is already active")
        await found.start(paused=paused, force_boot=force_boot)
        if console:
            from hvcore.cli.console import attach  # noqa: PLC0415 - only on request

            await attach(session, found, None)
        return found.name

    name = session.on(domain, work, failing=f"Failed to start domain '{domain}'")
    session.done(f"Domain '{name}' started")


@click.command()
@domain_argument
@click.option("--wait", is_flag=True, help="wait until the guest is off")
@click.option("--timeout", type=Timeout(), help="seconds to wait at most")
@click.pass_obj
def shutdown(session: Session, domain: str, *, wait: bool, timeout: float | None) -> None:
    """Ask the guest to shut down (ACPI power button)."""

    async def work(host: Host, found: Domain) -> None:
        del host
        await found.shutdown()
        if wait or timeout is not None:
            from hvcore.lifecycle import State  # noqa: PLC0415 - only on request

            await found.wait_for(State.SHUTOFF, within=timeout)

    session.on(domain, work, failing=f"Failed to shutdown domain '{domain}'")
    session.done(f"Domain '{domain}' is being shutdown")


@click.command()
@domain_argument
@click.option("--graceful", is_flag=True, help="give up rather than kill a hypervisor that hangs")
@click.pass_obj
def destroy(session: Session, domain: str, *, graceful: bool) -> None:
    """Stop a domain at once, as by pulling the plug."""

    async def work(host: Host, found: Domain) -> None:
        del host
        await found.destroy(graceful=graceful)

    session.on(domain, work, failing=f"Failed to destroy domain '{domain}'")
    session.done(f"Domain '{domain}' destroyed")


def _simple(verb: str, failing: str, done: str, text: str) -> click.Command:
    """Return a command that calls the method ``verb`` of a domain."""

    @click.command(verb, help=text)
    @domain_argument
    @click.pass_obj
    def command(session: Session, domain: str) -> None:
        async def work(host: Host, found: Domain) -> None:
            del host
            await getattr(found, verb)()

        session.on(domain, work, failing=f"Failed to {failing} domain '{domain}'")
        session.done(f"Domain '{domain}' {done}")

    return command


reboot = _simple("reboot", "reboot", "is being rebooted", "Ask the guest to reboot.")
reset = _simple("reset", "reset", "was reset", "Reset the machine, as by its button.")
suspend = _simple("suspend", "suspend", "suspended", "Pause the CPUs of a domain.")
resume = _simple("resume", "resume", "resumed", "Continue a paused domain.")
