"""All rules of the cloud-hypervisor driver in one table, beside those of the core."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from hvcore.rules.base import Rules

MODULES: Final = (
    "sections.base", "sections.os", "sections.cpu", "sections.memory", "sections.numa",
    "sections.platform",
    "devices.info", "devices.disk", "devices.interface", "devices.chardev", "devices.rng",
    "devices.memballoon", "devices.vsock", "devices.filesystem", "devices.memory",
    "devices.hostdev", "devices.tpm", "devices.iommu",
)  # fmt: skip

RULES: Final = Rules.merged(import_module(f"hvcore_ch.{name}").rules for name in MODULES)
