"""A domain's life: states, their reasons, and what is announced of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lxml import etree

from hvcore import events
from hvcore.errors import InvalidState
from hvcore.errors import NoSuchDomain
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from hvcore.operations import Op

if TYPE_CHECKING:
    from hvcore.testing.suite.contract import Contract

RUNNING = (State.RUNNING, RunningReason.BOOTED)


@pytest.mark.asyncio
class TestLifecycle:
    """What every driver's domains do."""

    async def test_a_defined_domain_does_not_run(self, contract: Contract) -> None:
        """Defining starts nothing and is announced once."""
        domain = await contract.define()
        assert (domain.id, domain.is_active, domain.is_persistent) == (None, False, True)
        assert await domain.state() == (State.SHUTOFF, ShutoffReason.UNKNOWN)
        assert contract.happened(domain) == ["Defined(Added)"]

    async def test_a_started_domain_runs(self, contract: Contract) -> None:
        """A start returns when the domain runs, with a number, and is announced once."""
        contract.need(Op.START, Op.DESTROY)
        domain = await contract.define()
        contract.forget()
        await domain.start()
        assert await domain.state() == RUNNING
        assert domain.is_active
        assert isinstance(domain.id, int)
        assert contract.happened(domain) == ["Started(Booted)"]

    async def test_a_domain_can_be_started_paused(self, contract: Contract) -> None:
        """A paused start says that it started and that it is suspended."""
        contract.need(Op.START, Op.DESTROY)
        domain = await contract.define()
        contract.forget()
        await domain.start(paused=True)
        assert await domain.state() == (State.PAUSED, PausedReason.USER)
        assert contract.happened(domain) == ["Started(Booted)", "Suspended(Paused)"]

    async def test_what_started_paused_can_be_resumed(self, contract: Contract) -> None:
        """The CPUs of a paused start can be let run."""
        contract.need(Op.START, Op.DESTROY, Op.RESUME)
        domain = await contract.define()
        await domain.start(paused=True)
        contract.forget()
        await domain.resume()
        assert await domain.state() == (State.RUNNING, RunningReason.UNPAUSED)
        assert contract.happened(domain) == ["Resumed(Unpaused)"]

    async def test_suspend_and_resume(self, contract: Contract) -> None:
        """Stopping the CPUs is shown when it returns; doing it again does nothing."""
        contract.need(Op.START, Op.DESTROY, Op.SUSPEND, Op.RESUME)
        domain = await contract.started()
        number = domain.id
        await domain.suspend()
        assert await domain.state() == (State.PAUSED, PausedReason.USER)
        await domain.suspend()
        assert contract.happened(domain) == ["Suspended(Paused)"]
        await domain.resume()
        assert await domain.state() == (State.RUNNING, RunningReason.UNPAUSED)
        assert contract.happened(domain) == ["Suspended(Paused)", "Resumed(Unpaused)"]
        assert domain.id == number

    async def test_a_destroyed_domain_is_off(self, contract: Contract) -> None:
        """Destroying returns when the domain is off, and says why, once."""
        contract.need(Op.START, Op.DESTROY)
        domain = await contract.started()
        await domain.destroy()
        assert await domain.state() == (State.SHUTOFF, ShutoffReason.DESTROYED)
        assert (domain.id, domain.is_active) == (None, False)
        assert contract.happened(domain) == ["Stopped(Destroyed)"]

    async def test_a_paused_domain_can_be_destroyed(self, contract: Contract) -> None:
        """CPUs that stand still keep nothing from ending."""
        contract.need(Op.START, Op.DESTROY, Op.SUSPEND)
        domain = await contract.started()
        await domain.suspend()
        await domain.destroy()
        assert await domain.state() == (State.SHUTOFF, ShutoffReason.DESTROYED)

    async def test_a_domain_can_be_started_again(self, contract: Contract) -> None:
        """The second life is as the first, with a number of its own."""
        contract.need(Op.START, Op.DESTROY)
        domain = await contract.started()
        first = domain.id
        await domain.destroy()
        contract.forget()
        await domain.start()
        assert await domain.state() == RUNNING
        assert domain.id not in {None, first}
        assert contract.happened(domain) == ["Started(Booted)"]

    async def test_shutdown(self, contract: Contract, guest_obeys: bool) -> None:
        """A guest that obeys its power button is off, and that is why."""
        contract.need(Op.START, Op.DESTROY, Op.SHUTDOWN)
        domain = await contract.started()
        await domain.shutdown()
        if not guest_obeys:
            assert domain.is_active
            return
        await domain.wait_for(State.SHUTOFF, within=contract.patience)
        assert await domain.state() == (State.SHUTOFF, ShutoffReason.SHUTDOWN)
        assert contract.happened(domain) == ["Stopped(Shutdown)"]

    async def test_reboot(self, contract: Contract, guest_obeys: bool) -> None:
        """A reboot is announced, and the domain stays the same one."""
        contract.need(Op.START, Op.DESTROY, Op.REBOOT)
        domain = await contract.started()
        number = domain.id
        await domain.reboot()
        if guest_obeys:
            await contract.saw(domain, events.Rebooted)
            await domain.wait_for(State.RUNNING, within=contract.patience)
        assert domain.id == number
        assert contract.happened(domain) == []

    async def test_reset(self, contract: Contract) -> None:
        """A reset is announced as a reboot, and the domain stays the same one."""
        contract.need(Op.START, Op.DESTROY, Op.RESET)
        domain = await contract.started()
        number = domain.id
        await domain.reset()
        await contract.saw(domain, events.Rebooted)
        assert (domain.id, (await domain.state())[0]) == (number, State.RUNNING)
        assert contract.happened(domain) == []

    async def test_info(self, contract: Contract) -> None:
        """What a running domain uses is known; its CPU time never decreases."""
        contract.need(Op.START, Op.DESTROY, Op.INFO)
        domain = await contract.started()
        first = await domain.info()
        second = await domain.info()
        assert first.state is State.RUNNING
        assert first.memory > 0
        assert 0 <= first.cpu_time <= second.cpu_time
        await domain.destroy()
        assert (await domain.info()).cpu_time == 0

    async def test_a_transient_domain_vanishes(self, contract: Contract) -> None:
        """What was never defined is gone when it stops."""
        contract.need(Op.START, Op.DESTROY)
        domain = await contract.create()
        assert (domain.is_active, domain.is_persistent) == (True, False)
        await domain.destroy()
        assert contract.happened(domain) == ["Started(Booted)", "Stopped(Destroyed)"]
        with pytest.raises(NoSuchDomain):
            await contract.find()

    async def test_undefining_what_runs_makes_it_transient(self, contract: Contract) -> None:
        """A domain runs on without a definition and vanishes when it stops."""
        contract.need(Op.START, Op.DESTROY)
        domain = await contract.started()
        await domain.undefine()
        assert (domain.is_active, domain.is_persistent) == (True, False)
        await domain.destroy()
        assert contract.happened(domain) == ["Undefined(Removed)", "Stopped(Destroyed)"]
        assert await contract.mine() == []

    async def test_redefining_changes_the_next_start_only(self, contract: Contract) -> None:
        """What runs keeps the definition it was started with."""
        contract.need(Op.START, Op.DESTROY)
        domain = await contract.started()

        root = etree.fromstring(await domain.xml(inactive=True, secure=True))
        title = etree.Element("title")
        title.text = "later"
        root.insert(2, title)
        await contract.host.define(etree.tostring(root))
        assert contract.happened(domain) == ["Defined(Updated)"]
        assert "later" not in await domain.xml()
        assert "later" in await domain.xml(inactive=True)
        await domain.destroy()
        assert "later" in await domain.xml()
        await domain.start()
        assert "later" in await domain.xml()

    async def test_wrong_states_are_refused(self, contract: Contract) -> None:
        """What does not fit the state is refused in libvirt's words, and changes nothing."""
        contract.need(Op.START, Op.DESTROY)
        domain = await contract.define()
        contract.forget()
        for verb in (domain.destroy, domain.shutdown, domain.suspend, domain.resume, domain.reset):
            with pytest.raises(InvalidState, match=r"domain is not running$"):
                await verb()
        await domain.start()
        for verb in (domain.start, domain.resume):
            with pytest.raises(InvalidState, match=r"domain is already running$"):
                await verb()
        assert contract.happened(domain) == ["Started(Booted)"]

    async def test_autostart(self, contract: Contract) -> None:
        """What is marked for it is started with the host."""
        contract.need(Op.START, Op.DESTROY)
        domain = await contract.define()
        await domain.set_autostart()
        assert await contract.host.autostart() == [domain]
        assert await domain.state() == RUNNING
