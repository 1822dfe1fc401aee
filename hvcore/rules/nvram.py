"""Rules of <nvram> that hold for every driver."""

from __future__ import annotations

from hvcore.errors import ErrorClass
from hvcore.rules.base import Rules

rules = Rules()
rules.only_one("nvrams", "nvram", kind=ErrorClass.INTERNAL)
