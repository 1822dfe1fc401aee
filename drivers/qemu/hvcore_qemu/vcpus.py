"""Virtual CPUs of a running QEMU: what can be plugged, at its start and later.

Sans-IO: generators that yield commands of the monitor and are sent the answers.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import final

import attrs

from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import Issue
from hvcore.errors import ValidationFailed
from hvcore.rules.vcpu import vcpu_states

if TYPE_CHECKING:
    from collections.abc import Generator

    from hvcore.model.domain import Domain
    from hvcore.model.types import NodeSet
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

    @property
    def numbers(self) -> range:
        """Numbers of its virtual CPUs."""
        return range(self.first, self.first + self.count)


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
    for _, entity in sorted(wanted, key=lambda pair: pair[0].order or 0):
        yield "device_add", device(entity)


def device(entity: Entity) -> dict[str, Any]:
    """Return the arguments of ``device_add`` for an entity."""
    return {"driver": entity.type, "id": f"vcpu{entity.first}", **entity.place}


# -- while the guest runs -----------------------------------------------------------------------


@final
@attrs.frozen
class Steps:
    """What is to come and to go, in order."""

    plug: tuple[Entity, ...] = ()
    unplug: tuple[Entity, ...] = ()


def known() -> Generator[Command, Any, list[Entity]]:
    """Ask QEMU what it can plug."""
    return entities((yield "query-hotpluggable-cpus", {}))


def select(domain: Domain, known: list[Entity], count: int) -> Steps:
    """Return what has to come or to go until ``count`` virtual CPUs are online.

    The lowest that are offline come, the highest that can be unplugged go.

    :raises ValidationFailed: when that cannot be.
    """
    states = vcpu_states(domain)
    online = sum(state.enabled for state in states)
    coming = count > online
    chosen: list[Entity] = []
    for entity in known if coming else reversed(known):
        if online == count:
            break
        state = states[entity.first]
        # Those that QEMU was started with have no name by which they could be unplugged.
        if state.enabled == coming or not (coming or state.hotpluggable):
            continue
        online += entity.count if coming else -entity.count
        if online > count if coming else online < count:
            _refuse("target vm vcpu granularity does not allow the desired vcpu count")
        chosen.append(entity)
    if online != count:
        _refuse(
            "failed to find appropriate hotpluggable vcpus to reach the desired target vcpu count"
        )
    return Steps(plug=tuple(chosen)) if coming else Steps(unplug=tuple(chosen))


def choose(domain: Domain, known: list[Entity], vcpus: NodeSet, *, enabled: bool) -> Steps:
    """Return what has to come or to go until certain virtual CPUs are online, or offline.

    :raises HvError: when they are not exactly one entity, or cannot go.
    """
    states = vcpu_states(domain)
    for number in vcpus:
        state = states[number]
        if state.enabled == enabled:
            raise _invalid(f"vcpu '{number}' is already in requested state")
        if state.enabled and not state.hotpluggable:
            raise _invalid(f"vcpu '{number}' can't be hotunplugged")
    chosen = []
    for entity in known:
        meant = [number for number in entity.numbers if number in vcpus]
        if meant and meant[0] != entity.first:
            raise _invalid(
                f"vcpu '{meant[0]}' belongs to a larger hotpluggable entity, but siblings were not"
                " selected"
            )
        for number in entity.numbers if meant else ():
            if number not in vcpus:
                raise _invalid(
                    f"vcpu '{number}' was not selected but it belongs to hotpluggable entity"
                    f" '{entity.first}-{entity.numbers[-1]}' which was partially selected"
                )
        if meant:
            chosen.append(entity)
    if len(chosen) != 1:
        raise HvError(
            "only one hotpluggable entity can be selected", kind=ErrorClass.OPERATION_UNSUPPORTED
        )
    return Steps(plug=tuple(chosen)) if enabled else Steps(unplug=tuple(chosen))


def _invalid(message: str) -> HvError:
    return HvError(message, kind=ErrorClass.INVALID_ARG)


def _listed(domain: Domain, known: list[Entity]) -> list[VcpuState]:
    """Return the states of a running domain, from now on listed in its document, in their order.

    All CPUs of an entity came at the same time.
    """
    if not domain.vcpus:
        domain.vcpus = vcpu_states(domain)
    last = max((state.order or 0 for state in domain.vcpus), default=0)
    for entity in known:
        states = domain.vcpus[entity.first : entity.first + entity.count]
        if states and states[0].enabled and not states[0].order:
            last += 1
            for state in states:
                state.order = last
    return domain.vcpus


def _count(domain: Domain) -> None:
    assert domain.vcpu is not None  # every definition has one
    online = sum(state.enabled for state in domain.vcpus)
    domain.vcpu.current = online if online < domain.vcpu.count else None


def came(domain: Domain, known: list[Entity], entity: Entity) -> None:
    """Note that an entity was plugged; ``known`` is all that can be."""
    states = _listed(domain, known)
    order = max((state.order or 0 for state in states), default=0) + 1
    for number in entity.numbers:
        state = states[number]
        state.enabled, state.hotpluggable, state.order = True, True, order
    _count(domain)


def went(domain: Domain, known: list[Entity], entity: Entity) -> None:
    """Note that an entity was unplugged; those that came after it move up."""
    states = _listed(domain, known)
    order = states[entity.first].order or 0
    for number in entity.numbers:
        state = states[number]
        state.enabled, state.hotpluggable, state.order = False, True, None
    for state in states:
        if state.order and state.order > order:
            state.order -= 1
    _count(domain)
