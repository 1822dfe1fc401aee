"""NUMA in documents: what is accepted beyond libvirt, and what is refused like there."""

from __future__ import annotations

import pytest

from hvcore.errors import ValidationFailed
from hvcore.pipeline import Context
from hvcore.pipeline import Pipeline
from hvcore.registry import Registry

REGISTRY = Registry()
REGISTRY.freeze()


def define(inner):
    document = (
        f"<domain type='test'><name>g</name><memory>1024</memory><os><type>hvm</type></os>{inner}"
        "</domain>"
    )
    ctx = Context(registry=REGISTRY, random_bytes=bytes)
    return Pipeline(REGISTRY).define(document, ctx).xml()


def test_an_empty_set_of_cpus_is_a_cell_without_cpus():
    numa = (
        "<vcpu>1</vcpu><cpu><numa><cell cpus='0' memory='1024'/><cell{} memory='0'/></numa></cpu>"
    )
    xml = define(numa.format(" cpus=''"))
    assert xml == define(numa.format(""))
    assert "<cell id='1' memory='0' unit='KiB'/>" in xml


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        (
            "<numatune><memory nodeset='0'/></numatune><numatune/>",
            "XML error: only one numatune is supported",
        ),
        ("<vcpu>0</vcpu>", "internal error: CPU IDs in <numa> exceed the <vcpu> count"),
        (
            "<cpu><numa><cell cpus=' ' memory='1'/></numa></cpu>",
            "invalid argument: Failed to parse bitmap ' '",
        ),
    ],
)
def test_libvirts_refusals(inner, message):
    with pytest.raises(ValidationFailed) as caught:
        define(inner)
    assert str(caught.value.issues[0]) == message
