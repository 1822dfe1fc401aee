"""What is written down, and found again by the next program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from hvcore.operations import Op

if TYPE_CHECKING:
    from hvcore.testing.suite.contract import Contract


@pytest.mark.asyncio
class TestPersistence:
    """Definitions of drivers that keep state."""

    async def test_a_definition_is_kept(self, contract: Contract) -> None:
        """The next program reads the document that was given, completed."""
        contract.need_state()
        domain = await contract.define()
        await domain.set_autostart()
        before = await domain.xml(), domain.uuid, domain.autostart
        await contract.reopen()
        domain = await contract.find()
        assert (await domain.xml(), domain.uuid, domain.autostart) == before
        assert await domain.state() == (State.SHUTOFF, ShutoffReason.UNKNOWN)

    async def test_an_undefined_domain_stays_away(self, contract: Contract) -> None:
        """What was removed is not found again."""
        contract.need_state()
        await (await contract.define()).undefine()
        await contract.reopen()
        assert await contract.mine() == []

    async def test_why_it_stopped_is_kept(self, contract: Contract) -> None:
        """The next program knows why a domain does not run."""
        contract.need_state()
        contract.need(Op.START, Op.DESTROY)
        domain = await contract.started()
        await domain.destroy()
        await contract.reopen()
        domain = await contract.find()
        assert await domain.state() == (State.SHUTOFF, ShutoffReason.DESTROYED)

    async def test_a_driver_without_state_forgets(self, contract: Contract) -> None:
        """Where nothing is kept, the last connection takes it all along."""
        if contract.keeps_state:
            pytest.skip("the driver keeps state")
        await contract.define()
        await contract.reopen()
        assert await contract.mine() == []
