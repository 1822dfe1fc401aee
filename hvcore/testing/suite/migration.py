"""Guests that move to another host of the driver, and those that cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

import pytest
import pytest_asyncio

from hvcore import events
from hvcore.errors import DriverError
from hvcore.errors import HvError
from hvcore.jobinfo import JobInfo
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from hvcore.operations import Op
from hvcore.testing.suite.contract import opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hvcore.events import EventStream
    from hvcore.registry import Registry
    from hvcore.testing.suite.contract import Contract

_PHASES: Final = (
    Op.START,
    Op.DESTROY,
    Op.MIGRATE_BEGIN,
    Op.MIGRATE_PREPARE,
    Op.MIGRATE,
    Op.MIGRATE_FINISH,
    Op.MIGRATE_CONFIRM,
)

_THERE: Final = frozenset({Op.MIGRATE_PREPARE, Op.MIGRATE_FINISH})
"""Phases of the destination."""
_FAILING: Final = (Op.MIGRATE_BEGIN, Op.MIGRATE_PREPARE, Op.MIGRATE, Op.MIGRATE_FINISH)


@pytest.mark.asyncio
class TestMigration:
    """Migration between two hosts, as far as the driver has it and the fixtures name a second."""

    @pytest_asyncio.fixture
    async def target(
        self,
        target_uri: str | None,
        contract: Contract,
        driver_registry: Registry,
        guest_xml: str,
        driver_patience: float,
    ) -> AsyncIterator[Contract]:
        """Return a connection to the other host."""
        contract.need(*_PHASES)
        if target_uri is None:
            pytest.skip("no second host is known")
        name = "hvcore-contract-target"
        async with opened(
            target_uri, driver_registry, guest_xml, driver_patience, name=name
        ) as made:
            yield made

    async def test_a_guest_moves(self, contract: Contract, target: Contract) -> None:
        """It runs there, and its definition stays here."""
        domain = await contract.started()
        here, there = contract.host.events(), target.host.events()
        moved = target.adopt(await domain.migrate(target.host, live=True))
        assert (await domain.state())[1] is ShutoffReason.MIGRATED
        assert (await moved.state())[1] is RunningReason.MIGRATED
        assert (moved.uuid, moved.is_persistent) == (domain.uuid, False)
        assert _life(here) == ["Suspended(Migrated)", "Stopped(Migrated)"]
        assert _life(there) == ["Started(Migrated)", "Resumed(Migrated)"]
        await moved.destroy()
        assert await target.mine() == []

    async def test_a_definition_moves(self, contract: Contract, target: Contract) -> None:
        """With both flags a domain is there what it was here."""
        domain = await contract.started()
        moved = target.adopt(
            await domain.migrate(target.host, persistent=True, undefine_source=True)
        )
        assert moved.is_persistent
        assert await contract.mine() == []
        await moved.destroy()
        await moved.start()

    async def test_there_and_back_again(self, contract: Contract, target: Contract) -> None:
        """A guest that stands still does so on each host."""
        domain = await contract.create(paused=True)
        moved = target.adopt(await domain.migrate(target.host, live=True))
        assert (await moved.state())[1] is PausedReason.USER
        back = await moved.migrate(contract.host, live=True)
        assert (await back.state())[1] is PausedReason.USER
        assert await target.mine() == []

    async def test_one_that_is_there_already(self, contract: Contract, target: Contract) -> None:
        """It is refused, and both go on."""
        domain = await contract.started()
        other = await target.started()
        here = contract.host.events()
        with pytest.raises(HvError):
            await domain.migrate(target.host, live=True)
        assert (await domain.state())[1] is RunningReason.BOOTED
        assert (await other.state())[1] is RunningReason.BOOTED
        assert _life(here) == []

    async def test_one_that_does_not_arrive(
        self, contract: Contract, target: Contract, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A guest goes on here when its other machine says that it cannot run there."""

        async def fail(*args: object, **options: object) -> None:
            del args, options
            raise DriverError("the guest did not arrive")

        monkeypatch.setattr(target.engine.driver, Op.MIGRATE_FINISH.method, fail)
        domain = await contract.started()
        here = contract.host.events()
        with pytest.raises(DriverError, match="the guest did not arrive"):
            await domain.migrate(target.host, live=True, persistent=True)
        assert (await domain.state())[1] is RunningReason.MIGRATION_CANCELED
        assert _life(here) == ["Suspended(Migrated)", "Resumed(Migrated)"]
        assert await target.mine() == []

    @pytest.mark.parametrize("phase", _FAILING, ids=lambda op: op.method)
    async def test_a_phase_that_fails(
        self, contract: Contract, target: Contract, phase: Op
    ) -> None:
        """A guest goes on here and is not there, and may try again."""
        at = target if phase in _THERE else contract
        controls = at.controls()
        if controls is None:
            pytest.skip("a real host does not fail on demand")
        controls.faults.before(phase, DriverError("planned"))
        domain = await contract.started()
        with pytest.raises(DriverError, match=r"planned$"):
            await domain.migrate(target.host, live=True)
        assert (await domain.state())[0] is State.RUNNING
        assert await target.mine() == []
        target.adopt(await domain.migrate(target.host, live=True))

    async def test_jobs(self, contract: Contract, target: Contract) -> None:
        """What a migration took is known afterwards, once."""
        contract.need(Op.JOB_INFO)
        domain = await contract.started()
        assert await domain.job_info() == JobInfo()
        target.adopt(await domain.migrate(target.host, live=True))
        assert (await domain.job_info(completed=True)).data_processed > 0
        assert await domain.job_info(completed=True) == JobInfo()


def _life(stream: EventStream) -> list[str]:
    """Return what one host announced: an observer hears of both."""
    found = []
    while (event := stream.get_nowait()) is not None:
        if isinstance(event, events.LifecycleEvent) and not isinstance(event, events.Shutdown):
            found.append(f"{type(event).__name__}({getattr(event, 'reason', '')})")
    return found
