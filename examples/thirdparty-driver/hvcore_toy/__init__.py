"""A driver kept outside hvcore's tree: each domain is one process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.plugin import hookimpl

if TYPE_CHECKING:
    from hvcore.registry import Registry


@hookimpl
def hv_register(registry: Registry) -> None:
    """Add the driver."""
    from hvcore_toy.driver import ToyDriver  # noqa: PLC0415 - importing the package stays cheap

    registry.add_driver(ToyDriver)
