"""Plugins may forbid, watch and remember; what they break is theirs."""

from __future__ import annotations

import logging

import pytest

from hvcore import connect
from hvcore.errors import AccessDenied
from hvcore.hookspecs import hookimpl
from hvcore.lifecycle import State
from hvcore.registry import Registry
from hvcore_test.driver import TestDriver


class Plugin:
    def __init__(self):
        self.seen = []
        self.asked = []
        self.forbidden = frozenset()

    @hookimpl
    def hv_authorize(self, operation, domain):
        self.asked.append((operation, domain.name))
        return "not today" if operation in self.forbidden else None

    @hookimpl
    def hv_event(self, event):
        self.seen.append(type(event).__name__)
        if self.forbidden == "raise":
            raise RuntimeError("broken observer")


@pytest.fixture
def plugin():
    return Plugin()


@pytest.fixture
async def domain(plugin):
    registry = Registry()
    registry.add_driver(TestDriver)
    registry.register(plugin, name="watcher")
    registry.freeze()
    async with await connect("test:///default", registry=registry) as host:
        yield (await host.domains())[0]


@pytest.mark.parametrize(
    ("verb", "operation"),
    [
        ("suspend", "virDomainSuspend"),
        ("destroy", "virDomainDestroy"),
        ("undefine", "virDomainUndefine"),
        ("set_autostart", "virDomainSetAutostart"),
    ],
)
async def test_a_veto_comes_before_anything_happens(domain, plugin, verb, operation):
    plugin.forbidden = frozenset({operation})
    with pytest.raises(AccessDenied) as caught:
        await getattr(domain, verb)()
    assert str(caught.value) == "access denied: not today"
    assert plugin.asked == [(operation, "test")]
    assert plugin.seen == []
    assert (await domain.state())[0] is State.RUNNING


async def test_an_observer_sees_events_and_cannot_stop_them(domain, plugin, caplog):
    plugin.forbidden = "raise"
    with caplog.at_level(logging.CRITICAL):
        await domain.destroy()
        await domain.start()
    assert plugin.seen == ["Stopped", "Started"]
    assert (await domain.state())[0] is State.RUNNING
