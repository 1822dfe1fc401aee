"""URIs pick a driver and a place; refusals are libvirt's."""

from __future__ import annotations

import pytest

from hvcore.errors import HvError
from hvcore.uri import SUN_PATH
from hvcore.uri import default_uri
from hvcore.uri import parse
from hvcore.uri import state_roots

UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"


def roots(text, environ=None, uid=1000):
    return state_roots(parse(text), environ=environ or {}, uid=uid, home="/u")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("qemu", "no connection driver available for URI 'qemu' does not include a driver name"),
        ("qemu+ssh://host/system", "no connection driver available for qemu+ssh://host/system"),
        ("qemu:///embed", "unsupported configuration: root path must be absolute"),
        ("qemu:///embed?root=a/b", "unsupported configuration: root path must be absolute"),
    ],
)
def test_refusals(text, message):
    with pytest.raises(HvError) as caught:
        parse(text)
    assert str(caught.value) == message


def test_system_state_is_where_the_host_keeps_it():
    found = roots("qemu:///system", {"XDG_CONFIG_HOME": "/elsewhere"}, uid=0)
    assert [str(path) for path in (found.config, found.run, found.log, found.sockets)] == [
        "/var/lib/hvcore/qemu",
        "/run/hvcore/qemu",
        "/var/log/hvcore/qemu",
        "/run/hvcore/qemu",
    ]


def test_session_state_follows_xdg_and_ignores_relative_paths():
    environ = {"XDG_CONFIG_HOME": "/c", "XDG_RUNTIME_DIR": "/run/user/1000", "XDG_STATE_HOME": "s"}
    found = roots("qemu:///session", environ)
    assert str(found.config) == "/c/hvcore/qemu"
    assert str(found.run) == "/run/user/1000/hvcore/qemu/run"
    assert str(found.log) == "/u/.local/state/hvcore/qemu/log"


def test_root_isolates():
    found = roots("qemu:///session?root=/tmp/x")
    assert {str(p.parent) for p in (found.config, found.run, found.log)} == {"/tmp/x"}


@pytest.mark.parametrize("length", [1, 20, 40, 60, 90, 200, 1000])
@pytest.mark.parametrize("environ", [{}, {"XDG_RUNTIME_DIR": "/run/user/4294967295"}])
def test_sockets_fit_however_deep_the_root_is(length, environ):
    found = roots("qemu:///embed?root=/" + "d" * length, environ, uid=2**32 - 1)
    assert len(f"{found.sockets}/{UUID}/org.qemu.guest_agent.0") <= SUN_PATH
    assert found == roots("qemu:///embed?root=/" + "d" * length, environ, uid=2**32 - 1)


def test_different_deep_roots_have_different_sockets():
    assert roots("qemu:///embed?root=/" + "d" * 200).sockets != (
        roots("qemu:///embed?root=/" + "e" * 200).sockets
    )


def test_the_default_uri():
    assert default_uri({}, 0) == "qemu:///system"
    assert default_uri({}, 5) == "qemu:///session"
    assert default_uri({"HVCORE_DEFAULT_URI": "test:///default"}, 0) == "test:///default"
