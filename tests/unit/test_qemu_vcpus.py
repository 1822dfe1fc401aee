"""CPUs that are plugged once QEMU runs."""

from __future__ import annotations

from typing import Any

import pytest

from hvcore.errors import ValidationFailed
from hvcore.model.devices import Devices
from hvcore.model.domain import Domain
from hvcore.model.vcpu import Vcpu
from hvcore.model.vcpu import VcpuState
from hvcore_qemu.vcpus import plug


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
