"""The QEMU driver: hook implementations only, so that finding it costs no import of QMP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.hookspecs import hookimpl

if TYPE_CHECKING:
    from hvcore.registry import Registry


@hookimpl
def hv_register(registry: Registry) -> None:
    """Add the driver and the elements of QEMU's own namespace."""
    from hvcore_qemu.driver import QemuDriver  # noqa: PLC0415 - only when a qemu URI is opened

    registry.add_driver(QemuDriver)
    registry.add_later(_add_elements)


def _add_elements(registry: Registry) -> None:
    from hvcore_qemu.extensions import register  # noqa: PLC0415 - the whole model

    register(registry)
