"""<serial>, <parallel>, <console>, <channel> in QEMU: defaults, validation and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from hvcore_qemu.command import Command

rules = Rules()


def serials(cmd: Command) -> None:
    """To be written."""


def parallels(cmd: Command) -> None:
    """To be written."""


def channels(cmd: Command) -> None:
    """To be written."""


def consoles(cmd: Command) -> None:
    """To be written."""
