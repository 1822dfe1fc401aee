"""What runs while no program follows it, and is found again."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from hvcore import events
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from hvcore.operations import Op
from hvcore.state import process_start

if TYPE_CHECKING:
    from hvcore.testing.suite.contract import Contract


@pytest.mark.asyncio
class TestReconnect:
    """Domains that outlive the program that started them."""

    async def test_what_runs_is_found_again(self, contract: Contract) -> None:
        """State, reason, number and definition are what they were, and it obeys."""
        contract.need_state()
        contract.need(Op.START, Op.DESTROY)
        domain = await contract.started()
        before = domain.id, await domain.state(), await domain.xml()
        await contract.reopen()
        domain = await contract.find()
        assert (domain.id, await domain.state(), await domain.xml()) == before
        await domain.destroy()
        assert await domain.state() == (State.SHUTOFF, ShutoffReason.DESTROYED)
        assert contract.happened(domain) == ["Stopped(Destroyed)"]

    async def test_what_is_paused_stays_paused(self, contract: Contract) -> None:
        """A pause outlives the program, and can be ended by the next."""
        contract.need_state()
        contract.need(Op.START, Op.DESTROY, Op.SUSPEND, Op.RESUME)
        domain = await contract.started()
        await domain.suspend()
        before = await domain.state()
        await contract.reopen()
        domain = await contract.find()
        assert await domain.state() == before
        await domain.resume()
        assert (await domain.state())[0] is State.RUNNING

    async def test_a_transient_domain_is_found_again(self, contract: Contract) -> None:
        """It needs no definition for that."""
        contract.need_state()
        contract.need(Op.START, Op.DESTROY)
        number = (await contract.create()).id
        await contract.reopen()
        domain = await contract.find()
        assert (domain.id, domain.is_persistent) == (number, False)
        await domain.destroy()
        assert await contract.mine() == []

    async def test_what_ended_meanwhile_does_not_run(self, contract: Contract) -> None:
        """A process that died unwatched is a domain that is off, and nothing of it is left."""
        contract.need_state()
        contract.need(Op.START, Op.DESTROY)
        domain = await contract.started()
        pid = contract.pid(domain)
        await contract.host.close()
        os.kill(pid, signal.SIGKILL)
        assert await contract.gone(pid)
        await contract.reopen()
        domain = await contract.find()
        assert (await domain.state())[0] is State.SHUTOFF
        folder = contract.runtime(domain)
        assert folder is not None
        assert not folder.exists()
        await domain.start()
        assert (await domain.state())[0] is State.RUNNING

    async def test_a_process_that_is_killed_has_crashed(self, contract: Contract) -> None:
        """The end of a domain is noticed, and its reason is that nobody asked for it."""
        contract.need(Op.START, Op.DESTROY)
        domain = await contract.started()
        os.kill(contract.pid(domain), signal.SIGKILL)
        stopped = await contract.saw(domain, events.Stopped)
        assert isinstance(stopped, events.Stopped)
        assert stopped.reason is events.StoppedDetail.CRASHED
        assert await domain.state() == (State.SHUTOFF, ShutoffReason.CRASHED)
        assert contract.happened(domain) == ["Stopped(Crashed)"]

    async def test_destroying_leaves_nothing(self, contract: Contract) -> None:
        """Neither a process nor a file of what ran is left when it returns."""
        contract.need(Op.START, Op.DESTROY)
        domain = await contract.started()
        pid = contract.pid(domain)
        await domain.destroy()
        assert process_start(pid) is None
        folder = contract.runtime(domain)
        assert folder is None or not folder.exists()

    async def test_a_status_says_which_process_runs(self, contract: Contract) -> None:
        """Without the process in the status nobody could find it again."""
        contract.need_state()
        contract.need(Op.START, Op.DESTROY)
        domain = await contract.started()
        assert process_start(contract.pid(domain)) is not None
