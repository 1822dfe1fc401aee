"""What a real guest does, and what the definition says is to follow."""

from __future__ import annotations

import asyncio
import shlex

import pytest

from hvcore import connect
from hvcore import events
from hvcore.lifecycle import CrashedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from tests.guest.build import MARKER
from tests.integration.bare import registry

pytestmark = [pytest.mark.qemu, pytest.mark.guest, pytest.mark.timeout(120)]
BOOT = 60
"""Seconds a boot may take without KVM."""


@pytest.fixture
def uri(qemu, tmp_path):
    return f"qemu:///embed?root={tmp_path}/root"


@pytest.fixture
async def host(uri):
    async with await connect(uri, registry=registry()) as found:
        yield found
        for domain in await found.domains(active=True):
            await domain.destroy()


@pytest.fixture
def machine(guest, tmp_path):
    """Return documents of a guest whose console is a file."""

    def make(extra="", append="", name="vm"):
        words = ["-serial", f"file:{tmp_path}/{name}.console", "-device", "pvpanic"]
        words += ["-kernel", guest.kernel, "-initrd", guest.initrd]
        words += ["-append", f"console=ttyS0 quiet {append}"]
        text = shlex.join(map(str, words))
        return (
            f"<domain type='kvm'><name>{name}</name><memory>163840</memory><vcpu>1</vcpu>"
            f"<description>{text}</description><os><type arch='x86_64'>hvm</type></os>{extra}"
            "</domain>"
        )

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
    async with await connect(uri, registry=registry()) as host:
        await (await host.define(machine())).start()
        await booted(tmp_path)
        domain = await host.lookup("vm")
        pid = domain._now().process
        await domain.shutdown()
    await _gone(pid)
    async with await connect(uri, registry=registry()) as host:
        domain = await host.lookup("vm")
        assert await domain.state() == (State.SHUTOFF, ShutoffReason.SHUTDOWN)


async def test_a_reboot_without_a_manager_waits_for_the_next(uri, machine, tmp_path):
    async with await connect(uri, registry=registry()) as host:
        domain = await host.define(machine())
        await domain.start()
        await booted(tmp_path)
        await domain.reboot()
    async with await connect(uri, registry=registry()) as host:
        await booted(tmp_path, 2)
        domain = await host.lookup("vm")
        assert await domain.state() == (State.RUNNING, RunningReason.BOOTED)
        await domain.destroy()


async def _gone(process):
    from hvcore.state import process_start

    async with asyncio.timeout(BOOT):
        while process_start(process[0]) == process[1]:  # noqa: ASYNC110 - nobody here waits for it
            await asyncio.sleep(0.02)
