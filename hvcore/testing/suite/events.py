"""What is announced: once, in order, and never before it can be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hvcore import events
from hvcore.errors import ConfigError
from hvcore.errors import InvalidState
from hvcore.operations import Op

if TYPE_CHECKING:
    from hvcore.domain import Domain
    from hvcore.events import EventStream
    from hvcore.testing.suite.contract import Contract


@pytest.mark.asyncio
class TestEvents:
    """What readers of events may rely on."""

    async def test_a_state_is_seen_before_it_is_announced(self, contract: Contract) -> None:
        """Whoever is told of an event finds the domain, and its status file, as it says."""
        contract.need(Op.START, Op.DESTROY)
        domain = await contract.define()
        await _life(contract, domain)
        assert contract.happened(domain)[:2] == ["Defined(Added)", "Started(Booted)"]
        contract.check_order()

    async def test_all_streams_see_the_same(self, contract: Contract) -> None:
        """Events are numbered without a gap, and each stream has each of them once."""
        contract.need(Op.START, Op.DESTROY)
        with contract.host.events() as first, contract.host.events() as second:
            domain = await contract.define()
            await _life(contract, domain)
            numbers = [event.seq for event in _drained(first)]
            assert numbers == [event.seq for event in _drained(second)]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))

    async def test_a_stream_of_one_domain_has_no_other(self, contract: Contract) -> None:
        """Events belong to the domain that they are about."""
        contract.need(Op.START, Op.DESTROY)
        one, other = await contract.define("one"), await contract.define("other")
        with contract.host.events(domain=one) as stream:
            await _life(contract, other)
            await _life(contract, one)
            assert {event.domain.uuid for event in _drained(stream)} == {one.uuid}

    async def test_an_event_names_its_domain(self, contract: Contract) -> None:
        """Name, UUID and number are those at the time of the event."""
        contract.need(Op.START, Op.DESTROY)
        domain = await contract.started()
        number = domain.id
        await domain.destroy()
        stopped = await contract.saw(domain, events.Stopped)
        assert stopped.domain == events.DomainRef(domain.name, domain.uuid, number)

    async def test_what_fails_is_not_announced(self, contract: Contract) -> None:
        """A refused document and a refused verb leave no trace."""
        domain = await contract.define()
        contract.forget()
        for attempt in (domain.suspend, domain.destroy):
            with pytest.raises(InvalidState):
                await attempt()
        with pytest.raises(ConfigError):
            await contract.host.define("<domain type='none'/>")
        assert contract.happened() == []


async def _life(contract: Contract, domain: Domain) -> None:
    """Do with a domain whatever the driver can do."""
    able = contract.host.operations
    await domain.start()
    if {Op.SUSPEND, Op.RESUME} <= able:
        await domain.suspend()
        await domain.resume()
    if Op.RESET in able:
        await domain.reset()
        await contract.saw(domain, events.Rebooted)
    await domain.destroy()


def _drained(stream: EventStream) -> list[events.Event]:
    found = []
    while (item := stream.get_nowait()) is not None:
        assert isinstance(item, events.Event)
        found.append(item)
    return found
