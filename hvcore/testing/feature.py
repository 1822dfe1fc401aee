"""The contract of features, as tests that the author of a plugin gets by stating some facts.

::

    class TestMine(FeatureCase):
        plugin = hvcore_mine
        feature = hvcore_mine.feature
        document = "<domain>...<watchdog model='ib700'>{}</watchdog>...</domain>"
        accepted = ("<mine level='3'/>",)
        refused = {"<mine level='10'/>": "unsupported configuration: level must be 9 at most"}
        lowered = {("qemu", "<mine level='3'/>"): ["option('-set', 'mine=3')"]}
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import ClassVar
from typing import Final

import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from lxml import etree

from hvcore.capabilities import Capabilities
from hvcore.errors import ValidationFailed
from hvcore.feature import Hotplug
from hvcore.pipeline import Context
from hvcore.pipeline import Definition
from hvcore.pipeline import Pipeline
from hvcore.pipeline import unclaimed
from hvcore.registry import Registry
from hvcore.testing.strategies import elements
from hvcore.xml.context import FormatContext
from hvcore.xml.context import ParseContext

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Sequence

    from hvcore.feature import Feature

_NOBODY: Final = "a driver that never heard of it"


class Target:
    """Stands for what a driver hands to lowerings, and remembers what was asked of it.

    :ivar calls: as text, such as ``option('-device', 'x')``.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def call(*values: Any, **named: Any) -> Target:
            shown = [repr(value) for value in values]
            shown += [f"{key}={value!r}" for key, value in named.items()]
            self.calls.append(f"{name}({', '.join(shown)})")
            return self

        return call


class FeatureCase:
    """Base of a class of tests; override what the feature's author knows.

    :cvar plugin: the module or object with ``hv_register``.
    :cvar feature: the feature.
    :cvar document: a domain with ``{}`` where the element stands.
    :cvar accepted: texts that are accepted and written again as they are.
    :cvar completed: texts that come back completed.
    :cvar refused: texts that are refused, and the first message.
    :cvar lowered: what is asked of the target of a driver's lowering, by driver and text.
    :cvar capabilities: names that lowerings and rules may find.
    """

    plugin: ClassVar[object]
    feature: ClassVar[Feature]
    document: ClassVar[str]
    accepted: ClassVar[Sequence[str]] = ()
    completed: ClassVar[Mapping[str, str]] = {}
    refused: ClassVar[Mapping[str, str]] = {}
    lowered: ClassVar[Mapping[tuple[str, str], Sequence[str]]] = {}
    capabilities: ClassVar[frozenset[str]] = frozenset()

    @pytest.fixture
    def pipeline(self) -> Pipeline:
        """Return :meth:`bench`."""
        return self.bench()

    def bench(self) -> Pipeline:
        """Return libvirt's generic pipeline with the plugin and nothing else."""
        registry = Registry()
        registry.register(self.plugin, name="under-test")
        registry.freeze()
        return Pipeline(registry)

    def define(self, pipeline: Pipeline, text: str) -> Definition:
        """Return the definition of the document with ``text`` in it."""
        context = Context(registry=pipeline.registry)
        return pipeline.define(self.document.format(text), context, strict=True)

    def test_it_is_registered(self, pipeline: Pipeline) -> None:
        """The plugin adds the feature with its element."""
        assert pipeline.registry.features[self.feature.element] is self.feature

    def test_it_goes_with_all_that_is_installed(self) -> None:
        """No other plugin claims the same."""
        registry = Registry()
        registry.load_entry_points()
        if not registry.manager.is_registered(self.plugin):
            registry.register(self.plugin, name="under-test")
        registry.freeze()

    def test_what_is_accepted_is_kept(self, pipeline: Pipeline) -> None:
        """It is written as it was read, and read again as the same."""
        for given_text, expected in {**{t: t for t in self.accepted}, **self.completed}.items():
            written = self.define(pipeline, given_text).xml()
            assert _canonical(expected) in _all_canonical(written)
            assert pipeline.define(written, Context(registry=pipeline.registry)).xml() == written

    def test_what_is_refused_says_why(self, pipeline: Pipeline) -> None:
        """The first message is the stated one, and the line is known."""
        for text, message in self.refused.items():
            with pytest.raises(ValidationFailed) as caught:
                self.define(pipeline, text)
            assert str(caught.value) == message
            assert caught.value.line is not None

    def test_without_the_plugin_it_is_kept_and_named(self) -> None:
        """Who lacks the plugin loses nothing, and is told what cannot be started."""
        bare = Registry()
        bare.freeze()
        pipeline = Pipeline(bare)
        for text in self.accepted:
            definition = pipeline.define(self.document.format(text), Context(registry=bare))
            assert _canonical(text) in _all_canonical(definition.xml())
            assert unclaimed(definition.domain)

    def test_other_drivers_refuse(self, pipeline: Pipeline) -> None:
        """A driver without a lowering does not start what it does not understand."""
        context = Context(
            registry=pipeline.registry, driver=_NOBODY, caps=Capabilities(arch="x86_64", version=0)
        )
        for text in self.accepted:
            with pytest.raises(ValidationFailed) as caught:
                pipeline.define(self.document.format(text), context)
            said = f"driver '{_NOBODY}' does not support {self.feature.name}"
            assert said in [issue.message for issue in caught.value.issues]

    def test_drivers_are_told(self, pipeline: Pipeline) -> None:
        """Each lowering asks of its target what is stated."""
        for (driver, text), expected in self.lowered.items():
            target = Target()
            domain = self.define(pipeline, text).domain
            lowering = self.feature.lowerings[driver]
            for owner in (domain, domain.devices, *domain.devices.walk()):
                found = self.feature.element.of(owner)
                for extension in found if isinstance(found, list) else [found]:
                    if extension is not None:
                        assert not lowering.function(domain, owner, extension, target)
            assert target.calls == list(expected)

    def test_every_lowering_is_stated(self) -> None:
        """No lowering goes untested, and one that is cold says why."""
        assert {driver for driver, _ in self.lowered} == self.feature.lowerings.keys()
        for lowering in self.feature.lowerings.values():
            assert lowering.hotplug == Hotplug.LIVE() or lowering.hotplug.reason

    @settings(suppress_health_check=list(HealthCheck), max_examples=50, deadline=None)
    @given(data=st.data())
    def test_whatever_it_reads_it_writes(self, pipeline: Pipeline, data: st.DataObject) -> None:
        """Random content survives being written and read."""
        element = self.feature.element
        if not element.spec.tag:
            return  # attributes of another element; that one's content is not ours
        binding = pipeline.registry.binding
        first = binding.parse(element, data.draw(elements(element)), ParseContext())
        text = binding.format(first, FormatContext())
        second = binding.parse(element, etree.fromstring(text), ParseContext())
        assert second == first
        assert binding.format(second, FormatContext()) == text


def _canonical(text: str) -> str:
    return etree.tostring(etree.fromstring(text), method="c14n").decode()


def _all_canonical(document: str) -> list[str]:
    found = []
    for element in etree.fromstring(document).iter():
        copy = etree.fromstring(etree.tostring(element, with_tail=False))
        found.append(etree.tostring(copy, method="c14n").decode())
    return found
