"""FeatureCase holds for what is stated rightly, and fails for each thing that is not."""

from __future__ import annotations

import types
from typing import ClassVar

import pytest

from hvcore.feature import Feature
from hvcore.feature import Hotplug
from hvcore.hookspecs import hookimpl
from hvcore.plugin import UINT
from hvcore.plugin import Element
from hvcore.plugin import Issue
from hvcore.plugin import attr
from hvcore.plugin import element
from hvcore.testing.feature import FeatureCase
from hvcore.testing.feature import Target

DOCUMENT = """<domain type='test'>
<name>g</name><memory>1024</memory><os><type>hvm</type></os>
<devices><watchdog model='ib700' action='reset'>{}</watchdog></devices>
</domain>"""


@element("volume", extends="hvcore.model.devices.watchdog:Watchdog")
class Volume(Element):
    """An element of a plugin."""

    level: int | None = attr("@level", UINT)


VOLUME = Feature("watchdog-volume", Volume)


@VOLUME.post_parse
def _default(domain, watchdog, volume, ctx):
    if volume.level is None:
        volume.level = 1


@VOLUME.validate
def _range(domain, watchdog, volume, ctx):
    if volume.level > 9:
        yield Issue.unsupported("too loud", path="volume/@level")


@VOLUME.lower("qemu", hotplug=Hotplug.COLD("read at start"))
def _qemu(domain, watchdog, volume, command):
    command.option("-volume", str(volume.level))


PLUGIN = types.SimpleNamespace(hv_register=hookimpl(lambda registry: registry.add_feature(VOLUME)))


class TestVolume(FeatureCase):
    plugin = PLUGIN
    feature = VOLUME
    document = DOCUMENT
    accepted = ("<volume level='3'/>",)
    completed: ClassVar = {"<volume/>": "<volume level='1'/>"}
    refused: ClassVar = {"<volume level='10'/>": "unsupported configuration: too loud"}
    lowered: ClassVar = {("qemu", "<volume level='3'/>"): ["option('-volume', '3')"]}


@pytest.mark.parametrize(
    ("check", "statement"),
    [
        ("test_what_is_accepted_is_kept", {"completed": {"<volume/>": "<volume level='2'/>"}}),
        ("test_what_is_refused_says_why", {"refused": {"<volume level='10'/>": "too quiet"}}),
        ("test_drivers_are_told", {"lowered": {("qemu", "<volume level='3'/>"): ["option()"]}}),
    ],
)
def test_a_wrong_statement_fails(check, statement):
    case = type("Wrong", (TestVolume,), statement)()
    with pytest.raises(AssertionError):
        getattr(case, check)(case.bench())


def test_a_lowering_that_is_not_stated_fails():
    with pytest.raises(AssertionError):
        type("Silent", (TestVolume,), {"lowered": {}})().test_every_lowering_is_stated()


def test_a_target_remembers_what_was_asked_of_it():
    target = Target()
    target.numa_node(1).device("x", after=2)
    assert target.calls == ["numa_node(1)", "device('x', after=2)"]
