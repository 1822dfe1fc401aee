"""What a real guest does, and what the definition says is to follow."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import select
import subprocess
import sys
import time

import pytest

from hvcore import connect
from hvcore import events
from hvcore.lifecycle import CrashedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from tests.guest.build import MARKER

pytestmark = [pytest.mark.qemu, pytest.mark.guest, pytest.mark.timeout(120)]
BOOT = 60
"""Seconds a boot may take without KVM."""


@pytest.fixture
def uri(qemu, tmp_path):
    return f"qemu:///embed?root={tmp_path}/root"


@pytest.fixture
async def host(uri):
    async with await connect(uri) as found:
        yield found
        for domain in await found.domains(active=True):
            await domain.destroy()


@pytest.fixture
def machine(guest, tmp_path):
    """Return documents of a guest whose console is a file."""

    def make(extra="", append="", name="vm"):
        # TCG: a nested KVM may start a guest and yet not boot it.
        return f"""<domain type='qemu'>
          <name>{name}</name>
          <memory unit='MiB'>160</memory>
          <vcpu>1</vcpu>
          <os>
            <type arch='x86_64' machine='pc'>hvm</type>
            <kernel>{guest.kernel}</kernel>
            <initrd>{guest.initrd}</initrd>
            <cmdline>console=ttyS0 quiet {append}</cmdline>
          </os>
          <features><acpi/></features>
          {extra}
          <devices>
            <serial type='file'>
              <source path='{tmp_path}/{name}.console' append='on'/>
            </serial>
            <interface type='user'><model type='virtio'/></interface>
            <panic model='isa'/>
          </devices>
        </domain>"""

    return make


async def booted(tmp_path, times=1, name="vm"):
    """Wait until the guest has printed its marker so many times."""
    path = tmp_path / f"{name}.console"
    async with asyncio.timeout(BOOT):
        # A file says nothing when it grows, hence the looking again.
        while not path.exists() or path.read_text(errors="replace").count(MARKER) < times:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def until_stopped(stream):
    out = []
    async with asyncio.timeout(BOOT):
        async for item in stream:
            reason = getattr(item, "reason", "")
            out.append(f"{type(item).__name__}({reason})")
            if isinstance(item, events.Stopped):
                return out
    raise AssertionError(out)


async def test_the_power_button(host, machine, tmp_path):
    domain = await host.create(machine())
    await booted(tmp_path)
    stream = host.events()
    await domain.shutdown()
    assert await until_stopped(stream) == [
        "Shutdown(Finished after guest request)",
        "Stopped(Shutdown)",
    ]


async def test_a_guest_that_powers_off_by_itself(host, machine):
    domain = await host.define(machine(append="hvcore.poweroff=0"))
    await domain.start()
    await domain.wait_for(State.SHUTOFF, within=BOOT)
    assert await domain.state() == (State.SHUTOFF, ShutoffReason.SHUTDOWN)


async def test_a_reboot_from_outside_keeps_the_process(host, machine, tmp_path):
    domain = await host.define(machine())
    await domain.start()
    await booted(tmp_path)
    number = domain.id
    stream = host.events()
    await domain.reboot()
    await booted(tmp_path, 2)
    assert domain.id == number
    assert await domain.state() == (State.RUNNING, RunningReason.BOOTED)
    # The firmware may reset once more on its way; nothing else is shown.
    assert {type(item).__name__ for item in iter(stream.get_nowait, None)} == {"Rebooted"}
    # The next power-off is one again.
    await domain.shutdown()
    assert (await until_stopped(stream))[-1] == "Stopped(Shutdown)"


async def test_a_reboot_of_the_guests_own(host, machine, tmp_path):
    domain = await host.define(machine(append="hvcore.reboot=0"))
    stream = host.events([events.Rebooted])
    await domain.start()
    await booted(tmp_path, 2)
    assert isinstance(await stream.get(), events.Rebooted)
    assert await domain.state() == (State.RUNNING, RunningReason.BOOTED)


@pytest.mark.parametrize("by_itself", [True, False])
async def test_on_reboot_destroy_makes_it_the_end(host, machine, tmp_path, by_itself):
    append = "hvcore.reboot=0" if by_itself else ""
    extra = "<on_reboot>destroy</on_reboot>"
    domain = await host.define(machine(extra, append))
    stream = host.events()
    await domain.start()
    if not by_itself:
        await booted(tmp_path)
        await domain.reboot()
    assert await until_stopped(stream) == [
        "Started(Booted)",
        "Shutdown(Finished after guest request)",
        "Stopped(Shutdown)",
    ]


async def test_on_poweroff_restart_starts_it_afresh(host, machine, tmp_path):
    domain = await host.define(machine("<on_poweroff>restart</on_poweroff>"))
    await domain.start()
    await booted(tmp_path)
    await domain.shutdown()
    await booted(tmp_path, 2)
    assert await domain.state() == (State.RUNNING, RunningReason.BOOTED)


@pytest.mark.parametrize("on_crash", ["destroy", "preserve", "restart"])
async def test_a_panic(host, machine, tmp_path, on_crash):
    extra = f"<on_crash>{on_crash}</on_crash>"
    domain = await host.define(machine(extra, "hvcore.panic=0"))
    stream = host.events([events.Crashed, events.Stopped])
    await domain.start()
    async with asyncio.timeout(BOOT):
        assert isinstance(await stream.get(), events.Crashed)
        if on_crash == "destroy":
            assert (await stream.get()).reason is events.StoppedDetail.CRASHED
            assert await domain.state() == (State.SHUTOFF, ShutoffReason.CRASHED)
        elif on_crash == "preserve":
            assert await domain.state() == (State.CRASHED, CrashedReason.PANICKED)
        else:
            await booted(tmp_path, 2)
            assert isinstance(await stream.get(), events.Crashed)


async def test_a_guest_without_a_manager_may_power_off(uri, machine, tmp_path):
    async with await connect(uri) as host:
        await (await host.define(machine())).start()
        await booted(tmp_path)
        domain = await host.lookup("vm")
        pid = domain._now().process
        await domain.shutdown()
    await _gone(pid)
    async with await connect(uri) as host:
        domain = await host.lookup("vm")
        assert await domain.state() == (State.SHUTOFF, ShutoffReason.SHUTDOWN)


async def test_a_reboot_without_a_manager_waits_for_the_next(uri, machine, tmp_path):
    async with await connect(uri) as host:
        domain = await host.define(machine())
        await domain.start()
        await booted(tmp_path)
        await domain.reboot()
    async with await connect(uri) as host:
        await booted(tmp_path, 2)
        domain = await host.lookup("vm")
        assert await domain.state() == (State.RUNNING, RunningReason.BOOTED)
        await domain.destroy()


def hv(uri, *words):
    """Run hv as a program of its own and return what it printed."""
    argv = [sys.executable, "-m", "hvcore.cli", "-c", uri, *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=BOOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_hv_takes_a_guest_through_its_life(uri, machine, tmp_path):
    document = tmp_path / "vm.xml"
    document.write_text(machine())
    assert "defined" in hv(uri, "define", str(document))
    assert "started" in hv(uri, "start", "vm")
    await booted(tmp_path)
    assert hv(uri, "domstate", "vm").strip() == "running"
    assert hv(uri, "list", "--name").split() == ["vm"]
    assert "is being shutdown" in hv(uri, "shutdown", "vm", "--wait", "--timeout", str(BOOT))
    assert hv(uri, "domstate", "vm", "--reason").strip() == "shut off (shutdown)"
    assert "undefined" in hv(uri, "undefine", "vm")


async def test_hv_console_talks_to_the_guest(uri, machine):
    document = machine().replace("<serial type='file'>", "<serial type='pty'>")
    document = re.sub(r"<source path='[^']*' append='on'/>", "", document)
    async with await connect(uri) as host:
        domain = await host.create(document)
        try:
            await asyncio.to_thread(_converse, uri)
        finally:
            await domain.destroy()


def _converse(uri):
    """Type a command at the guest's shell through hv console, and leave it by Ctrl+]."""
    argv = [sys.executable, "-m", "hvcore.cli", "-c", uri, "console", "vm"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(argv[0], argv)
    seen = b""
    deadline = time.monotonic() + BOOT
    try:
        while b"42-from-the-guest" not in seen and time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.5)[0]:
                seen += os.read(terminal, 4096)
            if MARKER.encode() in seen:
                os.write(terminal, b"echo $((6*7))-from-the-guest\r")
                time.sleep(0.5)
        assert b"42-from-the-guest" in seen, seen
        os.write(terminal, b"\x1d")
        # What the guest still had to say is read, or the program could not end.
        with contextlib.suppress(OSError):
            while select.select([terminal], [], [], 5)[0] and os.read(terminal, 4096):
                pass
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        os.close(terminal)


async def test_the_next_manager_starts_what_another_defined(uri, machine, tmp_path):
    agent = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
    async with await connect(uri) as host:
        await host.define(machine().replace("<panic", f"{agent}<panic"))
    async with await connect(uri) as host:
        domain = await host.lookup("vm")
        await domain.start()
        live = await domain.xml()
        assert "<source mode='bind' path=" in live
        await domain.destroy()


async def _gone(process):
    from hvcore.state import process_start

    async with asyncio.timeout(BOOT):
        while process_start(process[0]) == process[1]:  # noqa: ASYNC110 - nobody here waits for it
            await asyncio.sleep(0.02)
