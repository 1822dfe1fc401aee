"""A plugin's own capability: found in what QEMU said, kept with it, and required by its feature."""

from __future__ import annotations

import types

import pytest

from hvcore import connect
from hvcore.capabilities import Capabilities
from hvcore.capabilities import Exchange
from hvcore.capabilities import ProbeSession
from hvcore.errors import PluginError
from hvcore.errors import ValidationFailed
from hvcore.plugin import hookimpl
from hvcore.probecache import ProbeCache
from hvcore.registry import Registry
from tests.unit import isa_exit

NOTHING = Capabilities(arch="x86_64", version=0)
XML = """<domain type='qemu'>
  <name>g</name>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <emulator>{}</emulator>
    <watchdog model='ib700'><exit port='1281'/></watchdog>
  </devices>
</domain>"""


def session(*names):
    reply = {"return": [{"name": name} for name in names]}
    return ProbeSession(NOTHING, (Exchange({"execute": "qom-list-types"}, reply),))


def registry_with(*plugins):
    registry = Registry()
    for number, plugin in enumerate(plugins):
        registry.register(plugin, name=f"plugin{number}")
    return registry


def installed_with(*plugins):
    registry = Registry()
    registry.load_entry_points()
    for plugin in plugins:
        registry.register(plugin)
    registry.freeze()
    return registry


def test_detection_reads_the_replies():
    registry = registry_with(isa_exit)
    assert registry.probed("qemu", "/q", session("isa-debug-exit", "x")) == {"isa-exit"}
    assert registry.probed("qemu", "/q", session("x")) == frozenset()
    assert registry.probed("test", "/q", session("isa-debug-exit")) == frozenset()


def test_sessions_tell_what_was_asked_of_what():
    ask = {"execute": "device-list-properties"}
    replies = ProbeSession(
        NOTHING,
        (
            Exchange({**ask, "arguments": {"typename": "a"}}, {"error": {"class": "GenericError"}}),
            Exchange({**ask, "arguments": {"typename": "b"}}, {"return": [1]}),
            Exchange({**ask, "arguments": {"typename": "b"}}, {"return": [2]}),
        ),
    )
    assert replies.answer("device-list-properties", typename="a") is None
    assert replies.answer("device-list-properties", typename="b") == [1]
    assert replies.answers("device-list-properties") == [[1], [2]]
    assert replies.answer("query-version") is None


def test_what_plugins_found_is_kept_for_the_same_plugins_only(tmp_path):
    binary = tmp_path / "qemu"
    binary.write_text("")
    alone, with_plugin = (
        ProbeCache(tmp_path / "cache", version="1", participants=registry.probers())
        for registry in (registry_with(types.ModuleType("silent")), registry_with(isa_exit))
    )
    alone.store(alone.key(binary), {"names": []})
    assert with_plugin.load(binary) is None
    with_plugin.store(with_plugin.key(binary), {"names": ["isa-exit"]})
    for cache, names in ((alone, []), (with_plugin, ["isa-exit"])):
        found = cache.load(binary)
        assert found is not None
        assert found["names"] == names


def test_a_changed_plugin_is_another_one(tmp_path):
    path = tmp_path / "plugin.py"
    found = []
    for source in ("def hv_probe(): return ['a']", "def hv_probe(): return ['abc']"):
        path.write_text(source)
        namespace = {}
        exec(compile(source, path, "exec"), namespace)
        plugin = types.SimpleNamespace(hv_probe=hookimpl(namespace["hv_probe"]))
        found.append(registry_with(plugin).probers())
    assert found[0] != found[1]
    path.unlink()
    assert registry_with(plugin).probers() not in found


@pytest.mark.qemu
async def test_a_feature_requires_what_its_plugin_finds(qemu, tmp_path):
    uri = f"qemu:///embed?root={tmp_path / 'q'}"
    for _ in range(2):  # the second time from the cache
        async with await connect(uri, registry=installed_with(isa_exit)) as host:
            assert "isa-debug-exit,iobase=1281" in await host.lower(XML.format(qemu))


@pytest.mark.qemu
async def test_a_feature_is_refused_where_its_plugin_finds_nothing(qemu, tmp_path, monkeypatch):
    monkeypatch.setattr(ProbeSession, "answer", lambda *_, **__: None)
    async with await connect(
        f"qemu:///embed?root={tmp_path / 'q'}", registry=installed_with(isa_exit)
    ) as host:
        with pytest.raises(ValidationFailed, match="isa-exit"):
            await host.lower(XML.format(qemu))


@pytest.mark.qemu
async def test_a_plugin_that_fails_leaves_nothing_in_the_cache(qemu, tmp_path):
    failing = types.SimpleNamespace(hv_probe=hookimpl(lambda session: session.nonsense))
    async with await connect(
        f"qemu:///embed?root={tmp_path / 'q'}", registry=installed_with(failing)
    ) as host:
        with pytest.raises(PluginError, match="hv_probe"):
            await host.lower(XML.format(qemu))
    assert list(tmp_path.rglob("*.probe")) == []
