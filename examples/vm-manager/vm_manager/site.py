"""A file that says which hosts there are and what is wanted of them, and making it so.

::

    template = "guest.xml"
    inventory = "inventory.json"

    [hosts]
    left = "qemu:///embed?root=/srv/left"
    right = "qemu:///embed?root=/srv/right"

    [machines.web]
    cpus = 2
    memory = 1024
    disks = { vda = "/srv/images/web.raw" }
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vm_manager.inventory import Inventory
from vm_manager.machine import Machine
from vm_manager.machine import Template
from vm_manager.manager import FAILURES
from vm_manager.manager import Action
from vm_manager.manager import Manager
from vm_manager.manager import NoHostError
from vm_manager.manager import Report
from vm_manager.manager import UncertainError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True)
class Site:
    """What such a file says; its paths are relative to its folder."""

    hosts: dict[str, str]
    machines: list[Machine]
    template: Template
    inventory: Inventory

    @classmethod
    def load(cls, path: Path) -> Site:
        """Read a file.

        :raises ValueError: it is wrong.
        :raises OSError: it, or its template, cannot be read.
        """
        said = tomllib.loads(path.read_text())
        try:
            return cls(
                hosts=said["hosts"],
                machines=[Machine(name=n, **m) for n, m in said.get("machines", {}).items()],
                template=Template((path.parent / said["template"]).read_text()),
                inventory=Inventory(path.parent / said["inventory"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from error

    def manager(self) -> Manager:
        """Return a manager of the site."""
        return Manager(self.hosts, self.template, self.inventory)


async def apply(manager: Manager, wanted: Iterable[Machine]) -> Report:
    """Have these machines and no others."""
    machines = {machine.name: machine for machine in wanted}
    kept = manager.inventory.entries
    before, problems = {}, {}
    for name in sorted(kept.keys() | machines.keys()):
        try:
            if name not in machines:
                await manager.remove(name)
                before[name] = Action("removed", name, "")
            elif name not in kept:
                before[name] = Action("created", name, await manager.create(machines[name]))
            elif kept[name].machine != machines[name]:
                await _change(manager, kept[name].machine, machines[name])
                before[name] = Action("changed", name, kept[name].host or "")
        except (*FAILURES, NoHostError, UncertainError, ValueError) as error:
            problems[name] = error
    report = await manager.reconcile()
    return Report([*before.values(), *report.actions], {**problems, **report.problems})


async def _change(manager: Manager, old: Machine, new: Machine) -> None:
    if (old.max_cpus, old.max_memory, old.disks) != (new.max_cpus, new.max_memory, new.disks):
        raise ValueError(f"'{new.name}' must be removed before it can have other limits or disks")
    if (old.cpus, old.memory) != (new.cpus, new.memory):
        await manager.resize(new.name, cpus=new.cpus, memory=new.memory)
    if old.running != new.running:
        await manager.set_running(new.name, running=new.running)
