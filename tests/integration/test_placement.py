"""Threads of a real QEMU are where the definition wants them: masks, control groups, memory."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hvcore import connect
from hvcore.errors import DriverError
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.errors import MonitorError
from hvcore.errors import Unsupported
from hvcore.errors import ValidationFailed
from hvcore.model.types import NodeSet

pytestmark = [
    pytest.mark.qemu,
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs"),
]
REAL_NUMAD = shutil.which("numad")
CPUSET = Path("/sys/fs/cgroup/cpuset")
grouped = pytest.mark.skipif(
    not os.access(CPUSET / "cpuset.cpus", os.W_OK), reason="no cpuset control groups of version 1"
)


def xml(name, sections, vcpu="<vcpu>1</vcpu>", memory=131072):
    return (
        f"<domain type='qemu'><name>{name}</name><memory>{memory}</memory>{vcpu}{sections}"
        "<os><type arch='x86_64' machine='q35'>hvm</type></os>"
        "<devices><memballoon model='none'/></devices></domain>"
    )


PINNED = xml(
    "pinned",
    "<iothreads>1</iothreads><cputune><vcpupin vcpu='1' cpuset='1'/><vcpupin vcpu='3' cpuset='1'/>"
    "<emulatorpin cpuset='0-1'/><iothreadpin iothread='1' cpuset='1'/></cputune>"
    "<numatune><memory mode='restrictive' nodeset='0'/></numatune>",
    vcpu="<vcpu cpuset='0' current='2'>4</vcpu>",
)


@pytest.fixture
async def host(uri):
    async with await connect(uri) as found:
        yield found


def status_of(domain, tmp_path):
    return json.loads((tmp_path / "root/run" / domain.uuid / "status.json").read_text())


def read(path):
    return Path(path).read_text()


def run(*words):
    subprocess.run(words, check=True)


def groups_of(name):
    return [path for path in CPUSET.glob("machine/*") if path.name.endswith(f"{name}.libvirt-qemu")]


def threads(pid):
    """Return CPUs and nodes of each thread, and its cpuset, by name."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        lines = dict(
            line.split(":\t", 1) for line in (task / "status").read_text().splitlines() if line
        )
        [group] = re.findall(r"cpuset:(.*)", (task / "cgroup").read_text()) or [""]
        place = (lines["Cpus_allowed_list"], lines["Mems_allowed_list"], Path(group).name)
        # A thread of QEMU's own has its name only after a while.
        name = lines["Name"].replace("call_rcu", "qemu-system-x86")
        found.setdefault(name, set()).add(place)
    return found


@grouped
async def test_every_thread_has_its_mask_and_its_group(host, tmp_path):
    domain = await host.create(PINNED)
    pid = status_of(domain, tmp_path)["pid"]
    expected = {
        "qemu-system-x86": {("0-1", "0", "emulator")},
        "IO mon_iothread": {("0-1", "0", "emulator")},
        "IO iothread1": {("1", "0", "iothread1")},
        "CPU 0/TCG": {("0", "0", "vcpu0")},
        "CPU 1/TCG": {("1", "0", "vcpu1")},
    }
    assert threads(pid) == expected
    # A CPU that comes later inherits the set of <vcpu>, or has the pin it had while it was away.
    await domain.set_vcpus(4)
    expected |= {"CPU 2/TCG": {("0", "0", "vcpu2")}, "CPU 3/TCG": {("1", "0", "vcpu3")}}
    assert threads(pid) == expected
    await domain.pin_vcpu(2, "1")
    await domain.pin_emulator("1")
    expected |= {
        "qemu-system-x86": {("1", "0", "emulator")},
        "IO mon_iothread": {("1", "0", "emulator")},
        "CPU 2/TCG": {("1", "0", "vcpu2")},
    }
    assert threads(pid) == expected
    text = await domain.xml()
    assert "<vcpu id='3' enabled='yes' hotpluggable='yes' order='4'/>" in text
    assert "<vcpupin vcpu='2' cpuset='1'/>" in text
    assert len(groups_of("pinned")) == 1
    await domain.destroy()
    assert groups_of("pinned") == []


async def test_three_pinned_cpus_and_one_plugged(host, tmp_path):
    pins = "<vcpupin vcpu='0' cpuset='0'/><vcpupin vcpu='1' cpuset='1'/>"
    domain = await host.create(
        xml(
            "three",
            f"<cputune>{pins}<emulatorpin cpuset='1'/></cputune>",
            vcpu="<vcpu cpuset='0' current='3'>4</vcpu>",
        )
    )
    pid = status_of(domain, tmp_path)["pid"]

    def masks():
        return {name: {cpus for cpus, _, _ in found} for name, found in threads(pid).items()}

    expected = {
        "qemu-system-x86": {"1"},
        "IO mon_iothread": {"1"},
        "CPU 0/TCG": {"0"},
        "CPU 1/TCG": {"1"},
        "CPU 2/TCG": {"0"},
    }
    assert masks() == expected
    program = [sys.executable, "-m", "hvcore.cli", "-c", host.uri]
    await host.close()
    run(*program, "setvcpus", "three", "4", "--live")
    assert masks() == expected | {"CPU 3/TCG": {"0"}}
    run(*program, "destroy", "three")


@grouped
async def test_a_guest_without_placement_is_left_alone_until_it_is_pinned(host, tmp_path):
    domain = await host.create(xml("plain", "", vcpu="<vcpu>2</vcpu>"))
    pid = status_of(domain, tmp_path)["pid"]
    assert "cgroup" not in status_of(domain, tmp_path)["data"]
    assert {place[2] for places in threads(pid).values() for place in places} == {""}
    await domain.pin_vcpu(1, "0")
    found = threads(pid)
    assert found["CPU 1/TCG"] == {("0", "0", "vcpu1")}
    assert found["CPU 0/TCG"] == {("0-1", "0", "vcpu0")}
    assert found["qemu-system-x86"] == {("0-1", "0", "emulator")}
    # Memory that nothing binds can be moved, too.
    await domain.set_numa_parameters(nodeset="0")
    assert "<memory mode='strict' nodeset='0'/>" in await domain.xml()
    await domain.destroy()


@pytest.mark.parametrize(
    ("mode", "policy"), [("strict", "bind"), ("interleave", "interleave"), ("preferred", "prefer")]
)
async def test_memory_is_bound_as_numa_maps_shows(host, tmp_path, mode, policy):
    tune = f"<numatune><memory mode='{mode}' nodeset='0'/></numatune>"
    domain = await host.create(xml("bound", tune, memory=1 << 18))
    maps = read(f"/proc/{status_of(domain, tmp_path)['pid']}/numa_maps")
    # The guest's memory has a policy of its own.
    assert {line.split()[1].split(":")[0] for line in maps.splitlines()} >= {policy}
    await domain.destroy()


@grouped
async def test_restrictive_memory_is_confined_by_the_group_alone(host, tmp_path):
    tune = "<numatune><memory mode='restrictive' nodeset='0'/></numatune>"
    domain = await host.create(xml("loose", tune))
    status = status_of(domain, tmp_path)
    maps = read(f"/proc/{status['pid']}/numa_maps")
    assert {line.split()[1] for line in maps.splitlines()} == {"default"}
    group = CPUSET / status["data"]["cgroup"]
    assert (group / "cpuset.memory_migrate").read_text() == "1\n"
    assert {p.name: (p / "cpuset.mems").read_text() for p in group.iterdir() if p.is_dir()} == {
        "emulator": "0\n",
        "vcpu0": "0\n",
    }
    await domain.destroy()


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (
            lambda d: d.set_numa_parameters(mode="interleave", live=True),
            InvalidState,
            "can't change numatune mode for running domain",
        ),
        (
            lambda d: d.set_numa_parameters(nodeset="0,3", live=True),
            ValidationFailed,
            "unsupported configuration: NUMA node 3 is unavailable",
        ),
        (
            lambda d: d.set_vcpus(2),
            MonitorError,
            "acpi: device unplug request for not supported device type",
        ),
        (
            lambda d: d.set_vcpus(1),
            ValidationFailed,
            "failed to find appropriate hotpluggable vcpus to reach the desired target vcpu count",
        ),
        (
            lambda d: d.pin_vcpu(9, "0"),
            HvError,
            "invalid argument: vcpu 9 is out of range of live cpu count 4",
        ),
        (
            lambda d: d.set_vcpus(9),
            HvError,
            "requested vcpus is greater than max allowable vcpus for the live domain: 9 > 4",
        ),
        (lambda d: d.pin_iothread(2, "0"), HvError, "invalid argument: iothread 2 not found"),
    ],
)
@grouped
async def test_what_a_guest_refuses_changes_nothing(host, tmp_path, change, error, text):
    domain = await host.create(PINNED)
    await domain.set_vcpus(3)
    pid, before = status_of(domain, tmp_path)["pid"], await domain.xml()
    where = threads(pid)
    with pytest.raises(error, match=re.escape(text)):
        await change(domain)
    assert threads(pid) == where
    assert await domain.xml() == before
    await domain.destroy()


@pytest.mark.parametrize(
    ("tune", "allowed"), [("strict", False), ("preferred", False), ("restrictive", True)]
)
@grouped
async def test_only_memory_that_qemu_does_not_bind_can_be_moved(host, tune, allowed):
    domain = await host.create(
        xml("moved", f"<numatune><memory mode='{tune}' nodeset='0'/></numatune>")
    )
    if allowed:
        await domain.set_numa_parameters(nodeset="0", live=True)
        await domain.set_numa_parameters(mode=tune, nodeset="0", live=True)
    else:
        with pytest.raises(InvalidState, match="requires restrictive numa mode"):
            await domain.set_numa_parameters(nodeset="0", live=True)
    if tune == "strict":
        await domain.set_numa_parameters(mode="strict", nodeset="0", live=True)
        with pytest.raises(InvalidState, match="can't change nodeset for strict mode"):
            await domain.set_numa_parameters(mode="strict", live=True)
    await domain.destroy()


@pytest.mark.parametrize(
    ("sections", "vcpu", "text"),
    [
        (
            "",
            "<vcpu cpuset='999'>1</vcpu>",
            r"emulator/cpuset.cpus': Numerical result out of range",
        ),
        (
            "<cputune><vcpupin vcpu='0' cpuset='999'/></cputune>",
            "<vcpu>1</vcpu>",
            r"vcpu0/cpuset.cpus': Numerical result out of range",
        ),
        (
            "<cputune><emulatorpin cpuset='999'/></cputune>",
            "<vcpu>1</vcpu>",
            r"cannot set CPU affinity on process \d+: Invalid argument",
        ),
    ],
)
@grouped
async def test_a_start_on_cpus_that_are_not_there_fails_and_leaves_nothing(
    host, tmp_path, sections, vcpu, text
):
    with pytest.raises(DriverError, match=text):
        await host.create(xml("nowhere", sections, vcpu=vcpu))
    assert not list(tmp_path.glob("root/run/*/status.json"))
    assert groups_of("nowhere") == []


@grouped
async def test_the_next_manager_finds_the_groups_again(uri, tmp_path):
    async with await connect(uri) as host:
        domain = await host.create(PINNED)
        group = CPUSET / status_of(domain, tmp_path)["data"]["cgroup"]
    async with await connect(uri) as host:
        domain = await host.lookup("pinned")
        await domain.pin_vcpu(0, "1")
        assert (group / "vcpu0/cpuset.cpus").read_text() == "1\n"
        await domain.destroy()
        assert not group.exists()
    async with await connect(uri) as host:
        domain = await host.create(PINNED)
        group = CPUSET / status_of(domain, tmp_path)["data"]["cgroup"]
        pid = status_of(domain, tmp_path)["pid"]
    os.kill(pid, signal.SIGKILL)
    async with await connect(uri) as host:
        assert await host.domains() == []
    assert not group.exists()


# -- numad ----------------------------------------------------------------------------------------


@pytest.fixture
def numad(tmp_path, monkeypatch):
    """Put a numad first in PATH that notes how it is called; return how to let it answer."""
    folder = tmp_path / "bin"
    folder.mkdir()
    calls = folder / "calls"
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def runs(script):
        program = folder / "numad"
        program.write_text(f"#!/bin/sh\necho \"$*\" >> '{calls}'\n{script}\n")
        program.chmod(0o700)

    def answers(text, status=0):
        runs(f"printf '{text}'\nexit {status}")

    answers.runs = runs
    answers.calls = lambda: calls.read_text().splitlines() if calls.exists() else []
    return answers


AUTO = xml("auto", "", vcpu="<vcpu placement='auto' current='2'>3</vcpu>", memory=131073)


async def test_numad_is_asked_once_and_its_advice_kept(uri, numad, tmp_path):
    numad("0-1\\n")
    async with await connect(uri) as host:
        domain = await host.define(AUTO)
        await domain.xml()
        assert numad.calls() == []
        await domain.start()
        assert numad.calls() == ["-w 2:129"]
        status = status_of(domain, tmp_path)
        cpus = read("/sys/devices/system/node/node0/cpulist").strip()
        assert status["data"]["numad"] == {"nodeset": "0", "cpuset": cpus}
        argv = read(f"/proc/{status['pid']}/cmdline")
        assert '"host-nodes":[0],"policy":"bind"' in argv
        await domain.set_vcpus(3)
    async with await connect(uri) as host:
        domain = await host.lookup("auto")
        assert {str(mask) for mask in (await domain.vcpu_pins()).values()} == {cpus}
        parameters = await domain.numa_parameters()
        assert (parameters.mode, str(parameters.nodeset)) == ("strict", "0")
        with pytest.raises(Unsupported, match="'emulatorpin' cannot be used"):
            await domain.pin_emulator("0")
        await domain.destroy()
    assert numad.calls() == ["-w 2:129"]


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        ("0", 3, "operation failed: Failed to query numad for the advisory nodeset"),
        ("\\n", 0, r"invalid argument: Failed to parse bitmap '\n'"),
        ("abc\\n", 0, "invalid argument: Failed to parse bitmap 'abc\n'"),
    ],
)
async def test_without_advice_nothing_is_started(host, numad, tmp_path, answer, status, text):
    numad(answer, status)
    with pytest.raises(DriverError) as caught:
        await host.create(AUTO)
    assert str(caught.value) == text.replace(r"\n", "\n")
    assert not list(tmp_path.glob("root/run/*/status.json"))


async def test_a_host_without_numad_says_so(host, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    emulator = shutil.which("qemu-system-x86_64", path=os.defpath)
    with pytest.raises(DriverError, match="Failed to query numad for the advisory nodeset"):
        await host.create(AUTO.replace("<devices>", f"<devices><emulator>{emulator}</emulator>"))


@pytest.mark.skipif(REAL_NUMAD is None, reason="numad is not installed")
async def test_real_numad_is_asked_once_and_names_nodes_that_are_there(host, numad, tmp_path):
    numad.runs(f'exec {REAL_NUMAD} "$@"')
    domain = await host.create(AUTO)
    assert numad.calls() == ["-w 2:129"]
    advice = NodeSet.parse(status_of(domain, tmp_path)["data"]["numad"]["nodeset"])
    there = NodeSet.parse(read("/sys/devices/system/node/online").strip())
    assert advice
    assert set(advice) <= set(there)
    await domain.destroy()


# -- the order of what is written -----------------------------------------------------------------

V1_THREAD = """
    mkdir cpu/machine/DOMAIN/{group}
    mkdir cpuset/machine/DOMAIN/{group}
    cpuset/machine/DOMAIN/{group}/cpuset.cpus = 0-1
    cpuset/machine/DOMAIN/{group}/cpuset.mems = 0
    cpuset/machine/DOMAIN/{group}/cpuset.memory_migrate = 1
    cpu/machine/DOMAIN/{group}/{entry} = {thread}
    cpuset/machine/DOMAIN/{group}/{entry} = {thread}
    cpuset/machine/DOMAIN/{group}/cpuset.cpus = {cpus}
    cpuset/machine/DOMAIN/{group}/cpuset.mems = 0
"""
V1_BANDWIDTH = """
    cpu/machine/DOMAIN/{group}/cpu.cfs_period_us = 100000
    cpu/machine/DOMAIN/{group}/cpu.cfs_quota_us = 50000
"""
V1_DOMAIN = """
    mkdir cpu/machine
    mkdir cpuset/machine
    cpuset/machine/cpuset.cpus = 0-1
    cpuset/machine/cpuset.mems = 0
    cpuset/machine/cpuset.memory_migrate = 0
    mkdir cpu/machine/DOMAIN
    mkdir cpuset/machine/DOMAIN
    cpuset/machine/DOMAIN/cpuset.cpus = 0-1
    cpuset/machine/DOMAIN/cpuset.mems = 0
    cpuset/machine/DOMAIN/cpuset.memory_migrate = 0
    cpu/machine/DOMAIN/cgroup.procs = qemu-system-x86
    cpuset/machine/DOMAIN/cgroup.procs = qemu-system-x86
    cpu/machine/DOMAIN/cpu.shares = 512
    cpuset/machine/DOMAIN/cpuset.memory_migrate = 1
"""
V2_THREAD = """
    mkdir machine/DOMAIN/{group}
    machine/DOMAIN/{group}/cgroup.type = threaded
    machine/DOMAIN/cgroup.subtree_control = +cpu
    machine/DOMAIN/cgroup.subtree_control = +cpuset
    machine/DOMAIN/{group}/{entry} = {thread}
    machine/DOMAIN/{group}/cpuset.cpus = {cpus}
    machine/DOMAIN/{group}/cpuset.mems = 0
"""
V2_BANDWIDTH = """
    machine/DOMAIN/{group}/cpu.max = 50000 100000
"""
V2_DOMAIN = """
    mkdir machine
    cgroup.subtree_control = +cpu
    cgroup.subtree_control = +cpuset
    cgroup.subtree_control = +memory
    mkdir machine/DOMAIN
    machine/cgroup.subtree_control = +cpu
    machine/cgroup.subtree_control = +cpuset
    machine/cgroup.subtree_control = +memory
    machine/DOMAIN/cgroup.procs = qemu-system-x86
    machine/DOMAIN/cpu.weight = 512
"""


def lines(text, **names):
    return textwrap.dedent(text).strip().format(**names).splitlines()


@pytest.mark.skipif(
    subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0,
    reason="no mount namespaces",
)
@pytest.mark.parametrize(
    ("version", "domain", "thread", "bandwidth", "entry", "prefix"),
    [
        (1, V1_DOMAIN, V1_THREAD, V1_BANDWIDTH, "tasks", "cpuset/machine/DOMAIN"),
        (2, V2_DOMAIN, V2_THREAD, V2_BANDWIDTH, "cgroup.threads", "machine/DOMAIN"),
    ],
)
def test_groups_are_made_and_written_in_the_same_order_with_either_version(
    qemu, tmp_path, version, domain, thread, bandwidth, entry, prefix
):
    script = Path(__file__).with_name("cgroup_guest.py")
    done = subprocess.run(
        ["unshare", "-m", sys.executable, script, str(version), tmp_path],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    found = json.loads(done.stdout)

    def virtual(number, cpus):
        names = {"group": f"vcpu{number}", "entry": entry, "thread": f"CPU {number}/TCG"}
        return [*lines(thread, cpus=cpus, **names), *lines(bandwidth, **names)]

    emulator = {"group": "emulator", "entry": "cgroup.procs", "thread": "qemu-system-x86"}
    iothread = {"group": "iothread1", "entry": entry, "thread": "IO iothread1"}
    assert found["start"] == [
        *lines(domain),
        *lines(thread, cpus="0-1", **emulator),
        *virtual(0, "0"),
        *virtual(1, "1"),
        *lines(thread, cpus="0", **iothread),
    ]
    everywhere = f"{prefix}/emulator/cpuset.mems = 0"
    assert found["plug"] == [everywhere, *virtual(2, "0"), everywhere]
    assert found["pin"] == [
        f"{prefix}/vcpu2/cpuset.cpus = 1",
        f"{prefix}/emulator/cpuset.cpus = 1",
        f"{prefix}/iothread1/cpuset.cpus = 0-1",
    ]
    groups = ("emulator", "vcpu0", "vcpu1", "vcpu2", "iothread1")
    assert found["memory"] == [f"{prefix}/{group}/cpuset.mems = 0" for group in groups]
