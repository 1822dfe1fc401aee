"""Guests that go into files and come out of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.errors import Unsupported
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from hvcore.operations import Op

if TYPE_CHECKING:
    from pathlib import Path

    from hvcore.testing.suite.contract import Contract

_RESTORED = (State.RUNNING, RunningReason.RESTORED)
_VERBS = (Op.START, Op.DESTROY, Op.SAVE, Op.RESTORE)


@pytest.mark.asyncio
class TestSaving:
    """Save, managed save, restore and dump, as far as the driver has them."""

    async def test_a_guest_is_saved_and_restored(self, contract: Contract, tmp_path: Path) -> None:
        """It is off meanwhile, for that reason, and goes on as the domain that it was."""
        contract.need(*_VERBS)
        domain = await contract.started()
        path = str(tmp_path / "saved")
        await domain.save(path)
        assert await domain.state() == (State.SHUTOFF, ShutoffReason.SAVED)
        assert contract.happened(domain) == ["Suspended(Paused)", "Stopped(Saved)"]
        contract.forget()
        restored = await contract.host.restore(path)
        assert (restored.uuid, restored.is_persistent) == (domain.uuid, True)
        assert await domain.state() == _RESTORED
        assert contract.happened(domain) == ["Started(Restored)"]

    async def test_a_guest_is_restored_paused(self, contract: Contract, tmp_path: Path) -> None:
        """Whoever restores says whether it runs."""
        contract.need(*_VERBS, Op.RESUME)
        domain = await contract.started()
        await domain.save(str(tmp_path / "saved"))
        contract.forget()
        await contract.host.restore(str(tmp_path / "saved"), running=False)
        assert (await domain.state())[0] is State.PAUSED
        assert contract.happened(domain) == ["Started(Restored)", "Suspended(Paused)"]
        await domain.resume()
        assert (await domain.state())[0] is State.RUNNING

    async def test_the_next_start_goes_on(self, contract: Contract) -> None:
        """A managed save is used once: the start after it boots."""
        contract.need(*_VERBS)
        domain = await contract.started()
        await domain.managed_save()
        assert (await contract.find()).has_managed_save
        await domain.start()
        assert await domain.state() == _RESTORED
        assert not (await contract.find()).has_managed_save
        happened = ["Suspended(Paused)", "Stopped(Saved)", "Started(Restored)"]
        assert contract.happened(domain) == happened
        await domain.destroy()
        await domain.start()
        assert await domain.state() == (State.RUNNING, RunningReason.BOOTED)

    async def test_a_save_that_fails_ends_nothing(self, contract: Contract, tmp_path: Path) -> None:
        """Where the file cannot be written the guest goes on, and nobody is told."""
        contract.need(Op.START, Op.DESTROY, Op.SAVE)
        domain = await contract.started()
        number = domain.id
        with pytest.raises(HvError):
            await domain.save(str(tmp_path / "nowhere" / "saved"))
        assert (domain.id, (await domain.state())[0]) == (number, State.RUNNING)
        assert contract.happened(domain) == []

    async def test_what_is_no_saved_guest(self, contract: Contract, tmp_path: Path) -> None:
        """A file of something else starts nothing."""
        contract.need(*_VERBS)
        before = [each.name for each in await contract.host.domains()]
        (tmp_path / "saved").write_bytes(b"something else" * 512)
        with pytest.raises(HvError):
            await contract.host.restore(str(tmp_path / "saved"))
        assert [each.name for each in await contract.host.domains()] == before

    async def test_what_does_not_run_cannot_be_saved(
        self, contract: Contract, tmp_path: Path
    ) -> None:
        """A domain that is off is refused, and no file is left."""
        contract.need(Op.SAVE)
        domain = await contract.define()
        with pytest.raises(InvalidState):
            await domain.save(str(tmp_path / "saved"))
        assert not (tmp_path / "saved").exists()

    async def test_memory_is_dumped(self, contract: Contract, tmp_path: Path) -> None:
        """The guest goes on after a dump, which is readable by this user alone."""
        contract.need(Op.START, Op.DESTROY, Op.DUMP)
        domain = await contract.started()
        path = tmp_path / "core"
        try:
            await domain.dump(str(path))
        except Unsupported:
            pytest.skip("this hypervisor was built without dumps")
        assert (await domain.state())[0] is State.RUNNING
        assert path.stat().st_size > 0
        assert path.stat().st_mode & 0o077 == 0
