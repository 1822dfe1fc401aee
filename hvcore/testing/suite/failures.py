"""Verbs that fail while they are carried out: whoever called is told, and nothing is left.

Hosts that exist only for tests are told to fail. Elsewhere the domain's process is stopped, so that
it answers nothing, and killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs
import pytest
from lxml import etree

from hvcore import events
from hvcore.errors import DriverError
from hvcore.errors import HvError
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import State
from hvcore.operations import Op
from hvcore.testing.suite.resizing import balloon
from hvcore.testing.suite.tuning import one_iothread
from hvcore.testing.suite.tuning import one_of_two

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from collections.abc import Callable
    from pathlib import Path

    from hvcore.domain import Domain
    from hvcore.testing.suite.contract import Contract


@attrs.frozen
class _Given:
    """What verbs may need.

    :ivar disk: the target of ``device``, if that is a disk.
    """

    path: str
    device: str
    disk: str


_VERBS: Final[dict[Op, Callable[[Domain, _Given], Awaitable[Any]]]] = {
    Op.ATTACH_DEVICE: lambda domain, given: domain.attach_device(given.device, live=True),
    Op.BLOCK_INFO: lambda domain, given: domain.block_info(given.disk),
    Op.BLOCK_PULL: lambda domain, given: domain.block_pull(given.disk),
    Op.BLOCK_STATS: lambda domain, given: domain.block_stats(given.disk),
    Op.CPU_STATS: lambda domain, given: domain.cpu_stats(),  # noqa: ARG005 - and so below
    Op.DESTROY: lambda domain, given: domain.destroy(),  # noqa: ARG005
    Op.DETACH_DEVICE: lambda domain, given: domain.detach_device(given.device, live=True),
    Op.DUMP: lambda domain, given: domain.dump(given.path),
    Op.INFO: lambda domain, given: domain.info(),  # noqa: ARG005
    Op.INJECT_NMI: lambda domain, given: domain.inject_nmi(),  # noqa: ARG005
    Op.MEMORY_STATS: lambda domain, given: domain.memory_stats(),  # noqa: ARG005
    Op.PIN_EMULATOR: lambda domain, given: domain.pin_emulator("0", live=True),  # noqa: ARG005
    Op.PIN_IOTHREAD: lambda domain, given: domain.pin_iothread(1, "0", live=True),  # noqa: ARG005
    Op.PIN_VCPU: lambda domain, given: domain.pin_vcpu(0, "0", live=True),  # noqa: ARG005
    Op.REBOOT: lambda domain, given: domain.reboot(),  # noqa: ARG005
    Op.RESET: lambda domain, given: domain.reset(),  # noqa: ARG005
    Op.RESIZE_DISK: lambda domain, given: domain.resize_disk(given.disk, 8 << 20),
    Op.RESUME: lambda domain, given: domain.resume(),  # noqa: ARG005
    Op.SAVE: lambda domain, given: domain.save(given.path),
    Op.SET_MEMORY: lambda domain, given: domain.set_memory(32768, live=True),  # noqa: ARG005
    Op.SET_NUMATUNE: lambda domain, given: domain.set_numa_parameters(nodeset="0", live=True),  # noqa: ARG005
    Op.SET_VCPU: lambda domain, given: domain.set_vcpu("1", enabled=True, live=True),  # noqa: ARG005
    Op.SET_VCPUS: lambda domain, given: domain.set_vcpus(2, live=True),  # noqa: ARG005
    Op.SHUTDOWN: lambda domain, given: domain.shutdown(),  # noqa: ARG005
    Op.SUSPEND: lambda domain, given: domain.suspend(),  # noqa: ARG005
    Op.VCPU_INFO: lambda domain, given: domain.vcpu_info(),  # noqa: ARG005
}
"""A call of each verb that a running domain can fail in."""

_WITH_DEVICE: Final = frozenset({Op.ATTACH_DEVICE, Op.DETACH_DEVICE})
_WITH_DISK: Final = frozenset({Op.BLOCK_INFO, Op.BLOCK_PULL, Op.BLOCK_STATS, Op.RESIZE_DISK})

_HELD: Final = 0.3
"""Seconds after which a verb that is not over is waiting for the process."""


@pytest.mark.asyncio
class TestFailures:
    """Errors from below reach whoever called."""

    @pytest.mark.parametrize("op", _VERBS, ids=lambda op: op.method)
    async def test_a_verb_that_fails(
        self, contract: Contract, tmp_path: Path, op: Op, device_xml: str | None
    ) -> None:
        """Whoever called has an error, and the domain is in the state that is left."""
        contract.need(Op.START, Op.DESTROY, op)
        controls = contract.controls()
        if controls is None and op is Op.DESTROY:
            pytest.skip("that a process is killed is what destroying is for")
        given = _given(op, tmp_path, device_xml)
        domain = await contract.started(change=_with_iothread if op is Op.PIN_IOTHREAD else _small)
        if op is Op.RESUME:
            contract.need(Op.SUSPEND)
            await domain.suspend()
        if op is Op.DETACH_DEVICE or op in _WITH_DISK:
            contract.need(Op.ATTACH_DEVICE)
            await domain.attach_device(given.device, live=True)
        contract.forget()
        if controls is None:
            await _killed(contract, domain, lambda: _VERBS[op](domain, given))
        else:
            controls.faults.before(op, DriverError("planned"))
            await _failed(contract, domain, lambda: _VERBS[op](domain, given))

    async def test_a_start_that_fails(self, contract: Contract) -> None:
        """The domain is off, and can be started after it."""
        controls = contract.controls()
        if controls is None:
            pytest.skip("a real host does not fail on demand")
        domain = await contract.define()
        contract.forget()
        controls.faults.before(Op.START, DriverError("planned"))
        with pytest.raises(DriverError, match=r"planned$"):
            await domain.start()
        assert (domain.id, (await domain.state())[0]) == (None, State.SHUTOFF)
        assert contract.happened(domain) == []
        await domain.start()
        assert (await domain.state())[0] is State.RUNNING

    async def test_a_start_from_a_saved_state_that_fails(self, contract: Contract) -> None:
        """The domain is off, and its state is not lost."""
        controls = contract.controls()
        if controls is None:
            pytest.skip("a real host does not fail on demand")
        contract.need(Op.START, Op.SAVE, Op.RESTORE)
        domain = await contract.started()
        await domain.managed_save()
        controls.faults.before(Op.RESTORE, DriverError("planned"))
        with pytest.raises(DriverError, match=r"planned$"):
            await domain.start()
        assert (await domain.state())[0] is State.SHUTOFF
        await domain.start()
        assert (await domain.state())[1] is RunningReason.RESTORED


async def _failed(contract: Contract, domain: Domain, verb: Callable[[], Awaitable[Any]]) -> None:
    """See that a planned error arrives as it is, and that the domain runs on as before."""
    before = await domain.xml(), await domain.state()
    with pytest.raises(DriverError, match=r"planned$"):
        await verb()
    assert (await domain.xml(), await domain.state()) == before
    assert contract.happened(domain) == []
    await verb()


async def _killed(contract: Contract, domain: Domain, verb: Callable[[], Awaitable[Any]]) -> None:
    """See that whoever waits for a process that is killed is told, and that nothing is left."""
    pid, folder = contract.pid(domain), contract.runtime(domain)
    os.kill(pid, signal.SIGSTOP)
    running = asyncio.ensure_future(verb())
    done, _ = await asyncio.wait({running}, timeout=_HELD)
    os.kill(pid, signal.SIGKILL)
    if done:
        running.exception()  # it does without the process
    else:
        with pytest.raises(HvError):
            await running
    await contract.saw(domain, events.Stopped)
    assert (domain.id, (await domain.state())[0]) == (None, State.SHUTOFF)
    stopped = [each for each in contract.happened(domain) if each.startswith("Stopped")]
    assert len(stopped) == 1
    assert await contract.gone(pid)
    assert folder is None or not folder.exists()


def _given(op: Op, folder: Path, device: str | None) -> _Given:
    """Return what a verb needs; skips the test where it is not known."""
    target = None if device is None else etree.fromstring(device).find("target")
    if (device is None and op in _WITH_DEVICE) or (target is None and op in _WITH_DISK):
        pytest.skip("no such device is known that can be plugged in")
    disk = "" if target is None else str(target.get("dev"))
    return _Given(str(folder / "file"), device or "", disk)


def _small(root: Any) -> None:
    """Let a domain be resized while it runs."""
    balloon(root)
    one_of_two(root)


def _with_iothread(root: Any) -> None:
    """Let a domain have an I/O thread, too."""
    _small(root)
    one_iothread(root)
