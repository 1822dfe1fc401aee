"""Virtual CPUs and pins, of what runs and of the next start."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

import attrs
import pytest
from lxml import etree

from hvcore.errors import HvError
from hvcore.events import TunableChanged
from hvcore.model.types import NodeSet
from hvcore.operations import Op

if TYPE_CHECKING:
    from hvcore.testing.suite.contract import Contract

_FIRST = NodeSet([0])


@pytest.mark.asyncio
class TestTuning:
    """Changes that keep the definitions of now and of the next start apart."""

    async def test_vcpus_of_the_next_start(self, contract: Contract) -> None:
        """They change without anything running, and no further than the maximum."""
        domain = await contract.define(change=one_of_two)
        assert await domain.vcpu_count() == 1
        await domain.set_vcpus(2, config=True)
        assert await domain.vcpu_count(config=True) == 2
        with pytest.raises(HvError):
            await domain.set_vcpus(3, config=True)
        assert await domain.vcpu_count(config=True) == 2

    async def test_vcpus_of_what_runs(self, contract: Contract) -> None:
        """They change at once, and the next start is as it was."""
        contract.need(Op.START, Op.DESTROY, Op.SET_VCPUS)
        domain = await contract.started(change=one_of_two)
        await domain.set_vcpus(2, live=True)
        assert await domain.vcpu_count(live=True) == 2
        assert await domain.vcpu_count(config=True) == 1
        with pytest.raises(HvError):
            await domain.set_vcpus(3, live=True)
        assert await domain.vcpu_count(live=True) == 2

    async def test_one_virtual_cpu_of_what_runs(self, contract: Contract) -> None:
        """It is online when asked for, and the next start is as it was."""
        contract.need(Op.START, Op.DESTROY, Op.SET_VCPU)
        domain = await contract.started(change=one_of_two)
        await domain.set_vcpu("1", enabled=True, live=True)
        assert await domain.vcpu_count(live=True) == 2
        assert await domain.vcpu_count(config=True) == 1

    async def test_a_virtual_cpu_is_pinned(self, contract: Contract) -> None:
        """The pin is known and announced; one that does not exist is refused."""
        contract.need(Op.START, Op.DESTROY, Op.PIN_VCPU)
        domain = await contract.started()
        await domain.pin_vcpu(0, "0", live=True)
        assert (await domain.vcpu_pins(live=True))[0] == _FIRST
        changed = await contract.saw(domain, TunableChanged)
        assert isinstance(changed, TunableChanged)
        assert (changed.name, changed.value) == ("cputune.vcpupin0", "0")
        with pytest.raises(HvError):
            await domain.pin_vcpu(999, "0", live=True)
        assert 999 not in await domain.vcpu_pins(live=True)

    async def test_the_hypervisor_is_pinned(self, contract: Contract) -> None:
        """The pin is known and announced."""
        contract.need(Op.START, Op.DESTROY, Op.PIN_EMULATOR)
        domain = await contract.started()
        await domain.pin_emulator("0", live=True)
        assert await domain.emulator_pin(live=True) == _FIRST
        changed = await contract.saw(domain, TunableChanged)
        assert isinstance(changed, TunableChanged)
        assert changed.name == "cputune.emulatorpin"

    async def test_an_iothread_is_pinned(self, contract: Contract) -> None:
        """The pin is known and announced; one of none is refused."""
        contract.need(Op.START, Op.DESTROY, Op.PIN_IOTHREAD)
        domain = await contract.started(change=one_iothread)
        await domain.pin_iothread(1, "0", live=True)
        assert (await domain.iothread_pins(live=True))[1] == _FIRST
        changed = await contract.saw(domain, TunableChanged)
        assert isinstance(changed, TunableChanged)
        assert (changed.name, changed.value) == ("cputune.iothreadpin1", "0")
        with pytest.raises(HvError):
            await domain.pin_iothread(999, "0", live=True)

    async def test_memory_comes_from_a_node(self, contract: Contract) -> None:
        """It does when asked for, or it is refused and comes from where it came."""
        contract.need(Op.START, Op.DESTROY, Op.SET_NUMATUNE)
        domain = await contract.started()
        wanted = before = await domain.numa_parameters(live=True)
        try:
            await domain.set_numa_parameters(nodeset="0", live=True)
            wanted = attrs.evolve(before, nodeset=_FIRST)
        except HvError:
            pass  # many hosts cannot move what a guest uses
        assert await domain.numa_parameters(live=True) == wanted

    async def test_pins_of_the_next_start(self, contract: Contract) -> None:
        """A pin of the definition is not one of what runs."""
        contract.need(Op.START, Op.DESTROY, Op.PIN_VCPU)
        domain = await contract.started()
        before = (await domain.vcpu_pins(live=True))[0]
        await domain.pin_vcpu(0, "0", config=True)
        assert (await domain.vcpu_pins(config=True))[0] == _FIRST
        assert (await domain.vcpu_pins(live=True))[0] == before


def one_of_two(root: Any) -> None:
    """Let one virtual CPU of two be online."""
    for found in root.findall("vcpu"):
        root.remove(found)
    vcpu = etree.SubElement(root, "vcpu", {"current": "1"})
    vcpu.text = "2"


def one_iothread(root: Any) -> None:
    """Let there be one I/O thread."""
    for found in root.findall("iothreads"):
        root.remove(found)
    etree.SubElement(root, "iothreads").text = "1"
