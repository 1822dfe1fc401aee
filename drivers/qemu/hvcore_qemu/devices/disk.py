"""<disk> in QEMU: defaults, validation and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.model.devices.disk import Disk
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore_qemu.command import Command

rules = Rules()


@rules.post_parse(Disk)
def _defaults(domain: Domain, device: Disk, ctx: Context) -> None:
    """Fill in QEMU's own backend, raw images and QEMU's own encryption."""
    del domain, ctx
    if device.driver is None:
        device.driver = "qemu"
    # What a volume contains is known by its pool.
    if device.format is None and device.type != "volume":
        device.format = "raw"
    if device.mirror is not None and device.mirror.format is None:
        device.mirror.format = "raw"
    for encryption in (
        device.source_encryption,
        *(layer.source.encryption for layer in device.backing_chain() if layer.source is not None),
    ):
        if encryption is not None and encryption.engine is None:
            encryption.engine = "qemu"


def pr_manager(cmd: Command) -> None:
    """To be written."""


def command(cmd: Command) -> None:
    """To be written."""
