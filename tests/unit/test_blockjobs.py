"""Jobs of disks on the mock driver: what they do to definitions, their events and their ends."""

from __future__ import annotations

import asyncio

import pytest
from click.testing import CliRunner
from lxml import etree

from hvcore import connect
from hvcore import events
from hvcore import sync
from hvcore.cli.blockjobs import Bandwidth
from hvcore.cli.blockjobs import _bandwidth
from hvcore.cli.main import hv
from hvcore.errors import ConfigError
from hvcore.errors import DomainGone
from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.events import BlockJobStatus
from hvcore.events import BlockJobType
from hvcore.registry import Registry
from hvcore.rules import chain

XML = """<domain type='test'><name>vm</name><memory>2048</memory><os><type>hvm</type></os><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/d/top'/>
  <backingStore type='file'><format type='qcow2'/><source file='/d/middle'/>
    <backingStore type='file'><format type='raw'/><source file='/d/base'/>
      <backingStore/></backingStore></backingStore>
  <target dev='vda' bus='virtio'/></disk>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/d/single'/>
  <target dev='vdb' bus='virtio'/></disk>
<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>
<disk type='file' device='disk'><source file='/d/gone'/><target dev='vdc' bus='virtio'/>
  <transient/></disk>
</devices></domain>"""
COPY = "<disk type='file'><driver type='qcow2'/><source file='/d/copy'/></disk>"


@pytest.fixture
async def host():
    async with await connect("test:///default?blockjobs") as found:
        yield found


@pytest.fixture
async def vm(host):
    domain = await host.define(XML)
    await domain.start()
    return domain


@pytest.fixture
def jobs(host, vm):
    """Return what was announced of jobs since the domain started, as text."""
    stream = host.events([events.BlockJobChanged])

    def heard():
        found = []
        while (event := stream.get_nowait()) is not None:
            found.append(f"{event.type} {event.disk} {event.path} {event.status}")
        return found

    return heard


async def paths(domain, target="vda", *, inactive=False):
    """Return the chain that the document of a domain shows."""
    root = etree.fromstring(await domain.xml(inactive=inactive))
    [disk] = root.xpath(f"devices/disk[target/@dev='{target}']")
    found = [disk.find("source").get("file")]
    layer = disk.find("backingStore")
    while layer is not None and layer.find("source") is not None:
        found.append(layer.find("source").get("file"))
        layer = layer.find("backingStore")
    return found


async def mirror(domain, target="vda"):
    root = etree.fromstring(await domain.xml())
    found = root.xpath(f"devices/disk[target/@dev='{target}']/mirror")
    return dict(found[0].attrib) | {"path": found[0].find("source").get("file")} if found else None


async def test_a_pull_of_everything(vm, jobs):
    await vm.block_pull("vda")
    assert await vm.wait_for_block_job("vda") is BlockJobStatus.COMPLETED
    assert await paths(vm) == await paths(vm, inactive=True) == ["/d/top"]
    assert jobs() == ["Block Pull vda /d/top completed"]
    assert await vm.block_job("vda") is None
    await vm.destroy()
    await vm.start()


@pytest.mark.parametrize("base", ["/d/base", "base", "vda[5]"])
async def test_a_pull_down_to_an_image(vm, base):
    await vm.block_pull("/d/top", base=base)
    await vm.wait_for_block_job("vda")
    assert await paths(vm) == await paths(vm, inactive=True) == ["/d/top", "/d/base"]


async def test_a_commit_below_the_first_image(vm, jobs):
    await vm.block_commit("vda", top="/d/middle")
    assert await mirror(vm) is None
    assert await vm.wait_for_block_job("vda") is BlockJobStatus.COMPLETED
    assert await paths(vm) == await paths(vm, inactive=True) == ["/d/top", "/d/base"]
    assert jobs() == ["Block Commit vda /d/top completed"]


async def test_an_active_commit_that_pivots(vm, jobs):
    await vm.block_commit("vda", active=True, shallow=True)
    assert (await mirror(vm))["job"] == "active-commit"
    assert await vm.wait_for_block_job("vda") is BlockJobStatus.READY
    assert await mirror(vm) == {
        "type": "file", "job": "active-commit", "ready": "yes", "path": "/d/middle"
    }  # fmt: skip
    info = await vm.block_job("vda")
    assert (info.type, info.ready, info.cur) == (BlockJobType.ACTIVE_COMMIT, True, info.end)
    assert await paths(vm) == ["/d/top", "/d/middle", "/d/base"]
    await vm.abort_block_job("vda", pivot=True)
    assert await paths(vm) == await paths(vm, inactive=True) == ["/d/middle", "/d/base"]
    assert await mirror(vm) is None
    assert jobs() == [
        "Active Block Commit vda /d/top ready",
        "Active Block Commit vda /d/top completed",
    ]


async def test_an_active_commit_that_goes_on_as_before(vm, jobs):
    await vm.block_commit("vda", active=True)
    await vm.wait_for_block_job("vda")
    await vm.abort_block_job("vda")
    assert await paths(vm) == ["/d/top", "/d/middle", "/d/base"]
    assert await mirror(vm) is None
    assert jobs()[-1] == "Active Block Commit vda /d/top canceled"


@pytest.mark.parametrize(
    ("shallow", "chain_after"),
    [(False, ["/d/copy"]), (True, ["/d/copy", "/d/middle", "/d/base"])],
)
async def test_a_copy(vm, jobs, shallow, chain_after):
    with pytest.raises(InvalidState, match="domain is not transient"):
        await vm.block_copy("vda", COPY)
    await vm.block_copy("vda", COPY, shallow=shallow, transient=True)
    assert await mirror(vm) == {
        "type": "file", "job": "copy", "file": "/d/copy", "format": "qcow2", "path": "/d/copy"
    }  # fmt: skip
    await vm.wait_for_block_job("vda")
    await vm.abort_block_job("vda", pivot=True)
    assert await paths(vm) == await paths(vm, inactive=True) == chain_after
    assert jobs() == ["Block Copy vda /d/top ready", "Block Copy vda /d/top completed"]


async def test_a_copy_of_a_transient_domain(host):
    vm = await host.create(XML.replace("<name>vm", "<name>other"))
    await vm.block_copy("vdb", COPY)
    await vm.wait_for_block_job("vdb")
    await vm.abort_block_job("vdb")
    assert await paths(vm, "vdb") == ["/d/single"]


async def test_the_next_start_follows_where_its_disk_is_the_same(host, vm):
    other = (await vm.xml(inactive=True)).replace("/d/middle", "/d/elsewhere")
    other = other.replace("/d/single", "/d/another")
    await host.define(other)
    await vm.block_commit("vda", active=True, shallow=True)
    await vm.wait_for_block_job("vda")
    await vm.abort_block_job("vda", pivot=True)
    # The images below are not those that were committed.
    assert await paths(vm, inactive=True) == ["/d/middle"]
    await vm.block_copy("vdb", COPY, transient=True)
    await vm.wait_for_block_job("vdb")
    await vm.abort_block_job("vdb", pivot=True)
    assert await paths(vm, "vdb") == ["/d/copy"]
    assert await paths(vm, "vdb", inactive=True) == ["/d/another"]


# -- progress --------------------------------------------------------------------------------------


async def test_how_far_it_is_and_how_fast(host, vm):
    host.test.clock.hold()
    await vm.block_commit("vda", top="vda[4]", bandwidth=512 << 20)
    await host.test.clock.advance(5)
    info = await vm.block_job("vda")
    assert (info.type, info.bandwidth, info.ready) == (BlockJobType.COMMIT, 512 << 20, False)
    assert (info.cur, info.end) == (5 * (512 << 20), 10 << 30)
    await vm.set_block_job_speed("vda", 256 << 20)
    await host.test.clock.advance(10)
    assert (await vm.block_job("vda")).cur == 5 << 30
    await vm.set_block_job_speed("vda", 0)
    await host.test.clock.advance(4.5)
    assert (await vm.block_job("vda")).cur == int(9.5 * (1 << 30))
    await host.test.clock.advance(1)
    assert await vm.block_job("vda") is None


async def test_it_can_be_aborted(host, vm, jobs):
    host.test.clock.hold()
    await vm.block_copy("vda", COPY, transient=True)
    await host.test.clock.advance(1)
    with pytest.raises(
        HvError, match=r"^block copy still active: block job 'copy-vda' not ready f"
    ):
        await vm.abort_block_job("vda", pivot=True)
    await vm.abort_block_job("vda")
    assert jobs() == ["Block Copy vda /d/top canceled"]
    assert await paths(vm) == ["/d/top", "/d/middle", "/d/base"]
    await host.test.clock.advance(60)
    assert jobs() == []


async def test_one_that_fails_on_the_way(host, vm, jobs):
    host.test.faults.fail_block_job(2, disk="vda")
    await vm.block_pull("vda")
    assert await vm.wait_for_block_job("vda") is BlockJobStatus.FAILED
    assert host.test.clock.now == 2
    assert jobs() == ["Block Pull vda /d/top failed"]
    assert await paths(vm) == ["/d/top", "/d/middle", "/d/base"]
    assert not host.test.faults.pending
    await vm.block_pull("vda")
    assert await vm.wait_for_block_job("vda") is BlockJobStatus.COMPLETED


async def test_who_asks_late_is_told_how_it_ended(host, vm):
    host.test.faults.fail_block_job(2, disk="vda")
    host.test.clock.hold()
    await vm.block_pull("vda")
    await host.test.clock.advance(60)
    assert await vm.block_job("vda") is None
    for _ in range(2):
        assert await vm.wait_for_block_job("vda") is BlockJobStatus.FAILED
    with pytest.raises(HvError, match="disk vdb does not have an active block job"):
        await vm.wait_for_block_job("vdb")
    host.test.faults.before("block_pull", DriverError("no room"))
    with pytest.raises(DriverError, match="no room"):
        await vm.block_pull("vda")
    assert await vm.wait_for_block_job("vda") is BlockJobStatus.FAILED
    await vm.block_pull("vda")
    waiting = asyncio.create_task(vm.wait_for_block_job("vda"))
    await host.test.clock.advance(60)
    assert await waiting is BlockJobStatus.COMPLETED
    await vm.destroy()
    await vm.start()
    with pytest.raises(HvError, match="disk vda does not have an active block job"):
        await vm.wait_for_block_job("vda")


async def test_one_that_does_not_begin(host, vm):
    host.test.faults.before("block_pull", DriverError("no room"))
    with pytest.raises(DriverError, match="no room"):
        await vm.block_pull("vda")
    assert await vm.block_job("vda") is None
    await vm.block_pull("vda")


async def test_a_domain_that_stops_meanwhile(host, vm, jobs):
    host.test.clock.hold()
    await vm.block_pull("vda")
    waiting = asyncio.create_task(vm.wait_for_block_job("vda"))
    await host.test.clock.advance(1)
    await vm.destroy()
    with pytest.raises(DomainGone):
        await waiting
    assert jobs() == []
    assert await paths(vm, inactive=True) == ["/d/top", "/d/middle", "/d/base"]
    await vm.start()
    assert await vm.block_job("vda") is None


async def test_what_a_busy_disk_keeps_from_happening(host, vm, tmp_path):
    host.test.clock.hold()
    await vm.block_copy("vda", COPY, transient=True)
    with pytest.raises(HvError, match="disk 'vda' already in active block job") as caught:
        await vm.block_pull("vda")
    assert caught.value.kind is ErrorClass.BLOCK_COPY_ACTIVE
    await vm.block_pull("vdb")
    with pytest.raises(HvError, match=r"^Operation not supported: disk 'vdb' already in active"):
        await vm.block_copy("vdb", COPY, transient=True)
    with pytest.raises(InvalidState, match="domain has active block job"):
        await vm.save(str(tmp_path / "vm.save"))
    async with await connect("test:///default?blockjobs-there") as there:
        with pytest.raises(InvalidState, match="domain has active block job"):
            await vm.migrate(there)


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "message"),
    [
        (lambda d: d.block_pull("vdx"), "invalid argument: disk 'vdx' not found in domain"),
        (
            lambda d: d.block_pull("vda", base="/d/top"),
            "invalid argument: could not find image '/d/top' beneath '/d/top' in chain for 'vda'",
        ),
        (
            lambda d: d.block_pull("vda", base="vda[9]"),
            "invalid argument: could not find backing store index '9' in chain for 'vda'",
        ),
        (
            lambda d: d.block_pull("vda", base="vdb[1]"),
            "invalid argument: requested target 'vdb' does not match target 'vda'",
        ),
        (
            lambda d: d.block_pull("vdc"),
            "Operation not supported: block jobs are not supported on transient disk 'vdc'",
        ),
        (
            lambda d: d.block_commit("vda"),
            "invalid argument: commit of 'vda' active layer requires active flag",
        ),
        (
            lambda d: d.block_commit("vda", top="/d/middle", active=True),
            "invalid argument: active commit requested but '/d/middle' is not active",
        ),
        (
            lambda d: d.block_commit("vda", top="/d/base"),
            "invalid argument: top '/d/base' in chain for '/d/top' has no backing file",
        ),
        (
            lambda d: d.block_commit("vda", top="/d/other"),
            "invalid argument: could not find image '/d/other' in chain for 'vda'",
        ),
        (
            lambda d: d.block_commit("vda", active=True, shallow=True, base="/d/base"),
            (
                "invalid argument: base '/d/base' is not immediately below '/d/top' in chain for "
                "'/d/top'"
            ),
        ),
        (
            lambda d: d.block_commit("sda", active=True),
            "unsupported configuration: disk sda has no source file to be committed",
        ),
        (
            lambda d: d.block_copy("vda", COPY.replace("/d/", ""), transient=True),
            "invalid argument: absolute path must be used as block copy target",
        ),
        (
            lambda d: d.block_copy("vda", COPY.replace("qcow2", "raw"), transient=True, shallow=1),
            "unsupported configuration: shallow copy of disk 'vda' into a raw file is not possible",
        ),
        (
            lambda d: d.block_copy(
                "vda", COPY.replace("<driver type='qcow2'/>", ""), transient=True, reuse=True
            ),
            "unsupported configuration: reused mirror destination format must be specified",
        ),
        (
            lambda d: d.block_copy("vda", COPY, transient=True, granularity=3),
            "invalid argument: granularity must be power of 2",
        ),
        (
            lambda d: d.abort_block_job("vda"),
            "invalid argument: disk vda does not have an active block job",
        ),
        (
            lambda d: d.set_block_job_speed("vda", 1),
            "invalid argument: disk vda does not have an active block job",
        ),
        (
            lambda d: d.wait_for_block_job("vda"),
            "invalid argument: disk vda does not have an active block job",
        ),
    ],
)
async def test_refusals(vm, verb, message):
    before = await vm.xml()
    with pytest.raises(HvError) as caught:
        await verb(vm)
    assert str(caught.value) == message
    assert await vm.xml() == before
    assert await vm.block_job("vda") is None


async def test_further_refusals(vm):
    with pytest.raises(ConfigError, match="expecting root element of 'disk'"):
        await vm.block_copy("vda", "<interface type='user'/>", transient=True)
    await vm.block_pull("vda")
    with pytest.raises(HvError, match="not ready for pivot yet"):
        await vm.abort_block_job("vda", pivot=True)
    await vm.wait_for_block_job("vda")
    await vm.destroy()
    for verb in (vm.block_pull, vm.block_job, vm.abort_block_job, vm.wait_for_block_job):
        with pytest.raises(InvalidState, match="domain is not running"):
            await verb("vda")


def test_the_last_image_where_there_is_none_below():
    disk = Registry.default()
    from hvcore.pipeline import Pipeline

    domain = Pipeline(disk).parse(XML)
    with pytest.raises(HvError, match="could not find base image in chain for 'vdb'"):
        chain.find(chain.images(domain.devices.disks[1]), None, "vdb", below=0)


# -- the other ways in -----------------------------------------------------------------------------


def test_the_blocking_api():
    with sync.connect("test:///default?blockjobs-sync") as host:
        vm = host.create(XML)
        host.test.clock.hold()  # or the job may be over between two calls
        vm.block_pull("vda")
        assert vm.block_job("vda") is not None
        host.test.clock.advance(3600)
        assert vm.block_job("vda") is None


def run(*args):
    return CliRunner().invoke(hv, ["-c", "test:///default", *args])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("blockpull", "test", "vda"), "Block Pull started\n"),
        (("blockpull", "test", "vda", "--wait"), "Pull complete\n"),
        (("blockjob", "test", "vda"), "No current block job for vda\n"),
        (("blockjob", "test", "vda", "--raw"), "\n"),
    ],
)
def test_hv(args, said):
    result = run(*args)
    assert (result.exit_code, result.stdout) == (0, said)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ("blockcopy", "test", "vda", "/x"),
            "error: Requested operation is not valid: domain is not transient\n",
        ),
        (("blockcopy", "test", "vda"), "error: need either --dest or --xml\n"),
        (
            ("blockcommit", "test", "vda", "--verbose"),
            (
                "error: --verbose requires at least one of --timeout, --wait, --pivot, or "
                "--keep-overlay\n"
            ),
        ),
        (
            ("blockcommit", "test", "vda", "--pivot", "--keep-overlay"),
            "error: Options --pivot and --keep-overlay are mutually exclusive\n",
        ),
        (
            ("blockjob", "test", "vda", "--abort"),
            "error: invalid argument: disk vda does not have an active block job\n",
        ),
        (
            ("blockjob", "test", "vda", "--raw", "--pivot"),
            "error: Options --raw and --pivot are mutually exclusive\n",
        ),
    ],
)
def test_hv_refuses(args, said):
    result = run(*args)
    assert (result.exit_code, result.stderr) == (1, said)


@pytest.mark.parametrize(
    ("given", "in_bytes", "expected"),
    [
        ("3", False, 3 << 20),
        ("3", True, 3),
        ("3M", True, 3 << 20),
        ("2500KiB", False, 2 << 20),
    ],
)
def test_bandwidths_may_have_a_unit(given, in_bytes, expected):
    number = Bandwidth().convert(given, None, None)
    assert _bandwidth({"bandwidth": number, "in_bytes": in_bytes}) == expected


def test_hv_copies(tmp_path):
    copied = run(
        "blockcopy",
        "test",
        "vda",
        "/x",
        "--transient-job",
        "--pivot",
        "--format",
        "raw",
        "--verbose",
    )
    assert copied.exit_code == 0
    assert copied.stdout == "Successfully pivoted\n"
    shown = run("blockcopy", "test", "vda", "/x", "--print-xml", "--format", "raw", "--blockdev")
    assert shown.stdout == (
        "<disk type='block'>\n  <source dev='/x'/>\n  <driver type='raw'/>\n</disk>\n\n"
    )
    assert run("blockpull", "test", "vda", "1.5").stderr.endswith(
        "Error: Scaled numeric value '1.5' for <--bandwidth> option is malformed or out of range\n"
    )
    finished = run("blockcopy", "test", "vda", "/x", "--transient-job", "--finish")
    assert finished.stdout == "Successfully copied\n"
    mirrors = run("blockcopy", "test", "vda", "/x", "--transient-job", "--wait")
    assert mirrors.stdout == "Now in mirroring phase\n"
