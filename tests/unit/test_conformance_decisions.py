"""What the project decided to do differently from libvirt is expected by rule."""

from __future__ import annotations

from lxml import etree

from tests.conformance.decisions import AUTO_EMULATORPIN
from tests.conformance.decisions import Expectation
from tests.conformance.decisions import expected


def rewritten(document, *, settings=None, **recorded):
    root = etree.fromstring(f"<domain>{document}</domain>")
    return expected(root, settings or {}, Expectation(**recorded))


def test_what_no_decision_is_about_stays_as_recorded():
    recorded = {"xml": "<domain/>", "argv": ["q", "-S", "-m", "1"], "env": ["A=b"]}
    assert rewritten("<vcpu>1</vcpu>", **recorded) == Expectation(**recorded)


def test_a_pinned_emulator_under_automatic_placement_is_refused_unless_allowed():
    document = "<vcpu placement='auto'>1</vcpu><cputune><emulatorpin cpuset='0'/></cputune>"
    assert rewritten(document, xml="<domain/>") == Expectation(define_error=AUTO_EMULATORPIN)
    allowed = {"allow_emulatorpin_with_auto_placement": "1"}
    assert rewritten(document, settings=allowed, xml="<domain/>").define_error is None


def test_a_repeated_cell_is_refused():
    document = "<cpu><numa><cell id='0' memory='0'/><cell id='0' memory='0'/></numa></cpu>"
    found = rewritten(document, xml="<domain/>")
    assert found.define_error == "XML error: Duplicate NUMA cell info for cell id '0'"


def test_an_empty_set_of_cpus_is_none():
    document = "<cpu><numa><cell id='0' cpus='' memory='0'/></numa></cpu>"
    found = rewritten(document, define_error="invalid argument: Failed to parse bitmap ''")
    assert found.define_error is None
    assert b"cpus" not in found.same_as


def test_the_backend_of_a_cell_without_memory_goes():
    backend = '{"qom-type":"memory-backend-ram","id":"ram-node1","size":0}'
    argv = ["q", "-object", backend, "-numa", "node,nodeid=1,memdev=ram-node1", "-S"]
    assert rewritten("", argv=argv).argv == ["q", "-numa", "node,nodeid=1", "-S"]


def test_host_nodes_of_a_module_bind_it():
    document = (
        "<devices><memory model='dimm'><source><nodemask>0-1</nodemask></source></memory></devices>"
    )
    argv = ["q", "-object", '{"qom-type":"memory-backend-ram","id":"memdimm0","size":1}']
    assert rewritten(document, argv=argv).argv[-1] == (
        '{"qom-type":"memory-backend-ram","id":"memdimm0","size":1,'
        '"host-nodes":[0,1],"policy":"bind"}'
    )


INITIATORS = """<devices>
<hostdev type='pci'><source/><acpi nodeset='2,1'/></hostdev>
<acpi-generic-initiator><pci-dev>hostdev0</pci-dev><numa-node>3</numa-node></acpi-generic-initiator>
</devices>"""


def test_generic_initiators_are_kept_and_lowered():
    found = rewritten(
        INITIATORS,
        xml="<domain>\n  <devices>\n    <hostdev><source/></hostdev>\n  </devices>\n</domain>",
        argv=["q", "-device", '{"driver":"vfio-pci","id":"hostdev0"}', "-msg", "timestamp=on"],
    )
    assert found.xml.splitlines()[2] == '    <hostdev><source/><acpi nodeset="1-2"/></hostdev>'
    assert '<alias name="gi0"/>' in found.xml
    assert [word for word in found.argv if "initiator" in word] == [
        f'{{"qom-type":"acpi-generic-initiator","id":"{alias}","pci-dev":"hostdev0","node":{node}}}'
        for alias, node in (("gi1", 1), ("gi2", 2), ("gi0", 3))
    ]
    assert found.argv[-2:] == ["-msg", "timestamp=on"]


def test_the_schema_does_not_refuse_generic_initiators():
    refused = "XML document failed to validate against schema: Extra element devices"
    assert rewritten(INITIATORS, define_error=refused).define_error is None
    assert rewritten("<devices/>", define_error=refused).define_error == refused
