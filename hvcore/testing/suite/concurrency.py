"""Several at once: on one domain, on many, and a change of mind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.host import connect
from hvcore.lifecycle import State
from hvcore.operations import Op

if TYPE_CHECKING:
    from hvcore.testing.suite.contract import Contract

_MANY = 4


@pytest.mark.asyncio
class TestConcurrency:
    """Whatever overlaps, every domain is in one state and every change is announced once."""

    async def test_one_of_two_starts_wins(self, contract: Contract) -> None:
        """The other is told that the domain runs."""
        contract.need(Op.START, Op.DESTROY)
        domain = await contract.define()
        contract.forget()
        answers = await asyncio.gather(domain.start(), domain.start(), return_exceptions=True)
        refused = [answer for answer in answers if answer is not None]
        assert [type(error) for error in refused] == [InvalidState]
        assert contract.happened(domain) == ["Started(Booted)"]

    async def test_many_start_and_end_at_once(self, contract: Contract) -> None:
        """Each has a number of its own, and each ends."""
        contract.need(Op.START, Op.DESTROY)
        domains = [await contract.define(f"vm{number}") for number in range(_MANY)]
        await asyncio.gather(*[domain.start() for domain in domains])
        assert len({domain.id for domain in domains} - {None}) == _MANY
        await asyncio.gather(*[domain.destroy() for domain in domains])
        for domain in domains:
            assert contract.happened(domain)[-2:] == ["Started(Booted)", "Stopped(Destroyed)"]

    async def test_one_of_two_ends_is_announced(self, contract: Contract) -> None:
        """Two who destroy a domain both return, or one is told that it is off already."""
        contract.need(Op.START, Op.DESTROY)
        domain = await contract.started()
        answers = await asyncio.gather(domain.destroy(), domain.destroy(), return_exceptions=True)
        assert {type(answer) for answer in answers} <= {type(None), InvalidState}
        assert None in answers
        assert contract.happened(domain) == ["Stopped(Destroyed)"]

    async def test_pauses_that_overlap(self, contract: Contract) -> None:
        """Two who suspend make one pause."""
        contract.need(Op.START, Op.DESTROY, Op.SUSPEND)
        domain = await contract.started()
        await asyncio.gather(domain.suspend(), domain.suspend())
        assert (await domain.state())[0] is State.PAUSED
        assert contract.happened(domain) == ["Suspended(Paused)"]

    async def test_a_start_is_cut_short(self, contract: Contract) -> None:
        """Destroying what is being started ends it; it can be started again."""
        contract.need(Op.START, Op.DESTROY)
        domain = await contract.define()
        starting = asyncio.ensure_future(domain.start())
        async with asyncio.timeout(contract.patience):
            while not (domain.is_active or starting.done()):  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0)
        contract.forget()
        done = starting.done()
        await domain.destroy()
        answer = (await asyncio.gather(starting, return_exceptions=True))[0]
        assert done or isinstance(answer, HvError) or "Started(Booted)" in contract.happened(domain)
        assert (await domain.state())[0] is State.SHUTOFF
        await domain.start()
        assert (await domain.state())[0] is State.RUNNING

    async def test_whoever_starts_may_lose_interest(self, contract: Contract) -> None:
        """A start that is cancelled leaves a domain that runs or one that does not."""
        contract.need(Op.START, Op.DESTROY)
        domain = await contract.define()
        starting = asyncio.ensure_future(domain.start())
        await asyncio.sleep(0.01)
        starting.cancel()
        answer = (await asyncio.gather(starting, return_exceptions=True))[0]
        cancelled = isinstance(answer, asyncio.CancelledError)
        assert (await domain.state())[0] is (State.SHUTOFF if cancelled else State.RUNNING)
        folder = contract.runtime(domain)
        assert folder is None or folder.exists() is not cancelled

    async def test_two_connections_see_the_same(self, contract: Contract) -> None:
        """What one does the other finds done."""
        contract.need(Op.START, Op.DESTROY)
        domain = await contract.define()
        async with await connect(contract.uri, registry=contract.registry) as other:
            same = await other.lookup_uuid(domain.uuid)
            await same.start()
            assert (await domain.state())[0] is State.RUNNING
            await domain.destroy()
            assert not same.is_active

    async def test_questions_wait_for_nobody(self, contract: Contract) -> None:
        """While one domain starts, another can be asked and changed."""
        contract.need(Op.START, Op.DESTROY)
        first, second = await contract.define("first"), await contract.define("second")
        starting = asyncio.ensure_future(first.start())
        assert (await second.state())[0] is State.SHUTOFF
        await second.start()
        await starting
        with pytest.raises(HvError, match="already running"):
            await first.start()
