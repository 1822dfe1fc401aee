"""The <machine> section in QEMU: defaults, validation and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from hvcore_qemu.command import Command

rules = Rules()


def machine(cmd: Command) -> None:
    """To be written."""


def accel(cmd: Command) -> None:
    """To be written."""


def tseg(cmd: Command) -> None:
    """To be written."""


def vmcoreinfo(cmd: Command) -> None:
    """To be written."""


def async_teardown(cmd: Command) -> None:
    """To be written."""
