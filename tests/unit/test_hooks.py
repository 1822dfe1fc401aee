"""Each hook reaches plugins, with what its specification says."""

from __future__ import annotations

import types

import pytest

from hvcore import hookspecs
from hvcore.errors import PluginConflict
from hvcore.errors import PluginError
from hvcore.errors import PluginLoadError
from hvcore.errors import ValidationFailed
from hvcore.feature import Feature
from hvcore.feature import Hotplug
from hvcore.hookspecs import hookimpl
from hvcore.model.devices.watchdog import Watchdog
from hvcore.pipeline import Context
from hvcore.pipeline import Pipeline
from hvcore.plugin import Issue
from hvcore.plugin import attr
from hvcore.plugin import element
from hvcore.registry import Registry
from hvcore.xml.fields import Element

DOCUMENT = """<domain type='qemu'>
<name>g</name><memory>1024</memory><os><type>hvm</type></os>
<devices><watchdog model='i6300esb'><magic n='1'/></watchdog></devices>
</domain>"""


@element("magic", extends=Watchdog)
class Magic(Element):
    """An element of a plugin."""

    n: str | None = attr("@n")


def registry_with(**hooks):
    registry = Registry()
    plugin = types.SimpleNamespace(**{name: hookimpl(hook) for name, hook in hooks.items()})
    registry.register(plugin, name="mine")
    registry.freeze()
    return registry


def define(registry, **context):
    return Pipeline(registry).define(DOCUMENT, Context(registry=registry, **context))


def test_elements_can_be_added_when_the_first_document_is_looked_at():
    asked = []

    def add(registry):
        asked.append(registry)
        registry.add_element(Magic)

    registry = registry_with(hv_register=lambda registry: registry.add_later(add))
    assert not asked
    watchdog = Pipeline(registry).parse(DOCUMENT).devices.watchdogs[0]
    assert Magic.of(watchdog).n == "1"
    assert not Pipeline(registry).parse(DOCUMENT).devices.watchdogs[0].unclaimed
    assert asked == [registry]


def test_a_definition_remembers_for_what_its_addresses_were_assigned():
    registry = registry_with()
    caps = object()

    def define(**context):
        pipeline = Pipeline(registry, assign=lambda domain, ctx: [])
        return pipeline.define(DOCUMENT, Context(registry=registry, caps=caps, **context))

    assert define(abi_update=True).placed_for is caps
    # Only a new domain gets all addresses there are.
    assert define(abi_update=False).placed_for is None


def test_register_is_called_once_with_the_registry():
    seen = []

    def hv_register(registry):
        seen.append(registry)

    registry = registry_with(hv_register=hv_register)
    assert seen == [registry]


def test_names_found_by_plugins_are_united():
    registry = registry_with(hv_probe=lambda driver, binary: [f"{driver}-{binary}"])
    registry.register(types.SimpleNamespace(hv_probe=hookimpl(lambda session: session)), name="b")
    assert registry.probed("qemu", "/bin/q", ["x"]) == {"qemu-/bin/q", "x"}


def test_post_parse_may_fill_in_and_refuse():
    def hv_post_parse(domain, ctx):
        domain.title = f"for {ctx.driver}"

    assert define(registry_with(hv_post_parse=hv_post_parse)).domain.title == "for none"
    refusing = registry_with(hv_post_parse=lambda domain: [Issue.xml(f"not {domain.name}")])
    with pytest.raises(ValidationFailed, match="not g"):
        define(refusing)


def test_addresses_of_a_plugin_replace_the_drivers():
    registry = registry_with(hv_assign_addresses=lambda domain, ctx: [])
    called = []
    pipeline = Pipeline(registry, assign=lambda domain, ctx: called.append(domain))
    pipeline.define(DOCUMENT, Context(registry=registry))
    assert called == []


def test_validation_collects_from_all_and_blames_who_raises():
    registry = registry_with(hv_validate=lambda domain: [Issue.unsupported("first")])
    registry.register(
        types.SimpleNamespace(hv_validate=hookimpl(lambda: [Issue.unsupported("second")])), name="b"
    )
    with pytest.raises(ValidationFailed) as caught:
        define(registry)
    assert [issue.message for issue in caught.value.issues] == ["first", "second"]
    with pytest.raises(PluginError, match="plugin 'mine' failed in hv_validate: ZeroDivisionError"):
        define(registry_with(hv_validate=lambda: 1 // 0))


def test_a_misspelt_hook_is_an_error():
    registry = Registry()
    registry.register(types.SimpleNamespace(hv_valdate=hookimpl(lambda: None)), name="typo")
    with pytest.raises(PluginLoadError, match="hv_valdate"):
        registry.freeze()


def test_two_claims_of_one_element_name_both():
    registry = Registry()
    registry.add_feature(Feature("magic", Magic))
    with pytest.raises(PluginConflict, match="claimed by both"):
        registry.add_element(Magic)


def test_a_feature_without_a_lowering_is_refused_by_the_core():
    registry = Registry()
    feature = Feature("watchdog-magic", Magic)

    @feature.lower("qemu", requires={"magic"}, hotplug=Hotplug.LIVE())
    def _qemu(domain, owner, extension, cmd):
        cmd.option("-magic", extension.n)

    registry.add_feature(feature)
    registry.freeze()
    with pytest.raises(ValidationFailed, match="driver 'ch' does not support watchdog-magic"):
        define(registry, driver="ch", caps=frozenset())
    with pytest.raises(ValidationFailed) as caught:
        define(registry, driver="qemu", caps=frozenset())
    assert caught.value.issues[0].hint == "the binary lacks: magic"
    assert caught.value.issues[0].line == 3
    definition = define(registry, driver="qemu", caps=frozenset({"magic"}))
    extension = definition.domain.devices.watchdogs[0].extensions()[0]
    assert registry.lowering("qemu", extension).function is _qemu


def test_a_feature_may_have_words_of_its_own_for_what_is_lacking():
    registry = Registry()
    feature = Feature("watchdog-magic", Magic)
    feature.lower("qemu", requires={"x"}, hotplug=Hotplug.LIVE(), lacking="No magic")(print)
    registry.add_feature(feature)
    registry.freeze()
    with pytest.raises(ValidationFailed, match="unsupported configuration: No magic"):
        define(registry, driver="qemu", caps=frozenset())


def test_every_specification_is_documented_and_called():
    from pathlib import Path

    root = Path(hookspecs.__file__).parents[1]
    source = "".join(
        path.read_text()
        for folder in ("hvcore", "drivers")
        for path in (root / folder).rglob("*.py")
        if path.name != "hookspecs.py"
    )
    for name in (n for n in vars(hookspecs) if n.startswith("hv_")):
        assert getattr(hookspecs, name).__doc__
        assert f"hook.{name}" in source or f'"{name}"' in source, f"{name} is never called"
