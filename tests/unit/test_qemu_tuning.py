"""A running QEMU gives virtual CPUs back, or does not: what is kept of them then."""

from __future__ import annotations

import asyncio
import types

import pytest

from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.model.devices import Devices
from hvcore.model.domain import Domain
from hvcore.model.types import NodeSet
from hvcore.model.vcpu import Vcpu
from hvcore.model.vcpu import VcpuState
from hvcore.rules import tuning
from hvcore_qemu import tuning as verbs
from hvcore_qemu.guest import Guest
from hvcore_qemu.placement import Placement


class FakeMonitor:
    """A QEMU with virtual CPUs, and a guest that does what ``obeys`` says."""

    def __init__(self, online, obeys):
        self.online = set(online)
        self.obeys = obeys
        self.keeps = set()
        self.said = []
        self.guest = None

    async def execute(self, command, arguments=None):
        self.said.append((command, arguments))
        if command == "query-cpus-fast":
            return [{"cpu-index": n, "thread-id": 100 + n} for n in sorted(self.online)]
        if command == "query-iothreads":
            return []
        if command == "query-hotpluggable-cpus":
            return [{"type": "t", "vcpus-count": 1, "props": {"core-id": n}} for n in range(3)]
        assert command == "device_del"
        if self.obeys is not None:
            number = int(arguments["id"].removeprefix("vcpu"))
            if self.obeys:
                self.online -= {number} - self.keeps
            loop = asyncio.get_running_loop()
            loop.call_soon(lambda: self.guest.tell_departure(arguments["id"], gone=self.obeys))
        return {}

    async def run(self, steps):
        try:
            command = next(steps)
            while True:
                command = steps.send(await self.execute(*command))
        except StopIteration as end:
            return end.value


class Driver(verbs.Tuning):
    """The verbs alone."""

    name = "qemu"

    def __init__(self):
        self._host = types.SimpleNamespace(cells=())

    def pipeline(self):
        raise AssertionError("no document is read")

    async def context(self, domain, *, new=False):
        raise AssertionError("no document is read")


@pytest.fixture
def made(monkeypatch):
    monkeypatch.setattr(verbs.Tuning.unplug, "__kwdefaults__", {"within": 0.05})

    def make(obeys):
        monitor = FakeMonitor({0, 1, 2}, obeys)
        guest = Guest(None, monitor, None, None, None, Placement(None))
        monitor.guest = guest
        states = [VcpuState(id=0, enabled=True, hotpluggable=False, order=1)]
        states += [VcpuState(id=n, enabled=True, hotpluggable=True, order=n + 1) for n in (1, 2)]
        live = Domain(type="kvm", name="g", devices=Devices(), vcpu=Vcpu(count=3), vcpus=states)
        for number in range(3):
            tuning.set_vcpu_pin(live, number, NodeSet([0]))
        return Driver(), types.SimpleNamespace(name="g", runtime=guest), live

    return make


def pins(live):
    return [pin.vcpu for pin in live.cputune.vcpupins]


async def test_a_cpu_that_goes_takes_its_pin_along(made):
    driver, record, live = made(obeys=True)
    await driver.set_vcpus(record, live, 1)
    assert [state.enabled for state in live.vcpus] == [True, False, False]
    assert pins(live) == [0]
    deleted = [a for c, a in record.runtime.monitor.said if c == "device_del"]
    assert deleted == [{"id": "vcpu2"}, {"id": "vcpu1"}]
    assert record.runtime.leaving == {}


@pytest.mark.parametrize(
    ("obeys", "kind", "text"),
    [
        (None, ErrorClass.OPERATION_TIMEOUT, "vcpu unplug request timed out. Unplug result must"),
        (False, ErrorClass.OPERATION_FAILED, "unplug of device was rejected by the guest"),
    ],
)
async def test_a_cpu_that_stays_keeps_everything(made, obeys, kind, text):
    driver, record, live = made(obeys)
    with pytest.raises(DriverError, match=text) as caught:
        await driver.set_vcpus(record, live, 2)
    assert caught.value.kind is kind
    assert pins(live) == [0, 1, 2]
    assert all(state.enabled for state in live.vcpus)


async def test_a_cpu_that_qemu_still_knows_is_not_gone(made):
    driver, record, live = made(obeys=True)
    record.runtime.monitor.keeps = {2}
    with pytest.raises(DriverError, match="qemu reported thread id for inactive vcpu '2'"):
        await driver.set_vcpus(record, live, 2)
    assert pins(live) == [0, 1, 2]
