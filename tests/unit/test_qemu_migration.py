"""What QEMU's numbers of a migration mean, and what libvirt does not let go."""

from __future__ import annotations

import pytest

from hvcore import events
from hvcore.errors import HvError
from hvcore.jobinfo import Progress
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.pipeline import Pipeline
from hvcore.registry import Registry
from hvcore_qemu.lifecycle import Course
from hvcore_qemu.lifecycle import Effect
from hvcore_qemu.lifecycle import handle
from hvcore_qemu.migration import check_movable
from hvcore_qemu.migration import progress

RAM = {
    "total": 1000,
    "transferred": 300,
    "remaining": 700,
    "mbps": 8.0,
    "dirty-pages-rate": 5,
    "page-size": 4096,
    "dirty-sync-count": 2,
    "duplicate": 7,
    "normal": 3,
    "normal-bytes": 12288,
    "multifd-bytes": 0,
}


@pytest.mark.parametrize(
    ("status", "expected"), [("active", {"downtime": 300}), ("completed", {"downtime": 12})]
)
def test_numbers(status, expected):
    found = {"status": status, "ram": RAM, "expected-downtime": 300, "downtime": 12}
    assert progress({**found, "setup-time": 4}) == Progress(
        memory_total=1000,
        memory_processed=300,
        memory_remaining=700,
        memory_bps=1_000_000,
        memory_dirty_rate=5,
        memory_page_size=4096,
        memory_iteration=2,
        memory_constant=7,
        memory_normal=3,
        memory_normal_bytes=12288,
        setup_time=4,
        **expected,
    )


def test_numbers_before_and_after():
    assert progress({"status": "setup"}) == Progress()
    assert progress({}) == Progress()


def test_what_the_steps_of_a_migration_are():
    course = Course(pausing=PausedReason.MIGRATION, resuming=RunningReason.MIGRATED)
    told = handle(course, RunningReason.BOOTED, {"event": "MIGRATION_PASS", "data": {"pass": 3}})
    assert told == Effect(publish=((events.MigrationIteration, {"iteration": 3}),))
    stopped = handle(course, RunningReason.BOOTED, {"event": "STOP"})
    assert stopped == Effect(
        PausedReason.MIGRATION,
        ((events.Suspended, {"reason": events.SuspendedDetail.MIGRATED}),),
    )
    resumed = handle(course, PausedReason.MIGRATION, {"event": "RESUME"})
    assert resumed == Effect(
        RunningReason.MIGRATED, ((events.Resumed, {"reason": events.ResumedDetail.MIGRATED}),)
    )


@pytest.mark.parametrize(
    ("device", "message"),
    [
        (
            "<shmem name='s' role='peer'><model type='ivshmem-plain'/></shmem>",
            "shmem device 's' cannot be migrated, only shmem with role='master' can be migrated",
        ),
        (
            "<disk type='file'><source file='/x'/><target dev='vda'/><transient/></disk>",
            "migration with transient disk is not supported",
        ),
        (
            (
                "<filesystem type='mount'><driver type='virtiofs'/><source dir='/x'/>"
                "<target dir='x'/></filesystem>"
            ),
            "migration with this virtiofs device is not supported",
        ),
        ("<disk type='file'><source file='/x'/><target dev='vda'/></disk>", None),
        (
            (
                "<filesystem type='mount'><driver type='virtiofs'/><source socket='/x'/>"
                "<target dir='x'/></filesystem>"
            ),
            None,
        ),
    ],
)
def test_what_cannot_be_migrated(device, message):
    xml = (
        "<domain type='qemu'><name>vm</name><memory>1024</memory><os><type>hvm</type></os>"
        f"<devices>{device}</devices></domain>"
    )
    domain = Pipeline(Registry.default()).parse(xml)
    if message is None:
        check_movable(domain)
        return
    with pytest.raises(HvError) as caught:
        check_movable(domain)
    assert caught.value.message == message
