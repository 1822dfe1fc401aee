"""QEMU's own namespace: written as read, merged, refused where libvirt refuses, and obeyed."""

from __future__ import annotations

import pytest

from hvcore.errors import ValidationFailed
from hvcore.model.domain import Domain
from hvcore.pipeline import Definition
from hvcore.pipeline import Pipeline
from hvcore.registry import Registry
from hvcore_qemu.capabilities import QemuCapabilities
from hvcore_qemu.extensions import CommandLine
from hvcore_qemu.extensions import changed_capabilities
from hvcore_qemu.extensions import overridden
from hvcore_qemu.extensions import register

URI = "http://libvirt.org/schemas/domain/qemu/1.0"


@pytest.fixture
def pipeline() -> Pipeline:
    registry = Registry()
    register(registry)
    return Pipeline(registry)


def parse(pipeline, inner, *, prefix="qemu"):
    return pipeline.parse(
        f"<domain type='kvm' xmlns:{prefix}='{URI}'><name>a</name>"
        f"<os><type>hvm</type></os>{inner}</domain>"
    )


def refusal(pipeline, inner):
    with pytest.raises(ValidationFailed) as refused:
        parse(pipeline, inner)
    return str(refused.value)


def override(properties):
    return (
        "<qemu:override><qemu:device alias='net0'><qemu:frontend>"
        f"{properties}</qemu:frontend></qemu:device></qemu:override>"
    )


def test_everything_is_written_in_order_under_the_usual_prefix(pipeline):
    domain = parse(
        pipeline,
        "<x:deprecation behavior='crash'/>"
        "<x:capabilities><x:del capability='b'/><x:add capability='a'/></x:capabilities>"
        "<x:commandline><x:env name='N' value='v'/><x:arg value='-a'/></x:commandline>",
        prefix="x",
    )
    text = Definition(domain, pipeline.registry).xml()
    assert f"<domain type='kvm' xmlns:qemu='{URI}'>\n" in text
    assert text.endswith(
        "  <qemu:commandline>\n"
        "    <qemu:arg value='-a'/>\n"
        "    <qemu:env name='N' value='v'/>\n"
        "  </qemu:commandline>\n"
        "  <qemu:capabilities>\n"
        "    <qemu:add capability='a'/>\n"
        "    <qemu:del capability='b'/>\n"
        "  </qemu:capabilities>\n"
        "  <qemu:deprecation behavior='crash'/>\n"
        "</domain>\n"
    )


def test_several_elements_count_as_one(pipeline):
    one = "<qemu:commandline><qemu:arg value='{}'/></qemu:commandline>"
    domain = parse(pipeline, one.format("a") + "<qemu:commandline/>" + one.format("b"))
    assert [argument.value for argument in CommandLine.of(domain).args] == ["a", "b"]


def test_an_empty_element_leaves_no_trace(pipeline):
    domain = parse(pipeline, "<qemu:commandline/><qemu:deprecation/>")
    assert "qemu" not in Definition(domain, pipeline.registry).xml()


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        (
            "<qemu:commandline><qemu:arg/></qemu:commandline>",
            "internal error: No qemu command-line argument specified",
        ),
        (
            "<qemu:commandline><qemu:env value='v'/></qemu:commandline>",
            "internal error: No qemu environment name specified",
        ),
        (
            "<qemu:commandline><qemu:env name='1'/></qemu:commandline>",
            "internal error: Invalid environment name, it must begin with a letter or underscore",
        ),
        (
            "<qemu:commandline><qemu:env name='a-b'/></qemu:commandline>",
            (
                "internal error: Invalid environment name, it must contain only alphanumerics "
                "and underscore"
            ),
        ),
        (
            override("<qemu:property name='id' type='string' value='x'/>"),
            "XML error: property with name 'id' can't be overridden",
        ),
        (
            override("<qemu:property name='a' type='unsigned' value='-1'/>"),
            "XML error: invalid value '-1' of 'value' attribute of 'qemu:property'",
        ),
        (
            override("<qemu:property name='a' type='bool' value='1'/>"),
            "XML error: invalid value '1' of 'value' attribute of 'qemu:property'",
        ),
        (
            override("<qemu:property name='a' type='signed'/>"),
            "XML error: missing 'value' attribute for 'qemu:property'",
        ),
        (
            override("<qemu:property name='a' type='remove' value='1'/>"),
            (
                "XML error: setting 'value' attribute of 'qemu:property' doesn't make sense with "
                "'remove' type"
            ),
        ),
    ],
)
def test_refusals(pipeline, inner, message):
    assert refusal(pipeline, inner) == message


def test_overrides_have_the_last_word(pipeline):
    domain = parse(
        pipeline,
        override(
            "<qemu:property name='mac' type='remove'/>"
            "<qemu:property name='bus' type='string' value='x'/>"
            "<qemu:property name='n' type='signed' value='-3'/>"
            "<qemu:property name='on' type='bool' value='true'/>"
        ),
    )
    props = {"driver": "d", "bus": "b", "mac": "m", "id": "net0"}
    changed = overridden(domain, props)
    assert list(changed.items()) == [
        ("driver", "d"), ("id", "net0"), ("bus", "x"), ("n", -3), ("on", True),
    ]  # fmt: skip
    assert overridden(domain, {"id": "net1"}) == {"id": "net1"}


def test_capabilities_are_pretended_and_ignored(pipeline):
    domain = parse(
        pipeline,
        "<qemu:capabilities><qemu:add capability='kvm'/><qemu:add capability='what'/>"
        "<qemu:del capability='tcg'/></qemu:capabilities>",
    )
    caps, issues = changed_capabilities(
        domain, QemuCapabilities(arch="x86_64", names=frozenset({"tcg"}))
    )
    assert "kvm" in caps
    assert "tcg" not in caps
    assert [str(issue) for issue in issues] == [
        "internal error: invalid qemu namespace capability 'what'"
    ]


def test_the_driver_brings_the_elements():
    registry = Registry.default()
    registry.driver("qemu")
    assert CommandLine in registry.binding.extensions(Domain)
