"""The kit's fixtures: connections, recorded events, and texts kept beside the tests."""

from __future__ import annotations

import asyncio

import pytest

from hvcore.events import Started
from hvcore.events import Stopped
from hvcore.testing.golden import Golden
from hvcore.testing.recorder import RecordedEvents

pytest_plugins = ["hvcore.testing.plugin", "pytester"]

XML = "<domain type='test'><name>vm</name><memory>1024</memory><os><type>hvm</type></os></domain>"


def test_a_blocking_host_and_its_events(hv_host, recorded_events):
    domain = hv_host.create(XML)
    other = hv_host.lookup("test")
    domain.destroy()
    other.destroy()
    assert recorded_events.names(domain) == ["Started(Booted)", "Stopped(Destroyed)"]
    assert recorded_events.wait(Stopped, other).domain.name == "test"
    recorded_events.clear()
    assert len(recorded_events) == 0


async def test_an_asynchronous_host_and_its_events(hv_host_async, recorded_events):
    domain = await hv_host_async.define(XML)
    waiting = asyncio.create_task(recorded_events.wait_async(Started, domain))
    await domain.start()
    assert (await waiting).domain.uuid == domain.uuid
    await domain.reset()
    assert recorded_events.names(domain) == ["Defined(Added)", "Started(Booted)", "Rebooted"]


async def test_what_did_not_happen_is_an_error_that_says_what_did(hv_host_async, recorded_events):
    domain = await hv_host_async.define(XML)
    with pytest.raises(AssertionError, match=r"no Started within 0.01 s, but Defined\(Added\)"):
        await recorded_events.wait_async(Started, domain, within=0.01)
    with pytest.raises(AssertionError, match=r"no Stopped within 0 s, but nothing"):
        RecordedEvents().wait(Stopped, within=0)


def test_a_golden_text_is_compared_and_written_on_request(tmp_path):
    folder = tmp_path / "goldens"
    golden = Golden(folder)
    with pytest.raises(AssertionError, match=r"a.txt does not exist; pytest --regen writes it"):
        golden("a.txt", "one\ntwo\n")
    Golden(folder, regenerate=True)("a.txt", "one\ntwo\n")
    golden("a.txt", "one\ntwo\n")
    with pytest.raises(AssertionError, match=r"-two\n\+three\n"):
        golden("a.txt", "one\nthree\n")


def test_the_golden_fixture_regenerates_with_its_option(pytester):
    pytester.makeconftest('pytest_plugins = ["hvcore.testing.plugin"]')
    pytester.makepyfile("def test_it(golden):\n    golden('x.txt', 'text')\n")
    quiet = ("-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function")
    pytester.runpytest_inprocess(*quiet).assert_outcomes(failed=1)
    pytester.runpytest_inprocess(*quiet, "--regen").assert_outcomes(passed=1)
    assert (pytester.path / "goldens" / "x.txt").read_text() == "text"
    pytester.runpytest_inprocess(*quiet).assert_outcomes(passed=1)
