"""The <vcpu>, <vcpu> section."""

from __future__ import annotations

from hvcore.xml.fields import Element
from hvcore.xml.fields import element


@element("vcpu")
class Vcpu(Element):
    """How many virtual CPUs and where they may run."""


@element("vcpu")
class VcpuState(Element):
    """One virtual CPU below <vcpus>."""
