"""Files are private and whole, one process owns them, and a status never outlives its process."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from hvcore.errors import StateLocked
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from hvcore.state import StateDirectory
from hvcore.state import Status
from hvcore.state import process_start
from hvcore.state import write_file
from hvcore.uri import parse
from hvcore.uri import state_roots

UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"


@pytest.fixture
def directory(tmp_path):
    uri = parse(f"qemu:///embed?root={tmp_path}/root")
    found = StateDirectory(state_roots(uri, environ={}, uid=os.getuid(), home="/"))
    yield found
    found.release()


def status(**changes):
    fields = {
        "uuid": UUID,
        "name": "../evil",
        "id": 3,
        "state": State.PAUSED,
        "reason": PausedReason.USER,
        "live_xml": "<domain/>",
        "pid": os.getpid(),
        "start": process_start(os.getpid()),
        "data": {"tty": {"serial0": "/dev/pts/1"}},
    }
    return Status(**(fields | changes))


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_nobody_else_can_read_anything_under_any_umask(directory, tmp_path, umask):
    old = os.umask(umask)
    try:
        directory.acquire()
        directory.store(UUID, "<domain/>")
        directory.set_autostart(UUID, autostart=True)
        directory.save_status(status())
        directory.runtime(UUID)
    finally:
        os.umask(old)
    modes = {
        stat.S_IFMT(path.stat().st_mode): stat.S_IMODE(path.stat().st_mode)
        for path in (tmp_path / "root").rglob("*")
    }
    assert modes == {stat.S_IFDIR: 0o700, stat.S_IFREG: 0o600}


def test_what_is_stored_is_found_again(directory):
    directory.acquire()
    directory.store(UUID, "<domain>1</domain>")
    directory.store(UUID, "<domain>2</domain>")
    directory.set_autostart(UUID, autostart=True)
    [stored] = directory.load()
    assert (stored.uuid, stored.xml, stored.autostart) == (UUID, b"<domain>2</domain>", True)
    directory.set_autostart(UUID, autostart=False)
    assert [entry.autostart for entry in directory.load()] == [False]
    directory.remove(UUID)
    assert list(directory.load()) == []


def test_a_status_comes_back_as_it_was_written(directory):
    directory.acquire()
    directory.save_status(status())
    assert list(directory.statuses()) == [status()]
    directory.drop_status(UUID)
    assert list(directory.statuses()) == []
    assert not (directory.run / UUID).exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format":1}', b"\0" * 100])
def test_a_damaged_status_is_no_status(directory, content):
    directory.acquire()
    directory.save_status(status())
    (directory.run / UUID / "status.json").write_bytes(content)
    assert list(directory.statuses()) == []


def test_a_status_of_another_boot_or_process_is_not_alive():
    assert status().alive()
    assert not status(boot="another").alive()
    assert not status(start=1).alive()
    assert not status(pid=2**22 + 1).alive()
    assert not status(pid=None).alive()


def test_a_zombie_does_not_live():
    with subprocess.Popen(["sleep", "0"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert process_start(child.pid) is None


@pytest.mark.parametrize("name", ["../x", "x", UUID.upper(), UUID + "\n", ""])
def test_only_canonical_uuids_become_names(directory, name):
    directory.acquire()
    with pytest.raises(ValueError, match="UUID"):
        directory.store(name, "<domain/>")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_file(path, b"old", durable=True)

    def fail(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(Exception, match="No space left"):
        write_file(path, b"new", durable=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_a_second_process_is_told_who_the_owner_is(directory):
    directory.acquire()
    code = (
        "import sys\n"
        "from hvcore.state import StateDirectory\n"
        "from hvcore.uri import parse, state_roots\n"
        "uri = parse('qemu:///embed?root=' + sys.argv[1])\n"
        "d = StateDirectory(state_roots(uri, environ={}, uid=0, home='/'))\n"
        "from hvcore.errors import StateLocked\n"
        "try: d.acquire()\n"
        "except StateLocked as e: print(e.pid, e)\n"
    )
    root = str(directory.config.parent)
    out = subprocess.run(
        [sys.executable, "-c", code, root], capture_output=True, text=True, check=True
    ).stdout
    assert out.startswith(f"{os.getpid()} operation failed: state in ")
    assert f"is owned by process {os.getpid()} (" in out


def test_the_owner_can_hand_over(directory):
    directory.acquire()
    other = StateDirectory(
        state_roots(
            parse(f"qemu:///embed?root={directory.config.parent}"), environ={}, uid=0, home="/"
        )
    )
    with pytest.raises(StateLocked):
        other.acquire()
    directory.release()
    other.acquire()
    assert other.owned
    assert other.owner().pid == os.getpid()
    other.release()


def test_why_a_domain_stopped_outlives_the_process_that_saw_it(directory):
    directory.acquire()
    directory.store(UUID, "<domain/>")
    (fresh,) = directory.load()
    assert fresh.stopped is ShutoffReason.UNKNOWN

    directory.note_stop(UUID, ShutoffReason.CRASHED)
    (stopped,) = directory.load()
    assert stopped.stopped is ShutoffReason.CRASHED

    (directory.config / "domains" / UUID / "stopped").write_bytes(b"\xff nonsense")
    (damaged,) = directory.load()
    assert damaged.stopped is ShutoffReason.UNKNOWN


def test_a_directory_for_short_paths_is_not_left_behind_unless_something_runs(tmp_path):
    deep = tmp_path.joinpath(*["deep" * 10] * 3)
    uri = parse(f"qemu:///embed?root={deep}")
    directory = StateDirectory(state_roots(uri, environ={}, uid=os.getuid(), home="/"))
    assert directory.sockets != directory.run
    directory.acquire()
    running = directory.runtime(UUID)
    directory.release()
    assert running.exists()
    directory.acquire()
    directory.drop_status(UUID)
    directory.release()
    assert not directory.sockets.exists()
