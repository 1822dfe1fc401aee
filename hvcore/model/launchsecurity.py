"""The <launchSecurity>, <keywrap> section."""

from __future__ import annotations

from hvcore.xml.fields import Element
from hvcore.xml.fields import element


@element("launchSecurity")
class LaunchSecurity(Element):
    """Memory encryption of the guest."""


@element("keywrap")
class Keywrap(Element):
    """S390x: key wrapping."""
