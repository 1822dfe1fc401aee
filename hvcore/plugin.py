"""All that the author of a driver or feature imports, beside :mod:`hvcore.model`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.capabilities import ProbeSession
from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import Issue
from hvcore.feature import Feature
from hvcore.feature import Hotplug
from hvcore.feature import Uses
from hvcore.hookspecs import hookimpl
from hvcore.model.types import NodeSet
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import HEX
from hvcore.xml.codecs import INT
from hvcore.xml.codecs import INTEGER
from hvcore.xml.codecs import NODESET
from hvcore.xml.codecs import ONOFF
from hvcore.xml.codecs import STR
from hvcore.xml.codecs import UINT
from hvcore.xml.codecs import ULONG
from hvcore.xml.codecs import UUID
from hvcore.xml.codecs import YESNO
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import child
from hvcore.xml.fields import children
from hvcore.xml.fields import choice
from hvcore.xml.fields import element
from hvcore.xml.fields import flag
from hvcore.xml.fields import scaled
from hvcore.xml.fields import text
from hvcore.xml.fields import texts

if TYPE_CHECKING:
    from hvcore.pipeline import Context
    from hvcore.registry import Registry
    from hvcore.rules.base import Rules
    from hvcore.xml.context import ParseContext

__all__ = [
    "ENUM",
    "HEX",
    "INT",
    "INTEGER",
    "NODESET",
    "ONOFF",
    "STR",
    "UINT",
    "ULONG",
    "UUID",
    "YESNO",
    "Context",
    "DriverError",
    "Element",
    "ErrorClass",
    "Feature",
    "Hotplug",
    "Issue",
    "NodeSet",
    "ParseContext",
    "ProbeSession",
    "Registry",
    "Rules",
    "Uses",
    "attr",
    "child",
    "children",
    "choice",
    "element",
    "flag",
    "hookimpl",
    "scaled",
    "text",
    "texts",
]

_LATER: Final = {
    "Context": "hvcore.pipeline",
    "ParseContext": "hvcore.xml.context",
    "Registry": "hvcore.registry",
    "Rules": "hvcore.rules.base",
}
"""What is imported when it is asked for: a program that reads no document needs none of it."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(name)
    return getattr(importlib.import_module(_LATER[name]), name)
