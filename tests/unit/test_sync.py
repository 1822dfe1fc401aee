"""The blocking API is the asynchronous one, generated, in a thread of its own."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import hvcore.domain
import hvcore.host
from hvcore import events
from hvcore import sync
from hvcore.errors import InvalidState
from hvcore.lifecycle import State

ROOT = Path(__file__).parents[2]


@pytest.fixture
def host():
    with sync.connect("test:///default") as found:
        yield found


def test_generating_it_again_changes_nothing():
    path = ROOT / "tools" / "generate_sync.py"
    spec = importlib.util.spec_from_file_location("generate_sync", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.generate() == (ROOT / "hvcore" / "sync.py").read_text()


@pytest.mark.parametrize(
    ("ours", "theirs"), [(sync.Host, hvcore.host.Host), (sync.Domain, hvcore.domain.Domain)]
)
def test_it_has_every_method_with_the_same_signature(ours, theirs):
    names = {name for name in vars(theirs) if not name.startswith("_")}
    assert names <= set(vars(ours))
    for name in names:
        member = getattr(theirs, name)
        if callable(member):
            assert inspect.signature(getattr(ours, name)) == inspect.signature(member)
        assert getattr(ours, name).__doc__ == member.__doc__


def test_a_life(host):
    stream = host.events([events.LifecycleEvent])
    [domain] = host.domains()
    assert domain.name == "test"
    domain.suspend()
    assert domain.state()[0] is State.PAUSED
    domain.resume()
    assert [type(stream.get(within=5)).__name__ for _ in range(2)] == ["Suspended", "Resumed"]
    assert stream.get(within=0.01) is None
    assert host.lookup("test") == domain
    with pytest.raises(InvalidState, match="domain is already running"):
        domain.start()
    stream.close()
    assert [type(item).__name__ for item in stream] == ["StreamClosed"]


def test_events_of_one_domain(host):
    [domain] = host.domains()
    with host.events(domain=domain) as stream:
        domain.reset()
        assert stream.get(within=5).domain.name == "test"


async def test_it_works_inside_a_running_loop():
    with sync.connect("test:///default") as host:
        assert len(host.domains()) == 1
    await asyncio.sleep(0)


def test_threads_may_share_it(host):
    errors = []

    def work():
        try:
            for _ in range(20):
                host.lookup("test").info()
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_ctrl_c_ends_a_wait_and_what_it_waited_for(host):
    [domain] = host.domains()
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        domain.wait_for(State.CRASHED, within=30)
    assert time.monotonic() - before < 10
    assert domain.state()[0] is State.RUNNING


def test_a_forked_child_gets_a_loop_of_its_own():
    code = """
        import os
        from hvcore import sync
        with sync.connect("test:///default") as host:
            pid = os.fork()
            if pid == 0:
                with sync.connect("test:///default") as mine:
                    os._exit(len(mine.domains()))
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert out.stdout == "1\n", out.stderr
