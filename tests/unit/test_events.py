"""Every stream sees the same numbered events; a slow reader is told what it missed."""

from __future__ import annotations

import asyncio

import pytest

from hvcore import events
from hvcore.events import DomainRef
from hvcore.events import EventHub
from hvcore.events import Overflow
from hvcore.events import StreamClosed

VM = DomainRef("vm", "6695eb01-f6a4-8304-79aa-97f2502e193f", 1)
OTHER = DomainRef("other", "00000000-f6a4-8304-79aa-97f2502e193f", 2)


async def test_events_are_numbered_per_host_and_reach_every_stream_in_order():
    hub = EventHub(clock=lambda: 5.0)
    one, two = hub.stream(), hub.stream()
    hub.publish(events.Started(domain=VM))
    hub.publish(events.Stopped(domain=VM, reason=events.StoppedDetail.CRASHED))
    for stream in (one, two):
        got = [await stream.get(), await stream.get()]
        assert [(type(event), event.seq, event.time) for event in got] == [
            (events.Started, 1, 5.0),
            (events.Stopped, 2, 5.0),
        ]


async def test_a_full_queue_drops_and_says_how_much_where_it_is_missing():
    hub = EventHub()
    stream = hub.stream(limit=2)
    for _ in range(5):
        hub.publish(events.Resumed(domain=VM))
    got = [await stream.get() for _ in range(3)]
    assert [getattr(item, "seq", item) for item in got] == [1, 2, Overflow(3)]
    hub.publish(events.Resumed(domain=VM))
    assert (await stream.get()).seq == 6


async def test_a_filtered_stream_keeps_the_hosts_numbers():
    hub = EventHub()
    stream = hub.stream([events.Rebooted], domain=VM.uuid)
    hub.publish(events.Rebooted(domain=OTHER))
    hub.publish(events.Resumed(domain=VM))
    hub.publish(events.Rebooted(domain=VM))
    assert (await stream.get()).seq == 3
    assert stream.get_nowait() is None


async def test_a_stream_ends_with_its_cause_and_then_stops():
    hub = EventHub()
    cause = RuntimeError("over")
    stream = hub.stream()
    waiting = asyncio.create_task(stream.get())
    await asyncio.sleep(0)
    hub.close(cause)
    assert await waiting == StreamClosed(cause)
    assert [item async for item in stream] == []


async def test_leaving_the_context_closes_only_this_stream():
    hub = EventHub()
    other = hub.stream()
    async with hub.stream() as stream:
        hub.publish(events.Started(domain=VM))
    hub.publish(events.Resumed(domain=VM))
    assert [type(item) for item in [item async for item in stream]] == [
        events.Started,
        StreamClosed,
    ]
    assert [(await other.get()).seq, (await other.get()).seq] == [1, 2]


@pytest.mark.parametrize(
    ("event", "number", "detail", "text"),
    [
        (events.Stopped(domain=VM, reason=events.StoppedDetail.FAILED), 5, 5, "Failed"),
        (
            events.Shutdown(domain=VM, reason=events.ShutdownDetail.GUEST),
            6,
            1,
            "Finished after guest request",
        ),
        (events.Crashed(domain=VM), 8, 0, "Panicked"),
    ],
)
def test_numbers_and_texts_are_libvirts(event, number, detail, text):
    assert (event.kind, event.number, int(event.reason), str(event.reason)) == (
        "lifecycle",
        number,
        detail,
        text,
    )


def test_events_are_equal_when_kind_and_contents_are():
    crashed = events.Stopped(domain=VM, reason=events.StoppedDetail.CRASHED)
    assert crashed == events.Stopped(domain=VM, reason=events.StoppedDetail.CRASHED)
    assert crashed != events.Stopped(domain=VM, reason=events.StoppedDetail.SHUTDOWN)
    assert crashed != events.Stopped(domain=OTHER, reason=events.StoppedDetail.CRASHED)
    assert events.PMWakeup(domain=VM) != events.Rebooted(domain=VM)
    assert len({events.PMWakeup(domain=VM), events.PMWakeup(domain=VM)}) == 1
    assert repr(events.PMWakeup(domain=VM)).startswith("PMWakeup(domain=DomainRef(name='vm', ")
