"""Names of control groups, and what is written where for a domain."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvcore import cgroup
from hvcore.cgroup import Groups
from hvcore.cgroup import Make
from hvcore.cgroup import Write
from hvcore.cgroup import group_path
from hvcore.cgroup import machine_name
from hvcore.cgroup import trees
from hvcore.errors import DriverError
from hvcore.errors import Unsupported
from hvcore.model.types import NodeSet
from hvcore.pipeline import Context
from hvcore.pipeline import Pipeline
from hvcore.registry import Registry
from hvcore.rules.placement import ThreadPlace

V1 = """none / tmpfs rw 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/cpuset cgroup rw,relatime,cpuset 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
"""
V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"


@pytest.fixture
def host(tmp_path):
    """Return a function that makes the root of a host with these mounts."""

    def make(mounts, controllers=""):
        (tmp_path / "proc").mkdir(exist_ok=True)
        (tmp_path / "proc/mounts").write_text(mounts)
        (tmp_path / "sys/fs/cgroup").mkdir(parents=True, exist_ok=True)
        if controllers:
            (tmp_path / "sys/fs/cgroup/cgroup.controllers").write_text(controllers)
        return tmp_path

    return make


@pytest.fixture(scope="module")
def domain():
    registry = Registry()
    registry.freeze()

    def parse(sections):
        text = f"<domain type='test'><name>g</name><memory>1</memory>{sections}"
        text += "<os><type>hvm</type></os></domain>"
        return Pipeline(registry).define(text, Context(registry=registry)).domain

    return parse


def shown(actions, root):
    mount = root / "sys/fs/cgroup"
    return [
        f"{action.path.relative_to(mount)}={action.value}"
        if isinstance(action, Write)
        else f"{type(action).__name__.lower()} {action.path.relative_to(mount)}"
        for action in actions
    ]


def test_hierarchies_are_found_in_the_order_of_their_controllers(host):
    found = trees(host(V1))
    assert [tree.mount.name for tree in found] == ["cpu,cpuacct", "cpuset", "memory"]
    assert {tree.version for tree in found} == {1}
    [tree] = trees(host(V2, "cpuset cpu io memory pids\n"))
    assert (tree.version, tree.controllers) == (2, {"cpu", "cpuset", "memory"})
    assert trees(host(V2, "io pids")) == ()
    assert Groups.here("machine/x", host("proc /proc proc rw 0 0\n")) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain", "qemu-1-plain"),
        ("../../etc/passwd", "qemu-1-etcpasswd"),
        ("a b,c\n\u00e9", "qemu-1-abc"),
        ("--a..b--", "qemu-1-a.b"),
        ("x" * 100, "qemu-1-" + "x" * 57),
    ],
)
def test_a_machine_is_named_with_characters_of_host_names(name, expected):
    assert machine_name("qemu", 1, name) == expected


def test_managers_with_a_root_or_a_user_of_their_own_name_machines_apart():
    assert machine_name("qemu", 1, "g", root="/tmp/x").startswith("qemu-embed-")
    assert machine_name("qemu", 1, "g", root="/tmp/x") != machine_name("qemu", 1, "g", root="/y")
    assert machine_name("qemu", 2, "g", user="me") == "qemu-me-2-g"


@given(st.text())
def test_no_name_leads_out_of_the_partition(name):
    path = group_path("/machine", machine_name("qemu", 7, name), "qemu")
    assert path.startswith("machine/qemu-7")
    assert path.count("/") == 1
    assert path.endswith(".libvirt-qemu")
    assert path.isascii()


def test_partitions_are_escaped_as_libvirt_does():
    assert group_path("/machine/prod", "m", "qemu") == "machine/prod.partition/m.libvirt-qemu"
    assert group_path("/_x/a.slice", "cpu.m", "qemu") == "__x/a.slice/_cpu.m.libvirt-qemu"


@pytest.mark.parametrize("partition", ["machine", "/a/../b", "//", "/a/"])
def test_a_partition_is_an_absolute_path_without_tricks(partition):
    with pytest.raises(Unsupported, match="must start with '/'"):
        group_path(partition, "m", "qemu")


LIMITS = """<memtune><hard_limit unit='KiB'>2048</hard_limit><soft_limit>1024</soft_limit>
<swap_hard_limit>3072</swap_hard_limit></memtune><cputune><shares>200</shares>
<global_period>50000</global_period><global_quota>-1</global_quota></cputune>"""


def test_limits_of_the_domain(host, domain):
    root = host(V1)
    assert shown(Groups.here("m/g", root).limit(domain(LIMITS)), root) == [
        "memory/m/g/memory.limit_in_bytes=2097152",
        "memory/m/g/memory.soft_limit_in_bytes=1048576",
        "memory/m/g/memory.memsw.limit_in_bytes=3145728",
        "cpu,cpuacct/m/g/cpu.shares=200",
        "cpuset/m/g/cpuset.memory_migrate=1",
        "cpu,cpuacct/m/g/cpu.cfs_period_us=50000",
        "cpu,cpuacct/m/g/cpu.cfs_quota_us=-1",
    ]
    root = host(V2, "cpu cpuset memory")
    assert shown(Groups.here("m/g", root).limit(domain(LIMITS)), root) == [
        "m/g/memory.max=2097152",
        "m/g/memory.high=1048576",
        "m/g/memory.swap.max=1048576",
        "m/g/cpu.weight=200",
        "m/g/cpu.max=max 50000",
    ]


@pytest.mark.parametrize(
    ("sections", "text"),
    [
        (LIMITS, "Memory cgroup is not available on this host"),
        ("<cputune><shares>2</shares></cputune>", "CPU tuning is not available on this host"),
        (
            "<cputune><global_quota>2000</global_quota></cputune>",
            "cgroup cpu is required for scheduler tuning",
        ),
    ],
)
def test_a_limit_needs_its_controller(host, domain, sections, text):
    groups = Groups.here("m/g", host("cgroup /sys/fs/cgroup cgroup rw,cpuset 0 0\n"))
    with pytest.raises(Unsupported, match=text):
        list(groups.limit(domain(sections)))


def test_shares_of_version_2_are_weights(host, domain):
    groups = Groups.here("m/g", host(V2, "cpu"))
    with pytest.raises(DriverError, match=r"shares '20000' must be in range \[1, 10000\]"):
        list(groups.limit(domain("<cputune><shares>20000</shares></cputune>")))


def test_a_thread_enters_its_group_before_it_is_confined(host):
    place = ThreadPlace(cpus=NodeSet([1, 2]), nodes=NodeSet([0]), quota=1000)
    root = host(V1)
    assert shown(Groups.here("m/g", root).thread("vcpu3", 77, place), root) == [
        "make cpu,cpuacct/m/g/vcpu3",
        "make cpuset/m/g/vcpu3",
        "inherit cpuset/m/g/vcpu3",
        "cpu,cpuacct/m/g/vcpu3/tasks=77",
        "cpuset/m/g/vcpu3/tasks=77",
        "cpuset/m/g/vcpu3/cpuset.cpus=1-2",
        "cpuset/m/g/vcpu3/cpuset.mems=0",
        "cpu,cpuacct/m/g/vcpu3/cpu.cfs_quota_us=1000",
    ]
    everywhere = shown(Groups.here("m/g", root).thread("vcpu3", 77, ThreadPlace()), root)
    assert everywhere[-1].endswith("tasks=77")


def test_what_the_kernel_refuses_is_told_with_its_file(host):
    groups = Groups.here("m/g", host(V2, "cpuset"))
    with pytest.raises(DriverError, match=r"Failed to create control group '.*/m/g': No such file"):
        cgroup.carry_out([Make(groups.trees[0].mount / "m/g")])
    missing = groups.file("cpuset", "cpuset.cpus")
    with pytest.raises(DriverError, match=r"Unable to write to '.*cpuset.cpus': No such file"):
        cgroup.carry_out([Write(missing, "0")])
    assert not missing.exists()


def test_groups_go_with_those_below_them(host):
    root = host(V1)
    groups = attrs.evolve(Groups.here("m/g", root), trees=trees(root)[:1])
    below = groups.trees[0].mount / "m/g/vcpu0"
    below.mkdir(parents=True)
    groups.remove("vcpu0")
    assert not below.exists()
    groups.remove()
    assert not below.parent.exists()
    groups.remove()
