"""Rules of <memballoon> that hold for every driver."""

from __future__ import annotations

from hvcore.errors import ErrorClass
from hvcore.rules.base import Rules

rules = Rules()
rules.only_one("memballoons", "memory balloon", kind=ErrorClass.INTERNAL)
