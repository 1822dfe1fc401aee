"""Everything that can go wrong with a cloud-hypervisor, in everything that is asked of it.

Whatever happens: a typed error, a state that is true, and no process, tap or socket left.
"""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from hvcore.errors import HvError
from hvcore.errors import LaunchError
from hvcore.errors import MonitorError
from hvcore.errors import MonitorLost
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from tests.unit.ch_lab import Lab
from tests.unit.ch_lab import Taps
from tests.unit.ch_lab import eventually
from tests.unit.ch_lab import leftovers
from tests.unit.ch_lab import processes
from tests.unit.ch_lab import until

NET = (
    "<interface type='ethernet'><mac address='52:54:00:00:00:0{}'/><model type='virtio'/>"
    "</interface>"
)
DEVICES = NET.format(1) + "<memballoon model='virtio'/>"
SHARED = "<memoryBacking><access mode='shared'/></memoryBacking>"

FAULTS = {
    "die": "die",
    "die-after": "die-after",
    "hang": "hang",
    "close": "close",
    "half": "half",
    "garbage": "garbage",
    "refuse": {"status": 500, "body": ["Error from API", "It failed", "Because"]},
    "schema": {"status": 200, "body": ["of", "another", "version"]},
}
DEADLY = ("die", "die-after")

STARTS = ("vmm.ping", "vm.create", "vm.add-net", "vm.info", "vm.boot")
"""What a start asks for, in its order."""

VERBS = {
    "vm.pause": lambda domain, lab: domain.suspend(),
    "vm.resume": lambda domain, lab: paused(domain),
    "vm.reboot": lambda domain, lab: domain.reset(),
    "vm.power-button": lambda domain, lab: domain.shutdown(),
    "vm.nmi": lambda domain, lab: domain.inject_nmi(),
    "vm.resize": lambda domain, lab: domain.set_vcpus(2),
    "vm.resize-disk": lambda domain, lab: domain.resize_disk("vda", 1 << 20),
    "vm.info": lambda domain, lab: domain.info(),
    "vm.counters": lambda domain, lab: domain.block_stats("vda"),
    "vm.add-net": lambda domain, lab: domain.attach_device(NET.format(2)),
    "vm.add-disk": lambda domain, lab: domain.attach_device(lab.disk()),
    "vm.remove-device": lambda domain, lab: domain.detach_device_alias("virtio-disk0"),
    "vm.snapshot": lambda domain, lab: domain.save(str(lab.folder / "saved")),
    "vm.coredump": lambda domain, lab: domain.dump(str(lab.folder / "core")),
}
"""What is asked of a guest that runs, by its endpoint."""

ANSWERS = ("vm.info", "vm.counters", "vm.add-net", "vm.add-disk")
"""Endpoints whose answers say something, so that those of another version matter."""

HARMLESS = {
    (endpoint, name)
    for name in ("close", "half")
    for endpoint in ("vm.info", "vm.counters", "vm.resize", "vm.resize-disk")
} | {(endpoint, "half") for endpoint in ("vm.add-net", "vm.add-disk", "vm.remove-device")}
"""What succeeds: it may be asked for once more, or can be seen to have been done."""


async def started(host, lab):
    domain = await host.define(lab.document())
    await domain.start()
    return domain


async def paused(domain):
    await domain.suspend()
    await domain.resume()


def cases(endpoints):
    return [
        pytest.param(endpoint, name, id=f"{endpoint}-{name}")
        for endpoint in endpoints
        for name in FAULTS
        if name != "schema" or endpoint in ANSWERS
    ]


class Faulty(Lab):
    """A host on which things go wrong."""

    def __init__(self, folder, monkeypatch):
        super().__init__(folder)
        self.patch = monkeypatch
        self.taps = Taps(monkeypatch)
        (folder / "b.raw").write_bytes(bytes(4096))
        settings = folder / "root" / "config" / "ch.toml"
        settings.parent.mkdir(parents=True, mode=0o700)
        settings.write_text(f'landlock_paths = ["{folder}"]\n')
        self.fine()

    def fine(self):
        self.patch.setattr("hvcore_ch.monitor.DEADLINE", 60)
        self.patch.setattr("hvcore_ch.driver.CONNECT_DEADLINE", 30)
        self.faults(features=["io_uring", "kvm", "guest_debug"], guest_delay=0.02)

    def wrong(self, endpoint, name, **how):
        if name == "hang":
            # Nothing else has to be so quick on a machine that has much to do.
            for each in ("monitor.DEADLINE", "process.FAREWELL", "driver.CONNECT_DEADLINE"):
                self.patch.setattr(f"hvcore_ch.{each}", 0.5)
        fault = FAULTS[name]
        fault = {"do": fault, **how} if isinstance(fault, str) else {**fault, **how}
        self.faults(features=["io_uring", "kvm", "guest_debug"], requests={endpoint: fault})

    def disk(self):
        return (
            f"<disk type='file'><source file='{self.folder}/b.raw'/>"
            "<target dev='vdb' bus='virtio'/></disk>"
        )

    def document(self):
        text = super().document(SHARED, DEVICES)
        return text.replace("<vcpu>1</vcpu>", "<vcpu current='1'>4</vcpu>")


@pytest.fixture
def lab(tmp_path, monkeypatch):
    return Faulty(tmp_path, monkeypatch)


def check_error(error, name):
    """Check that an error says which kind of thing happened."""
    assert isinstance(error, MonitorError | MonitorLost | LaunchError), error
    if name == "hang":
        assert str(error).startswith("Timed out during operation: Cloud-Hypervisor did not answer")
    if name == "refuse":
        assert "Because" in str(error)
        assert error.error_class == "500"


async def check_nothing_left(lab, domain):
    async def ended():
        return not processes(lab)

    await eventually(ended)
    assert leftovers(domain) == []
    assert lab.taps.left() == []
    assert not (lab.folder / "root" / "config" / "states" / domain.uuid).exists()


@pytest.mark.parametrize(("endpoint", "name"), cases(STARTS))
async def test_a_start_leaves_nothing(lab, endpoint, name):
    async with await lab.host() as host:
        domain = await host.define(lab.document())
        lab.wrong(endpoint, name)
        with pytest.raises(HvError) as caught:
            await domain.start()
        assert not domain.is_active
        check_error(caught.value, name)
        assert (await domain.state())[1] is ShutoffReason.FAILED
        await check_nothing_left(lab, domain)
        lab.fine()
        await domain.start()
        await domain.destroy()


@pytest.mark.parametrize(("endpoint", "name"), cases(VERBS))
async def test_a_guest_that_runs_is_what_it_is_said_to_be(lab, endpoint, name):
    async with await lab.host() as host:
        domain = await started(host, lab)
        lab.wrong(endpoint, name, times=1)
        harmless = (endpoint, name) in HARMLESS
        with contextlib.nullcontext() if harmless else pytest.raises(HvError) as caught:
            await VERBS[endpoint](domain, lab)
        if not harmless:
            check_error(caught.value, name)
        lab.fine()
        if name in DEADLY:
            await until(domain, ShutoffReason.CRASHED)
        elif name != "hang":
            await check_true(domain)
        if domain.is_active:
            await domain.destroy()
            assert (await domain.state())[1] is ShutoffReason.DESTROYED
        await check_nothing_left(lab, domain)
        assert not (lab.folder / "saved").exists()
        assert not (lab.folder / "core").exists()


async def check_true(domain):
    """Check that what is said of a guest is what cloud-hypervisor says."""
    monitor = domain._record.runtime.vmm.monitor
    states = {"Running": State.RUNNING, "Paused": State.PAUSED}

    async def agreed():
        if not domain.is_active:
            return True
        info = await monitor.call("vm.info")
        live = domain._record.live.domain
        config = info["config"]
        return (
            (await domain.state())[0] is states[info["state"]]
            and await domain.vcpu_count() == config["cpus"]["boot_vcpus"]
            and [disk.alias for disk in live.devices.disks]
            == [disk["id"] for disk in config["disks"] or ()]
            and [net.alias for net in live.devices.interfaces]
            == [net["id"] for net in config["net"] or ()]
        )

    await eventually(agreed)


@pytest.mark.parametrize(("endpoint", "name"), cases(["vm.restore"]))
async def test_a_guest_that_cannot_be_restored_stays_in_its_file(lab, endpoint, name):
    async with await lab.host() as host:
        domain = await started(host, lab)
        await domain.save(str(lab.folder / "saved"))
        lab.wrong(endpoint, name)
        with pytest.raises(HvError) as caught:
            await host.restore(str(lab.folder / "saved"))
        check_error(caught.value, name)
        assert not domain.is_active
        await check_nothing_left(lab, domain)
        lab.fine()
        await host.restore(str(lab.folder / "saved"))
        assert (await domain.state())[1] is RunningReason.RESTORED
        await domain.destroy()


@pytest.mark.parametrize(("endpoint", "name"), cases(["vmm.shutdown"]))
async def test_a_guest_is_ended_in_any_case(lab, endpoint, name):
    async with await lab.host() as host:
        domain = await started(host, lab)
        lab.wrong(endpoint, name)
        await domain.destroy()
        await check_nothing_left(lab, domain)


@pytest.mark.parametrize(("endpoint", "name"), cases(["vm.info"]))
async def test_a_manager_that_comes_back_keeps_no_guest_it_cannot_ask(lab, endpoint, name):
    async with await lab.host() as host:
        await (await host.define(lab.document())).start()
    lab.wrong(endpoint, name)
    async with await lab.host() as host:
        domain = await host.lookup_name("guest")
        assert (await domain.state())[1] is ShutoffReason.CRASHED
        await check_nothing_left(lab, domain)


@pytest.mark.parametrize(("endpoint", "name"), cases(["vm.boot"]))
async def test_a_guest_that_cannot_be_started_again_crashed(lab, endpoint, name):
    text = lab.document().replace("<devices>", "<on_poweroff>restart</on_poweroff><devices>")
    async with await lab.host() as host:
        domain = await host.define(text)
        await domain.start()
        lab.wrong(endpoint, name)
        os.kill(lab.pid(domain), signal.SIGUSR1)  # the guest powers off
        await until(domain, ShutoffReason.CRASHED)
        await check_nothing_left(lab, domain)
