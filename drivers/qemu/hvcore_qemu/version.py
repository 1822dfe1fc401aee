"""Versions of what this driver writes."""

from __future__ import annotations

from typing import Final

#: raised whenever other things are asked of a QEMU or concluded from its answers: what was cached
#: by another version is asked again
PROBE_VERSION: Final = "2"
