"""A process gets what is listed and nothing else, and its end wakes who waits."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import socket
import stat
import sys

import pytest

from hvcore.errors import DriverError
from hvcore.errors import LaunchError
from hvcore.model.types import NodeSet
from hvcore.process import Launch
from hvcore.process import Log
from hvcore.process import Process
from hvcore.state import process_start


def launch(tmp_path, script, fds=(), **more):
    return Launch(
        argv=["/bin/sh", "-c", script], env={"A": "x y"}, fds=fds, log=tmp_path / "vm.log", **more
    )


def show(code):
    return f"exec {sys.executable} -c {shlex.quote(code)}"


async def finished(tmp_path, script, fds=()):
    process = await Process.spawn(launch(tmp_path, script, fds))
    status = await process.wait()
    return status, (tmp_path / "vm.log").read_text()


async def test_it_inherits_only_the_listed_descriptors(tmp_path):
    ours, other = socket.socketpair()
    with ours, other:
        os.set_inheritable(other.fileno(), True)
        code = (
            'import os; names = map(int, os.listdir("/proc/self/fd"));'
            ' print([n for n in names if n > 2 and os.path.exists(f"/proc/self/fd/{n}")])'
        )
        number = ours.fileno()
        status, output = await finished(tmp_path, show(code), [number])
    assert (status, output.strip()) == (0, str([number]))


async def test_it_has_its_own_session_no_input_and_our_environment_only(tmp_path):
    code = (
        "import os, sys; "
        "print(os.getsid(0) == os.getpid(), sys.stdin.read(), dict(os.environ).get(chr(65)),"
        " len(os.environ) < 5, os.getcwd())"
    )
    _, output = await finished(tmp_path, show(code))
    assert output.strip() == "True  x y True /"


async def test_it_may_be_bound_to_cpus_without_binding_us(tmp_path):
    before = os.sched_getaffinity(0)
    cpu = min(before)
    code = "import os; print(os.sched_getaffinity(0))"
    process = await Process.spawn(launch(tmp_path, show(code), affinity=NodeSet([cpu])))
    await process.wait()
    assert (tmp_path / "vm.log").read_text().strip() == str({cpu})
    assert os.sched_getaffinity(0) == before


async def test_the_exit_status_is_known(tmp_path):
    assert (await finished(tmp_path, "exit 7"))[0] == 7
    process = await Process.spawn(launch(tmp_path, "exec sleep 60"))
    os.kill(process.pid, signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL
    assert not process.alive
    process.send(signal.SIGTERM)


async def test_stopping_asks_first_and_kills_then(tmp_path):
    process = await Process.spawn(launch(tmp_path, "exec sleep 60"))
    await process.stop(force=False)
    assert await process.wait() == -signal.SIGTERM
    stubborn = await Process.spawn(launch(tmp_path, "trap '' TERM; while :; do sleep 0.05; done"))
    await asyncio.sleep(0.2)
    with pytest.raises(DriverError, match=r"Failed to terminate process \d+ with SIGTERM"):
        await stubborn.stop(force=False, grace=0.1)
    assert stubborn.alive
    await stubborn.stop(force=True, grace=0.1)
    assert await stubborn.wait() == -signal.SIGKILL


async def test_a_process_of_somebody_else_can_be_held(tmp_path):
    mine = await Process.spawn(launch(tmp_path, "exec sleep 60"))
    held = Process.attach(mine.pid, mine.start)
    assert held.alive
    assert Process.attach(mine.pid, mine.start + 1) is None
    await mine.stop(force=True)
    assert await asyncio.wait_for(held.wait(), 5) is None
    assert Process.attach(mine.pid, mine.start) is None


async def test_letting_go_leaves_it_running(tmp_path):
    process = await Process.spawn(launch(tmp_path, "exec sleep 60"))
    pid, start = process.pid, process.start
    process.release()
    del process
    try:
        assert process_start(pid) == start
    finally:
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(os.waitpid, pid, 0)


async def test_a_program_that_is_not_there(tmp_path):
    wanted = Launch(argv=["/nonexistent/qemu"], env={}, fds=(), log=tmp_path / "vm.log")
    with pytest.raises(LaunchError) as caught:
        await Process.spawn(wanted)
    assert str(caught.value) == (
        "internal error: cannot execute binary /nonexistent/qemu: No such file or directory"
    )


async def test_the_log_says_what_was_started_and_its_tail_is_only_of_this_start(tmp_path):
    path = tmp_path / "vm.log"
    log = Log(path)
    first = launch(tmp_path, "echo first >&2")
    log.begin(first)
    await (await Process.spawn(first)).wait()
    assert log.tail() == "first"
    second = launch(tmp_path, "head -c 5000 /dev/zero | tr '\\0' x; echo; echo 'last words'")
    log.begin(second)
    await (await Process.spawn(second)).wait()
    assert log.tail().endswith("x\nlast words")
    assert len(log.tail()) <= 1024
    text = path.read_text()
    assert "starting up hvcore version: " in text
    assert "A='x y' \\\n/bin/sh \\\n-c 'echo first >&2'\nfirst\n" in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_a_log_is_never_written_through_a_link(tmp_path):
    (tmp_path / "vm.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DriverError, match="cannot open log file"):
        Log(tmp_path / "vm.log").note("x")
    assert not (tmp_path / "elsewhere").exists()


async def test_whoever_gives_up_waiting_for_a_start_leaves_no_process(tmp_path):
    script = f"echo $$ > {tmp_path}/pid; exec sleep 60"
    starting = asyncio.create_task(Process.spawn(launch(tmp_path, script)))
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    pid = tmp_path / "pid"
    assert not pid.exists() or process_start(int(pid.read_text() or 1)) is None
