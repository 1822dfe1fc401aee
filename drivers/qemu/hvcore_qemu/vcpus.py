"""Virtual CPUs of a running QEMU: those that can be unplugged again are plugged after its start.

Sans-IO: generators that yield commands of the monitor and are sent the answers.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import final

import attrs

from hvcore.errors import Issue
from hvcore.errors import ValidationFailed

if TYPE_CHECKING:
    from collections.abc import Generator

    from hvcore.model.domain import Domain
    from hvcore.model.vcpu import VcpuState
    from hvcore_qemu.monitor import Command

_PLACE: Final = ("socket-id", "die-id", "cluster-id", "core-id", "thread-id")


@final
@attrs.frozen
class Entity:
    """What can be plugged as a whole: a thread, on POWER a core with all its threads.

    :ivar first: number of its first virtual CPU.
    :ivar count: how many of them it has.
    :ivar type: QEMU's device.
    :ivar place: where it goes, as properties of the device.
    """

    first: int
    count: int
    type: str
    place: dict[str, Any]


def entities(answer: list[dict[str, Any]]) -> list[Entity]:
    """Return what ``query-hotpluggable-cpus`` told, in the order in which CPUs are numbered."""
    found = sorted(answer, key=lambda e: [e["props"].get(level, -1) for level in _PLACE])
    made, first = [], 0
    for entry in found:
        count = entry["vcpus-count"]
        made.append(Entity(first, count, entry["type"], entry["props"]))
        first += count
    return made


def _group(states: list[VcpuState], entity: Entity) -> VcpuState:
    """Return the state of an entity's CPUs.

    :raises ValidationFailed: when they differ; part of a core cannot be plugged.
    """
    group = states[entity.first : entity.first + entity.count]
    for before, state in pairwise(group):
        if (before.enabled, before.hotpluggable, before.order) != (
            state.enabled, state.hotpluggable, state.order,
        ):  # fmt: skip
            _refuse(
                f"vcpus '{group[0].id}' and '{state.id}' are in the same hotplug group but differ "
                "in configuration"
            )
    return group[0]


def _refuse(message: str) -> None:
    raise ValidationFailed([Issue.unsupported(message)])


def plug(domain: Domain) -> Generator[Command, Any, None]:
    """Plug the CPUs that are wanted at start but can be unplugged, in their order.

    :raises ValidationFailed: when they do not make up what QEMU can plug.
    """
    states = domain.vcpus
    if not any(state.enabled and state.hotpluggable for state in states):
        return
    wanted: list[tuple[VcpuState, Entity]] = []
    orders: set[int] = set()
    for entity in entities((yield "query-hotpluggable-cpus", {})):
        state = _group(states, entity)
        if state.order:
            if state.order in orders:
                _refuse(f"duplicate vcpu order '{state.order}'")
            if state.order > len(states):
                _refuse(f"vcpu order '{state.order}' exceeds vcpu count")
            orders.add(state.order)
        if state.enabled and state.hotpluggable:
            wanted.append((state, entity))
    for state, entity in sorted(wanted, key=lambda pair: pair[0].order or 0):
        yield "device_add", {"driver": entity.type, "id": f"vcpu{state.id}", **entity.place}
