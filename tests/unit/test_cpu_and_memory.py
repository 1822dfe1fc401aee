"""CPUs, memory, NUMA and their tuning: documents in, documents and issues out."""

from __future__ import annotations

import pytest

from hvcore.errors import ValidationFailed
from hvcore.pipeline import Context
from hvcore.pipeline import Pipeline
from hvcore.registry import Registry
from hvcore.xml.context import FormatContext

REGISTRY = Registry()
REGISTRY.freeze()

MEMORY = "<memory>1048576</memory>"
TWO_CELLS = (
    "<cpu><numa><cell id='1' cpus='1' memory='1' unit='GiB'/>"
    "<cell id='0' cpus='0' memory='1' unit='GiB'/></numa></cpu>"
)


def written(sections: str, *, abi_update: bool = False) -> str:
    """Return the document of a domain with ``sections`` after post-parse and validation."""
    pipeline = Pipeline(REGISTRY)
    ctx = Context(registry=REGISTRY, abi_update=abi_update)
    xml = f"<domain type='qemu'><name>a</name><os><type>hvm</type></os>{sections}</domain>"
    domain = pipeline.parse(xml)
    pipeline.post_parse(domain, ctx)
    pipeline.seal(domain, ctx)
    return REGISTRY.binding.format(domain, FormatContext())


def refusal(sections: str) -> str:
    """Return the first issue of a domain with ``sections``."""
    with pytest.raises(ValidationFailed) as raised:
        written(sections)
    return str(raised.value.issues[0])


def test_a_guest_without_vcpu_has_one_cpu() -> None:
    assert "<vcpu placement='static'>1</vcpu>" in written(MEMORY)


def test_listed_vcpus_decide_how_many_are_online() -> None:
    text = written(MEMORY + "<vcpu current='3'>3</vcpu><vcpus><vcpu id='0' enabled='yes'/></vcpus>")
    assert "<vcpu placement='static' current='1'>3</vcpu>" in text
    assert "<vcpu id='2' enabled='no' hotpluggable='yes'/>" in text


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ("<vcpu>x</vcpu>", "XML error: maximum vcpus count must be an integer"),
        (
            "<vcpu current='2'>1</vcpu>",
            (
                "unsupported configuration: maximum vCPU count must not be less than current vCPU"
                " count"
            ),
        ),
        (
            "<vcpu cpuset='0,^0'>1</vcpu>",
            "unsupported configuration: Invalid value of 'cpuset': 0,^0",
        ),
        ("<vcpu cpuset='x'>1</vcpu>", "invalid argument: Failed to parse bitmap 'x'"),
        (
            (
                "<vcpu>2</vcpu><cputune><vcpupin vcpu='0' cpuset='0'/>"
                "<vcpupin vcpu='0' cpuset='1'/>"
                "</cputune>"
            ),
            "internal error: duplicate vcpupin for vcpu '0'",
        ),
        (
            "<cputune><iothreadpin iothread='2' cpuset='0'/></cputune>",
            "unsupported configuration: Cannot find 'iothread' : 2",
        ),
        ("<cputune><emulatorpin/></cputune>", "internal error: missing cpuset for emulatorpin"),
        (
            "<cputune><period>1</period></cputune>",
            "unsupported configuration: Value of cputune 'period' must be in range [1000, 1000000]",
        ),
        (
            "<numatune><memory mode='interleave'/></numatune>",
            (
                "unsupported configuration: nodeset for NUMA memory tuning must be set if "
                "'placement'"
                " is 'static'"
            ),
        ),
        (
            "<numatune><memnode cellid='0' nodeset='0'/></numatune>",
            "XML error: Element 'memnode' is invalid without any guest NUMA cells",
        ),
        (
            "<cpu><numa><cell cpus='0-1' memory='1'/></numa></cpu>",
            "internal error: Number of CPUs in <numa> exceeds the <vcpu> count",
        ),
        (
            "<cpu><feature name='sse'/></cpu>",
            "XML error: Non-empty feature list specified without CPU model",
        ),
        (
            (
                "<iothreads>1</iothreads><iothreadids><iothread id='3'/><iothread id='3'/>"
                "</iothreadids>"
            ),
            "XML error: duplicate iothread id '3' found",
        ),
    ],
)
def test_refusals_are_libvirts(sections: str, message: str) -> None:
    assert refusal(MEMORY + sections) == message


def test_memory_is_needed() -> None:
    assert refusal("") == (
        "XML error: Memory size must be specified via <memory> or in the <numa> configuration"
    )


def test_cells_are_numbered_and_make_up_the_memory() -> None:
    text = written("<vcpu>2</vcpu>" + TWO_CELLS)
    assert "<memory unit='KiB'>2097152</memory>" in text
    assert text.index("<cell id='0' cpus='0'") < text.index("<cell id='1' cpus='1'")


def test_distances_are_symmetric() -> None:
    text = written(
        "<vcpu>2</vcpu><cpu><numa><cell memory='1' unit='GiB'>"
        "<distances><sibling id='1' value='21'/>"
        "</distances></cell><cell memory='1' unit='GiB'/></numa></cpu>"
    )
    assert text.count("<sibling id='0' value='21'/>") == 1
    assert text.count("value='10'") == 2


def test_automatic_placement_of_cpus_is_one_of_memory_too() -> None:
    text = written(MEMORY + "<vcpu placement='auto'>1</vcpu>")
    assert "<memory mode='strict' placement='auto'/>" in text


def test_automatic_placement_of_memory_spares_pinned_cpus() -> None:
    auto = "<numatune><memory placement='auto'/></numatune>"
    pin = "<cputune><emulatorpin cpuset='0'/></cputune>"
    assert "<vcpu placement='auto'>1</vcpu>" in written(MEMORY + auto)
    assert "<vcpu placement='static'>1</vcpu>" in written(MEMORY + pin + auto)


def test_restrictive_is_for_all_or_none() -> None:
    tune = (
        "<numatune><memory mode='restrictive' nodeset='0'/><memnode cellid='0' nodeset='0'/>"
        "</numatune>"
    )
    assert refusal("<vcpu>2</vcpu>" + TWO_CELLS + tune) == (
        "XML error: 'restrictive' mode is required in memnode element when mode is 'restrictive'"
        " in memory element"
    )


def test_schedulers_are_written_one_for_each_thread() -> None:
    text = written(
        MEMORY + "<vcpu>3</vcpu><cputune><vcpusched vcpus='1-2' scheduler='fifo' priority='5'/>"
        "<vcpusched vcpus='0' scheduler='batch'/></cputune>"
    )
    assert "<vcpusched vcpus='0' scheduler='batch'/>" in text
    assert "<vcpusched vcpus='2' scheduler='fifo' priority='5'/>" in text


def test_cache_sizes_are_written_in_the_largest_unit() -> None:
    text = written(
        MEMORY + "<vcpu>2</vcpu><cputune><cachetune vcpus='0-7'>"
        "<cache id='0' level='3' type='both' size='3072'/></cachetune></cputune>"
    )
    assert "<cachetune vcpus='0-1'>" in text
    assert "size='3' unit='MiB'" in text


def test_iothreads_are_listed_only_where_a_count_does_not_say_it_all() -> None:
    assert "iothreadids" not in written(MEMORY + "<iothreads>2</iothreads>")
    text = written(MEMORY + "<iothreads>2</iothreads><iothreadids><iothread id='2'/></iothreadids>")
    assert text.index("<iothread id='2'/>") < text.index("<iothread id='1'/>")


def test_a_cpu_without_model_has_only_its_topology() -> None:
    text = written(MEMORY + "<cpu><topology sockets='1' cores='1' threads='1'/></cpu>")
    assert "<cpu>\n    <topology sockets='1' dies='1' clusters='1' cores='1' threads='1'/>" in text


def test_memory_modules_keep_what_their_model_has() -> None:
    text = written(
        "<maxMemory slots='2'>8388608</maxMemory><memory>2097152</memory><devices>"
        "<memory model='dimm'><source><path>/x</path><nodemask>1</nodemask></source>"
        "<target><size unit='MiB'>512</size></target></memory></devices>"
    )
    assert "<nodemask>1</nodemask>" in text
    assert "/x" not in text
    assert "<size unit='KiB'>524288</size>" in text
