"""The bus of an SMMU: read, refused elsewhere, and refused by QEMU until it can have one."""

from __future__ import annotations

import pytest

from hvcore.errors import ValidationFailed
from hvcore.pipeline import Context
from hvcore.pipeline import Pipeline
from hvcore.registry import Registry

DOCUMENT = """<domain type='qemu'><name>g</name><memory>1024</memory>
<os><type arch='aarch64' machine='virt'>hvm</type></os>
<devices><iommu model='{}'><driver pciBus='2'/></iommu></devices></domain>"""


def test_it_is_kept_and_only_an_smmu_has_it():
    registry = Registry.default()
    pipeline = Pipeline(registry)
    definition = pipeline.define(DOCUMENT.format("smmuv3"), Context(registry=registry))
    assert "<driver pciBus='2'/>" in definition.xml()
    with pytest.raises(ValidationFailed, match="'intel' doesn't support the pciBus attribute"):
        pipeline.define(DOCUMENT.format("intel"), Context(registry=registry))
