"""The test driver of hvcore: domains that live in memory only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.hookspecs import hookimpl

if TYPE_CHECKING:
    from hvcore.registry import Registry


@hookimpl
def hv_register(registry: Registry) -> None:
    """Add the driver."""
    from hvcore_test.driver import TestDriver  # noqa: PLC0415 - only when a test URI is opened

    registry.add_driver(TestDriver)
