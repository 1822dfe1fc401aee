"""libvirt's domain XML and semantics as a Python library.

The package itself imports nothing heavy: the names below are resolved on first use, so that a
program that only formats XML never pays for asyncio, QMP or the command line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

if TYPE_CHECKING:
    from hvcore.domain import Domain as Domain
    from hvcore.host import Host as Host
    from hvcore.host import connect as connect

__version__ = "0.1.0"
__all__ = ["Domain", "Host", "__version__", "connect"]

_LAZY = {"Domain": "hvcore.domain", "Host": "hvcore.host", "connect": "hvcore.host"}


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'hvcore' has no attribute {name!r}")
    import importlib  # noqa: PLC0415 - only needed on this path

    return getattr(importlib.import_module(module), name)
