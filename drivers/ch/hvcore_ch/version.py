"""The version of what is kept of a binary's answers; raised when they are read differently."""

from __future__ import annotations

from typing import Final

PROBE_VERSION: Final = "1"
