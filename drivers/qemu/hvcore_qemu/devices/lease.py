"""<lease> in QEMU: defaults, validation and command line."""

from __future__ import annotations

from hvcore.rules.base import Rules

rules = Rules()
