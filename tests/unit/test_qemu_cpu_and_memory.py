"""CPUs, memory, NUMA and I/O threads on QEMU's command line."""

from __future__ import annotations

from typing import Any

import pytest

from hvcore.capabilities import Deferred
from hvcore.cpu.spec import CpuSpec
from hvcore.errors import HvError
from hvcore.errors import ValidationFailed
from hvcore.hostinfo import HostInfo
from hvcore.hostinfo import HugePageMount
from hvcore.model.types import NodeSet
from hvcore.pipeline import Context
from hvcore.registry import Registry
from hvcore_qemu import launch
from hvcore_qemu.capabilities import Accelerator
from hvcore_qemu.capabilities import CpuModel
from hvcore_qemu.capabilities import CpuProperty
from hvcore_qemu.capabilities import HostCpu
from hvcore_qemu.capabilities import Machine
from hvcore_qemu.capabilities import QemuCapabilities
from hvcore_qemu.command import Command
from hvcore_qemu.command import flat
from hvcore_qemu.config import QemuConfig
from hvcore_qemu.prepare import Preparation
from hvcore_qemu.pretend import PretendHost
from hvcore_qemu.resources import Resources
from hvcore_qemu.sections import cpu
from hvcore_qemu.sections import iothread
from hvcore_qemu.sections import memory
from hvcore_qemu.sections import numa
from hvcore_qemu.sections import vcpu

REGISTRY = Registry()
REGISTRY.freeze()
PIPELINE = launch.pipeline(REGISTRY)
MACHINE = "pc-i440fx-10.0"
MEMORY = "<memory>1048576</memory>"
CELLS = (
    "<vcpu>2</vcpu><cpu><numa><cell cpus='0' memory='512' unit='MiB'/>"
    "<cell cpus='1' memory='512' unit='MiB'/></numa></cpu>"
)


class Host(PretendHost):
    """A host with two nodes, whose numad always has the same advice."""

    def numa_nodes(self) -> dict[int, NodeSet]:
        return {0: NodeSet([0, 1]), 1: NodeSet([2, 3])}

    def numa_advice(self, *, vcpus: int, memory: int) -> NodeSet:
        return NodeSet([1])


def accelerator() -> Accelerator:
    return Accelerator(
        deferred_machines=Deferred.of(
            (
                Machine(
                    MACHINE,
                    max_cpus=255,
                    default_cpu="qemu64-x86_64-cpu",
                    default_ram_id="pc.ram",
                    acpi=True,
                ),
            )
        ),
        deferred_cpus=Deferred.of(
            (
                CpuModel("qemu64", "qemu64-x86_64-cpu", usable=True),
                CpuModel("Nehalem", "Nehalem-x86_64-cpu", usable=True),
                CpuModel("Haswell", "Haswell-x86_64-cpu", usable=False, blockers=("avx2",)),
            )
        ),
        deferred_host_cpu=Deferred.of(
            HostCpu(
                "base",
                migratability=True,
                properties=(
                    *(CpuProperty(name, value=True) for name in ("sse", "sse2", "lm", "cx16")),
                    CpuProperty("invtsc", value=True, migratable=False),
                    CpuProperty("vendor", value="GenuineIntel"),
                ),
            )
        ),
    )


CAPS = QemuCapabilities(
    arch="x86_64",
    names=frozenset({"kvm", "tcg", "cpu.migratable", "cpu-max", "smp-dies", "thread-context"}),
    accelerators={"kvm": accelerator(), "tcg": accelerator()},
)
INFO = HostInfo(
    arch="x86_64",
    hugepage_mounts=(HugePageMount("/dev/hugepages", 2048, default=True),),
    cpu=CpuSpec(model="Nehalem", vendor="Intel", host=True),
)


def prepared(sections: str, *, kind: str = "kvm") -> Preparation:
    """Return a domain with ``sections``, ready for the command line."""
    ctx = Context(
        registry=REGISTRY, driver="qemu", caps=CAPS, host=INFO, config=QemuConfig(),
        find_capabilities=lambda _: CAPS,
    )  # fmt: skip
    domain = PIPELINE.parse(
        f"<domain type='{kind}'><name>g</name><uuid>00010203-0405-4607-8809-0a0b0c0d0e0f</uuid>"
        f"<os><type arch='x86_64' machine='{MACHINE}'>hvm</type></os>{sections}"
        "<devices><emulator>/q</emulator><controller type='usb' model='none'/>"
        "<memballoon model='none'/></devices></domain>"
    )
    PIPELINE.post_parse(domain, ctx)
    PIPELINE.seal(domain, ctx)
    work = Preparation(
        domain=domain, caps=CAPS, config=QemuConfig(memory_backing_dir="/ram"), host=Host(),
        registry=REGISTRY, resources=Resources(domain_dir="/d", short_name="1-g"), info=INFO,
    )  # fmt: skip
    cpu.validate_start(work)
    numa.prepare(work)
    memory.align_sizes(work)
    cpu.prepare(work)
    return work


def options(sections: str, *fill: Any, kind: str = "kvm") -> list[Any]:
    """Return options and values that functions of the sections write for ``sections``."""
    work = prepared(sections, kind=kind)
    cmd = Command(work.domain, work.caps, work.config, work.resources, work.registry)
    for function in fill:
        function(cmd)
    return list(cmd.plan.argv[1:])


def test_a_guest_has_qemus_default_cpu_and_memory() -> None:
    assert options(MEMORY, cpu.cpu, memory.memory, vcpu.smp) == [
        "-cpu", "qemu64",
        "-m", "size=1048576k",
        "-object", '{"qom-type":"memory-backend-ram","id":"pc.ram","size":1073741824}',
        "-overcommit", "mem-lock=off",
        "-smp", "1,sockets=1,cores=1,threads=1",
    ]  # fmt: skip


def test_cpus_that_can_come_later_are_not_there_at_start() -> None:
    topology = "<cpu><topology sockets='2' cores='2' threads='1'/></cpu>"
    assert options(MEMORY + "<vcpu current='3'>4</vcpu>" + topology, vcpu.smp) == [
        "-smp", "3,maxcpus=4,sockets=2,dies=1,cores=2,threads=1",
    ]  # fmt: skip


def test_memory_of_cells_comes_from_host_nodes() -> None:
    tune = (
        "<numatune><memory mode='preferred' nodeset='0'/><memnode cellid='1' nodeset='1'/>"
        "</numatune>"
    )
    assert options(CELLS + tune, numa.numa) == [
        "-object",
        ('{"qom-type":"memory-backend-ram","id":"ram-node0","size":536870912,"host-nodes":[0],'
        '"policy":"preferred"}'),
        "-numa", "node,nodeid=0,cpus=0,memdev=ram-node0",
        "-object",
        ('{"qom-type":"memory-backend-ram","id":"ram-node1","size":536870912,"host-nodes":[1],'
        '"policy":"bind"}'),
        "-numa", "node,nodeid=1,cpus=1,memdev=ram-node1",
    ]  # fmt: skip


def test_huge_pages_are_allocated_near_the_memory() -> None:
    backing = "<memoryBacking><hugepages/></memoryBacking>"
    tune = "<numatune><memory placement='auto'/></numatune>"
    assert options(MEMORY + backing + "<vcpu placement='auto'>1</vcpu>" + tune, memory.memory)[
        2:6
    ] == [
        "-object",
        ('{"qom-type":"memory-backend-file","id":"pc.ram",'
        '"mem-path":"/dev/hugepages/libvirt/qemu/1-g","prealloc":true,"size":1073741824,'
        '"host-nodes":[1],"policy":"bind"}'),
        "-overcommit", "mem-lock=off",
    ]  # fmt: skip
    pinned = "<cputune><emulatorpin cpuset='2'/></cputune>"
    found = options(MEMORY + backing + pinned + tune, memory.memory)
    assert found[3] == '{"qom-type":"thread-context","id":"tc-pc.ram","node-affinity":[1]}'
    assert '"prealloc-context":"tc-pc.ram"' in found[5]


def test_a_missing_host_node_is_an_error_of_the_start() -> None:
    with pytest.raises(ValidationFailed, match="unsupported configuration: NUMA node 7"):
        options(MEMORY + "<numatune><memory nodeset='7'/></numatune>", memory.memory)


def test_a_cell_without_memory_has_no_backend() -> None:
    cells = (
        "<vcpu>1</vcpu><cpu><numa><cell cpus='0' memory='1' unit='GiB'/><cell memory='0'/></numa>"
        "</cpu>"
    )
    assert options(cells, numa.numa)[-2:] == ["-numa", "node,nodeid=1"]


def test_iothreads_are_objects() -> None:
    assert options(
        MEMORY + "<iothreads>2</iothreads><iothreadids><iothread id='5'><poll max='9'/></iothread>"
        "</iothreadids>",
        iothread.iothreads,
    ) == [
        "-object", '{"qom-type":"iothread","id":"iothread5","poll-max-ns":9}',
        "-object", '{"qom-type":"iothread","id":"iothread1"}',
    ]  # fmt: skip


def test_throttle_groups_tell_all_limits_that_can_be_zero() -> None:
    found = options(
        MEMORY + "<throttlegroups><throttlegroup><read_iops_sec>7</read_iops_sec>"
        "<group_name>g</group_name></throttlegroup></throttlegroups>",
        iothread.throttle_groups,
    )
    assert '"id":"throttle-g","limits":{"bps-total":0,"bps-read":0' in found[1]
    assert '"iops-read":7' in found[1]
    assert "max-length" not in found[1]


def test_host_passthrough_can_be_migrated_where_qemu_can() -> None:
    assert options(MEMORY + "<cpu mode='host-passthrough'/>", cpu.cpu) == [
        "-cpu", "host,migratable=on",
    ]  # fmt: skip


def test_host_model_is_what_qemu_has_without_what_cannot_migrate() -> None:
    work = prepared(MEMORY + "<cpu mode='host-model'/>")
    found = work.domain.cpu
    assert found is not None
    assert found.mode == "custom"
    assert found.model in ("qemu64", "Nehalem", "Haswell")
    assert "invtsc" not in {feature.name for feature in found.features}


def test_features_are_spelt_as_qemu_spells_them_and_those_it_lacks_left_out() -> None:
    xml = (
        "<cpu><model>Nehalem</model><feature name='cmp_legacy' policy='force'/>"
        "<feature name='cx16' policy='disable'/><feature name='svm' policy='disable'/></cpu>"
    )
    assert options(MEMORY + xml, cpu.cpu, kind="qemu") == [
        "-cpu", "Nehalem,cmp-legacy=on,cx16=off",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("xml", "kind", "message"),
    [
        (
            "<cpu mode='host-passthrough'/>",
            "qemu",
            "unsupported configuration: CPU mode 'host-passthrough' for x86_64 qemu domain on",
        ),
        (
            "<cpu><model>Nehalem</model><feature name='no-such'/></cpu>",
            "kvm",
            "unsupported configuration: unknown CPU feature: no-such",
        ),
        (
            "<cpu><model fallback='forbid'>Penryn</model></cpu>",
            "kvm",
            "unsupported configuration: CPU model Penryn is not supported by hypervisor",
        ),
        (
            "<cpu><model>Nehalem</model><feature name='svm'/></cpu>",
            "kvm",
            "the CPU is incompatible with host CPU: Host CPU does not provide required features",
        ),
    ],
)
def test_cpus_that_cannot_be_had_are_refused_at_start(xml: str, kind: str, message: str) -> None:
    with pytest.raises(HvError, match=message):
        prepared(MEMORY + xml, kind=kind)


def test_old_qemus_are_told_of_devices_in_pairs() -> None:
    assert flat({"driver": "d", "id": "a,b", "on": True, "n": {"x": 1}}) == "d,id=a,,b,on=on,n.x=1"


@pytest.mark.parametrize(
    ("new", "allowed", "refused"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_new_definitions_do_not_mix_a_pinned_emulator_with_automatic_placement(
    new, allowed, refused
):
    document = (
        f"<domain type='qemu'><name>g</name><memory>1024</memory><vcpu placement='auto'>1</vcpu>"
        f"<cputune><emulatorpin cpuset='0'/></cputune><os><type machine='{MACHINE}'>hvm</type></os>"
        "<devices><emulator>/q</emulator></devices></domain>"
    )
    domain = PIPELINE.parse(document)
    ctx = Context(
        registry=REGISTRY,
        config=QemuConfig(allow_emulatorpin_with_auto_placement=allowed),
        abi_update=new,
    )
    issues = [str(issue) for issue in numa._pinned_emulator(domain, ctx)]
    text = "'emulatorpin' cannot be used when 'placement' of 'vcpu' is 'auto'"
    assert issues == ([f"unsupported configuration: {text}"] if refused else [])


@pytest.mark.parametrize("mode", ["restrictive", "interleave"])
def test_nodes_of_one_piece_bind_it_whatever_the_mode_of_the_others(mode):
    work = prepared(f"{MEMORY}<numatune><memory mode='{mode}' nodeset='0'/></numatune>")
    cmd = Command(work.domain, work.caps, work.config, work.resources, work.registry)
    own = memory.backend(cmd, memory.Piece(alias="m", size=4, nodes=NodeSet([1])))
    assert (own.props["host-nodes"], own.props["policy"]) == ([1], "bind")
    other = memory.backend(cmd, memory.Piece(alias="m", size=4))
    assert other.props.get("policy") == (None if mode == "restrictive" else mode)
