"""Memory of running guests, and what a domain is said to use."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

import pytest
from lxml import etree

from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.operations import Op
from hvcore.statistics import VcpuState

if TYPE_CHECKING:
    from hvcore.domain import Domain
    from hvcore.testing.suite.contract import Contract


@pytest.mark.asyncio
class TestResizing:
    """Memory that is given and taken."""

    async def test_memory_of_what_runs(self, contract: Contract) -> None:
        """The running definition has less, the next start is as it was."""
        contract.need(Op.START, Op.DESTROY, Op.SET_MEMORY)
        domain = await contract.started(change=balloon)
        most = await _current(domain)
        await domain.set_memory(_less(most), live=True)
        assert await _current(domain) == _less(most)
        assert await _current(domain, inactive=True) == most

    async def test_memory_of_the_next_start(self, contract: Contract) -> None:
        """It changes without anything running, and no further than the maximum."""
        domain = await contract.define(change=balloon)
        most = await _current(domain, inactive=True)
        await domain.set_memory(_less(most), config=True)
        assert await _current(domain, inactive=True) == _less(most)
        with pytest.raises(HvError):
            await domain.set_memory(most + 1, config=True)
        assert await _current(domain, inactive=True) == _less(most)

    async def test_memory_that_there_is_not(self, contract: Contract) -> None:
        """More than the maximum is refused, and nothing changes."""
        contract.need(Op.START, Op.DESTROY, Op.SET_MEMORY)
        domain = await contract.started(change=balloon)
        most = await _current(domain)
        with pytest.raises(HvError):
            await domain.set_memory(most + 1, live=True)
        assert await _current(domain) == most

    async def test_a_disk_of_what_runs(self, contract: Contract, device_xml: str | None) -> None:
        """It has its new size; one that is not there is an error."""
        contract.need(Op.START, Op.DESTROY, Op.RESIZE_DISK, Op.BLOCK_INFO)
        domain = await contract.started()
        target = await _disk(domain, device_xml)
        await domain.resize_disk(target, 8 << 20)
        assert (await domain.block_info(target)).capacity == 8 << 20
        with pytest.raises(HvError):
            await domain.resize_disk("nowhere", 8 << 20)

    async def test_a_nudge_changes_nothing(self, contract: Contract) -> None:
        """A non-maskable interrupt is the guest's business."""
        contract.need(Op.START, Op.DESTROY, Op.INJECT_NMI)
        domain = await contract.started()
        before = await domain.state()
        await domain.inject_nmi()
        assert await domain.state() == before
        assert contract.happened(domain) == []


@pytest.mark.asyncio
class TestStatistics:
    """What a domain is said to use."""

    async def test_virtual_cpus(self, contract: Contract) -> None:
        """There are as many as are online, and they run."""
        contract.need(Op.START, Op.DESTROY, Op.VCPU_INFO)
        domain = await contract.started()
        found = await domain.vcpu_info()
        assert len(found) == await domain.vcpu_count(live=True)
        assert [each.number for each in found] == list(range(len(found)))
        assert {each.state for each in found} <= {VcpuState.RUNNING, VcpuState.BLOCKED}

    async def test_processor_time(self, contract: Contract) -> None:
        """It never runs backwards."""
        contract.need(Op.START, Op.DESTROY, Op.CPU_STATS)
        domain = await contract.started()
        first = (await domain.cpu_stats()).cpu_time
        second = (await domain.cpu_stats()).cpu_time
        assert 0 <= first <= second

    async def test_memory(self, contract: Contract) -> None:
        """The guest has no more than the definition says."""
        contract.need(Op.START, Op.DESTROY, Op.MEMORY_STATS)
        domain = await contract.started(change=balloon)
        found = await domain.memory_stats()
        assert found
        assert 0 < found.get("actual", 1) <= (await domain.info()).max_memory

    async def test_an_interface(self, contract: Contract) -> None:
        """What goes through it is counted from zero, by its address or name."""
        contract.need(Op.START, Op.DESTROY, Op.INTERFACE_STATS)
        domain = await contract.started()
        mac = etree.fromstring(await domain.xml()).find("devices/interface/mac")
        if mac is None:
            pytest.skip("the domain has no interface")
        stats = await domain.interface_stats(str(mac.get("address")))
        assert min(stats.rx_bytes, stats.rx_packets, stats.tx_bytes, stats.tx_packets) >= 0
        with pytest.raises(HvError):
            await domain.interface_stats("52:54:00:ff:ff:ff")

    async def test_a_disk(self, contract: Contract, device_xml: str | None) -> None:
        """It has a size, and what was done with it is counted from zero."""
        contract.need(Op.START, Op.DESTROY, Op.BLOCK_STATS, Op.BLOCK_INFO)
        domain = await contract.started()
        target = await _disk(domain, device_xml)
        stats, info = await domain.block_stats(target), await domain.block_info(target)
        assert min(stats.read_requests, stats.read_bytes, stats.write_requests) >= 0
        assert info.capacity > 0
        with pytest.raises(HvError):
            await domain.block_stats("nowhere")

    @pytest.mark.parametrize("running", [True, False])
    async def test_one_flat_list(self, contract: Contract, running: bool) -> None:
        """Its state is what the domain is asked for, whether it runs or not."""
        contract.need(Op.START, Op.DESTROY)
        domain = await (contract.started() if running else contract.define())
        found = await domain.stats()
        state, reason = await domain.state()
        assert (found["state.state"], found["state.reason"]) == (int(state), int(reason))
        assert found["balloon.maximum"] == (await domain.info()).max_memory

    @pytest.mark.parametrize(
        ("op", "verb"), [(Op.VCPU_INFO, "vcpu_info"), (Op.MEMORY_STATS, "memory_stats")]
    )
    async def test_nothing_is_known_of_what_does_not_run(
        self, contract: Contract, op: Op, verb: str
    ) -> None:
        """Asking is refused."""
        contract.need(op)
        domain = await contract.define()
        with pytest.raises(InvalidState):
            await getattr(domain, verb)()


def balloon(root: Any) -> None:
    """Let memory be taken from the guest."""
    devices = root.find("devices")
    if devices is None:
        devices = etree.SubElement(root, "devices")
    for found in devices.findall("memballoon"):
        devices.remove(found)
    etree.SubElement(devices, "memballoon", {"model": "virtio"})


async def _current(domain: Domain, *, inactive: bool = False) -> int:
    """Return the KiB that a definition lets the guest have."""
    root = etree.fromstring(await domain.xml(inactive=inactive))
    return int(root.findtext("currentMemory") or 0)


async def _disk(domain: Domain, device: str | None) -> str:
    """Plug the driver's device in, if it is a disk, and return its target."""
    target = None if device is None else etree.fromstring(device).find("target")
    if device is None or target is None or not domain.supports(Op.ATTACH_DEVICE):
        pytest.skip("no disk is known that can be plugged in")
    await domain.attach_device(device, live=True)
    return str(target.get("dev"))


def _less(memory: int) -> int:
    """Return a little less; guests of packages that are just being written are small."""
    return memory - min(4096, memory // 4)
