from __future__ import annotations

import pytest

from hvcore.hostcache import Caches
from hvcore.hosthmat import interconnect_lines
from hvcore.hosthmat import read_interconnects
from hvcore.hosthmat import read_memory_caches
from hvcore.hostinfo import HostInfo
from hvcore.hostpower import sleep_states
from hvcore.hostresctrl import ResourceControl
from hvcore.sysfiles import number_of
from hvcore.sysfiles import numbered
from hvcore.sysfiles import text_of

CPU = "sys/devices/system/cpu"
NODE = "sys/devices/system/node"
INFO = "sys/fs/resctrl/info"


@pytest.fixture
def write(tmp_path):
    """Write files below what stands for ``/``."""

    def write(folder, **files):
        path = tmp_path / folder
        path.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (path / name).write_text(f"{text}\n")

    return write


def cache(write, cpu, index, level, number, cpus, size="256K", kind="Unified"):
    """Describe one cache of a CPU."""
    write(
        f"{CPU}/cpu{cpu}/cache/index{index}",
        level=level, id=number, shared_cpu_list=cpus, size=size, type=kind,
    )  # fmt: skip


def two_cpus(write):
    """Describe two CPUs with a second level each and a third together."""
    write(CPU, online="0-1")
    for cpu in (0, 1):
        cache(write, cpu, 0, 1, cpu, cpu, kind="Data")
        cache(write, cpu, 2, 2, cpu, cpu)
        cache(write, cpu, 3, 3, 7, "0-1", size="15360K")


def lines(root):
    return "\n".join(Caches.from_system(root, (0, 1)).lines())


# -- caches of CPUs -----------------------------------------------------------------------------


def test_cpus_that_share_a_cache_share_a_bank(write, tmp_path):
    two_cpus(write)
    caches = Caches.from_system(tmp_path, (0, 1))
    assert [(bank.level, bank.id, bank.cpus) for bank in caches.banks] == [
        (2, 0, (0,)),
        (2, 1, (1,)),
        (3, 7, (0, 1)),
    ]
    assert "<bank id='7' level='3' type='both' size='15' unit='MiB' cpus='0-1'/>" in lines(tmp_path)
    assert HostInfo.from_system(tmp_path).caches == caches


@pytest.mark.parametrize(
    ("missing", "text"),
    [("id", None), ("type", "Mixed"), ("size", "large"), ("shared_cpu_list", "a-b")],
)
def test_caches_that_are_not_described_in_full_are_left_out(write, tmp_path, missing, text):
    two_cpus(write)
    path = tmp_path / CPU / "cpu1/cache/index2" / missing
    path.unlink() if text is None else path.write_text(text)
    assert [bank.id for bank in Caches.from_system(tmp_path, (0, 1)).banks] == [0, 7]


def test_hosts_that_tell_nothing_have_no_caches(tmp_path):
    assert Caches.from_system(tmp_path, (0,)) == Caches()
    assert lines(tmp_path) == ""


# -- resource control ---------------------------------------------------------------------------


def test_control_of_code_and_data(write, tmp_path):
    two_cpus(write)
    write(f"{INFO}/L3DATA", cbm_mask="fffff", min_cbm_bits=1, num_closids=8)
    write(f"{INFO}/L3CODE", cbm_mask="fffff", min_cbm_bits=2, num_closids=8)
    text = lines(tmp_path)
    assert "<control granularity='768' min='1536' unit='KiB' type='code' maxAllocs='8'/>" in text
    assert "<control granularity='768' unit='KiB' type='data' maxAllocs='8'/>" in text
    assert text.index("type='code'") < text.index("type='data' maxAllocs")


def test_sizes_of_a_control_have_the_smaller_unit(write, tmp_path):
    write(CPU, online="0")
    cache(write, 0, 0, 2, 0, 0, size="2560K")
    write(f"{INFO}/L2", cbm_mask="1f", min_cbm_bits=2, num_closids=4)
    assert "granularity='512' min='1024' unit='KiB'" in lines(tmp_path)


def test_bandwidth_belongs_to_caches_of_the_last_level(write, tmp_path):
    two_cpus(write)
    write(f"{INFO}/MB", bandwidth_gran=10, min_bandwidth=20, num_closids=4)
    assert lines(tmp_path).partition("<memory_bandwidth>\n")[2] == (
        "  <node id='7' cpus='0-1'>\n"
        "    <control granularity='10' min='20' maxAllocs='4'/>\n"
        "  </node>\n"
        "</memory_bandwidth>"
    )


def test_features_are_told_with_what_they_watch(write, tmp_path):
    write(
        f"{INFO}/L3_MON",
        num_rmids=176,
        max_threshold_occupancy=270336,
        mon_features="llc_occupancy\nmbm_total_bytes\nother",
    )
    cache_part, _, memory_part = lines(tmp_path).partition("</cache>")
    assert "<monitor level='3' reuseThreshold='270336' maxMonitors='176'>" in cache_part
    assert "<feature name='llc_occupancy'/>" in cache_part
    assert "<monitor maxMonitors='176'>" in memory_part
    assert "<feature name='mbm_total_bytes'/>" in memory_part
    assert "other" not in cache_part + memory_part


def test_incomplete_descriptions_are_no_control(write, tmp_path):
    write(f"{INFO}/L3", cbm_mask="nonsense", min_cbm_bits=1)
    write(f"{INFO}/L2", cbm_mask="ff")
    write(f"{INFO}/L2MORE", cbm_mask="ff", min_cbm_bits=1)
    write(f"{INFO}/MB", bandwidth_gran=10)
    write(f"{INFO}/L3_MON", num_rmids=1, mon_features="")
    assert ResourceControl.from_system(tmp_path) == ResourceControl()


# -- memory -------------------------------------------------------------------------------------


def test_memory_caches(write, tmp_path):
    folder = f"{NODE}/node0/memory_side_cache"
    write(f"{folder}/index2", size=131072, line_size=0, indexing=1, write_policy=1)
    write(f"{folder}/index1", size=10240, line_size=8, indexing=0, write_policy=0)
    write(f"{folder}/index3", size=1024, line_size=8, indexing=9, write_policy=0)
    caches = read_memory_caches(tmp_path / NODE / "node0")
    assert "\n".join(line for each in caches for line in each.lines()) == (
        "<cache level='1' associativity='direct' policy='writeback'>\n"
        "  <size value='10' unit='KiB'/>\n"
        "  <line value='8' unit='B'/>\n"
        "</cache>\n"
        "<cache level='2' associativity='full' policy='writethrough'>\n"
        "  <size value='128' unit='KiB'/>\n"
        "</cache>"
    )


def test_interconnects(write, tmp_path):
    figures = {"read_latency": 6, "write_latency": 7, "read_bandwidth": 2, "write_bandwidth": 3}
    write(f"{NODE}/node1/access1/initiators", **figures)
    (tmp_path / NODE / "node1/access1/initiators/node0").mkdir()
    write(f"{NODE}/node2/access1/initiators", read_latency=6)
    (tmp_path / NODE / "node2/access1/initiators/node0").mkdir()
    ways = read_interconnects(tmp_path / NODE)
    assert list(interconnect_lines(ways)) == [
        "<interconnects>",
        "  <latency initiator='0' target='1' type='read' value='6'/>",
        "  <latency initiator='0' target='1' type='write' value='7'/>",
        "  <bandwidth initiator='0' target='1' type='read' value='2048' unit='KiB'/>",
        "  <bandwidth initiator='0' target='1' type='write' value='3072' unit='KiB'/>",
        "</interconnects>",
    ]
    assert list(interconnect_lines(())) == []


# -- sleep --------------------------------------------------------------------------------------

ROOM = {"Active(anon)": 98, "SwapFree": 100}


@pytest.mark.parametrize(
    ("state", "disk", "meminfo", "found"),
    [
        ("freeze mem disk", "[platform] shutdown suspend", ROOM, "mem disk hybrid"),
        ("freeze mem disk", "[disabled]", ROOM, "mem"),
        ("disk", "shutdown", ROOM, "disk"),
        ("mem disk", "platform", {"Active(anon)": 99, "SwapFree": 100}, "mem"),
        ("mem disk", "platform", {}, "mem"),
        ("", "", ROOM, ""),
    ],
)
def test_ways_to_sleep(write, tmp_path, state, disk, meminfo, found):
    write("sys/power", state=state, disk=disk)
    assert list(sleep_states(tmp_path, meminfo)) == []  # nobody there to do it
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert list(sleep_states(tmp_path, meminfo)) == [f"suspend_{name}" for name in found.split()]


def test_ways_to_sleep_in_the_document():
    assert "<power_management>\n      <suspend_mem/>\n    </power_management>" in HostInfo(
        arch="x86_64", sleep_states=("suspend_mem",)
    ).to_xml()  # fmt: skip


# -- files --------------------------------------------------------------------------------------


def test_files_that_are_not_there_say_nothing(tmp_path):
    (tmp_path / "word").write_text("word\n")
    assert (text_of(tmp_path / "word"), text_of(tmp_path / "none")) == ("word", None)
    assert number_of(tmp_path / "word") is None
    assert numbered(tmp_path / "none", "w") == ()
    (tmp_path / "w10").mkdir()
    (tmp_path / "w9").mkdir()
    assert numbered(tmp_path, "w") == (9, 10)
