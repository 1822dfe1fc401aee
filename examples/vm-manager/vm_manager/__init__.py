"""A small manager of virtual machines: it keeps what is wanted running, on whichever host can."""

from __future__ import annotations

from vm_manager.inventory import Entry
from vm_manager.inventory import Inventory
from vm_manager.machine import Machine
from vm_manager.machine import Template
from vm_manager.manager import Manager
from vm_manager.manager import NoHostError
from vm_manager.manager import Report
from vm_manager.manager import UncertainError

__all__ = [
    "Entry",
    "Inventory",
    "Machine",
    "Manager",
    "NoHostError",
    "Report",
    "Template",
    "UncertainError",
]
