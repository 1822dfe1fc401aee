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

import pytest

from hvcore import events
from hvcore.errors import DriverError
from hvcore.errors import HvError
from hvcore.errors import UnsupportedOperation
from hvcore.lifecycle import State
from hvcore.operations import Op
from hvcore.testing.suite.resizing import balloon
from hvcore.testing.suite.tuning import one_of_two

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from collections.abc import Callable
    from pathlib import Path

    from hvcore.domain import Domain
    from hvcore.testing.control import TestControl
    from hvcore.testing.suite.contract import Contract

_VERBS: Final[dict[Op, Callable[[Domain, Path], Awaitable[Any]]]] = {
    Op.CPU_STATS: lambda domain, path: domain.cpu_stats(),  # noqa: ARG005 - and so below
    Op.DESTROY: lambda domain, path: domain.destroy(),  # noqa: ARG005
    Op.DUMP: lambda domain, path: domain.dump(str(path)),
    Op.INFO: lambda domain, path: domain.info(),  # noqa: ARG005
    Op.INJECT_NMI: lambda domain, path: domain.inject_nmi(),  # noqa: ARG005
    Op.MEMORY_STATS: lambda domain, path: domain.memory_stats(),  # noqa: ARG005
    Op.PIN_EMULATOR: lambda domain, path: domain.pin_emulator("0", live=True),  # noqa: ARG005
    Op.PIN_VCPU: lambda domain, path: domain.pin_vcpu(0, "0", live=True),  # noqa: ARG005
    Op.REBOOT: lambda domain, path: domain.reboot(),  # noqa: ARG005
    Op.RESET: lambda domain, path: domain.reset(),  # noqa: ARG005
    Op.SAVE: lambda domain, path: domain.save(str(path)),
    Op.SET_MEMORY: lambda domain, path: domain.set_memory(32768, live=True),  # noqa: ARG005
    Op.SET_VCPUS: lambda domain, path: domain.set_vcpus(2, live=True),  # noqa: ARG005
    Op.SHUTDOWN: lambda domain, path: domain.shutdown(),  # noqa: ARG005
    Op.SUSPEND: lambda domain, path: domain.suspend(),  # noqa: ARG005
    Op.VCPU_INFO: lambda domain, path: domain.vcpu_info(),  # noqa: ARG005
}
"""A call of each verb that a running domain can fail in."""

_HELD: Final = 0.3
"""Seconds after which a verb that is not over is waiting for the process."""


@pytest.mark.asyncio
class TestFailures:
    """Errors from below reach whoever called."""

    @pytest.mark.parametrize("op", _VERBS, ids=lambda op: op.method)
    async def test_a_verb_that_fails(self, contract: Contract, tmp_path: Path, op: Op) -> None:
        """Whoever called has an error, and the domain is in the state that is left."""
        contract.need(Op.START, Op.DESTROY, op)
        controls = _controls(contract)
        if controls is None and op is Op.DESTROY:
            pytest.skip("that a process is killed is what destroying is for")
        domain = await contract.started(change=_changeable)
        if controls is None:
            await _killed(contract, domain, lambda: _VERBS[op](domain, tmp_path / "file"))
        else:
            controls.faults.before(op, DriverError("planned"))
            await _failed(contract, domain, lambda: _VERBS[op](domain, tmp_path / "file"))

    async def test_a_start_that_fails(self, contract: Contract) -> None:
        """The domain is off, and can be started after it."""
        controls = _controls(contract)
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


def _controls(contract: Contract) -> TestControl | None:
    """Return what makes the host fail; None where the host is a real one."""
    try:
        return contract.host.test
    except UnsupportedOperation:
        return None


def _changeable(root: Any) -> None:
    """Let a domain be resized while it runs."""
    balloon(root)
    one_of_two(root)
