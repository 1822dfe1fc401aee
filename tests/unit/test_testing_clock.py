"""The clock of test hosts: moves when told, or when everybody waits for it."""

from __future__ import annotations

import asyncio

import pytest

from hvcore.testing.clock import VirtualClock


async def test_what_is_due_happens_at_its_time_and_in_order():
    clock = VirtualClock()
    seen = []
    clock.call_later(5, lambda: seen.append(("late", clock.now)))
    clock.call_later(2, lambda: seen.append(("early", clock.now)))
    clock.call_later(3, lambda: seen.append("never")).cancel()
    await clock.advance(4)
    assert (seen, clock.now) == ([("early", 2.0)], 4.0)
    await clock.advance(4)
    assert (seen[1:], clock.now) == ([("late", 5.0)], 8.0)
    with pytest.raises(ValueError, match="backwards"):
        await clock.advance(-1)


async def test_sleeping_takes_no_time():
    clock = VirtualClock()
    woken = []

    async def sleeper(seconds):
        await clock.sleep(seconds)
        woken.append((seconds, clock.now))

    await asyncio.wait_for(asyncio.gather(sleeper(3600), sleeper(60), sleeper(0)), 5)
    assert woken == [(0, 0.0), (60, 60.0), (3600, 3600.0)]


async def test_a_held_clock_waits_for_the_test():
    clock = VirtualClock()
    clock.hold()
    sleeping = asyncio.create_task(clock.sleep(10))
    await clock.advance(9.5)
    assert not sleeping.done()
    await clock.advance(0.5)
    assert sleeping.done()
    sleeping = asyncio.create_task(clock.sleep(10))
    await clock.advance(0)
    clock.release()
    await asyncio.wait_for(sleeping, 5)
    assert clock.now == 20.0


async def test_what_a_woken_task_does_next_belongs_to_the_same_moment():
    clock = VirtualClock()
    clock.hold()
    seen = []

    async def chain():
        await clock.sleep(1)
        for _ in range(10):
            await asyncio.sleep(0)
        seen.append(clock.now)
        await clock.sleep(1)
        seen.append(clock.now)

    task = asyncio.create_task(chain())
    await clock.advance(5)
    assert seen == [1.0, 2.0]
    await task


async def test_a_cancelled_sleeper_moves_nothing():
    clock = VirtualClock()
    sleeping = asyncio.create_task(clock.sleep(100))
    await asyncio.sleep(0)
    sleeping.cancel()
    await asyncio.gather(sleeping, return_exceptions=True)
    await clock.advance(0)
    assert clock.now == 0.0
