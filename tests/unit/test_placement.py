"""Where threads and memory of a domain belong: pins, advice, sets, and what is inherited."""

from __future__ import annotations

import ctypes
import os
import threading

import pytest

from hvcore import affinity
from hvcore.errors import DriverError
from hvcore.model.types import NodeSet
from hvcore.pipeline import Context
from hvcore.pipeline import Pipeline
from hvcore.registry import Registry
from hvcore.rules import placement
from hvcore.rules.placement import Advice
from hvcore.rules.placement import MemoryPolicy

REGISTRY = Registry()
REGISTRY.freeze()
PIPELINE = Pipeline(REGISTRY)
ADVICE = Advice(NodeSet([0]), NodeSet([0, 1]))
CELLS = """<cpu><numa><cell cpus='0' memory='1'/><cell cpus='1' memory='1'/>
<cell cpus='2' memory='1'/></numa></cpu>"""


def domain(sections, vcpu="<vcpu>3</vcpu>"):
    text = f"<domain type='test'><name>g</name><memory>1</memory>{vcpu}{sections}"
    text += "<os><type>hvm</type></os></domain>"
    return PIPELINE.define(text, Context(registry=REGISTRY)).domain


def tune(*memory):
    return f"<numatune>{''.join(memory)}</numatune>"


STRICT = "<memory mode='strict' nodeset='1-2'/>"
AUTO = "<vcpu placement='auto'>3</vcpu>"


@pytest.mark.parametrize(
    ("sections", "vcpu", "emulator", "vcpus"),
    [
        ("", "<vcpu>3</vcpu>", None, [None, None, None]),
        (tune(STRICT), "<vcpu>3</vcpu>", "1-2", ["1-2", "1-2", "1-2"]),
        (
            CELLS + tune(STRICT, "<memnode cellid='1' mode='preferred' nodeset='5'/>"),
            "<vcpu>3</vcpu>",
            "1-2,5",
            ["1-2,5", "1-2,5", "1-2,5"],
        ),
        (
            CELLS
            + tune(
                "<memory mode='restrictive' nodeset='1-2,4'/>",
                "<memnode cellid='0' mode='restrictive' nodeset='1'/>",
                "<memnode cellid='2' mode='restrictive' nodeset='2'/>",
            ),
            "<vcpu>3</vcpu>",
            "1-2,4",
            ["1", "1-2,4", "2"],
        ),
        (tune("<memory mode='interleave' nodeset='1'/>"), "<vcpu>3</vcpu>", None, [None] * 3),
        (tune("<memory mode='preferred' nodeset='1'/>"), "<vcpu>3</vcpu>", None, [None] * 3),
        ("", AUTO, "0", ["0", "0", "0"]),
        (tune("<memory mode='restrictive' placement='auto'/>"), AUTO, "0", ["0", "0", "0"]),
    ],
)
def test_groups_confine_memory_in_two_modes(sections, vcpu, emulator, vcpus):
    made = domain(sections, vcpu)

    def text(nodes):
        return None if nodes is None else str(nodes)

    assert text(placement.memory_nodes(made, ADVICE)) == emulator
    assert [text(placement.vcpu_nodes(made, n, ADVICE)) for n in range(3)] == vcpus


@pytest.mark.parametrize(
    ("sections", "confined", "policy"),
    [
        ("", False, None),
        (tune(STRICT), True, None),
        (tune(STRICT), False, MemoryPolicy("strict", NodeSet([1, 2]))),
        (tune("<memory mode='restrictive' nodeset='1'/>"), False, None),
        (
            tune("<memory mode='interleave' nodeset='0-1'/>"),
            True,
            MemoryPolicy("interleave", NodeSet([0, 1])),
        ),
        (
            tune("<memory mode='preferred' nodeset='1'/>"),
            True,
            MemoryPolicy("preferred", NodeSet([1])),
        ),
    ],
)
def test_the_process_has_a_policy_where_no_group_confines_it(sections, confined, policy):
    assert placement.memory_policy(domain(sections), None, confined=confined) == policy


def cpus_of(nodes):
    return NodeSet(10 + node for node in nodes)


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ("", None),
        ("<cputune><emulatorpin cpuset='3'/></cputune>", "3"),
        (tune(STRICT), "11-12"),
        ("<cputune><emulatorpin cpuset='3'/></cputune>" + tune(STRICT), "11-12"),
        (CELLS + tune(STRICT), None),
        (tune("<memory mode='restrictive' nodeset='1'/>"), None),
    ],
)
def test_qemu_is_started_near_memory_that_is_bound(sections, expected):
    found = placement.initial_cpus(domain(sections), None, cpus_of)
    assert (None if found is None else str(found)) == expected


def test_threads_have_bandwidth_and_schedulers_of_their_kind():
    made = domain(
        """<iothreads>2</iothreads><cputune><period>1000</period><quota>2000</quota>
        <emulator_period>3000</emulator_period><iothread_quota>4000</iothread_quota>
        <vcpusched vcpus='0-1' scheduler='fifo' priority='3'/>
        <iothreadsched iothreads='2' scheduler='batch'/></cputune>"""
    )
    places = [placement.vcpu_place(made, n, None) for n in (0, 2)]
    assert [place.scheduler for place in places] == [("fifo", 3), None]
    assert [(place.period, place.quota) for place in places] == [(1000, 2000)] * 2
    assert placement.emulator_place(made, None).period == 3000
    threads = [placement.iothread_place(made, n, None) for n in (1, 2)]
    assert [(t.quota, t.scheduler) for t in threads] == [(4000, None), (4000, ("batch", 0))]


@pytest.mark.parametrize(
    ("sections", "vcpu", "expected"),
    [
        ("", "<vcpu>1</vcpu>", False),
        ("", "<vcpu cpuset='0'>1</vcpu>", True),
        ("", AUTO, True),
        (tune("<memory mode='interleave' nodeset='0'/>"), "<vcpu>1</vcpu>", False),
        (tune(STRICT), "<vcpu>1</vcpu>", True),
        ("<cputune><shares>5</shares></cputune>", "<vcpu>1</vcpu>", True),
        ("<memtune><hard_limit>9</hard_limit></memtune>", "<vcpu>1</vcpu>", True),
    ],
)
def test_a_guest_about_which_nothing_is_said_needs_no_place(sections, vcpu, expected):
    assert placement.is_placed(domain(sections, vcpu), ADVICE if vcpu == AUTO else None) is expected


def in_a_thread(work):
    """Return what ``work`` returns, or raises, in a thread whose settings end with it."""
    outcome = []

    def run():
        try:
            outcome.append(work())
        except DriverError as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(outcome[0], DriverError):
        raise outcome[0]
    return outcome[0]


def test_a_thread_runs_where_it_is_told():
    cpu = min(os.sched_getaffinity(0))

    def pinned():
        affinity.set_affinity(0, NodeSet([cpu]))
        before = os.sched_getaffinity(0)
        affinity.set_affinity(0, None)
        return before, os.sched_getaffinity(0)

    assert in_a_thread(pinned) == ({cpu}, set(affinity.host_cpus()))
    with pytest.raises(DriverError, match=r"cannot set CPU affinity on process \d+: Invalid arg"):
        in_a_thread(lambda: affinity.set_affinity(0, NodeSet([9999])))


def test_a_scheduler_needs_the_right_to_it():
    def batch():
        affinity.set_scheduler(0, "batch", 0)
        return os.sched_getscheduler(0)

    assert in_a_thread(batch) == os.SCHED_BATCH
    with pytest.raises(DriverError, match=r"Cannot set scheduler parameters for pid 0: Invalid"):
        in_a_thread(lambda: affinity.set_scheduler(0, "fifo", 1000))


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the number of the system call")
@pytest.mark.parametrize(("policy", "number"), [("preferred", 1), ("strict", 2), ("interleave", 3)])
def test_memory_of_a_thread_follows_its_policy(policy, number):
    get_mempolicy = 239

    def told():
        affinity.set_memory_policy(MemoryPolicy(policy, NodeSet([0])))
        mode, mask = ctypes.c_int(-1), ctypes.c_ulong(0)
        ctypes.CDLL(None).syscall(
            get_mempolicy, ctypes.byref(mode), ctypes.byref(mask), ctypes.c_ulong(65), None, 0
        )
        return mode.value, mask.value

    assert in_a_thread(told) == (number, 1)
    with pytest.raises(DriverError, match="unable to set the memory policy"):
        in_a_thread(lambda: affinity.set_memory_policy(MemoryPolicy(policy, NodeSet([63]))))
