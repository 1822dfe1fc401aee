"""CPUs that are plugged once QEMU runs."""

from __future__ import annotations

from typing import Any

import pytest

from hvcore.errors import HvError
from hvcore.errors import ValidationFailed
from hvcore.model.devices import Devices
from hvcore.model.domain import Domain
from hvcore.model.types import NodeSet
from hvcore.model.vcpu import Vcpu
from hvcore.model.vcpu import VcpuState
from hvcore_qemu.placement import Threads
from hvcore_qemu.vcpus import Entity
from hvcore_qemu.vcpus import Steps
from hvcore_qemu.vcpus import came
from hvcore_qemu.vcpus import choose
from hvcore_qemu.vcpus import entities
from hvcore_qemu.vcpus import plug
from hvcore_qemu.vcpus import select
from hvcore_qemu.vcpus import went


def guest(*orders: int | None) -> Domain:
    """Return a guest whose first CPU is fixed and whose others can be unplugged.

    :param orders: in which the others are plugged; None for those that are offline.
    """
    states = [VcpuState(id=0, enabled=True, hotpluggable=False, order=1)]
    states += [
        VcpuState(id=n, enabled=order is not None, hotpluggable=True, order=order)
        for n, order in enumerate(orders, start=1)
    ]
    return Domain(
        type="kvm", name="g", devices=Devices(), vcpu=Vcpu(count=len(states)), vcpus=states
    )


def entry(core: int, threads: int = 1) -> dict[str, Any]:
    return {"type": "t", "vcpus-count": threads, "props": {"core-id": core}}


def talk(domain: Domain, answer: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """Return what is said to a QEMU that answers the first question with ``answer``."""
    said = []
    conversation = plug(domain)
    try:
        said.append(next(conversation))
        said.append(conversation.send(answer))
        while True:
            said.append(conversation.send({}))
    except StopIteration:
        return said


def test_cpus_are_plugged_in_their_order_where_they_belong() -> None:
    assert talk(guest(3, 2, None), [entry(3), entry(2), entry(1), entry(0)]) == [
        ("query-hotpluggable-cpus", {}),
        ("device_add", {"driver": "t", "id": "vcpu2", "core-id": 2}),
        ("device_add", {"driver": "t", "id": "vcpu1", "core-id": 1}),
    ]


def test_a_guest_without_such_cpus_asks_nothing() -> None:
    assert talk(guest(), []) == []


@pytest.mark.parametrize(
    ("orders", "answer", "message"),
    [
        ((2, 2), [entry(n) for n in range(3)], "duplicate vcpu order '2'"),
        ((9,), [entry(n) for n in range(2)], "vcpu order '9' exceeds vcpu count"),
        ((2,), [entry(0, threads=2)], "vcpus '0' and '1' are in the same hotplug group"),
    ],
)
def test_cpus_that_cannot_be_plugged_so_are_refused(
    orders: tuple[int, ...], answer: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(ValidationFailed, match=message):
        talk(guest(*orders), answer)


# -- while the guest runs -----------------------------------------------------------------------


def numbers(entities: Any) -> list[int]:
    return [entity.first for entity in entities]


def test_the_lowest_come_and_the_highest_go() -> None:
    domain = guest(2, None, None)
    known = entities([entry(n) for n in range(4)])
    assert numbers(select(domain, known, 4).plug) == [2, 3]
    assert numbers(select(domain, known, 3).plug) == [2]
    assert numbers(select(domain, known, 1).unplug) == [1]
    assert select(domain, known, 2) == Steps()


def test_what_was_there_from_the_beginning_stays() -> None:
    domain = guest(2)
    known = entities([entry(0), entry(1)])
    with pytest.raises(ValidationFailed, match="failed to find appropriate hotpluggable vcpus"):
        select(guest(), known[:1], 0)
    assert numbers(select(domain, known, 1).unplug) == [1]


def test_half_a_core_cannot_be_plugged() -> None:
    domain = guest(None, None, None)
    known = entities([entry(0), entry(1, threads=3)])
    with pytest.raises(ValidationFailed, match="granularity does not allow"):
        select(domain, known, 2)
    assert numbers(select(domain, known, 4).plug) == [1]


def test_what_came_and_went_is_listed_in_order() -> None:
    domain = guest(2, None, None)
    assert domain.vcpu is not None
    domain.vcpu.current = 2
    known = entities([entry(n) for n in range(4)])
    came(domain, known, known[3])
    came(domain, known, known[2])
    assert [(state.enabled, state.order) for state in domain.vcpus] == [
        (True, 1), (True, 2), (True, 4), (True, 3),
    ]  # fmt: skip
    assert domain.vcpu.current is None
    went(domain, known, known[1])
    assert [(state.enabled, state.order) for state in domain.vcpus] == [
        (True, 1), (False, None), (True, 3), (True, 2),
    ]  # fmt: skip
    assert domain.vcpu.current == 3


def test_a_guest_that_never_listed_its_cpus_does_once_one_came() -> None:
    domain = Domain(type="kvm", name="g", devices=Devices(), vcpu=Vcpu(count=3, current=2))
    known = entities([entry(n) for n in range(3)])
    came(domain, known, known[2])
    listed = [(s.id, s.enabled, s.hotpluggable, s.order) for s in domain.vcpus]
    assert listed == [(0, True, False, 1), (1, True, False, 2), (2, True, True, 3)]


def test_cpus_that_share_a_thread_have_none_of_their_own() -> None:
    cpus = [{"cpu-index": n, "thread-id": 7} for n in range(2)]
    threads = [{"id": "iothread2", "thread-id": 9}, {"id": "mine", "thread-id": 10}]
    found = Threads.told(cpus, threads)
    assert (dict(found.vcpus), dict(found.iothreads)) == ({}, {2: 9})
    assert dict(Threads.told(cpus[:1], []).vcpus) == {0: 7}


def pairs() -> list[Entity]:
    """Cores of two threads."""
    return [Entity(first, 2, "core", {"core-id": first}) for first in (0, 2, 4)]


def six() -> Domain:
    """Return a guest with two of six CPUs."""
    return Domain(type="kvm", name="g", devices=Devices(), vcpu=Vcpu(count=6, current=2))


def test_an_entity_is_chosen_as_a_whole() -> None:
    domain = six()
    steps = choose(domain, pairs(), NodeSet({2, 3}), enabled=True)
    assert [entity.first for entity in steps.plug] == [2]
    came(domain, pairs(), steps.plug[0])
    assert [state.order for state in domain.vcpus] == [1, 1, 2, 2, None, None]
    steps = choose(domain, pairs(), NodeSet({2, 3}), enabled=False)
    assert [entity.first for entity in steps.unplug] == [2]


@pytest.mark.parametrize(
    ("vcpus", "enabled", "message"),
    [
        ({0}, True, "invalid argument: vcpu '0' is already in requested state"),
        ({1}, False, "invalid argument: vcpu '1' can't be hotunplugged"),
        (
            {3},
            True,
            (
                "invalid argument: vcpu '3' belongs to a larger hotpluggable entity, but siblings"
                " were not selected"
            ),
        ),
        (
            {2},
            True,
            (
                "invalid argument: vcpu '3' was not selected but it belongs to hotpluggable entity"
                " '2-3' which was partially selected"
            ),
        ),
        (
            {2, 3, 4, 5},
            True,
            "Operation not supported: only one hotpluggable entity can be selected",
        ),
    ],
)
def test_parts_of_entities_are_refused(vcpus: set[int], enabled: bool, message: str) -> None:
    with pytest.raises(HvError) as refusal:
        choose(six(), pairs(), NodeSet(vcpus), enabled=enabled)
    assert str(refusal.value) == message
