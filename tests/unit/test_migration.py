"""Migration between two hosts of the mock driver, its statistics and its end by request."""

from __future__ import annotations

import asyncio

import pytest
from click.testing import CliRunner

from hvcore import connect
from hvcore import events
from hvcore import sync
from hvcore.cli.main import hv
from hvcore.errors import AbiChanged
from hvcore.errors import DomainExists
from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.errors import MonitorLost
from hvcore.errors import NoSuchDomain
from hvcore.jobinfo import JobInfo
from hvcore.jobinfo import JobOperation
from hvcore.jobinfo import JobType
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from hvcore.testing.faults import Delay
from hvcore.testing.faults import Hang

XML = """<domain type='test'><name>vm</name><memory unit='GiB'>4</memory><vcpu>2</vcpu>
<os><type>hvm</type></os></domain>"""
RUNS = RunningReason.MIGRATED
STAYS = RunningReason.MIGRATION_CANCELED


@pytest.fixture
async def here():
    async with await connect("test:///default?migration-here") as found:
        yield found


@pytest.fixture
async def there():
    async with await connect("test:///default?migration-there") as found:
        yield found


@pytest.fixture
async def vm(here):
    domain = await here.define(XML)
    await domain.start()
    return domain


def heard(stream):
    """Return the events of the life of domains, as text."""
    found = []
    while (event := stream.get_nowait()) is not None:
        if isinstance(event, events.LifecycleEvent):
            found.append(f"{type(event).__name__}({event.reason})")
    return found


async def reason(domain):
    return (await domain.state())[1]


async def is_gone(host, name="vm"):
    with pytest.raises(NoSuchDomain):
        await host.lookup_name(name)
    return True


async def test_a_live_migration(here, there, vm):
    before, after = here.events(), there.events()
    await vm.set_memory(2 << 20, live=True)
    moved = await vm.migrate(there, live=True)
    assert (moved.name, moved.uuid, moved.is_persistent) == ("vm", vm.uuid, False)
    assert (await reason(moved), await reason(vm)) == (RUNS, ShutoffReason.MIGRATED)
    assert vm.is_persistent
    assert heard(before) == ["Suspended(Migrated)", "Stopped(Migrated)"]
    assert heard(after) == ["Started(Migrated)", "Resumed(Migrated)"]
    assert (await moved.info()).memory == 2 << 20
    assert (await moved.info()).cpu_time > 0
    assert here.test.clock.now == pytest.approx(2.625)  # 2 GiB at 1 GiB/s, and what was written
    await moved.destroy()
    assert await is_gone(there)


async def test_one_that_stands_still_meanwhile(here, there, vm):
    before = here.events()
    await vm.migrate(there)
    assert here.test.clock.now == pytest.approx(4)
    assert [type(event) for event in (before.get_nowait(), before.get_nowait())] == [
        events.Suspended,
        events.MigrationIteration,
    ]


async def test_definitions_move_where_that_is_wanted(here, there, vm):
    before, after = here.events(), there.events()
    await vm.set_vcpus(1, config=True)
    moved = await vm.migrate(there, live=True, persistent=True, undefine_source=True)
    assert moved.is_persistent
    assert await moved.vcpu_count() == 2
    assert "current='1'" in await moved.xml(inactive=True)
    assert await is_gone(here)
    assert heard(before) == ["Suspended(Migrated)", "Stopped(Migrated)", "Undefined(Removed)"]
    assert heard(after) == ["Started(Migrated)", "Defined(Added)", "Resumed(Migrated)"]
    await moved.destroy()
    await moved.start()


async def test_it_may_get_another_name_and_other_documents(there, vm):
    document = (await vm.xml()).replace("</domain>", "<title>there</title></domain>")
    next_start = XML.replace("<vcpu>2", f"<uuid>{vm.uuid}</uuid><vcpu>3")
    moved = await vm.migrate(
        there, persistent=True, name="other", xml=document, persistent_xml=next_start
    )
    assert moved.name == "other"
    assert "<title>there</title>" in await moved.xml()
    assert "<vcpu placement='static'>3</vcpu>" in await moved.xml(inactive=True)
    assert "<name>other</name>" in await moved.xml(inactive=True)


@pytest.mark.parametrize("wanted", [False, True])
async def test_one_that_stands_still_is_not_set_going(there, vm, wanted):
    after = there.events()
    if not wanted:
        await vm.suspend()
    moved = await vm.migrate(there, live=True, paused=wanted)
    assert await reason(moved) is PausedReason.USER
    assert heard(after) == ["Started(Migrated)", "Suspended(Paused)"]
    await moved.resume()


async def test_a_definition_of_the_destination_is_the_next_start(here, there, vm):
    defined = await there.define(await vm.xml(inactive=True))
    moved = await vm.migrate(there, live=True)
    assert moved == defined
    assert moved.is_persistent
    await moved.destroy()
    # There and back again.
    await defined.start()
    back = await defined.migrate(here, persistent=True)
    assert await reason(back) is RUNS


async def test_offline(here, there, vm):
    before, after = here.events(), there.events()
    with pytest.raises(InvalidState, match=r"^Requested operation is not valid: offline migration"):
        await vm.migrate(there, offline=True)
    await vm.destroy()
    moved = await vm.migrate(there, offline=True, persistent=True, undefine_source=True)
    assert not moved.is_active
    assert await is_gone(here)
    assert heard(before) == ["Stopped(Destroyed)", "Undefined(Removed)"]
    assert heard(after) == ["Defined(Added)"]
    renamed = await moved.migrate(here, offline=True, persistent=True, name="other")
    assert (renamed.name, renamed.uuid) == ("other", vm.uuid)


async def test_a_saved_state_is_not_lost(there, vm):
    await vm.managed_save()
    with pytest.raises(InvalidState, match="domain managed save image exists"):
        await vm.migrate(there, offline=True, persistent=True, undefine_source=True)
    assert await is_gone(there)


# -- refusals --------------------------------------------------------------------------------------


async def test_what_is_refused(here, there, vm):
    with pytest.raises(HvError, match=r"^invalid argument: Attempt to migrate guest to the same"):
        await vm.migrate(here)
    with pytest.raises(HvError, match="must not be empty"):
        await vm.migrate(there, name="")
    other = XML.replace("<vcpu>2", "<vcpu>3").replace("<memory", f"<uuid>{vm.uuid}</uuid><memory")
    with pytest.raises(AbiChanged, match="vCPU max 3 does not match source 2"):
        await vm.migrate(there, xml=other)
    await there.define(XML)
    with pytest.raises(DomainExists, match="already exists with uuid"):
        await vm.migrate(there)
    assert await reason(vm) is RunningReason.BOOTED
    await vm.destroy()
    with pytest.raises(InvalidState, match="domain is not running"):
        await vm.migrate(there, name="other")


async def test_one_that_runs_there_already(there, vm):
    twin = await there.create(await vm.xml(inactive=True))
    with pytest.raises(InvalidState, match="domain 'vm' is already active"):
        await vm.migrate(there)
    assert await reason(twin) is RunningReason.BOOTED


async def test_only_one_migration_at_a_time(here, there, vm):
    here.test.clock.hold()
    first = asyncio.create_task(vm.migrate(there, live=True))
    await here.test.clock.advance(0)
    with pytest.raises(InvalidState, match="another migration job is already running for domain"):
        await vm.migrate(there)
    arriving = await there.lookup_name("vm")
    with pytest.raises(InvalidState, match="another migration job is already running for domain"):
        await arriving.migrate(here)
    here.test.clock.release()
    await first


# -- failures --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "operation", "stopped"),
    [
        ("here", "migrate_begin", False),
        ("there", "migrate_prepare", False),
        ("here", "migrate_perform", False),
        ("there", "migrate_finish", True),
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_phase_that_fails(here, there, vm, where, operation, stopped, when):
    host = {"here": here, "there": there}[where]
    before, after = here.events(), there.events()
    plan = getattr(host.test.faults, when)
    plan(operation, DriverError("planned"))
    with pytest.raises(DriverError, match="planned"):
        await vm.migrate(there, live=True, persistent=True, undefine_source=True)
    assert not host.test.faults.pending
    assert await is_gone(there)
    assert vm.is_persistent
    stopped = stopped or (operation, when) == ("migrate_perform", "after")
    assert await reason(vm) is (STAYS if stopped else RunningReason.BOOTED)
    assert heard(before) == (["Suspended(Migrated)", "Resumed(Migrated)"] if stopped else [])
    assert ("Stopped(Failed)" in heard(after)) == (
        operation in ("migrate_perform", "migrate_finish")
    )
    # Nothing is left that would be in the way.
    moved = await vm.migrate(there, live=True)
    assert await reason(moved) is RUNS


async def test_what_was_defined_there_is_again(there, vm):
    defined = await there.define((await vm.xml(inactive=True)).replace("2</vcpu>", "1</vcpu>"))
    there.test.faults.before("migrate_finish", DriverError("planned"))
    with pytest.raises(DriverError, match="planned"):
        await vm.migrate(there, persistent=True)
    assert await reason(defined) is ShutoffReason.FAILED
    assert await defined.vcpu_count(config=True) == 1


async def test_it_stays_paused_if_it_was(there, vm):
    await vm.suspend()
    there.test.faults.before("migrate_finish", DriverError("planned"))
    with pytest.raises(DriverError, match="planned"):
        await vm.migrate(there)
    assert await reason(vm) is PausedReason.USER


async def test_a_crash_here_meanwhile(here, there, vm):
    here.test.clock.call_later(1, lambda: here.test.faults.crash("vm"))
    with pytest.raises(MonitorLost):
        await vm.migrate(there, live=True)
    assert await is_gone(there)
    assert await reason(vm) is ShutoffReason.CRASHED


@pytest.mark.parametrize("end", ["crash", "destroy"])
async def test_the_end_there_meanwhile(here, there, vm, end):
    async def destroy():
        await (await there.lookup_name("vm")).destroy()

    tasks = []

    def act():
        if end == "crash":
            there.test.faults.crash("vm")
        else:
            tasks.append(asyncio.ensure_future(destroy()))

    here.test.clock.call_later(1, act)
    with pytest.raises(DriverError, match=r"^internal error: guest unexpectedly quit"):
        await vm.migrate(there, live=True)
    await asyncio.gather(*tasks)
    assert await reason(vm) is STAYS
    assert await is_gone(there)


async def test_whoever_waits_may_give_up(here, there, vm):
    here.test.clock.hold()
    task = asyncio.create_task(vm.migrate(there))
    await here.test.clock.advance(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await reason(vm) is STAYS
    assert await is_gone(there)


async def test_a_machine_that_cannot_be_ended_here_is_no_failure(here, there, vm, caplog):
    here.test.faults.before("destroy", DriverError("busy"))
    here.test.faults.before("migrate_confirm", DriverError("busy"))
    moved = await vm.migrate(there, live=True)
    assert await reason(moved) is RUNS
    assert await reason(vm) is PausedReason.MIGRATION
    assert "probably left in 'paused' state" in caplog.text


# -- jobs ------------------------------------------------------------------------------------------


async def test_how_far_it_is(here, there, vm):
    assert await vm.job_info() == JobInfo()
    here.test.clock.hold()
    passes = here.events([events.MigrationIteration, events.JobCompleted])
    task = asyncio.create_task(vm.migrate(there, live=True, bandwidth=512))
    await here.test.clock.advance(2)
    info = await vm.job_info()
    assert (info.type, info.operation) == (JobType.UNBOUNDED, JobOperation.MIGRATION_OUT)
    assert info.elapsed == 2000
    assert (info.data_total, info.data_processed, info.data_remaining) == (
        4 << 30,
        1 << 30,
        3 << 30,
    )
    assert info.progress.memory_bps == 512 << 20
    arriving = await there.lookup_name("vm")
    with pytest.raises(HvError, match="migration statistics are available only on the source host"):
        await arriving.job_info()
    await here.test.clock.advance(6.5)
    assert (await vm.job_info()).progress.memory_iteration == 2
    here.test.clock.release()
    moved = await task
    last = await vm.job_info(completed=True, keep=True)
    assert (last.type, last.data_remaining) == (JobType.COMPLETED, 0)
    assert last == await vm.job_info(completed=True)
    assert await vm.job_info(completed=True) == JobInfo()
    assert await moved.job_info(completed=True) == last
    told = [passes.get_nowait() for _ in range(4)]
    assert [event.iteration for event in told[:3]] == [1, 2, 3]
    assert dict(told[3].parameters) == last.parameters()
    with pytest.raises(InvalidState, match="domain is not running"):
        await vm.job_info()


@pytest.mark.parametrize("held", [False, True])
async def test_it_can_be_aborted(here, there, vm, held):
    if held:
        here.test.faults.before("migrate_perform", Hang())
    here.test.clock.hold()
    task = asyncio.create_task(vm.migrate(there))
    await here.test.clock.advance(1)
    await vm.abort_job()
    with pytest.raises(
        DriverError, match=r"^operation aborted: job 'migration out' canceled by"
    ) as e:
        await task
    assert e.value.kind is ErrorClass.OPERATION_ABORTED
    assert await reason(vm) is (RunningReason.BOOTED if held else STAYS)
    assert await is_gone(there)


async def test_it_can_be_aborted_before_it_is_sent(there, vm):
    there.test.faults.before("migrate_prepare", Delay(1))
    there.test.clock.hold()
    task = asyncio.create_task(vm.migrate(there))
    await there.test.clock.advance(0)
    await vm.abort_job()
    there.test.clock.release()
    with pytest.raises(DriverError, match="migration out: canceled by client"):
        await task
    assert await reason(vm) is RunningReason.BOOTED


async def test_what_cannot_be_aborted(here, there, vm):
    with pytest.raises(InvalidState, match="no job is active on the domain"):
        await vm.abort_job()
    here.test.clock.hold()
    task = asyncio.create_task(vm.migrate(there))
    await here.test.clock.advance(0)
    task.cancel()
    await asyncio.wait((task,))
    await vm.destroy()
    with pytest.raises(InvalidState, match="domain is not running"):
        await vm.abort_job()


async def test_a_save_can_be_aborted(here, vm, tmp_path):
    here.test.faults.before("save", Delay(60))
    here.test.clock.hold()
    task = asyncio.create_task(vm.save(str(tmp_path / "vm.save")))
    await here.test.clock.advance(1)
    assert (await vm.job_info()).operation is JobOperation.SAVE
    await vm.abort_job()
    with pytest.raises(DriverError, match="job 'domain save' canceled by client"):
        await task
    assert vm.is_active
    assert not (tmp_path / "vm.save").exists()


# -- the other ways in -----------------------------------------------------------------------------


def test_the_blocking_api():
    with (
        sync.connect("test:///default?sync-here") as here,
        sync.connect("test:///default?sync-there") as there,
    ):
        vm = here.create(XML)
        moved = vm.migrate(there, live=True)
        assert moved.state()[1] is RUNS
        assert moved.job_info(completed=True).type is JobType.COMPLETED
        assert [domain.name for domain in here.domains()] == ["test"]


def run(*args):
    return CliRunner().invoke(hv, ["-c", "test:///default", *args])


def test_hv_migrate_and_its_refusals():
    other = "test:///default?other"
    assert run("migrate", "test", other).stderr == (
        "error: Requested operation is not valid: domain 'test' is already active\n"
    )
    assert run("domjobabort", "test").stderr == (
        "error: Requested operation is not valid: no job is active on the domain\n"
    )
    assert run("domjobinfo", "test").stdout == "Job type:         None        \n\n"
    assert run("domjobinfo", "--rawstats", "test").stdout == "Job type: 0\n\n\n"
    refused = run("domjobinfo", "--keep-completed", "test")
    assert refused.exit_code == 1
    assert "Option --completed is required by option --keep-completed" in refused.stderr


async def test_hv_shows_jobs_as_virsh_does(here, there, vm):
    from hvcore.cli.migration import _rows

    here.test.clock.hold()
    task = asyncio.create_task(vm.migrate(there, live=True))
    await here.test.clock.advance(1)
    shown = [f"{label:<17} {text}" for label, text in _rows(await vm.job_info())]
    here.test.clock.release()
    await task
    assert shown == [
        "Job type:         Unbounded   ",
        "Operation:        Outgoing migration",
        "Time elapsed:     1000         ms",
        "Data processed:   1.000 GiB",
        "Data remaining:   3.000 GiB",
        "Data total:       4.000 GiB",
        "Memory processed: 1.000 GiB",
        "Memory remaining: 3.000 GiB",
        "Memory total:     4.000 GiB",
        "Memory bandwidth: 1.000 GiB/s",
        "Dirty rate:       65536        pages/s",
        "Page size:        4096         bytes",
        "Iteration:        1           ",
        "Constant pages:   0           ",
        "Normal pages:     262144      ",
        "Normal data:      1.000 GiB",
        "Expected downtime: 300          ms",
    ]
