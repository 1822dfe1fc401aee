"""Virtual CPUs, pins and memory placement of live and persistent domains, on the mock driver."""

from __future__ import annotations

import re

import pytest

from hvcore import connect
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.errors import ValidationFailed
from hvcore.events import TunableChanged
from hvcore.model.types import NodeSet
from hvcore.rules import placement
from hvcore.rules.placement import Advice

XML = """<domain type='test'><name>vm</name><memory>1024</memory>
<vcpu cpuset='0-1' current='2'>4</vcpu><iothreads>1</iothreads>
<cputune><vcpupin vcpu='1' cpuset='1'/><vcpupin vcpu='3' cpuset='0'/></cputune>
<os><type>hvm</type></os></domain>"""


@pytest.fixture
async def host():
    async with await connect("test:///default") as found:
        yield found


@pytest.fixture
async def domain(host):
    return await host.define(XML)


def masks(pins):
    return {number: str(mask) for number, mask in pins.items()}


async def test_what_is_not_pinned_inherits_the_set_of_the_vcpus_and_nothing_is_written(domain):
    assert masks(await domain.vcpu_pins()) == {0: "0-1", 1: "1", 2: "0-1", 3: "0"}
    assert str(await domain.emulator_pin()) == "0-1"
    assert masks(await domain.iothread_pins()) == {1: "0-1"}
    assert "emulatorpin" not in await domain.xml()


async def test_a_pin_changes_what_runs_or_the_next_start_or_both(host, domain):
    await domain.pin_vcpu(0, "1")
    assert masks(await domain.vcpu_pins())[0] == "1"
    await domain.start()
    with host.events([TunableChanged]) as stream:
        await domain.pin_vcpu(0, [0])
        await domain.pin_vcpu(2, NodeSet([1]), live=True, config=True)
        await domain.pin_emulator("0", config=True)
        await domain.pin_iothread(1, "0")
        happened = []
        while (event := stream.get_nowait()) is not None:
            happened.append((event.name, event.value))
    assert happened == [
        ("cputune.vcpupin0", "0"),
        ("cputune.vcpupin2", "1"),
        ("cputune.iothreadpin1", "0"),
    ]
    assert masks(await domain.vcpu_pins(live=True)) == {0: "0", 1: "1", 2: "1", 3: "0"}
    assert masks(await domain.vcpu_pins(config=True)) == {0: "1", 1: "1", 2: "1", 3: "0"}
    assert str(await domain.emulator_pin(live=True)) == "0-1"
    assert str(await domain.emulator_pin(config=True)) == "0"
    assert "<iothreadpin iothread='1' cpuset='0'/>" in await domain.xml()
    assert "iothreadpin" not in await domain.xml(inactive=True)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda d: d.pin_vcpu(9, "0"), "requested vcpu '9' is not present in the domain"),
        (lambda d: d.pin_vcpu(0, []), "invalid argument: Empty cpu list for pinning"),
        (lambda d: d.pin_vcpu(0, "x"), "invalid argument: Failed to parse bitmap 'x'"),
        (lambda d: d.pin_emulator(""), "invalid argument: Failed to parse bitmap ''"),
        (lambda d: d.pin_iothread(1, []), "Empty iothread cpumap list for pinning"),
        (lambda d: d.pin_iothread(2, "0"), "invalid argument: iothreadid 2 not found"),
        (lambda d: d.pin_vcpu(0, "0", live=True), "not valid: domain is not running"),
        (lambda d: d.set_vcpus(9), "requested cpu amount exceeds maximum (9 > 4)"),
        (lambda d: d.set_vcpus(0), "invalid argument: nvcpus in virDomainSetVcpusFlags"),
        (lambda d: d.set_numa_parameters(mode=7), "unsupported numatune mode: '7'"),
        (
            lambda d: d.set_numa_parameters(nodeset="0,^0"),
            "Requested operation is not valid: Invalid nodeset of 'numatune': 0,^0",
        ),
        (
            lambda d: d.set_numa_parameters(mode="interleave"),
            "nodeset for NUMA memory tuning must be set if 'placement' is 'static'",
        ),
        (
            lambda d: d.vcpu_count(live=True, config=True),
            "Flags 'VIR_DOMAIN_AFFECT_LIVE' and 'VIR_DOMAIN_AFFECT_CONFIG'",
        ),
    ],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(domain, change, text):
    before = await domain.xml()
    with pytest.raises(HvError, match=re.escape(text)):
        await change(domain)
    assert await domain.xml() == before


async def test_a_transient_domain_has_no_next_start_to_change(host):
    domain = await host.create(XML)
    with pytest.raises(InvalidState, match="transient domains do not have any persistent config"):
        await domain.pin_emulator("0", config=True)
    with pytest.raises(InvalidState, match="transient"):
        await domain.emulator_pin(config=True)
    await domain.destroy()


async def test_fewer_cpus_at_the_next_start_keep_their_pins(domain):
    await domain.set_vcpus(1)
    text = await domain.xml()
    assert "current='1'>4</vcpu>" in text
    assert "vcpu='3'" in text
    await domain.set_vcpus(4)
    assert (await domain.vcpu_count(), await domain.vcpu_count(maximum=True)) == (4, 4)


async def test_a_lower_maximum_forgets_the_pins_beyond_it(domain):
    await domain.set_max_vcpus(2)
    text = await domain.xml()
    assert "<vcpu placement='static' cpuset='0-1'>2</vcpu>" in text
    assert "vcpu='3'" not in text
    assert "vcpu='1'" in text


async def test_hotpluggable_cpus_are_listed(domain):
    await domain.set_vcpus(3, hotpluggable=True)
    text = await domain.xml()
    assert "<vcpu id='1' enabled='yes' hotpluggable='no'/>" in text
    assert "<vcpu id='2' enabled='yes' hotpluggable='yes'/>" in text
    # One that can be unplugged must not stand before one that cannot.
    await domain.set_vcpus(4)
    assert "<vcpu id='3' enabled='yes' hotpluggable='yes'/>" in await domain.xml()


async def test_the_maximum_agrees_with_the_topology(host):
    cpu = "<cpu><topology sockets='1' cores='4' threads='1'/></cpu>"
    domain = await host.define(XML.replace("<os>", cpu + "<os>"))
    with pytest.raises(HvError, match="CPU topology doesn't match the desired vcpu count"):
        await domain.set_max_vcpus(2)


async def test_a_change_that_makes_the_definition_invalid_is_dropped(host, domain):
    await domain.set_numa_parameters(mode="strict", nodeset="0")
    await domain.set_numa_parameters(mode=3)
    assert (await domain.numa_parameters()).mode == "restrictive"
    cell = "<cpu><numa><cell cpus='0-3' memory='1024'/></numa></cpu>"
    memnode = "<memory mode='strict' nodeset='0'/><memnode cellid='0' mode='strict' nodeset='0'/>"
    await domain.undefine()
    domain = await host.define(
        XML.replace("<os>", f"<numatune>{memnode}</numatune><os>").replace("<os>", cell + "<os>")
    )
    with pytest.raises(ValidationFailed, match="'restrictive' mode is required in memnode"):
        await domain.set_numa_parameters(mode="restrictive")
    assert (await domain.numa_parameters()).mode == "strict"


async def test_a_running_domain_keeps_its_mode(domain):
    await domain.set_numa_parameters(mode="restrictive", nodeset="0")
    await domain.start()
    with pytest.raises(InvalidState, match="can't change numatune mode for running domain"):
        await domain.set_numa_parameters(mode="strict")
    await domain.set_numa_parameters(nodeset="0-1")
    assert str((await domain.numa_parameters()).nodeset) == "0-1"
    assert str((await domain.numa_parameters(config=True)).nodeset) == "0"


async def test_numad_advises_those_without_a_pin(host):
    auto = XML.replace("cpuset='0-1'", "placement='auto'")
    domain = (await host.check(auto)).domain
    advice = Advice(NodeSet([0]), NodeSet([0, 1, 2]))
    assert Advice.of({"numad": {"nodeset": "0", "cpuset": "0-2"}, "monitor": "x"}) == advice
    assert Advice.of(advice.kept()) == advice
    assert Advice.of({}) is None
    assert placement.vcpu_cpus(domain, 0, advice) == advice.cpuset
    assert placement.vcpu_cpus(domain, 1, advice) == NodeSet([1])
    assert placement.emulator_cpus(domain, advice) == advice.cpuset
    assert placement.iothread_cpus(domain, 1, advice) == advice.cpuset
    assert placement.emulator_cpus(domain, None) is None


async def test_certain_cpus_come_and_go_at_the_next_start(host, domain):
    await domain.set_vcpus(2, config=True)
    await domain.set_vcpu("3", enabled=True, config=True)
    text = await domain.xml(inactive=True)
    assert "<vcpu id='2' enabled='no' hotpluggable='yes'/>" in text
    assert "<vcpu id='3' enabled='yes' hotpluggable='yes'/>" in text
    for vcpus, message in (
        ("0", "invalid argument: vCPU '0' can't be modified"),
        ("9", "invalid argument: vcpu 9 is not present in persistent config"),
        ("", "invalid argument: no vcpus selected for modification"),
    ):
        with pytest.raises(HvError) as refusal:
            await domain.set_vcpu(vcpus or NodeSet(), enabled=False, config=True)
        assert str(refusal.value) == message
