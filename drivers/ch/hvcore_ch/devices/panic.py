"""The channel on which a guest reports that it crashed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.model.devices.panic import Panic
from hvcore_ch.accepts import one_of

if TYPE_CHECKING:
    from hvcore_ch.accepts import Accepts
    from hvcore_ch.command import Command

ACCEPTS: Accepts = {Panic: {"model": one_of("pvpanic"), "address": frozenset()}}


def command(vm: Command) -> None:
    """Ask for the channel."""
    if vm.domain.devices.panics:
        vm.set("pvpanic", True)
