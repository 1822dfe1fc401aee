"""What the driver says it can do is what it does; what it cannot, it refuses in one way."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import pytest
from lxml import etree

from hvcore.driver import Driver
from hvcore.errors import HvError
from hvcore.errors import UnsupportedOperation
from hvcore.operations import Op

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from collections.abc import Callable

    from hvcore.domain import Domain
    from hvcore.host import Host
    from hvcore.testing.suite.contract import Contract

_OF_HOST: Final[dict[Op, Callable[[Host, str], Awaitable[Any]]]] = {
    Op.LOWER: lambda host, xml: host.lower(xml),
    Op.VERSION: lambda host, xml: host.version(),  # noqa: ARG005 - and so below
    Op.CAPABILITIES: lambda host, xml: host.capabilities(),  # noqa: ARG005
    Op.DOMAIN_CAPABILITIES: lambda host, xml: host.domain_capabilities(),  # noqa: ARG005
}
_COPY: Final = "<disk type='file'><source file='/hvcore-contract-copy'/></disk>"
_OF_DOMAIN: Final[dict[Op, Callable[[Domain, str], Awaitable[Any]]]] = {
    Op.INFO: lambda domain, device: domain.info(),  # noqa: ARG005
    Op.CONSOLE: lambda domain, device: domain.console(),  # noqa: ARG005
    Op.RESET: lambda domain, device: domain.reset(),  # noqa: ARG005
    Op.SET_VCPUS: lambda domain, device: domain.set_vcpus(1, live=True),  # noqa: ARG005
    Op.PIN_VCPU: lambda domain, device: domain.pin_vcpu(0, "0", live=True),  # noqa: ARG005
    Op.PIN_EMULATOR: lambda domain, device: domain.pin_emulator("0", live=True),  # noqa: ARG005
    Op.SET_NUMATUNE: lambda domain, device: domain.set_numa_parameters(nodeset="0", live=True),  # noqa: ARG005
    Op.ATTACH_DEVICE: lambda domain, device: domain.attach_device(device, live=True),
    Op.ADD_IOTHREAD: lambda domain, device: domain.add_iothread(9, live=True),  # noqa: ARG005
    Op.SET_THROTTLE_GROUP: lambda domain, device: domain.set_throttle_group(  # noqa: ARG005
        "slow", {"total_iops_sec": 100}, live=True
    ),
    Op.PM_SUSPEND: lambda domain, device: domain.pm_suspend("mem"),  # noqa: ARG005
    Op.PM_WAKEUP: lambda domain, device: domain.pm_wakeup(),  # noqa: ARG005
    Op.BLOCK_PULL: lambda domain, device: domain.block_pull("vda"),  # noqa: ARG005
    Op.BLOCK_COMMIT: lambda domain, device: domain.block_commit("vda"),  # noqa: ARG005
    Op.BLOCK_COPY: lambda domain, device: domain.block_copy("vda", _COPY),  # noqa: ARG005
    Op.BLOCK_JOB_INFO: lambda domain, device: domain.block_job("vda"),  # noqa: ARG005
    Op.BLOCK_JOB_SPEED: lambda domain, device: domain.set_block_job_speed("vda", 1),  # noqa: ARG005
    Op.BLOCK_JOB_ABORT: lambda domain, device: domain.abort_block_job("vda"),  # noqa: ARG005
    Op.SNAPSHOT_CREATE: lambda domain, device: domain.create_snapshot(metadata=False),  # noqa: ARG005
    Op.AGENT_COMMAND: lambda domain, device: domain.hostname(),  # noqa: ARG005
    Op.JOB_INFO: lambda domain, device: domain.job_info(),  # noqa: ARG005
    Op.ABORT_JOB: lambda domain, device: domain.abort_job(),  # noqa: ARG005
    Op.SUSPEND: lambda domain, device: domain.suspend(),  # noqa: ARG005
    Op.RESUME: lambda domain, device: domain.resume(),  # noqa: ARG005
    Op.REBOOT: lambda domain, device: domain.reboot(),  # noqa: ARG005
    Op.SHUTDOWN: lambda domain, device: domain.shutdown(),  # noqa: ARG005
}
"""One call of each verb, in an order in which all can be called on one running domain."""


@pytest.mark.asyncio
class TestOperations:
    """Verbs that are there, and verbs that are not."""

    async def test_the_host_says_what_the_driver_overrides(self, contract: Contract) -> None:
        """No verb is listed that is not written, none is written that is not listed."""
        driver = type(contract.engine.driver)
        overridden = {
            op for op in Op if getattr(driver, op.method) is not getattr(Driver, op.method)
        }
        assert contract.host.operations == overridden

    @pytest.mark.parametrize("op", _OF_HOST, ids=lambda op: op.method)
    async def test_a_verb_of_the_host(self, contract: Contract, op: Op) -> None:
        """It is there or it refuses."""
        call = _OF_HOST[op](contract.host, contract.document())
        if op in contract.host.operations:
            assert await call
            return
        with pytest.raises(UnsupportedOperation, match=f"connection driver: {op.api}$"):
            await call

    async def test_the_verbs_of_a_domain(self, contract: Contract, device_xml: str | None) -> None:
        """Each is there or refuses; a refusal changes nothing."""
        contract.need(Op.START, Op.DESTROY)
        domain = await contract.started()
        wrong = []
        for op, verb in _OF_DOMAIN.items():
            listed = op in contract.host.operations
            if not domain.is_active or (op is Op.ATTACH_DEVICE and device_xml is None):
                continue
            assert domain.supports(op) is listed
            before = contract.happened(domain)
            refused = await _refused(verb(domain, device_xml or ""), op)
            if refused is listed:
                wrong.append(f"{op.method} is {'' if listed else 'not '}listed")
            if refused:
                assert contract.happened(domain) == before
        assert not wrong

    async def test_a_console_is_a_terminal(self, contract: Contract) -> None:
        """Its path is there as long as the domain runs."""
        contract.need(Op.START, Op.DESTROY, Op.CONSOLE)
        domain = await contract.started(change=_console)
        path = await domain.console()
        assert await asyncio.to_thread(Path(path).is_char_device)


def _console(root: Any) -> None:
    """Let a domain have a console."""
    devices = root.find("devices")
    if devices is None:
        devices = etree.SubElement(root, "devices")
    etree.SubElement(devices, "console", {"type": "pty"})


async def _refused(call: Awaitable[Any], op: Op) -> bool:
    """Tell whether a call refuses because there is no such verb.

    That this domain has no console, say, is another matter.
    """
    try:
        await call
    except UnsupportedOperation as error:
        assert error.operation == op.api  # noqa: PT017 - which error it is decides
        return True
    except HvError as error:
        assert "NotImplemented" not in str(error)  # noqa: PT017
    return False
