"""Strategies made from the model: what they draw is what parsers and rules accept."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck
from hypothesis import find
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from hvcore.model.devices.disk import Disk
from hvcore.model.devices.watchdog import Watchdog
from hvcore.pipeline import Context
from hvcore.pipeline import Pipeline
from hvcore.plugin import UINT
from hvcore.plugin import Element
from hvcore.plugin import attr
from hvcore.plugin import element
from hvcore.registry import Registry
from hvcore.testing.strategies import domains
from hvcore.testing.strategies import elements
from hvcore.testing.strategies import models
from hvcore.xml.context import ParseContext

BASE = "<domain type='test'><name>g</name><memory>1024</memory><os><type>hvm</type></os></domain>"
SLOW = settings(
    max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
QUICK = settings(SLOW, max_examples=500)


@element("loudness", extends=Watchdog)
class Loudness(Element):
    level: int | None = attr("@level", UINT)


REGISTRY = Registry()
REGISTRY.add_element(Loudness)
REGISTRY.freeze()
PIPELINE = Pipeline(REGISTRY)


def context():
    return Context(registry=REGISTRY)


@SLOW
@given(domains(PIPELINE, context, BASE))
def test_domains_are_accepted(document):
    definition = PIPELINE.define(document, context())
    assert PIPELINE.define(definition.xml(), context()).xml() == definition.xml()


def test_domains_get_devices():
    found = find(domains(PIPELINE, context, BASE), lambda xml: "<devices><" in xml, settings=QUICK)
    assert PIPELINE.define(found, context()).domain.devices.walk()


@SLOW
@given(models(Disk, REGISTRY.binding))
def test_models_are_objects_of_their_class(disk):
    assert type(disk) is Disk
    assert REGISTRY.binding.clone(disk) == disk


@SLOW
@given(data=st.data())
def test_elements_are_claimed_to_the_last_attribute(data):
    ctx = ParseContext(strict=True)
    drawn = data.draw(elements(Watchdog, binding=REGISTRY.binding))
    REGISTRY.binding.parse(Watchdog, drawn, ctx)
    assert not [issue for issue in ctx.issues if "Extra" in issue.message]


@pytest.mark.parametrize("path", ["loudness", "loudness[@level]", "alias[@name]"])
def test_what_is_declared_is_drawn(path):
    strategy = elements(Watchdog, binding=REGISTRY.binding)
    assert find(strategy, lambda drawn: drawn.find(path) is not None, settings=QUICK) is not None
