"""ACPI generic initiators: both forms in documents, their rules, and QEMU's objects."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvcore.capabilities import Deferred
from hvcore.capabilities import Exchange
from hvcore.capabilities import ProbeSession
from hvcore.errors import ValidationFailed
from hvcore.pipeline import Context
from hvcore.pipeline import Pipeline
from hvcore.registry import Registry
from hvcore_plugins import acpi_generic_initiator as plugin
from hvcore_qemu import launch
from hvcore_qemu.capabilities import Accelerator
from hvcore_qemu.capabilities import CpuModel
from hvcore_qemu.capabilities import Machine
from hvcore_qemu.capabilities import QemuCapabilities
from hvcore_qemu.config import QemuConfig
from hvcore_qemu.pretend import PretendHost

REGISTRY = Registry()
REGISTRY.register(plugin, name="acpi-generic-initiator")
REGISTRY.freeze()
PIPELINE = launch.pipeline(REGISTRY)
MACHINES = ("pc-q35-10.0", "pc-i440fx-10.0", "microvm")
TCG = Accelerator(
    deferred_machines=Deferred.of(
        tuple(Machine(n, default_cpu="q-cpu", default_ram_id="pc.ram", acpi=True) for n in MACHINES)
    ),
    deferred_cpus=Deferred.of((CpuModel("qemu64", "q-cpu", usable=True),)),
)
CAPS = QemuCapabilities(
    binary="/q",
    arch="x86_64",
    version=10000002,
    names=frozenset(
        {"tcg", "pcie-root-port", "vfio-pci", "device.json+hotplug", "acpi-generic-initiator",
         "ioh3420", "usb-kbd", "piix3-usb-uhci", "isa-serial", "acpi-index", "pci-bridge"}
    ),
    accelerators={"tcg": TCG},
)  # fmt: skip
CELLS = "<cell cpus='0' memory='1024'/>" + "<cell memory='0'/>" * 8
HOSTDEV = (
    "<hostdev mode='subsystem' type='pci'><source><address domain='9' bus='1' slot='{}'"
    " function='0'/></source>{}</hostdev>"
)


def form_a(node=1, device="hostdev0", alias=None, more=""):
    name = "" if alias is None else f"<alias name='{alias}'/>"
    return (
        f"<acpi-generic-initiator>{name}<pci-dev>{device}</pci-dev><numa-node>{node}</numa-node>"
        f"{more}</acpi-generic-initiator>"
    )


def form_b(nodes, slot=0):
    return HOSTDEV.format(slot, f"<acpi nodeset='{nodes}'/>")


def document(devices, *, cells=CELLS, machine="pc-q35-10.0", kind="qemu"):
    cpu = f"<cpu><numa>{cells}</numa></cpu>" if cells else ""
    return (
        f"<domain type='{kind}'><name>g</name><memory>1024</memory>{cpu}<os>"
        f"<type arch='x86_64' machine='{machine}'>hvm</type></os><features><acpi/></features>"
        "<devices><emulator>/q</emulator><controller type='usb' model='none'/>"
        f"<memballoon model='none'/>{devices}</devices></domain>"
    )


def context(caps=CAPS):
    return Context(
        registry=REGISTRY, driver="qemu", caps=caps, config=QemuConfig(), abi_update=True
    )


def define(devices, *, caps=CAPS, **how):
    return PIPELINE.define(document(devices, **how), context(caps))


def refusals(devices, **how):
    try:
        define(devices, **how)
    except ValidationFailed as failed:
        return [str(issue) for issue in failed.issues]
    return []


def objects(devices, **how):
    """Return the command line from the last device on: -device by id, -object by its parts."""
    plan = launch.plan_start(define(devices, **how).clone(), context(), PretendHost())
    found = []
    for step in plan.steps():
        option, value = getattr(step, "option", None), getattr(step, "value", None)
        if option == "-device" and value["driver"] == "vfio-pci":
            found.append(value["id"])
        elif option == "-object" and value["qom-type"] == "acpi-generic-initiator":
            found.append((value["id"], value["pci-dev"], value["node"]))
    return found


def test_an_element_of_its_own_round_trips_and_comes_last():
    xml = define(form_a(3, alias="gpu.x") + HOSTDEV.format(0, "")).xml()
    assert xml.splitlines()[-8:] == [
        "    <memballoon model='none'/>",
        "    <acpi-generic-initiator>",
        "      <alias name='gpu.x'/>",
        "      <pci-dev>hostdev0</pci-dev>",
        "      <numa-node>3</numa-node>",
        "    </acpi-generic-initiator>",
        "  </devices>",
        "</domain>",
    ]
    assert PIPELINE.define(xml, context()).xml() == xml


def test_the_attribute_of_a_device_round_trips():
    xml = define(HOSTDEV.format(0, "<acpi index='5' nodeset='2,1,4'/>")).xml()
    assert "<acpi index='5' nodeset='1-2,4'/>\n      <address type='pci'" in xml
    assert PIPELINE.define(xml, context()).xml() == xml


def test_both_forms_become_objects_behind_the_device_and_at_the_end():
    devices = form_b("1-2") + HOSTDEV.format(1, "") + form_a(3, "hostdev1") + form_a(4, alias="gi2")
    assert objects(devices) == [
        "hostdev0", ("gi1", "hostdev0", 1), ("gi3", "hostdev0", 2),
        "hostdev1",
        ("gi0", "hostdev1", 3), ("gi2", "hostdev0", 4),
    ]  # fmt: skip


def test_users_names_of_devices_are_used():
    named = HOSTDEV.format(0, "<acpi nodeset='1'/><alias name='ua-gpu'/>")
    assert objects(named + form_a(2, "ua-gpu")) == [
        "ua-gpu", ("gi1", "ua-gpu", 1), ("gi0", "ua-gpu", 2)
    ]  # fmt: skip


def test_nodes_of_devices_that_are_no_pci_devices_of_the_host_make_no_objects():
    mediated = (
        "<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source>"
        "<address uuid='53764d0e-85a0-42b4-af5c-2046b460b1dc'/></source><acpi nodeset='1'/>"
        "</hostdev>"
    )
    assert objects(mediated) == ["hostdev0"]
    assert "<acpi nodeset='1'/>" in define(mediated).xml()


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (form_a(device=""), "XML error: acpi-generic-initiator must have a PCI device assigned"),
        (
            "<acpi-generic-initiator><pci-dev>h</pci-dev></acpi-generic-initiator>",
            ("XML error: Missing required element 'numa-node' in element"
            " 'acpi-generic-initiator'"),
        ),
        (
            form_a("-1"),
            ("XML error: Invalid value for element 'numa-node' in element"
            " 'acpi-generic-initiator': '-1'"),
        ),
        (form_a(alias="1x"), "XML error: invalid acpi-generic-initiator alias '1x'"),
        (
            form_a(more="<address type='pci' slot='3'/>"),
            "XML error: acpi-generic-initiator must have a device address type None",
        ),
        (form_a(9), "unsupported configuration: invalid acpi-generic-initiator NUMA node 9"),
        (
            form_a(alias="g") + form_a(2, alias="g"),
            "XML error: duplicate acpi-generic-initiator alias 'g'",
        ),
        (form_a(alias="hostdev0"), "XML error: duplicate acpi-generic-initiator alias 'hostdev0'"),
        (
            form_a(alias="ram-node8"),
            "XML error: duplicate acpi-generic-initiator alias 'ram-node8'",
        ),
        (
            form_a(device="hostdev7", alias="g"),
            ("unsupported configuration: acpi-generic-initiator 'g' refers to PCI device"
            " 'hostdev7' which does not exist"),
        ),
        (
            form_a() + form_a(),
            ("XML error: acpi-generic-initiator for PCI device 'hostdev0' and NUMA node 1 already"
            " exists"),
        ),
    ],
)  # fmt: skip
def test_refused_elements(devices, message):
    assert refusals(HOSTDEV.format(0, "") + devices)[0] == message


def test_the_same_pair_in_both_forms_is_refused():
    assert refusals(form_b("1-2") + form_a(2)) == [
        "XML error: acpi-generic-initiator for PCI device 'hostdev0' and NUMA node 2 already exists"
    ]


def test_an_empty_set_is_refused():
    assert refusals(form_b("1,^1")) == [
        "unsupported configuration: Invalid value of 'nodeset': 1,^1"
    ]
    assert refusals(form_b("x")) == ["invalid argument: Failed to parse bitmap 'x'"]


def test_guests_without_cells_have_no_initiators():
    assert refusals(HOSTDEV.format(0, "") + form_a(), cells="") == [
        "unsupported configuration: No NUMA node defined"
    ]


def test_machines_without_the_table_are_refused():
    text = "acpi-generic-initiator is not supported for machine type 'microvm'"
    assert f"unsupported configuration: {text}" in refusals(form_a(device="gpu"), machine="microvm")


def test_old_emulators_are_refused_in_the_words_of_each_form():
    old = CAPS.replace(remove=["acpi-generic-initiator"])
    assert refusals(HOSTDEV.format(0, "") + form_a(), caps=old) == [
        "unsupported configuration: acpi-generic-initiator is not supported with this QEMU binary"
    ]
    assert refusals(form_b("1"), caps=old) == [
        "unsupported configuration: ACPI nodeset is not supported with this QEMU"
    ]


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (form_a(device="gpu", alias="g"), "refers to PCI device 'gpu' which does not exist"),
        (
            "<serial type='null'/>" + form_a(device="serial0", alias="g"),
            "refers to PCI device 'serial0' which is not a PCI device",
        ),
        (form_a(alias="pci.1"), "duplicate acpi-generic-initiator alias 'pci.1'"),
        (form_a(alias="masterKey"), None),
    ],
)
def test_what_only_a_start_knows_is_refused_then(devices, message):
    if message is None:
        assert objects(HOSTDEV.format(0, "") + devices)[-1] == ("masterKey", "hostdev0", 1)
        return
    with pytest.raises(ValidationFailed, match=message):
        objects(HOSTDEV.format(0, "") + devices)


def test_cpus_in_the_node_are_only_worth_a_warning():
    domain = define(HOSTDEV.format(0, "") + form_a(0)).domain
    issues = PIPELINE.validate(domain, context())
    assert [(i.severity, i.message) for i in issues] == [
        ("warning", "NUMA node 0 of acpi-generic-initiator 'gi0' has CPUs or memory")
    ]


def test_the_capability_is_that_qemu_has_the_object():
    def session(*names):
        reply = {"return": [{"name": name} for name in names]}
        return ProbeSession(CAPS, (Exchange({"execute": "qom-list-types"}, reply),))

    assert REGISTRY.probed("qemu", "/q", session("secret")) == frozenset()
    assert REGISTRY.probed("qemu", "/q", session("secret", plugin.NAME)) == {plugin.NAME}
    assert REGISTRY.probed("test", "/q", session(plugin.NAME)) == frozenset()


def test_the_mock_driver_keeps_it_and_others_refuse_it():
    xml = document(form_b("1") + form_a(2), kind="test")
    pipeline = Pipeline(REGISTRY)
    kept = pipeline.define(xml, Context(registry=REGISTRY, driver="test", caps=frozenset())).xml()
    assert "<acpi nodeset='1'/>" in kept
    assert "<numa-node>2</numa-node>" in kept
    with pytest.raises(ValidationFailed) as caught:
        pipeline.define(xml, Context(registry=REGISTRY, driver="other", caps=frozenset()))
    assert {issue.message for issue in caught.value.issues} == {
        "driver 'other' does not support acpi-generic-initiator",
        "driver 'other' does not support acpi-nodeset",
    }


def test_the_feature_touches_nothing_outside_its_file():
    root = Path(__file__).parents[2]
    mentioning = [
        path
        for folder in ("hvcore", "drivers")
        for path in (root / folder).rglob("*.py")
        if "generic-initiator" in path.read_text() or "generic_initiator" in path.read_text()
    ]
    assert mentioning == []
