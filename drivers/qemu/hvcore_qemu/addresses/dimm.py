"""Slots of memory modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.errors import ValidationFailed
from hvcore.model.devices.base import DimmAddress

if TYPE_CHECKING:
    from hvcore_qemu.addresses.guest import Guest


def assign_dimm_slots(guest: Guest) -> None:
    """Give memory modules the lowest free slots.

    :raises ValidationFailed: when there are more modules than slots.
    """
    domain = guest.domain
    slots = domain.max_memory_slots or 0
    if not slots and not domain.max_memory:
        return
    used = {
        each.address.slot or 0
        for each in guest.devices.memories
        if isinstance(each.address, DimmAddress)
    }
    for module in guest.devices.memories:
        if module.model not in ("dimm", "nvdimm") or isinstance(module.address, DimmAddress):
            continue
        slot = next((slot for slot in range(slots) if slot not in used), None)
        if slot is None:
            raise ValidationFailed([Issue.internal("failed to find an empty memory slot")])
        used.add(slot)
        module.address = DimmAddress(slot=slot)
