"""Real QEMU guests that go into files and come out again."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import stat

import pytest

from hvcore import connect
from hvcore import events
from hvcore.errors import DriverError
from hvcore.errors import LaunchError
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from hvcore.registry import Registry
from hvcore.state import process_start
from hvcore_qemu import pump
from hvcore_qemu import saving

pytestmark = pytest.mark.qemu
XML = """<domain type='qemu'><name>vm</name><uuid>00000000-1111-2222-3333-444444444444</uuid>
<memory unit='MiB'>32</memory><vcpu current='1'>2</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os>
<devices><console type='pty'/><memballoon model='virtio'/></devices></domain>"""


@pytest.fixture
def uri(qemu, tmp_path):
    yield f"qemu:///embed?root={tmp_path}/root"
    for status in tmp_path.glob("root/run/*/status.json"):
        pid = json.loads(status.read_text())["pid"]
        if pid is not None and process_start(pid) is not None:
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
async def host(uri):
    async with await connect(uri, registry=Registry.default()) as found:
        yield found


@pytest.fixture
async def domain(host):
    found = await host.define(XML)
    await found.start()
    return found


def drain(stream):
    out = []
    while (item := stream.get_nowait()) is not None:
        out.append((type(item).__name__, str(getattr(item, "reason", ""))))
    return out


async def monitor(domain, command, **arguments):
    record = domain._engine.refresh(domain._record)
    return await record.runtime.monitor.execute(command, arguments)


async def registers(domain):
    """Return the first of the guest's registers as text."""
    text = await monitor(domain, "human-monitor-command", **{"command-line": "info registers"})
    return text.splitlines()[1:6]


async def test_a_saved_guest_goes_on_where_it_was(host, domain, tmp_path):
    path = tmp_path / "vm.save"
    stream = host.events()
    await domain.suspend()
    before = await registers(domain)
    await domain.save(str(path))
    assert await domain.state() == (State.SHUTOFF, ShutoffReason.SAVED)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_size > 100_000
    await host.restore(str(path))
    assert await domain.state() == (State.PAUSED, PausedReason.MIGRATION)
    assert await registers(domain) == before
    await domain.resume()
    await domain.save(str(path))
    await host.restore(str(path))
    assert await domain.state() == (State.RUNNING, RunningReason.RESTORED)
    assert (await monitor(domain, "query-status"))["running"]
    await domain.destroy()
    assert drain(stream) == [
        ("Suspended", "Paused"),
        ("Stopped", "Saved"),
        ("Started", "Restored"),
        ("Suspended", "Restored"),
        ("Resumed", "Unpaused"),
        ("Suspended", "Paused"),
        ("Stopped", "Saved"),
        ("Started", "Restored"),
        ("Stopped", "Destroyed"),
    ]


async def test_the_next_start_of_another_process_finds_the_managed_save(uri):
    async with await connect(uri) as host:
        domain = await host.define(XML)
        await domain.start()
        await domain.managed_save()
        assert domain.has_managed_save
    async with await connect(uri) as host:
        domain = await host.lookup("vm")
        assert domain.has_managed_save
        await domain.start()
        assert await domain.state() == (State.RUNNING, RunningReason.RESTORED)
        assert not domain.has_managed_save
        await domain.destroy()


async def test_a_full_disk_lets_the_guest_run_on(domain, tmp_path, monkeypatch):
    def full(source, sink):
        os.read(source, 4096)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    stream = domain._engine.hub.stream()
    with pytest.raises(DriverError, match="No space left on device"):
        await domain.save("/dev/full")
    assert drain(stream) == []
    monkeypatch.setattr(pump, "_splice", full)
    with pytest.raises(DriverError, match="No space left on device"):
        await domain.save(str(tmp_path / "vm.save"))
    assert await domain.state() == (State.RUNNING, RunningReason.SAVE_CANCELED)
    assert (await monitor(domain, "query-status"))["running"]
    assert drain(stream) == [("Suspended", "Paused"), ("Resumed", "Unpaused")]
    assert not (tmp_path / "vm.save").exists()


async def test_a_file_cut_short_starts_nothing(host, domain, tmp_path):
    path = tmp_path / "vm.save"
    await domain.save(str(path))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(LaunchError):
        await host.restore(str(path))
    assert await domain.state() == (State.SHUTOFF, ShutoffReason.FAILED)
    assert list((tmp_path / "root/run").iterdir()) == []


async def test_destroying_what_is_being_saved_ends_the_save(domain, tmp_path, monkeypatch):
    path = tmp_path / "vm.save"
    monkeypatch.setattr(saving, "UNLIMITED", 4096)
    stream = domain._engine.hub.stream([events.Suspended])
    work = asyncio.create_task(domain.save(str(path)))
    await stream.get()
    await domain.destroy()
    with pytest.raises(DriverError):
        await work
    assert await domain.state() == (State.SHUTOFF, ShutoffReason.DESTROYED)
    assert not path.exists()


async def test_dumps(host, domain, tmp_path):
    path = tmp_path / "core"
    stream = host.events()
    await domain.dump(str(path), kind="elf")
    assert path.read_bytes()[:4] == b"\x7fELF"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert await domain.state() == (State.RUNNING, RunningReason.UNPAUSED)
    await domain.dump(str(path))
    assert path.read_bytes()[:4] == b"QEVM"
    await domain.dump(str(path), live=True)
    assert (await monitor(domain, "query-status"))["running"]
    await domain.dump(str(path), kind="kdump-zlib", crash=True)
    assert path.read_bytes()[:12] == b"makedumpfile"
    assert await domain.state() == (State.SHUTOFF, ShutoffReason.CRASHED)
    assert [name for name, _ in drain(stream)] == ["Suspended", "Resumed"] * 3 + [
        "Suspended",
        "Stopped",
    ]
