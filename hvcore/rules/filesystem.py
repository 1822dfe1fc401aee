"""Rules of <filesystem> that hold for every driver."""

from __future__ import annotations

from hvcore.rules.base import Rules

rules = Rules()
