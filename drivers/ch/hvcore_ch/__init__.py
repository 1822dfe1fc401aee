"""The cloud-hypervisor driver: hook implementations only, so that finding it costs no import."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.hookspecs import hookimpl

if TYPE_CHECKING:
    from hvcore.registry import Registry


@hookimpl
def hv_register(registry: Registry) -> None:
    """Add the driver, and the elements that libvirt's documents have no words for."""
    from hvcore_ch.driver import ChDriver  # noqa: PLC0415 - only when a ch URI is opened

    registry.add_driver(ChDriver)
    registry.add_later(_add_elements)


def _add_elements(registry: Registry) -> None:
    from hvcore_ch.extensions import register  # noqa: PLC0415 - the whole model

    register(registry)
