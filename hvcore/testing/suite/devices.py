"""Devices that come and go while a domain runs, and for its next start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lxml import etree

from hvcore import events
from hvcore.errors import HvError
from hvcore.operations import Op

if TYPE_CHECKING:
    from hvcore.domain import Domain
    from hvcore.testing.suite.contract import Contract


@pytest.mark.asyncio
class TestDevices:
    """Attach and detach, as far as the driver has them."""

    @pytest.fixture
    def device(self, device_xml: str | None) -> str:
        """Return a device that can be plugged in; skips the test without one."""
        if device_xml is None:
            pytest.skip("no device is known that can be plugged in")
        return device_xml

    async def test_a_device_of_the_next_start(self, contract: Contract, device: str) -> None:
        """A definition gains a device and loses it again; nothing runs for that."""
        domain = await contract.define()
        before = await _count(domain, device)
        contract.forget()
        await domain.attach_device(device, config=True)
        assert await _count(domain, device) == before + 1
        assert await domain.detach_device(device, config=True)
        assert await _count(domain, device) == before
        assert contract.happened(domain) == ["Defined(Updated)", "Defined(Updated)"]

    async def test_a_device_comes(self, contract: Contract, device: str) -> None:
        """It is in the running definition, with an alias, when it is announced."""
        contract.need(Op.START, Op.DESTROY, Op.ATTACH_DEVICE)
        domain = await contract.started()
        before = await _count(domain, device)
        await domain.attach_device(device, live=True)
        assert await _count(domain, device) == before + 1
        assert await _count(domain, device, inactive=True) == before
        added = await contract.saw(domain, events.DeviceAdded)
        assert isinstance(added, events.DeviceAdded)
        assert f"<alias name='{added.alias}'/>" in await domain.xml()
        await domain.destroy()
        assert await _count(domain, device) == before

    async def test_a_device_goes(self, contract: Contract, device: str) -> None:
        """It is gone and announced, or stays until the guest lets it go."""
        contract.need(Op.START, Op.DESTROY, Op.ATTACH_DEVICE, Op.DETACH_DEVICE)
        domain = await contract.started()
        await domain.attach_device(device, live=True)
        attached = await _count(domain, device)
        gone = await domain.detach_device(device, live=True, within=0.2)
        assert await _count(domain, device) == attached - gone
        if gone:
            await contract.saw(domain, events.DeviceRemoved)

    async def test_what_is_not_there_cannot_go(self, contract: Contract) -> None:
        """A device that the domain does not have is an error, and nothing changes."""
        contract.need(Op.START, Op.DESTROY, Op.DETACH_DEVICE)
        domain = await contract.started()
        before = await domain.xml()
        with pytest.raises(HvError):
            await domain.detach_device_alias("ua-nobody", live=True)
        assert await domain.xml() == before

    async def test_what_is_not_there_cannot_change(self, contract: Contract, device: str) -> None:
        """A device that the domain does not have is an error, and nothing changes."""
        contract.need(Op.START, Op.DESTROY, Op.UPDATE_DEVICE)
        domain = await contract.started()
        before = await domain.xml()
        with pytest.raises(HvError):
            await domain.update_device(device, live=True)
        assert await domain.xml() == before

    async def test_a_refused_device_leaves_nothing(self, contract: Contract) -> None:
        """What is no device is refused, and nothing changes."""
        contract.need(Op.START, Op.DESTROY, Op.ATTACH_DEVICE)
        domain = await contract.started()
        before = await domain.xml(), await domain.xml(inactive=True)
        with pytest.raises(HvError):
            await domain.attach_device("<nonsense/>", live=True, config=True)
        assert (await domain.xml(), await domain.xml(inactive=True)) == before
        assert contract.happened(domain) == []


async def _count(domain: Domain, device: str, *, inactive: bool = False) -> int:
    """Return how many devices of the kind a domain has."""
    root = etree.fromstring(await domain.xml(inactive=inactive))
    return len(root.findall(f"devices/{etree.fromstring(device).tag}"))
