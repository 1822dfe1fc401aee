"""One modify job per domain; who waits is told who holds it."""

from __future__ import annotations

import asyncio

import pytest

from hvcore.errors import JobTimeout
from hvcore.errors import NoSuchDomain
from hvcore.jobs import AsyncJob
from hvcore.jobs import Job
from hvcore.jobs import JobSlots


async def test_a_second_job_waits_for_the_first():
    slots = JobSlots("vm")
    order = []

    async def work(name):
        async with slots.job(name):
            order.append(("in", name))
            await asyncio.sleep(0)
            order.append(("out", name))

    await asyncio.gather(work("a"), work("b"), work("c"))
    assert order == [(step, name) for name in "abc" for step in ("in", "out")]


async def test_a_timeout_names_the_holder():
    slots = JobSlots("vm", timeout=0.01)
    async with slots.job("virDomainSuspend"):
        with pytest.raises(JobTimeout) as caught:
            async with slots.job("virDomainReset"):
                pytest.fail("two jobs at once")
    assert str(caught.value) == (
        "Timed out during operation: cannot acquire state change lock"
        " (held by monitor=virDomainSuspend)"
    )
    assert caught.value.holder == "virDomainSuspend"
    async with slots.job("after"):
        assert slots.holder == "after"


async def test_the_check_runs_once_the_job_is_held_and_its_refusal_frees_it():
    slots = JobSlots("vm")

    def gone():
        assert slots.holder == "virDomainReset"
        raise NoSuchDomain("gone")

    with pytest.raises(NoSuchDomain):
        async with slots.job("virDomainReset", check=gone):
            pytest.fail("entered")
    assert slots.holder is None


async def test_an_asynchronous_job_lets_its_mask_and_destroy_beside_it():
    slots = JobSlots("vm", timeout=0.01)
    entered = asyncio.Event()
    leave = asyncio.Event()

    async def long():
        async with slots.async_job("virDomainSave", AsyncJob.SAVE, mask=frozenset({Job.QUERY})):
            async with slots.job("nested"):
                entered.set()
            await leave.wait()

    task = asyncio.create_task(long())
    await entered.wait()
    for allowed in (Job.QUERY, Job.DESTROY):
        async with slots.job("beside", allowed):
            pass
    with pytest.raises(JobTimeout, match=r"held by monitor=virDomainSave \(save\)"):
        async with slots.job("modify", Job.MODIFY):
            pytest.fail("not in the mask")
    leave.set()
    await task
    async with slots.job("modify", Job.MODIFY):
        pass


async def test_the_agent_job_is_independent_and_reports_its_own_holder():
    slots = JobSlots("vm", timeout=0.01)
    async with slots.agent_job("guest-sync"):
        async with slots.job("virDomainSuspend"):
            pass
        with pytest.raises(JobTimeout, match="held by agent=guest-sync"):
            async with slots.agent_job("guest-info"):
                pytest.fail("two agent jobs")


async def test_a_waiter_that_is_cancelled_when_granted_frees_the_slot():
    slots = JobSlots("vm", timeout=1)

    async def wait():
        async with slots.job("late"):
            pass

    async with slots.job("first"):
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert slots.holder is None
