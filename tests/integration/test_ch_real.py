"""The driver over a real cloud-hypervisor v53: what it accepts, boots, plugs and keeps."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hvcore.errors import DriverError
from hvcore.errors import MonitorError
from hvcore.errors import Unsupported
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from hvcore.state import process_start
from hvcore_ch.config import ChConfig
from hvcore_ch.process import Vmm
from hvcore_ch.tuning import threads_of
from tests.unit.ch_family import FOLDER
from tests.unit.ch_family import Lab as Rules
from tests.unit.ch_family import capabilities
from tests.unit.ch_lab import Lab
from tests.unit.ch_lab import until

pytestmark = pytest.mark.ch

GOLDEN = Path(__file__).parents[1] / "golden" / "ch"
SPECIAL = {
    "sev-snp": "needs a processor with SEV-SNP and a build for it",
    "tdx": "needs a processor with TDX and a build for it",
}
"""Goldens that no ordinary host can take, with the reason."""

TINY = """\
 .section .note.Xen,"a",@note
 .align 4
 .long 4, 4, 18
 .asciz "Xen"
 .long _start
 .text
 .code32
 .globl _start
_start: mov $msg, %esi
1: lodsb
 test %al,%al
 jz 2f
 mov $0x3f8,%dx
 outb %al,%dx
 jmp 1b
2: {end}
3: hlt
 jmp 3b
msg: .asciz "GUEST-MARKER-DONE\\n"
"""
POWER_OFF = "mov $0x34, %al; mov $0x600, %dx; outb %al, %dx"


@pytest.fixture(scope="module")
def binary():
    found = os.environ.get("HVCORE_TEST_CLOUD_HYPERVISOR") or shutil.which("cloud-hypervisor")
    if found is None:
        pytest.skip("cloud-hypervisor is not installed")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("/dev/kvm cannot be used")
    return found


@pytest.fixture
def lab(binary, tmp_path):
    lab = Lab(tmp_path)
    (tmp_path / "cloud-hypervisor").unlink()
    (tmp_path / "cloud-hypervisor").symlink_to(binary)
    (tmp_path / "disk.raw").write_bytes(bytes(4 << 20))
    return lab


def assemble(folder, *, end):
    """Write the smallest guest there can be."""
    if shutil.which("as") is None or shutil.which("ld") is None:
        pytest.skip("there is no assembler")
    (folder / "tiny.S").write_text(TINY.format(end=end))
    subprocess.run(["as", "--64", "-o", "tiny.o", "tiny.S"], cwd=folder, check=True)
    subprocess.run(
        ["ld", "-m", "elf_x86_64", "-n", "-Ttext", "0x100000", "--section-start=.note.Xen=0x101000",
         "-o", "kernel", "tiny.o"],
        cwd=folder, check=True,
    )  # fmt: skip


@pytest.fixture
async def states(binary, lab):
    """Skip where KVM cannot tell the state of CPUs, as where software plays it."""
    assemble(lab.folder, end="nop")
    async with await lab.host("tried") as host:
        domain = await host.define(lab.document())
        await domain.start()
        try:
            await domain.save(str(lab.folder / "tried.save"))
        except MonitorError as error:
            pytest.skip(f"no guest can be saved here: {error}")
        finally:
            if domain.is_active:
                await domain.destroy()


@pytest.fixture(scope="module")
def rules():
    return Rules()


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("*.xml")))
async def test_every_family_is_accepted(rules, binary, tmp_path, name):
    if name in SPECIAL:
        pytest.skip(SPECIAL[name])
    document = (GOLDEN / f"{name}.xml").read_text().replace("/var/log/", f"{tmp_path}/")
    document = document.replace("/run/serial.sock", f"{tmp_path}/serial.sock")
    # Rules of Landlock name files that have to be there.
    plan = rules.plan(document, config=ChConfig(landlock=False), caps=capabilities())
    vmm = await Vmm.start(binary, tmp_path, name=name)
    try:
        config = plan.config
        assert FOLDER not in str(config.get("landlock_rules"))
        assert await vmm.monitor.call("vm.create", config) is None
        info = await vmm.monitor.call("vm.info")
        assert info["state"] == "Created"
        for member, value in config.items():
            assert_contains(info["config"][member], value, member)
    finally:
        await vmm.kill()


def assert_contains(found, wanted, where):
    """Check that everything that was said arrived."""
    if isinstance(wanted, dict):
        for key, value in wanted.items():
            assert key in found, f"{where}.{key} was passed over"
            assert_contains(found[key], value, f"{where}.{key}")
    elif isinstance(wanted, list):
        for each, value in zip(found, wanted, strict=True):
            assert_contains(each, value, where)
    elif where != "serial.file":
        assert found == wanted, where


async def test_a_guest_boots_writes_and_powers_off(lab):
    assemble(lab.folder, end=POWER_OFF)
    serial = f"<serial type='file'><source path='{lab.folder}/serial'/></serial>"
    async with await lab.host() as host:
        domain = await host.define(lab.document(devices=serial))
        await domain.start()
        await until(domain, ShutoffReason.SHUTDOWN)
    assert (lab.folder / "serial").read_text() == "GUEST-MARKER-DONE\n"


async def test_a_guest_is_paused_reset_found_again_and_ended(lab):
    assemble(lab.folder, end="nop")
    async with await lab.host() as host:
        domain = await host.define(lab.document())
        await domain.start()
        await domain.suspend()
        assert (await domain.state())[1] is PausedReason.USER
        await domain.resume()
        assert (await domain.state())[1] is RunningReason.UNPAUSED
        await domain.reset()
        assert (await domain.info()).memory == 128 * 1024
        pid = lab.pid(domain)
    async with await lab.host() as host:
        domain = await host.lookup_name("guest")
        assert lab.pid(domain) == pid
        assert (await domain.state())[1] is RunningReason.UNPAUSED
        await domain.destroy()
        assert process_start(pid) is None


async def test_what_is_to_be_paused_boots_when_it_is_resumed(lab):
    assemble(lab.folder, end=POWER_OFF)
    async with await lab.host() as host:
        domain = await host.define(lab.document())
        await domain.start(paused=True)
        assert (await domain.state())[1] is PausedReason.USER
        await domain.resume()
        await until(domain, ShutoffReason.SHUTDOWN)


async def test_cpus_come_and_are_pinned(lab):
    assemble(lab.folder, end="nop")
    document = lab.document().replace("<vcpu>1</vcpu>", "<vcpu current='1'>2</vcpu>")
    async with await lab.host() as host:
        domain = await host.create(document)
        pid = lab.pid(domain)
        await domain.pin_vcpu(0, "0")
        await domain.set_vcpus(2)
        await domain.pin_vcpu(1, "1")
        await domain.pin_emulator("0")
        found = {}
        for tid, name in threads_of(pid).items():
            found[name] = os.sched_getaffinity(tid)
        assert found["vcpu0"] == {0}
        assert found["vcpu1"] == {1}
        assert found["vmm"] == {0}
        await domain.destroy()


def networks():
    return [path.name for path in Path("/sys/class/net").iterdir()]


async def test_a_tap_is_handed_over(lab):
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK) or os.geteuid() != 0:
        pytest.skip("taps cannot be made")
    assemble(lab.folder, end="nop")
    net = "<interface type='ethernet'><mac address='{}'/><model type='virtio'/></interface>"
    async with await lab.host() as host:
        domain = await host.create(lab.document(devices=net.format("52:54:00:00:00:01")))
        await domain.attach_device(net.format("52:54:00:00:00:02"))
        text = await domain.xml()
        names = [name for name in networks() if f"'{name}'" in text]
        assert len(names) == 2
        assert await domain.detach_device_alias("net1", within=0.3) is False
        await domain.destroy()
        assert not set(names) & set(networks())


async def test_a_disk_is_plugged_where_the_process_may_open_it(lab):
    assemble(lab.folder, end="nop")
    disk = (
        f"<disk type='file'><source file='{lab.folder}/b.raw'/>"
        "<target dev='vdb' bus='virtio'/></disk>"
    )
    (lab.folder / "b.raw").write_bytes(bytes(1 << 20))
    (lab.folder / "root" / "config").mkdir(parents=True)
    settings = lab.folder / "root" / "config" / "ch.toml"
    settings.write_text(f'landlock_paths = ["{lab.folder}"]\n')
    async with await lab.host() as host:
        domain = await host.create(lab.document())
        await domain.attach_device(disk)
        assert "<alias name='virtio-disk1'/>" in await domain.xml()
        # This guest has no ACPI: it never answers.
        assert await domain.detach_device(disk, within=0.3) is False
        await domain.destroy()


async def test_modules_of_memory_come(lab):
    assemble(lab.folder, end="nop")
    room = "<maxMemory slots='2' unit='MiB'>512</maxMemory>"
    module = "<memory model='dimm'><target><size unit='MiB'>128</size></target></memory>"
    async with await lab.host() as host:
        domain = await host.create(lab.document(room))
        await domain.attach_device(module)
        assert (await domain.info()).memory == 256 * 1024
        await domain.destroy()


async def test_sizes_change_and_use_is_counted(lab):
    assemble(lab.folder, end="nop")
    document = lab.document(devices="<memballoon model='virtio'/>")
    async with await lab.host() as host:
        domain = await host.create(document.replace("<vcpu>1</vcpu>", "<vcpu current='1'>2</vcpu>"))
        await domain.set_memory(100 * 1024)
        await domain.resize_disk("vda", 8 << 20)
        assert (lab.folder / "disk.raw").stat().st_size == 8 << 20
        await domain.set_vcpus(2)
        await domain.inject_nmi()
        found = await domain.stats()
        # This guest has no driver of the balloon, so that it keeps what it has.
        assert found["balloon.current"] == 128 * 1024
        assert found["balloon.rss"] > 0
        assert found["block.0.rd.reqs"] == 0
        assert found["block.0.capacity"] == 8 << 20
        assert [info.number for info in await domain.vcpu_info()] == [0, 1]
        await domain.destroy()


@pytest.mark.usefixtures("states")
async def test_a_guest_is_saved_and_restored(lab):
    assemble(lab.folder, end="nop")
    async with await lab.host() as host:
        domain = await host.define(lab.document(devices="<vsock><cid auto='yes'/></vsock>"))
        await domain.start()
        pid = lab.pid(domain)
        await domain.save(str(lab.folder / "saved"))
        assert process_start(pid) is None
        assert (await domain.state())[1] is ShutoffReason.SAVED
        await host.restore(str(lab.folder / "saved"))
        assert (await domain.state())[1] is RunningReason.RESTORED
        await domain.managed_save()
        await domain.start()
        assert (await domain.state())[1] is RunningReason.RESTORED
        await domain.suspend()
        await domain.resume()
        await domain.destroy()


async def test_memory_is_dumped_where_the_build_can(lab):
    assemble(lab.folder, end="nop")
    async with await lab.host() as host:
        domain = await host.create(lab.document())
        if "coredump" in (await domain._engine.driver.context(domain._record.live.domain)).caps:
            await domain.dump(str(lab.folder / "core"))
            assert (lab.folder / "core").read_bytes()[:4] == b"\x7fELF"
        else:
            with pytest.raises(Unsupported, match="dumpformat 'elf'"):
                await domain.dump(str(lab.folder / "core"))
        assert (await domain.state())[0] is State.RUNNING
        await domain.destroy()


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.usefixtures("states")
async def test_a_guest_moves_to_another_host(lab, live):
    assemble(lab.folder, end="nop")
    devices = "<vsock><cid auto='yes'/></vsock><memballoon model='virtio'/>"
    async with await lab.host() as source, await lab.host("other") as target:
        domain = await source.define(lab.document(devices=devices))
        await domain.start()
        pid = lab.pid(domain)
        moved = await domain.migrate(target, live=live)
        assert (await domain.state())[1] is ShutoffReason.MIGRATED
        assert (await moved.state())[1] is RunningReason.MIGRATED
        assert process_start(pid) is None
        assert (await domain.job_info(completed=True)).progress.memory_processed >= 128 << 20
        back = await moved.migrate(source, live=True, paused=True)
        assert (await back.state())[1] is PausedReason.USER
        await back.resume()
        assert (await back.info()).memory == 128 * 1024
        await back.destroy()


@pytest.mark.usefixtures("states")
async def test_a_guest_that_does_not_arrive_goes_on(lab, monkeypatch):
    assemble(lab.folder, end="nop")
    async with await lab.host() as source, await lab.host("other") as target:
        domain = await source.create(lab.document())

        async def fail(*args, **options):
            raise DriverError("the guest did not arrive")

        monkeypatch.setattr(target._engine.driver, "migrate_finish", fail)
        with pytest.raises(DriverError, match="did not arrive"):
            await domain.migrate(target, live=True)
        assert (await domain.state())[1] is RunningReason.MIGRATION_CANCELED
        assert (await domain._record.runtime.vmm.monitor.call("vm.info"))["state"] == "Running"
        await domain.destroy()
