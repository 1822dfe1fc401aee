"""Taps of a real kernel: what is asked for is what the kernel shows."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hvcore.errors import DriverError
from hvcore.errors import UnsupportedFeature
from hvcore.hostnet import TapOptions
from hvcore_qemu.realhost import RealHost

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK),
    reason="only root can make network devices",
)
MAC = "52:54:00:00:00:01"


@pytest.fixture
def host():
    host = RealHost()
    yield host
    host.close()


@pytest.fixture
def bridge():
    name = f"hv{os.getpid() % 100000}"
    made = subprocess.run(["ip", "link", "add", name, "mtu", "1300", "type", "bridge"], check=False)
    if made.returncode:
        pytest.skip("no bridges here")
    yield name
    subprocess.run(["ip", "link", "del", name], check=True)


def shown(name, what):
    return (Path("/sys/class/net") / name / what).read_text("ascii").strip()


def test_a_tap_has_the_size_and_another_address_than_the_guest(host):
    tap = host.tap(None, TapOptions(queues=2, mac=MAC, mtu=1400, rx_frames=7))
    assert len(tap.fds) == 2
    assert tap.name.startswith("vnet")
    assert shown(tap.name, "address") == "fe:54:00:00:00:01"
    assert shown(tap.name, "mtu") == "1400"
    assert int(shown(tap.name, "flags"), 16) & 1  # up
    host.close()
    assert not host.interface_exists(tap.name)


def test_a_port_of_a_bridge_is_tuned(host, bridge):
    tap = host.bridge_tap(None, bridge, TapOptions(mac=MAC, isolated=True, learning=False))
    assert shown(tap.name, "mtu") == "1300"
    assert os.path.realpath(f"/sys/class/net/{tap.name}/master").endswith(f"/{bridge}")
    assert shown(tap.name, "brport/isolated") == "1"
    assert shown(tap.name, "brport/learning") == "0"


def test_a_bridge_that_does_not_exist_is_an_error(host):
    with pytest.raises(DriverError, match="Cannot get interface MTU on 'hvnone'"):
        host.bridge_tap(None, "hvnone", TapOptions(mac=MAC))


def test_a_script_is_told_the_name(host, tmp_path):
    script = tmp_path / "up"
    script.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/told\n')
    script.chmod(0o755)
    tap = host.tap(None, TapOptions(mac=MAC, script=str(script)))
    assert (tmp_path / "told").read_text().strip() == tap.name
    script.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(DriverError, match="unexpected exit status 3"):
        host.tap(None, TapOptions(mac=MAC, script=str(script)))


def test_what_cannot_be_done_is_refused(host):
    with pytest.raises(UnsupportedFeature, match="interfaces with a filter cannot be started yet"):
        host.tap(None, TapOptions(others=("a filter",)))
