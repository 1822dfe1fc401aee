"""The <watchdog> element."""

from __future__ import annotations

from typing import Literal

from hvcore.model.devices.base import Device
from hvcore.xml.codecs import ENUM
from hvcore.xml.fields import attr
from hvcore.xml.fields import element

WatchdogModel = Literal["i6300esb", "ib700", "diag288", "itco"]
WatchdogAction = Literal["reset", "shutdown", "poweroff", "pause", "dump", "none", "inject-nmi"]


@element("watchdog")
class Watchdog(Device):
    """A timer that acts when the guest no longer does."""

    model: WatchdogModel = attr("@model", ENUM(WatchdogModel), required=True)
    action: WatchdogAction = attr("@action", ENUM(WatchdogAction), default="reset")
