"""Power management in QEMU: sleep states, ``-no-shutdown``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.rules.base import Rules
from hvcore.rules.os import os_of
from hvcore_qemu.machines import X86
from hvcore_qemu.machines import machine_of
from hvcore_qemu.sections.machine import features_of
from hvcore_qemu.sections.machine import supports_acpi

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore_qemu.command import Command

rules = Rules()


@rules.check_domain
def _check_sleep(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Only the power management controllers of PCs let sleep states be turned off."""
    del ctx
    pm = domain.pm
    if pm is None or (pm.suspend_to_mem is None and pm.suspend_to_disk is None):
        return
    if os_of(domain).arch not in X86:
        yield Issue.unsupported("setting ACPI S3/S4 not supported")


def reboot_allowed(domain: Domain) -> bool:
    """Return whether a guest that reboots goes on, rather than end as if it powered off."""
    return not (
        domain.on_reboot == "destroy"
        and domain.on_poweroff == "destroy"
        and domain.on_crash in ("destroy", "coredump-destroy")
    )


def power(cmd: Command) -> None:
    """Add what happens at shutdown and reboot, ACPI, and the sleep states."""
    domain = cmd.domain
    os = os_of(domain)
    if "set-action" in cmd.caps or reboot_allowed(domain):
        # The other actions are set by the monitor before the guest runs.
        cmd.option("-no-shutdown")
    else:
        cmd.option("-no-reboot")
    old_syntax = supports_acpi(domain, cmd.caps) is None and os.arch in (*X86, "aarch64")
    if old_syntax and not features_of(domain).acpi:
        cmd.option("-no-acpi")
    if domain.pm is None:
        return
    controller = "ICH9-LPC" if machine_of(domain).q35 else "PIIX4_PM"
    for state, enabled in (("s3", domain.pm.suspend_to_mem), ("s4", domain.pm.suspend_to_disk)):
        if enabled is not None:
            cmd.option("-global", f"{controller}.disable_{state}={int(not enabled)}")
