"""The <base> section in QEMU: defaults, validation and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from hvcore_qemu.command import Command

rules = Rules()


def environment(cmd: Command) -> None:
    """To be written."""


def name(cmd: Command) -> None:
    """To be written."""


def compat(cmd: Command) -> None:
    """To be written."""


def stopped(cmd: Command) -> None:
    """To be written."""


def master_key(cmd: Command) -> None:
    """To be written."""


def uuid(cmd: Command) -> None:
    """To be written."""


def genid(cmd: Command) -> None:
    """To be written."""


def no_defaults(cmd: Command) -> None:
    """To be written."""


def monitor(cmd: Command) -> None:
    """To be written."""


def incoming(cmd: Command) -> None:
    """To be written."""


def passthrough(cmd: Command) -> None:
    """To be written."""


def sandbox(cmd: Command) -> None:
    """To be written."""


def messages(cmd: Command) -> None:
    """To be written."""
