"""Verbs that change what a domain is doing."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Literal

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
@click.option("--mode", help="acpi: press the power button; agent: ask the agent in the guest")
@click.option("--wait", is_flag=True, help="wait until the guest is off")
@click.option("--timeout", type=Timeout(), help="seconds to wait at most")
@click.pass_obj
def shutdown(
    session: Session, domain: str, *, mode: str | None, wait: bool, timeout: float | None
) -> None:
    """Ask the guest to shut down, by its agent or the ACPI power button."""
    chosen = _mode(session, mode)

    async def work(host: Host, found: Domain) -> None:
        del host
        await found.shutdown(mode=chosen)
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


@click.command()
@domain_argument
@click.option("--mode", help="acpi: press the power button; agent: ask the agent in the guest")
@click.pass_obj
def reboot(session: Session, domain: str, *, mode: str | None) -> None:
    """Ask the guest to reboot, by its agent or the ACPI power button."""
    chosen = _mode(session, mode)

    async def work(host: Host, found: Domain) -> None:
        del host
        await found.reboot(mode=chosen)

    session.on(domain, work, failing=f"Failed to reboot domain '{domain}'")
    session.done(f"Domain '{domain}' is being rebooted")


def _mode(session: Session, given: str | None) -> Literal["acpi", "agent"] | None:
    """Return by what a guest is asked; None for the one or the other."""
    words = set() if given is None else set(given.split(","))
    for word in words - {"acpi", "agent"}:
        if word in ("initctl", "signal", "paravirt"):
            session.refuse(f"mode '{word}' is not supported, only 'acpi' and 'agent'")
        session.refuse(
            f"Unknown mode {word} value, expecting 'acpi', 'agent', 'initctl', 'signal', or "
            "'paravirt'"
        )
    if words == {"acpi"}:
        return "acpi"
    return "agent" if words == {"agent"} else None


reset = _simple("reset", "reset", "was reset", "Reset the machine, as by its button.")
suspend = _simple("suspend", "suspend", "suspended", "Pause the CPUs of a domain.")
resume = _simple("resume", "resume", "resumed", "Continue a paused domain.")
