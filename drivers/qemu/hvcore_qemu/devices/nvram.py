"""<nvram> in QEMU: defaults, validation and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from hvcore_qemu.command import Command

rules = Rules()


def command(cmd: Command) -> None:
    """To be written."""
