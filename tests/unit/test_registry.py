"""Registration: what may come late, and what may not."""

from __future__ import annotations

import importlib.metadata
import sys
import types

import pytest

from hvcore import registry as registry_module
from hvcore.driver import Driver
from hvcore.errors import PluginLoadError
from hvcore.hookspecs import hookimpl
from hvcore.model.domain import Domain
from hvcore.pipeline import Pipeline
from hvcore.plugin import Element
from hvcore.plugin import attr
from hvcore.plugin import element
from hvcore.registry import Registry

DOCUMENT = "<domain type='test'><name>a</name><os><type>hvm</type></os><late x='1'/></domain>"


@element("late", extends=Domain)
class Late(Element):
    """An element of a driver's own."""

    x: str | None = attr("@x")


class LateDriver(Driver):
    """A driver that is only ever registered."""

    schemes = ("late",)


@pytest.fixture
def registry(monkeypatch) -> Registry:
    def hv_register(registry):
        registry.add_driver(LateDriver)
        registry.add_element(Late)

    module = types.SimpleNamespace(hv_register=hookimpl(hv_register))
    entry = importlib.metadata.EntryPoint("late", "late", "hvcore.drivers")
    monkeypatch.setattr(
        registry_module, "_entry_points", lambda group: [entry] if "drivers" in group else []
    )
    monkeypatch.setattr(registry_module, "_load", lambda name, entry, load: module)
    registry = Registry()
    registry.load_entry_points()
    registry.freeze()
    return registry


def test_a_driver_brings_its_elements_when_it_is_loaded(registry):
    pipeline = Pipeline(registry)
    assert Late.of(pipeline.parse(DOCUMENT)) is None
    assert registry.driver("late") is LateDriver
    assert Late.of(pipeline.parse(DOCUMENT)).x == "1"


def test_others_come_too_late(registry):
    with pytest.raises(PluginLoadError, match="after the registry was frozen"):
        registry.add_element(Late)


PLUGIN = """
from hvcore.hookspecs import hookimpl

@hookimpl
def hv_validate(domain, ctx):
    return None
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package with two plugins."""
    folder = tmp_path / "many_plugins"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    for name in ("first_thing", "second"):
        (folder / f"{name}.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    entry = importlib.metadata.EntryPoint("many", "many_plugins", "hvcore.plugins")
    monkeypatch.setattr(
        registry_module, "_entry_points", lambda group: [entry] if "plugins" in group else []
    )
    yield folder
    for name in [name for name in sys.modules if name.startswith("many_plugins")]:
        del sys.modules[name]


def loaded():
    registry = Registry()
    registry.load_entry_points()
    return {name for name, _ in registry.manager.list_name_plugin()}


def test_a_package_stands_for_the_plugins_in_it(package):
    assert loaded() == {"first-thing", "second"}


def test_each_plugin_of_a_package_can_be_left_out(package, monkeypatch):
    monkeypatch.setenv("HVCORE_DISABLE_PLUGINS", "second")
    assert loaded() == {"first-thing"}
    monkeypatch.setenv("HVCORE_DISABLE_PLUGINS", "many")
    assert loaded() == set()


def test_a_plugin_of_a_package_that_cannot_be_loaded_is_named(package):
    (package / "second.py").write_text("import there_is_no_such_module")
    with pytest.raises(PluginLoadError, match="plugin 'second' of many_plugins cannot be loaded"):
        loaded()
