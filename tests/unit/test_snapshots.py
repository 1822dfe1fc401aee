"""Snapshots on the mock driver: taking them, returning to them, and what is remembered."""

from __future__ import annotations

import asyncio

import pytest
from click.testing import CliRunner
from lxml import etree

from hvcore import connect
from hvcore import events
from hvcore import sync
from hvcore.cli.main import hv
from hvcore.cli.snapshots import _tree
from hvcore.errors import ConfigError
from hvcore.errors import DomainGone
from hvcore.errors import DriverError
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.errors import LaunchError
from hvcore.jobinfo import JobOperation
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from hvcore.registry import Registry
from hvcore.snapshotstore import SnapshotStore
from hvcore.state import StateDirectory
from hvcore.uri import parse
from hvcore.uri import state_roots

XML = """<domain type='test'><name>vm</name><memory unit='GiB'>4</memory><vcpu>2</vcpu>
<os><type>hvm</type></os><devices>
<disk type='file'><driver name='qemu' type='qcow2'/><source file='/d/one.qcow2'/>
  <target dev='vda' bus='virtio'/></disk>
<disk type='file'><driver name='qemu' type='qcow2'/><source file='/d/two'/>
  <target dev='vdb' bus='virtio'/></disk>
<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>
</devices></domain>"""
FROM = (RunningReason.FROM_SNAPSHOT, PausedReason.FROM_SNAPSHOT, ShutoffReason.FROM_SNAPSHOT)


@pytest.fixture
async def host():
    async with await connect("test:///default?snapshots") as found:
        yield found


@pytest.fixture
async def vm(host):
    domain = await host.define(XML)
    await domain.start()
    return domain


def named(name, inner=""):
    return f"<domainsnapshot><name>{name}</name>{inner}</domainsnapshot>"


def heard(stream):
    found = []
    while (event := stream.get_nowait()) is not None:
        if isinstance(event, events.LifecycleEvent):
            found.append(f"{type(event).__name__}({event.reason})")
    return found


async def reason(domain):
    return (await domain.state())[1]


async def names(domain):
    return [info.name for info in await domain.snapshots()]


# -- taking ----------------------------------------------------------------------------------------


async def test_a_snapshot_of_what_runs(host, vm):
    stream = host.events()
    info = await vm.create_snapshot(named("first", "<description>mine</description>"))
    assert (info.name, info.state, info.external, info.current) == ("first", "running", False, True)
    assert (info.description, info.parent, info.children) == ("mine", None, 0)
    assert heard(stream) == ["Suspended(Paused)", "Resumed(Unpaused)"]
    assert await reason(vm) is RunningReason.UNPAUSED
    assert host.test.clock.now == 4  # 4 GiB at 1 GiB/s
    root = etree.fromstring(await vm.snapshot_xml("first"))
    assert [child.tag for child in root] == [
        "name", "description", "state", "creationTime", "memory", "disks", "domain",
        "inactiveDomain",
    ]  # fmt: skip
    assert dict(root.find("memory").attrib) == {"snapshot": "internal"}
    assert [dict(disk.attrib) for disk in root.findall("disks/disk")] == [
        {"name": "vda", "snapshot": "internal"},
        {"name": "vdb", "snapshot": "internal"},
        {"name": "sda", "snapshot": "no"},
    ]
    assert root.find("domain/devices/disk/alias") is None
    assert root.find("domain/devices/disk/source").attrib == {"file": "/d/one.qcow2"}


async def test_they_form_a_tree(vm):
    await vm.create_snapshot(named("a"))
    await vm.create_snapshot(named("b"))
    await vm.create_snapshot(named("c"))
    await vm.revert_to_snapshot("a")
    await vm.create_snapshot(named("d"))
    infos = {info.name: info for info in await vm.snapshots()}
    assert {name: info.parent for name, info in infos.items()} == {
        "a": None, "b": "a", "c": "b", "d": "a"
    }  # fmt: skip
    assert (infos["a"].children, infos["a"].descendants) == (2, 3)
    assert (await vm.snapshot()).name == "d"
    assert _tree(list(infos.values()), None) == [
        "a", "  |", "  +- b", "  |   |", "  |   +- c", "  |     ", "  +- d", "    "
    ]  # fmt: skip
    assert _tree(list(infos.values()), "b") == ["b", "  |", "  +- c", "    "]


async def test_disks_alone_get_images_on_top(host, vm):
    info = await vm.create_snapshot(named("disks"), disk_only=True)
    assert (info.state, info.external) == ("disk-snapshot", True)
    assert host.test.clock.now == 0
    for inactive in (False, True):
        root = etree.fromstring(await vm.xml(inactive=inactive))
        disks = root.findall("devices/disk")
        assert [disk.find("source").get("file") for disk in disks[:2]] == [
            "/d/one.disks", "/d/two.disks"
        ]  # fmt: skip
        below = disks[0].find("backingStore/source")
        assert below.get("file") == "/d/one.qcow2"


async def test_disks_as_they_are_asked_for(vm):
    asked = (
        "<disks><disk name='vda' type='block'><driver type='qcow2'/><source dev='/dev/x'/></disk>"
        "<disk name='/d/two' snapshot='no'/></disks>"
    )
    await vm.create_snapshot(named("some", asked), disk_only=True)
    root = etree.fromstring(await vm.xml())
    sources = [dict(e.attrib) for e in root.findall("devices/disk/source")]
    assert (sources[0]["dev"], sources[1]["file"]) == ("/dev/x", "/d/two")


@pytest.mark.parametrize("live", [False, True])
async def test_memory_in_a_file(host, vm, live):
    stream = host.events()
    info = await vm.create_snapshot(named("full", "<memory file='/d/memory'/>"), live=live)
    assert (info.state, info.external) == ("running", True)
    assert heard(stream) == ([] if live else ["Suspended(Paused)", "Resumed(Unpaused)"])
    assert "file='/d/one.full'" in await vm.xml()
    assert "<memory snapshot='external' file='/d/memory'/>" in await vm.snapshot_xml()


async def test_a_domain_that_does_not_run(vm):
    await vm.destroy()
    info = await vm.create_snapshot()
    assert (info.state, info.external) == ("shutoff", False)
    assert info.name == str(info.creation_time)
    assert "<memory snapshot='no'/>" in await vm.snapshot_xml()
    await vm.create_snapshot(named("outside"), disk_only=True)
    assert "/d/one.outside" in await vm.xml()


async def test_halting_and_leaving_no_trace(host, vm):
    stream = host.events()
    await vm.create_snapshot(named("gone"), metadata=False, halt=True)
    assert await vm.snapshots() == []
    assert await reason(vm) is ShutoffReason.FROM_SNAPSHOT
    assert heard(stream)[-1] == "Stopped(Snapshot)"
    other = await host.create(XML.replace("<name>vm", "<name>other"))
    with pytest.raises(InvalidState, match="cannot halt after transient domain snapshot"):
        await other.create_snapshot(halt=True)


async def test_one_that_fails_leaves_nothing(host, vm):
    host.test.faults.before("snapshot_create", DriverError("no room"))
    with pytest.raises(DriverError, match="no room"):
        await vm.create_snapshot(named("x"), disk_only=True)
    assert await vm.snapshots() == []
    assert "/d/one.x" not in await vm.xml()


async def test_one_that_is_aborted(host, vm):
    host.test.clock.hold()
    task = asyncio.create_task(vm.create_snapshot(named("x")))
    await host.test.clock.advance(1)
    info = await vm.job_info()
    assert (info.operation, info.data_processed) == (JobOperation.SNAPSHOT, 1 << 30)
    assert await reason(vm) is PausedReason.SNAPSHOT
    await vm.abort_job()
    with pytest.raises(DriverError, match="job 'snapshot' canceled by client"):
        await task
    assert await reason(vm) is RunningReason.UNPAUSED
    assert await vm.snapshots() == []


async def test_a_domain_that_is_destroyed_meanwhile(host, vm):
    host.test.clock.hold()
    task = asyncio.create_task(vm.create_snapshot(named("x")))
    await host.test.clock.advance(1)
    await vm.destroy()
    with pytest.raises(DomainGone):
        await task
    assert await reason(vm) is ShutoffReason.DESTROYED
    assert await vm.snapshots() == []


# -- going back ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "flags", "expected", "announced"),
    [
        ("running", {}, FROM[0], ["Stopped(Snapshot)", "Defined(Snapshot)", "Started(Snapshot)"]),
        ("off", {}, FROM[0], ["Defined(Snapshot)", "Started(Snapshot)"]),
        (
            "off",
            {"paused": True},
            FROM[1],
            ["Defined(Snapshot)", "Started(Snapshot)", "Suspended(Snapshot)"],
        ),
    ],
)
async def test_back_to_what_ran(host, vm, now, flags, expected, announced):
    await vm.set_memory(1 << 20, live=True)
    await vm.create_snapshot(named("x"))
    await vm.set_memory(2 << 20, live=True)
    await vm.set_vcpus(1, config=True)
    if now == "off":
        await vm.destroy()
    stream = host.events()
    await vm.revert_to_snapshot("x", **flags)
    assert await reason(vm) is expected
    assert heard(stream) == announced
    assert (await vm.info()).memory == 1 << 20
    assert "current='1'" not in await vm.xml(inactive=True)
    assert (await vm.snapshot()).name == "x"


@pytest.mark.parametrize(
    ("flags", "expected", "announced"),
    [
        ({}, FROM[2], ["Stopped(Snapshot)", "Defined(Snapshot)"]),
        (
            {"running": True},
            FROM[0],
            ["Stopped(Snapshot)", "Defined(Snapshot)", "Started(Snapshot)"],
        ),
    ],
)
async def test_back_to_what_did_not_run(host, vm, flags, expected, announced):
    await vm.destroy()
    await vm.create_snapshot(named("x"))
    await vm.start()
    stream = host.events()
    await vm.revert_to_snapshot(**flags)
    assert await reason(vm) is expected
    assert heard(stream) == announced


async def test_a_paused_one_comes_back_paused(vm):
    await vm.suspend()
    await vm.create_snapshot(named("x"))
    await vm.resume()
    await vm.revert_to_snapshot("x")
    assert await reason(vm) is PausedReason.FROM_SNAPSHOT
    await vm.revert_to_snapshot("x", running=True)
    assert await reason(vm) is RunningReason.FROM_SNAPSHOT


async def test_back_to_the_disks_that_were(vm):
    await vm.create_snapshot(named("x"), disk_only=True)
    await vm.revert_to_snapshot("x", running=True)
    assert "file='/d/one.qcow2'" in await vm.xml()
    assert "/d/one.x" not in await vm.xml(inactive=True)


async def test_a_transient_domain(host):
    vm = await host.create(XML)
    await vm.create_snapshot(named("x"))
    await vm.revert_to_snapshot("x")
    assert (await reason(vm), vm.is_persistent) == (RunningReason.FROM_SNAPSHOT, False)
    await vm.create_snapshot(named("y"), disk_only=True)
    with pytest.raises(InvalidState, match="transient domain needs to request run or pause"):
        await vm.revert_to_snapshot("y")
    host.test.faults.before("snapshot_revert", LaunchError("no memory"))
    with pytest.raises(LaunchError, match="no memory"):
        await vm.revert_to_snapshot("x")
    assert [domain.name for domain in await host.domains()] == ["test"]


async def test_what_could_be_lost_is_not(vm):
    await vm.destroy()
    await vm.create_snapshot(named("x"))
    await vm.start()
    await vm.managed_save()
    with pytest.raises(HvError, match=r"^revert requires force: snapshot without memory") as caught:
        await vm.revert_to_snapshot("x")
    assert caught.value.kind is ErrorClass.SNAPSHOT_REVERT_RISKY
    await vm.revert_to_snapshot("x", force=True)
    with pytest.raises(HvError, match="are mutually exclusive"):
        await vm.revert_to_snapshot("x", running=True, paused=True)


# -- forgetting ------------------------------------------------------------------------------------


@pytest.fixture
async def family(vm):
    for name in "abcd":
        await vm.create_snapshot(named(name))
    return vm


@pytest.mark.parametrize(
    ("which", "flags", "left", "current"),
    [
        ("b", {}, "acd", "d"),
        ("d", {}, "abc", "c"),
        ("b", {"children": True}, "a", "a"),
        ("b", {"children_only": True}, "ab", "b"),
        ("a", {"children": True}, "", None),
        (None, {"metadata": True}, "abc", "c"),
    ],
)
async def test_deleting(family, which, flags, left, current):
    await family.delete_snapshot(which, **flags)
    assert "".join(await names(family)) == left
    if current is not None:
        assert (await family.snapshot()).name == current
    infos = {info.name: info.parent for info in await family.snapshots()}
    assert all(parent is None or parent in infos for parent in infos.values())


async def test_deleting_what_cannot_be(family, host):
    with pytest.raises(HvError, match="no domain snapshot with matching name 'x'"):
        await family.delete_snapshot("x")
    with pytest.raises(HvError, match="are mutually exclusive"):
        await family.delete_snapshot("a", children=True, children_only=True)
    host.test.faults.before("snapshot_delete", DriverError("busy"))
    with pytest.raises(DriverError, match="busy"):
        await family.delete_snapshot("b")
    assert await names(family) == ["a", "b", "c", "d"]


async def test_a_domain_that_is_undefined(host, vm):
    await vm.create_snapshot(named("x"))
    async with await connect("test:///default?snapshots-there") as there:
        with pytest.raises(InvalidState, match="cannot migrate domain with 1 snapshots"):
            await vm.migrate(there)
    await vm.undefine()
    assert await names(vm) == ["x"]
    await host.define(XML.replace("<name>vm</name>", f"<name>vm</name><uuid>{vm.uuid}</uuid>"))
    await vm.destroy()
    with pytest.raises(InvalidState, match="cannot delete inactive domain with 1 snapshots"):
        await vm.undefine()
    await vm.undefine(snapshots_metadata=True)
    again = await host.define(
        XML.replace("<name>vm</name>", f"<name>vm</name><uuid>{vm.uuid}</uuid>")
    )
    assert await again.snapshots() == []


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inner", "options", "message"),
    [
        ("<name>a/b</name>", {}, "invalid snapshot name 'a/b': name can't contain '/'"),
        ("<name>.a</name>", {}, "invalid snapshot name '.a': name can't start with '.'"),
        (
            "<memory snapshot='manual'/>",
            {},
            "XML error: 'manual' memory snapshot mode not supported",
        ),
        (
            "<memory snapshot='external'/>",
            {},
            "XML error: external memory snapshots require a filename",
        ),
        (
            "<memory snapshot='no' file='/x'/>",
            {},
            "XML error: memory filename '/x' requires external snapshot",
        ),
        (
            "<memory file='/x'/>",
            {"disk_only": True},
            "XML error: memory state cannot be saved with offline or disk-only snapshot",
        ),
        ("<memory file='x'/>", {}, "XML error: memory snapshot file path (x) must be absolute"),
        (
            "<memory snapshot='no'/>",
            {},
            (
                "Operation not supported: internal snapshot of a running VM must "
                "include the memory "
                "state"
            ),
        ),
        (
            "<disks><disk name='vdx'/></disks>",
            {},
            "unsupported configuration: no disk named 'vdx'",
        ),
        (
            "<disks><disk name='vda'/><disk name='/d/one.qcow2'/></disks>",
            {},
            "unsupported configuration: disk '/d/one.qcow2' specified twice",
        ),
        (
            "<disks><disk name='vda'/><disk name='vda'/><disk name='a'/><disk name='b'/></disks>",
            {},
            "unsupported configuration: too many disk snapshot requests for domain",
        ),
        (
            "<disks><disk name='vda' snapshot='external'/></disks>",
            {},
            "unsupported configuration: disk 'vda' must use snapshot mode 'internal'",
        ),
        (
            "<disks><disk name='vda' snapshot='internal'/></disks>",
            {"disk_only": True},
            (
                "unsupported configuration: active qemu domains require external disk "
                "snapshots; disk "
                "vda requested internal"
            ),
        ),
        (
            "<disks><disk name='vda'><source file='x'/></disk></disks>",
            {},
            "XML error: disk snapshot image path 'x' must be absolute",
        ),
        (
            "<disks><disk name='vda' type='dir'/></disks>",
            {},
            "XML error: unsupported disk snapshot type 'dir'",
        ),
        (
            "<disks><disk name='vda' snapshot='no'><source file='/x'/></disk></disks>",
            {"disk_only": True},
            (
                "unsupported configuration: file '/x' for disk 'vda' requires use of "
                "external snapshot "
                "mode"
            ),
        ),
        (
            "<disks><disk name='vda' snapshot='no'/><disk name='vdb' snapshot='no'/></disks>",
            {"disk_only": True},
            "unsupported configuration: nothing selected for snapshot",
        ),
        (
            "<disks><disk name='vda' type='block' snapshot='external'/></disks>",
            {"disk_only": True},
            (
                "unsupported configuration: cannot generate external snapshot name for "
                "disk 'vda' on a "
                "'block' device"
            ),
        ),
        (
            "<disks><disk name='sda' snapshot='external'/></disks>",
            {"disk_only": True},
            (
                "unsupported configuration: cannot generate external snapshot name for disk 'sda' "
                "without source"
            ),
        ),
        ("<disks><disk/></disks>", {}, "internal error: missing name from disk snapshot element"),
        (
            "",
            {"live": True},
            (
                "Operation not supported: live snapshot creation is supported only "
                "during full system "
                "snapshots"
            ),
        ),
        (
            "",
            {"current": True},
            (
                "Flag 'VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE' is required by flag "
                "'VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT'"
            ),
        ),
        (
            "",
            {"redefine": True, "halt": True},
            (
                "Flags 'VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE' and "
                "'VIR_DOMAIN_SNAPSHOT_CREATE_HALT' are mutually exclusive"
            ),
        ),
        ("", {"redefine": True}, "XML error: a redefined snapshot must have a name"),
        (
            "<name>x</name>",
            {"redefine": True},
            "internal error: missing creationTime from existing snapshot",
        ),
        (
            "<name>x</name><creationTime>1</creationTime>",
            {"redefine": True},
            "XML error: missing state from existing snapshot",
        ),
        (
            "<name>x</name><creationTime>1</creationTime><state>asleep</state>",
            {"redefine": True},
            "unsupported configuration: Invalid state 'asleep' in domain snapshot XML",
        ),
        (
            "<name>x</name><creationTime>1</creationTime><state>shutoff</state>",
            {"redefine": True},
            "internal error: missing domain in snapshot",
        ),
    ],
)
async def test_refused_documents(vm, inner, options, message):
    before = await vm.xml()
    with pytest.raises(HvError) as caught:
        await vm.create_snapshot(f"<domainsnapshot>{inner}</domainsnapshot>", **options)
    assert str(caught.value) == message
    assert await vm.snapshots() == []
    assert await vm.xml() == before


async def test_further_refusals(vm):
    await vm.create_snapshot(named("x"))
    with pytest.raises(HvError, match=r"^operation failed: domain moment x already exists$"):
        await vm.create_snapshot(named("x"))
    with pytest.raises(ConfigError, match="unexpected root element <domain>"):
        await vm.create_snapshot("<domain/>")
    await vm.delete_snapshot("x")
    with pytest.raises(
        HvError, match=r"^Domain snapshot not found: the domain does not have a cur"
    ):
        await vm.snapshot()
    await vm.block_pull("vda")
    with pytest.raises(HvError, match="disk 'vda' already in active block job"):
        await vm.create_snapshot(named("x"), disk_only=True)


async def test_names_that_would_collide(host):
    twins = XML.replace("/d/two", "/d/one.raw")
    vm = await host.create(twins)
    with pytest.raises(HvError, match=r"for disk 'vdb': collision with disk 'vda'$"):
        await vm.create_snapshot(named("x"), disk_only=True)


# -- what others took ------------------------------------------------------------------------------


async def test_documents_come_back(vm):
    await vm.create_snapshot(named("a"))
    await vm.create_snapshot(named("b"))
    documents = [await vm.snapshot_xml(name, secure=True) for name in "ab"]
    await vm.delete_snapshot("a", children=True, metadata=True)
    for document in documents:
        await vm.create_snapshot(document, redefine=True)
    assert await names(vm) == ["a", "b"]
    with pytest.raises(HvError, match="does not have a current snapshot"):
        await vm.snapshot()
    await vm.create_snapshot(documents[1], redefine=True, current=True)
    assert (await vm.snapshot()).parent == "a"
    assert [await vm.snapshot_xml(name, secure=True) for name in "ab"] == documents


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("<name>a</name>", "<name>b</name>"), "cannot set moment b as its own parent"),
        (("<name>z</name>", "<name>y</name>"), "parent y for moment b not found"),
        (("running", "shutoff"), "cannot change between online and offline snapshot state"),
    ],
)
async def test_what_cannot_be_made_of_them(vm, change, message):
    await vm.create_snapshot(named("a"))
    await vm.create_snapshot(named("b"))
    document = await vm.snapshot_xml("b")
    if "z" in change[0]:
        document = document.replace("<parent>\n    <name>a", "<parent>\n    <name>z")
    document = document.replace(*change)
    if "shutoff" in change:
        document = document.replace("<memory snapshot='internal'/>", "")
    with pytest.raises(HvError, match=message):
        await vm.create_snapshot(document, redefine=True)


async def test_a_cycle_and_another_domain(vm):
    await vm.create_snapshot(named("a"))
    await vm.create_snapshot(named("b"))
    document = await vm.snapshot_xml("a")
    cyclic = document.replace("</state>", "</state><parent><name>b</name></parent>")
    with pytest.raises(HvError, match="parent b would create cycle to a"):
        await vm.create_snapshot(cyclic, redefine=True)
    foreign = document.replace(vm.uuid, "00000000-1111-2222-3333-444444444444")
    with pytest.raises(HvError, match=f"definition for snapshot a must use uuid {vm.uuid}"):
        await vm.create_snapshot(foreign, redefine=True)


def test_they_are_remembered_on_disk(tmp_path):
    uri = parse(f"qemu:///embed?root={tmp_path}")
    directory = StateDirectory(state_roots(uri, environ={}, uid=1, home="/"))
    registry, uuid = Registry.default(), "00000000-1111-2222-3333-444444444444"
    store = SnapshotStore(directory, registry)
    assert (store.count(uuid), store.current(uuid)) == (0, None)
    document = (
        f"<state>shutoff</state><domain type='test'><name>vm</name><uuid>{uuid}</uuid></domain>"
    )
    for name in "ab":
        store.put(uuid, store.read(named(name, document)))
    store.set_current(uuid, "b")
    (directory.snapshots(uuid) / "broken.xml").write_text("<nonsense")
    found = SnapshotStore(directory, registry)
    assert sorted(found.of(uuid)) == ["a", "b"]
    assert (found.current(uuid), found.count(uuid)) == ("b", 2)
    found.drop(uuid, "a")
    found.set_current(uuid, None)
    again = SnapshotStore(directory, registry)
    assert (sorted(again.of(uuid)), again.current(uuid)) == (["b"], None)
    again.forget(uuid)
    assert not directory.snapshots(uuid).exists()


# -- the other ways in -----------------------------------------------------------------------------


def test_the_blocking_api():
    with sync.connect("test:///default?snapshots-sync") as host:
        vm = host.create(XML)
        assert vm.create_snapshot().current
        vm.revert_to_snapshot()
        vm.delete_snapshot()
        assert vm.snapshots() == []


def run(*args):
    return CliRunner().invoke(hv, ["-c", "test:///default", *args])


def test_hv_takes_what_its_options_say():
    assert run("snapshot-create-as", "test", "one").stdout == "Domain snapshot one created\n"
    shown = run(
        "snapshot-create-as", "test", "four", "--print-xml", "--memspec", "/x/mem",
        "--diskspec", "vda,snapshot=external,file=/x/y,,z,driver=qcow2", "--diskspec", "vdb",
    )  # fmt: skip
    assert shown.stdout == (
        "<domainsnapshot>\n  <name>four</name>\n  <memory file='/x/mem'/>\n  <disks>\n"
        "    <disk name='vda' snapshot='external'>\n      <driver type='qcow2'/>\n"
        "      <source file='/x/y,z'/>\n    </disk>\n    <disk name='vdb'/>\n  </disks>\n"
        "</domainsnapshot>\n\n"
    )


@pytest.mark.parametrize(
    "words",
    [
        "test name desc vda vdb",
        "test name desc --diskspec vda vdb",
        "test --diskspec vda name --diskspec vdb desc",
        "--description desc --diskspec vda --name name --domain test vdb",
    ],
)
def test_hv_finds_places_for_words(words):
    shown = run("snapshot-create-as", "--print-xml", *words.split())
    assert shown.stdout == (
        "<domainsnapshot>\n  <name>name</name>\n  <description>desc</description>\n  <disks>\n"
        "    <disk name='vda'/>\n    <disk name='vdb'/>\n  </disks>\n</domainsnapshot>\n\n"
    )


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ("snapshot-current", "test"),
            "error: domain 'test' has no current snapshot\n",
        ),
        (
            ("snapshot-parent", "test", "--current"),
            "error: Domain snapshot not found: the domain does not have a current snapshot\n",
        ),
        (("snapshot-info", "none"), "error: failed to get domain 'none'\n"),
        (
            ("snapshot-create-as", "test", "--diskspec", "vda,colour=red"),
            "error: unable to parse diskspec: vda,colour=red\n",
        ),
        (
            ("snapshot-create-as", "test", "--diskspec", "vda,stype=tape"),
            (
                "error: Unknown storage type: 'tape'\n"
                "error: unable to parse diskspec: vda,stype=tape\n"
            ),
        ),
        (
            ("snapshot-create-as", "test", "--memspec", "relative"),
            "error: unable to parse memspec: relative\n",
        ),
        (
            ("snapshot-create-as", "test", "--name="),
            "error: Failed to get option 'name': Option argument is empty\n",
        ),
        (("snapshot-info", "test"), "error: --snapshotname or --current is required\n"),
        (
            ("snapshot-info", "test", "x", "--current"),
            "error: --snapshotname and --current are mutually exclusive\n",
        ),
        (
            ("snapshot-delete", "test", "x"),
            "error: Domain snapshot not found: no domain snapshot with matching name 'x'\n",
        ),
        (
            ("snapshot-revert", "test", "x"),
            "error: Domain snapshot not found: no domain snapshot with matching name 'x'\n",
        ),
        (
            ("snapshot-list", "test", "--roots", "--tree"),
            "error: Options --roots and --tree are mutually exclusive\n",
        ),
        (
            ("snapshot-list", "test", "--leaves", "--tree"),
            "error: --leaves and --tree are mutually exclusive\n",
        ),
        (
            ("snapshot-list", "test", "--from", "x", "--current"),
            "error: --from and --current are mutually exclusive\n",
        ),
        (
            ("snapshot-list", "test", "--descendants"),
            "error: --descendants requires either --from or --current\n",
        ),
    ],
)
def test_hv_refuses(args, said):
    result = run(*args)
    assert (result.exit_code, result.stderr) == (1, said)
