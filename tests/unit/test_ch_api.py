"""What holds conversations against the description of the API does so."""

from __future__ import annotations

import jsonschema
import pytest

from hvcore.testing import fake_ch
from hvcore_ch import monitor
from hvcore_ch.monitor import Monitor
from tests.ch_api import check_reply
from tests.unit.ch_process import Vmm


@pytest.fixture
async def asked(tmp_path):
    vmm = Vmm(fake_ch.install(tmp_path), tmp_path / "vmm")
    yield Monitor("guest", vmm.socket)
    vmm.close()


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("vm.eject", None),
        ("vm.info", {}),
        ("vm.create", None),
        ("vm.create", {"payload": {"kernel": "/k"}, "sound": True}),
        ("vm.resize", {"desired_vcpus": "2"}),
    ],
)
def test_a_request_that_is_not_described_fails(endpoint, body):
    with pytest.raises(fake_ch.InvalidRequest):
        monitor.request(endpoint, body)


@pytest.mark.parametrize(
    ("endpoint", "status", "body"),
    [
        ("vm.info", 200, {"config": {}}),
        ("vm.info", 200, {"config": {"payload": {"kernel": 1}}, "state": "Running"}),
        ("vm.counters", 200, {"disk": {"read_ops": "many"}}),
        ("vm.boot", 204, {"more": "than nothing"}),
        ("vm.boot", 302, None),
        ("vm.boot", 500, [1]),
    ],
)
def test_so_does_a_reply(endpoint, status, body):
    with pytest.raises((AssertionError, jsonschema.ValidationError)):
        check_reply(endpoint, status, body)


async def test_what_is_described_passes(asked, tmp_path):
    await asked.call("vm.create", {"payload": {"kernel": "/k"}, "console": {"mode": "Off"}})
    assert (await asked.call("vm.info"))["state"] == "Created"
    drop = {"drop": ["config"]}
    fake_ch.set_faults(tmp_path, drop)
    assert "config" not in await asked.call("vm.info")


async def test_a_reply_that_is_not_described_is_seen(asked, monkeypatch):
    monkeypatch.setattr("hvcore.testing.fake_ch.api.ENDPOINTS", dict(fake_ch.api.ENDPOINTS))
    fake_ch.api.ENDPOINTS["vmm.ping"] = fake_ch.api.ENDPOINTS["vm.counters"]
    with pytest.raises(jsonschema.ValidationError):
        await asked.call("vmm.ping")
