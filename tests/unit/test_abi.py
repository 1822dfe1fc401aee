"""What guests see: one row for each rule, where differences are found, and who else may compare."""

from __future__ import annotations

import json
import types

import pytest
from click.testing import CliRunner

from hvcore import abi
from hvcore import connect
from hvcore.abi.devices import FAMILIES
from hvcore.cli.main import hv
from hvcore.errors import AbiChanged
from hvcore.errors import ErrorClass
from hvcore.errors import ValidationFailed
from hvcore.model.devices.watchdog import Watchdog
from hvcore.pipeline import Context
from hvcore.pipeline import Definition
from hvcore.pipeline import Pipeline
from hvcore.plugin import UINT
from hvcore.plugin import Element
from hvcore.plugin import Feature
from hvcore.plugin import Issue
from hvcore.plugin import attr
from hvcore.plugin import element
from hvcore.registry import Registry
from hvcore_qemu.config import QemuConfig
from hvcore_qemu.migratable import ABI_CHECKS
from hvcore_qemu.migratable import make_migratable
from tests.unit.abi_rows import ROWS
from tests.unit.abi_rows import document

REGISTRY = Registry.default()
PIPELINE = Pipeline(REGISTRY)


def load(xml):
    domain = PIPELINE.parse(xml)
    PIPELINE.post_parse(domain, Context(registry=REGISTRY))
    return domain


def said(source, target, **options):
    features = REGISTRY.features.values()
    found = abi.compare(load(source), load(target), features=features, **options)
    assert all(issue.kind is ErrorClass.CONFIG_UNSUPPORTED for issue in found)
    return [issue.message for issue in found]


# -- the rules ------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_everything_that_changed_is_said_in_libvirts_words_and_order(row):
    before, after = document(**row.before), document(**row.after)
    assert said(before, after, volatile=True) == list(row.words)
    assert said(after, after, volatile=True) == []


def test_each_family_of_devices_is_counted_in_some_row():
    words = " ".join(word for row in ROWS for word in row.words)
    for family in FAMILIES:
        assert family.count.partition("{")[0] in words


def test_what_changes_while_a_guest_runs_counts_only_for_a_saved_one():
    smaller = document(head="<currentMemory>524288</currentMemory>")
    assert said(document(), smaller) == []
    assert len(said(document(), smaller, volatile=True)) == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<audio id='1' type='none'/>", "<audio id='1' type='sdl'/>"),
        ("<graphics type='vnc'/>", "<graphics type='vnc' port='5901' autoport='no'/>"),
        (
            "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/></disk>",
            "<disk type='block'><source dev='/dev/b'/><target dev='vda' bus='virtio'/></disk>",
        ),
        (
            "<input type='tablet' bus='usb'><address type='usb' bus='0' port='1'/></input>",
            "<input type='tablet' bus='usb'><address type='usb' bus='0' port='2'/></input>",
        ),
    ],
)
def test_what_only_the_host_sees_may_change(before, after):
    assert said(document(devices=before), document(devices=after)) == []


@pytest.mark.parametrize(
    "tuning",
    [
        "<numatune><memory mode='strict' nodeset='0'/></numatune>",
        "<numatune><memory mode='restrictive' placement='auto'/></numatune>",
        "<cputune><vcpupin vcpu='0' cpuset='1'/></cputune>",
    ],
)
def test_where_the_host_puts_memory_and_threads_may_change(tuning):
    assert said(document(), document(head=tuning)) == []


# -- ACPI generic initiators ----------------------------------------------------------------------

CELLS = (
    "<cpu><numa><cell cpus='0-3' memory='1048576'/><cell memory='0'/><cell memory='0'/></numa>"
    "</cpu>"
)


def initiators(*pairs, nodeset=None, slots=(5, 6)):
    acpi = "" if nodeset is None else f"<acpi nodeset='{nodeset}'/>"
    devices = "".join(
        "<hostdev mode='subsystem' type='pci'><source>"
        f"<address domain='0' bus='6' slot='{n}' function='0'/></source>{acpi if not n else ''}"
        f"<address type='pci' domain='0' bus='0' slot='{slot}' function='0'/></hostdev>"
        for n, slot in enumerate(slots)
    )
    devices += "".join(
        f"<acpi-generic-initiator>\n<pci-dev>{device}</pci-dev><numa-node>{node}</numa-node>"
        "</acpi-generic-initiator>"
        for device, node in pairs
    )
    return document(body=CELLS, devices=devices)


def test_the_entries_of_generic_initiators_are_compared_without_their_order():
    both = initiators(("hostdev0", 1), ("hostdev0", 2))
    assert said(both, initiators(("hostdev0", 2), ("hostdev0", 1))) == []
    assert said(both, initiators(("hostdev0", 1))) == [
        "Target domain acpi-generic-initiator count 1 does not match source 2"
    ]
    assert said(initiators(("hostdev0", 1)), initiators(("hostdev0", 2))) == [
        "Target acpi-generic-initiator NUMA node 2 does not match source 1"
    ]


def test_a_generic_initiator_is_known_by_the_place_of_its_device_in_the_guest():
    one, other = initiators(("hostdev0", 1)), initiators(("hostdev1", 1))
    assert said(one, other) == [
        "Target acpi-generic-initiator PCI address 0000:00:06.0 does not match source 0000:00:05.0"
    ]


def test_both_forms_of_a_generic_initiator_are_the_same_to_the_guest():
    form_a = initiators(("hostdev0", 1), ("hostdev0", 2))
    assert said(form_a, initiators(nodeset="1-2")) == []
    assert said(form_a, initiators(nodeset="1")) == [
        "Target domain acpi-generic-initiator count 1 does not match source 2"
    ]
    # libvirt 11.8 compares nothing of the form that it has.
    assert said(initiators(nodeset="1"), initiators(nodeset="2")) == []


# -- a feature of a plugin ------------------------------------------------------------------------


@element("shade", extends=Watchdog)
class Shade(Element):
    level: int | None = attr("@level", UINT)


def test_a_feature_compares_its_own_data_where_either_side_has_it():
    feature = Feature("watchdog-shade", Shade)
    asked = []

    @feature.abi
    def _same(source, target):
        asked.append((source.domain.name, target.domain.name))
        was, now = (sum(each.level for _, each in uses.found) for uses in (source, target))
        if was != now:
            yield Issue.unsupported(f"Target shade {now} does not match source {was}")

    registry = Registry()
    plugin = types.SimpleNamespace()
    registry.add_feature(feature)
    registry.register(plugin, name="shade")
    registry.freeze()
    pipeline = Pipeline(registry)

    def loaded(devices):
        return pipeline.load(document(devices=devices), Context(registry=registry))

    def compared(source, target):
        features = registry.features.values()
        return [i.message for i in abi.compare(loaded(source), loaded(target), features=features)]

    bare = "<watchdog model='i6300esb'/>"
    shaded = "<watchdog model='i6300esb'><shade level='{}'/></watchdog>"
    assert compared(bare, bare) == []
    assert asked == []
    assert compared(bare, shaded.format(2)) == ["Target shade 2 does not match source 0"]
    assert compared(shaded.format(2), shaded.format(2)) == []
    assert asked == [("vm", "vm")] * 2


# -- QEMU -----------------------------------------------------------------------------------------


def migratable(xml):
    domain = load(xml)
    context = Context(registry=REGISTRY, config=QemuConfig(), environ={})
    make_migratable(domain, context)
    return domain.devices, domain


@pytest.mark.parametrize(
    ("machine", "family", "left_out", "kept"),
    [
        (
            "pc",
            "controllers",
            (
                "<controller type='usb' index='0' model='piix3-uhci'/>"
                "<controller type='pci' index='0' model='pci-root'/>"
            ),
            (
                "<controller type='usb' index='0' model='qemu-xhci'/>"
                "<controller type='pci' index='0' model='pci-root'><pcihole64>1</pcihole64>"
                "</controller>"
            ),
        ),
        (
            "pc",
            "controllers",
            "<controller type='usb'/>",
            (
                "<controller type='usb' index='0' model='piix3-uhci'/>"
                "<controller type='usb' index='1' model='piix3-uhci'/>"
            ),
        ),
        (
            "q35",
            "controllers",
            "",
            (
                "<controller type='usb' index='0' model='piix3-uhci'><alias name='ua-u'/>"
                "</controller>"
                "<controller type='pci' index='0' model='pcie-root'/>"
            ),
        ),
        ("pseries", "panics", "<panic model='pseries'/>", "<panic model='isa'/>"),
        ("q35", "watchdogs", "<watchdog model='itco'/>", "<watchdog model='itco' action='none'/>"),
        ("pc", "watchdogs", "", "<watchdog model='itco'/>"),
        ("pc", "audios", "<audio id='1' type='none'/>", "<audio id='1' type='sdl'/>"),
        ("pc", "audios", "", "<audio id='1' type='none'/><audio id='2' type='none'/>"),
    ],
)
def test_a_migratable_document_leaves_out_what_every_guest_of_the_machine_has(
    machine, family, left_out, kept
):
    devices, _ = migratable(document(machine=machine, devices=left_out))
    assert getattr(devices, family) == []
    devices, _ = migratable(document(machine=machine, devices=kept))
    assert len(getattr(devices, family)) == kept.count(f"<{family[:-1]} ")


def test_a_migratable_document_leaves_open_what_a_host_decides():
    path = f"{QemuConfig().channel_target_dir}/1-vm/a"
    xml = document(
        devices="<serial type='pty'><target type='system-serial'><model name='pl011'/></target>"
        f"</serial><channel type='unix'><source mode='bind' path='{path}'/>"
        "<target type='virtio' name='a'/></channel>"
    )
    devices, _ = migratable(xml)
    assert (devices.serials[0].target_type, devices.serials[0].target_model) == (None, None)
    assert devices.channels[0].source.path is None


def test_a_migratable_document_has_no_keyboard_that_old_versions_do_not_know():
    keyboards = "<input type='keyboard' bus='{}'/>"
    xml = document(devices=keyboards.format("ps2") + keyboards.format("usb"))
    written = Definition(load(xml), REGISTRY)
    assert written.xml().count("keyboard") == 2
    assert "ps2" not in written.xml(migratable=True)
    assert "<input type='keyboard' bus='usb'/>" in written.xml(migratable=True)


def test_a_migratable_document_does_not_name_the_root_of_pseries():
    name = "<model name='spapr-pci-host-bridge'/>"
    xml = document(devices=f"<controller type='pci' model='pci-root'>{name}</controller>")
    written = Definition(load(xml), REGISTRY)
    assert name in written.xml()
    assert name not in written.xml(migratable=True)


@pytest.mark.parametrize("given", ["", "<feature name='pconfig'/>"])
def test_a_migratable_document_says_that_icelake_has_no_pconfig(given):
    _, domain = migratable(document(body=f"<cpu><model>Icelake-Server</model>{given}</cpu>"))
    assert [(each.name, each.policy) for each in domain.cpu.features] == [("pconfig", "disable")]


def test_qemu_compares_what_memory_is_made_of_and_is_called():
    def guest(source, alias):
        body = f"<memoryBacking><source type='{source}'/></memoryBacking>" if source else ""
        name = f"<alias name='{alias}'/>" if alias else ""
        module = f"<memory model='dimm'><target><size>1024</size></target>{name}</memory>"
        return load(document(head=body, devices=module))

    def compared(source, target):
        return [issue.message for issue in abi.compare(source, target, extra=ABI_CHECKS)]

    assert compared(guest("memfd", "ua-a"), guest("memfd", "ua-a")) == []
    assert compared(guest(None, "ua-a"), guest("memfd", None)) == [
        "Target memoryBacking source 'memfd' doesn't match source memoryBacking source'none'",
        "Target memory device alias 'ua-a' doesn't match source alias '<null>'",
    ]


# -- hosts, domains and hv ------------------------------------------------------------------------

GUEST = """<domain type='test'>
  <name>{name}</name>
  <memory>8192</memory>
  <os><type>hvm</type></os>
  <devices>
    <interface type='user'>
      <model type='{model}'/>
    </interface>
    <disk type='file'>
      <source file='/a'/>
      <target dev='{disk}' bus='virtio'/>
    </disk>
  </devices>
</domain>
"""
SAME = GUEST.format(name="vm", model="virtio", disk="vda")
OTHER = GUEST.format(name="vm", model="e1000", disk="vdb")


@pytest.fixture
async def host():
    async with await connect("test:///default") as found:
        yield found


async def test_a_host_compares_documents_and_says_where_they_differ(host):
    await host.check_abi(SAME, SAME)
    with pytest.raises(AbiChanged) as caught:
        await host.check_abi(SAME, OTHER)
    assert [(issue.line, issue.path) for issue in caught.value.issues] == [
        (11, "/domain/devices/disk/target/@dev"),
        (7, "/domain/devices/interface/model/@type"),
    ]
    assert str(caught.value) == (
        "unsupported configuration: Target disk vdb does not match source vda"
    )


async def test_a_document_that_cannot_be_completed_is_refused_with_its_lines(host):
    wrong = SAME.replace("<name>vm</name>", "\n<name>v/m</name>")
    with pytest.raises(ValidationFailed) as caught:
        await host.check_abi(SAME, wrong)
    assert not isinstance(caught.value, AbiChanged)
    assert caught.value.issues[0].line is not None


async def test_a_running_domain_is_compared_with_what_runs(host):
    domain = await host.define(SAME)
    await domain.start()
    await domain.check_abi(await domain.xml())
    await domain.check_abi(await domain.xml(inactive=True))
    await domain.check_abi(await domain.xml(migratable=True))
    changed = (await domain.xml(inactive=True)).replace("'vda'", "'vdb'")
    await host.define(changed)
    with pytest.raises(AbiChanged, match="Target disk vdb does not match source vda"):
        await domain.check_abi(changed)
    await domain.destroy()
    await domain.check_abi(changed)


async def test_names_that_a_start_gives_are_no_difference(host):
    domain = await host.define(SAME)
    live = (await domain.xml()).replace("</disk>", "<alias name='virtio-disk0'/></disk>")
    await domain.check_abi(live)


@pytest.fixture
def run(tmp_path, monkeypatch):
    (tmp_path / "same.xml").write_text(SAME)
    (tmp_path / "other.xml").write_text(OTHER)
    monkeypatch.chdir(tmp_path)

    def invoke(*args):
        # Commands run loops of their own.
        return CliRunner().invoke(hv, ["-c", "test:///default", *args])

    return invoke


def test_hv_lists_the_differences_with_their_lines(run):
    good = run("abi-check", "same.xml", "same.xml")
    assert (good.exit_code, good.output) == (0, "same.xml keeps the ABI of same.xml\n")
    bad = run("abi-check", "same.xml", "other.xml")
    assert bad.exit_code == 1
    assert bad.stderr.splitlines()[0] == "error: other.xml does not keep the ABI of same.xml"
    assert (
        "error: unsupported configuration: Target disk vdb does not match source vda\n"
        "     11 | <target dev='vdb' bus='virtio'/>\n"
    ) in bad.stderr


def test_hv_prints_the_differences_as_json(run):
    found = run("--json", "abi-check", "same.xml", "other.xml")
    issues = json.loads(found.stderr)["error"]["issues"]
    assert found.exit_code == 1
    assert [issue["message"].rpartition(": ")[2] for issue in issues] == [
        "Target disk vdb does not match source vda",
        "Target network card model e1000 does not match source virtio",
    ]


def test_hv_compares_with_a_domain_where_there_is_no_such_file(run):
    found = run("abi-check", "test", "same.xml")
    assert found.exit_code == 1
    assert "Target domain name 'vm' does not match source 'test'" in found.stderr
    missing = run("abi-check", "nobody", "same.xml")
    assert missing.exit_code == 1
    assert "nobody" in missing.stderr
