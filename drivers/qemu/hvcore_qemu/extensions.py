"""Elements of QEMU's own namespace in a domain document."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hvcore.registry import Registry


def register(registry: Registry) -> None:
    """Add them to ``registry``."""
