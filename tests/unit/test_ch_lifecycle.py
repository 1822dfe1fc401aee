"""The driver over a fake cloud-hypervisor: lifecycle, its end, and a manager that comes back."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from hvcore import events
from hvcore.errors import HvError
from hvcore.errors import LaunchError
from hvcore.errors import MonitorError
from hvcore.lifecycle import CrashedReason
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from hvcore.state import process_start
from tests.unit.ch_lab import Lab
from tests.unit.ch_lab import eventually
from tests.unit.ch_lab import gone
from tests.unit.ch_lab import leftovers
from tests.unit.ch_lab import processes
from tests.unit.ch_lab import until


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


async def test_a_guest_lives_and_is_ended(lab):
    async with await lab.host() as host:
        domain = await host.define(lab.document())
        stream = host.events()
        await domain.start()
        pid = lab.pid(domain)
        assert (await domain.state())[1] is RunningReason.BOOTED
        await domain.suspend()
        assert (await domain.state())[1] is PausedReason.USER
        await domain.resume()
        assert (await domain.state())[1] is RunningReason.UNPAUSED
        await domain.reset()
        await domain.reboot()
        assert (await domain.info()).memory == 128 * 1024
        await domain.destroy()
        assert (await domain.state())[1] is ShutoffReason.DESTROYED
        assert process_start(pid) is None
        assert leftovers(domain) == []
    names = [type(event).__name__ async for event in stream]
    assert names[:7] == [
        "Started",
        "Suspended",
        "Resumed",
        "Rebooted",
        "Rebooted",
        "Stopped",
        "StreamClosed",
    ]


async def test_the_live_document_says_what_the_guest_got(lab):
    async with await lab.host() as host:
        domain = await host.create(lab.document(devices="<vsock><cid auto='yes'/></vsock>"))
        text = await domain.xml()
        assert "<alias name='virtio-disk0'/>" in text
        assert "<address type='pci' domain='0x0000' bus='0x00' slot='0x02' function='0x0'/>" in text
        assert "<cid auto='yes' address='3'/>" in text
        path = await domain.console()
        assert f"<source path='{path}'/>" in text
        assert path.startswith("/dev/pts/")
        await domain.destroy()


async def test_a_guest_that_powers_off_is_shut_off(lab):
    async with await lab.host() as host:
        domain = await host.define(lab.document())
        await domain.start()
        await domain.shutdown()
        await until(domain, ShutoffReason.SHUTDOWN)
        await domain.start()
        lab.guest_does(domain, "poweroff")
        await until(domain, ShutoffReason.SHUTDOWN)
        assert leftovers(domain) == []


async def test_a_guest_may_be_restarted_when_it_powers_off(lab):
    async with await lab.host() as host:
        domain = await host.define(lab.document("<on_poweroff>restart</on_poweroff>"))
        await domain.start()
        pid = lab.pid(domain)
        lab.guest_does(domain, "poweroff")
        await asyncio.sleep(0.3)
        assert (await domain.state())[1] is RunningReason.BOOTED
        assert lab.pid(domain) == pid
        await domain.destroy()


async def test_a_reset_ends_a_guest_that_is_not_to_reboot(lab):
    async with await lab.host() as host:
        domain = await host.define(lab.document("<on_reboot>destroy</on_reboot>"))
        await domain.start()
        lab.guest_does(domain, "reset")
        await until(domain, ShutoffReason.SHUTDOWN)


@pytest.mark.parametrize("who", ["guest", "manager"])
async def test_a_vm_that_is_made_anew_has_other_terminals(lab, who):
    async with await lab.host() as host:
        domain = await host.create(lab.document())
        monitor = domain._record.runtime.vmm.monitor
        # The kernel is free to give out the same one again.
        record = domain._record
        record.data = {**record.data, "terminals": {"console": "/dev/pts/old"}}
        if who == "guest":
            stream = host.events([events.Rebooted])
            lab.guest_does(domain, "reset")
            await anext(aiter(stream))
        else:
            await domain.reset()

        async def told():
            path = (await monitor.call("vm.info"))["config"]["console"]["file"]
            text = await domain.xml()
            return await domain.console() == path and f"<source path='{path}'/>" in text

        await eventually(told)
        await domain.destroy()


@pytest.mark.parametrize("who", ["guest", "manager"])
async def test_a_device_that_was_asked_for_goes_when_the_vm_is_made_anew(lab, who):
    lab.faults(unplug="ignore")
    async with await lab.host() as host:
        domain = await host.create(lab.document(devices="<vsock><cid auto='yes'/></vsock>"))
        stream = host.events([events.DeviceRemoved])
        assert await domain.detach_device_alias("vsock0", within=0.05) is False
        if who == "guest":
            lab.faults(unplug="ignore", guest="reset")
            os.kill(lab.pid(domain), signal.SIGUSR1)
        else:
            await domain.reset()
        assert (await anext(aiter(stream))).alias == "vsock0"
        assert "vsock0" not in await domain.xml()
        await domain.destroy()


@pytest.mark.parametrize(
    ("action", "then"),
    [
        ("destroy", ShutoffReason.CRASHED),
        ("restart", RunningReason.BOOTED),
        ("preserve", CrashedReason.PANICKED),
    ],
)
async def test_a_panic_has_the_consequences_that_are_wanted(lab, action, then):
    async with await lab.host() as host:
        stream = host.events()
        document = lab.document(f"<on_crash>{action}</on_crash>", "<panic model='pvpanic'/>")
        domain = await host.define(document)
        await domain.start()
        lab.guest_does(domain, "panic")
        async for event in stream:
            if type(event).__name__ == "Crashed":
                break
        await until(domain, then)
        if domain.is_active:
            await domain.destroy()


async def test_what_is_to_be_paused_has_not_run(lab):
    async with await lab.host() as host:
        domain = await host.define(lab.document())
        await domain.start(paused=True)
        assert (await domain.state())[1] is PausedReason.USER
        assert "<address type='pci'" not in await domain.xml()
        await domain.resume()
        assert (await domain.state())[1] is RunningReason.UNPAUSED
        assert "<address type='pci'" in await domain.xml()
        await domain.destroy()


async def test_the_next_manager_finds_the_guest(lab):
    async with await lab.host() as host:
        domain = await host.define(lab.document())
        await domain.start()
        pid = lab.pid(domain)
    async with await lab.host() as host:
        domain = await host.lookup_name("guest")
        assert lab.pid(domain) == pid
        assert (await domain.state())[1] is RunningReason.BOOTED
        await domain.suspend()
    async with await lab.host() as host:
        domain = await host.lookup_name("guest")
        assert (await domain.state())[1] is PausedReason.USER
        await domain.resume()
        await domain.destroy()
        await gone(pid)


@pytest.mark.parametrize(
    ("how", "then"), [("poweroff", ShutoffReason.SHUTDOWN), ("kill", ShutoffReason.CRASHED)]
)
async def test_the_next_manager_knows_how_a_guest_ended(lab, how, then):
    async with await lab.host() as host:
        domain = await host.define(lab.document())
        await domain.start()
        pid = lab.pid(domain)
    if how == "kill":
        os.kill(pid, signal.SIGKILL)
    else:
        lab.guest_does(domain, "poweroff")
    await asyncio.to_thread(_reap, pid)
    async with await lab.host() as host:
        domain = await host.lookup_name("guest")
        assert (await domain.state())[1] is then
        assert leftovers(domain) == []


def _reap(pid):
    os.waitpid(pid, 0)


async def test_a_guest_without_manager_may_be_restarted_by_the_next(lab):
    async with await lab.host() as host:
        domain = await host.define(lab.document("<on_poweroff>restart</on_poweroff>"))
        await domain.start()
    lab.guest_does(domain, "poweroff")
    await asyncio.sleep(0.2)
    async with await lab.host() as host:
        domain = await host.lookup_name("guest")

        async def booted_again():
            return _events(domain).count('"booted"') == 2

        await eventually(booted_again)
        assert (await domain.state())[1] is RunningReason.BOOTED
        await domain.destroy()


def _events(domain):
    folder = domain._engine.directory.sockets / domain.uuid
    found = (folder / "events").read_text().split('"event": ')
    return [part.split(",")[0] for part in found[1:]]


async def test_a_killed_process_is_a_crash(lab):
    async with await lab.host() as host:
        domain = await host.define(lab.document())
        await domain.start()
        os.kill(lab.pid(domain), signal.SIGKILL)
        await until(domain, ShutoffReason.CRASHED)
        assert leftovers(domain) == []


# What can go wrong while it starts ---------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ("die", LaunchError, "process exited while connecting to monitor"),
        ("die-after", LaunchError, "process exited while connecting to monitor"),
        ("half", LaunchError, "process exited while connecting to monitor"),
        ("close", LaunchError, "process exited while connecting to monitor"),
        ("garbage", MonitorError, "with what is no HTTP"),
        ({"status": 500, "body": ["Error from API", "It failed", "Because", "Of this"]},
         MonitorError, "request 'vm.boot': Because: Of this"),
        ({"status": 400, "body": ["Bad Request"]}, MonitorError, "Bad Request"),
    ],
)  # fmt: skip
async def test_a_start_that_fails_leaves_nothing(lab, fault, error, words):
    async with await lab.host() as host:
        domain = await host.define(lab.document())
        lab.faults(requests={"vm.boot": fault})
        with pytest.raises(error, match=words):
            await domain.start()
        assert (await domain.state())[1] is ShutoffReason.FAILED
        assert leftovers(domain) == []
        assert processes(lab) == []
        lab.faults()
        await domain.start()
        await domain.destroy()


async def test_a_refusal_says_what_was_sent_and_received(lab):
    async with await lab.host() as host:
        domain = await host.define(lab.document())
        (lab.folder / "kernel").unlink()
        with pytest.raises(MonitorError, match="Cannot open kernel file") as caught:
            await domain.start()
        assert caught.value.sent == {"endpoint": "vm.boot"}
        assert caught.value.received["status"] == 500
        assert caught.value.domain == "guest"


async def test_an_answer_that_never_comes_is_not_waited_for(lab, monkeypatch):
    monkeypatch.setattr("hvcore_ch.monitor.DEADLINE", 0.3)
    async with await lab.host() as host:
        domain = await host.define(lab.document())
        await domain.start()
        lab.faults(requests={"vm.pause": "hang"})
        with pytest.raises(MonitorError, match=r"did not answer to 'vm\.pause'") as caught:
            await domain.suspend()
        assert str(caught.value).startswith("Timed out during operation")
        assert (await domain.state())[1] is RunningReason.BOOTED
        monkeypatch.setattr("hvcore_ch.process.FAREWELL", 0.3)
        pid = lab.pid(domain)
        await domain.destroy()
        assert process_start(pid) is None


async def test_another_schema_is_told_and_not_guessed(lab):
    async with await lab.host() as host:
        domain = await host.define(lab.document())
        await domain.start(paused=True)
        lab.faults(drop=["state"])
        with pytest.raises(MonitorError, match=r"'vm\.info' in another schema"):
            await domain.resume()
        await domain.destroy()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"version": "42.0.0"}, "version is too old"),
        ({"version": "many"}, "Unable to parse cloud-hypervisor version"),
        ({"requests": {"vmm.ping": "die"}}, "unexpectedly closed the monitor"),
        ({"requests": {"vmm.ping": {"body": ["x"]}}}, "HTTP status|x"),
    ],
)
async def test_a_binary_that_cannot_be_asked_is_refused(lab, settings, words):
    lab.faults(**settings)
    async with await lab.host() as host:
        with pytest.raises(HvError, match=words):
            await host.define(lab.document())


async def test_a_binary_is_asked_once(lab):
    async with await lab.host() as host:
        await host.define(lab.document())
    lab.faults(requests={"vmm.ping": "die"})
    async with await lab.host() as host:
        await host.define(lab.document())


async def test_what_would_be_asked_for_can_be_seen(lab):
    async with await lab.host() as host:
        text = await host.lower(lab.document())
        assert '"image_type": "Raw"' in text


async def test_the_host_says_which_guests_it_can_have(lab, monkeypatch):
    monkeypatch.setenv("PATH", str(lab.folder))
    async with await lab.host() as host:
        text = await host.capabilities()
        assert f"<emulator>{lab.folder}/cloud-hypervisor</emulator>" in text
        assert "<domain type='kvm'/>" in text
        assert await host.version() == 53_000_000
    monkeypatch.setenv("PATH", "/nowhere")
    async with await lab.host() as host:
        assert "<guest>" not in await host.capabilities()
        with pytest.raises(HvError, match="No emulator found for cloud-hypervisor"):
            await host.version()


async def test_threads_are_pinned_by_their_names(lab):
    document = lab.document("<cputune><emulatorpin cpuset='0'/></cputune>")
    async with await lab.host() as host:
        domain = await host.create(document.replace("<vcpu>1</vcpu>", "<vcpu>2</vcpu>"))
        await domain.pin_vcpu(1, "0")
        await domain.pin_emulator("0")
        assert "<vcpupin vcpu='1' cpuset='0'/>" in await domain.xml()
        await domain.destroy()
