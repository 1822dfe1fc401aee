"""What the process of a guest may reach: with Landlock the kernel holds it to what it was given.

cloud-hypervisor itself allows the paths of its configuration. What comes later, a saved state or a
plugged disk, is allowed from the beginning or never.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore_ch.capabilities import LANDLOCK
from hvcore_ch.sections.numa import check_nodes

if TYPE_CHECKING:
    from hvcore_ch.command import Command


def command(vm: Command) -> None:
    """Confine the process, where the host can."""
    check_nodes(vm)
    if not vm.config.landlock or LANDLOCK not in vm.caps:
        return
    vm.set("landlock_enable", True)
    for path in (vm.folder, vm.states, *vm.config.landlock_paths):
        vm.add("landlock_rules", {"path": path, "access": "rw"})
