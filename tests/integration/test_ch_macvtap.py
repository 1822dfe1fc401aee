"""Macvtaps of a real kernel, and guests of the fake cloud-hypervisor that have some."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hvcore import macvtap
from hvcore.errors import DriverError
from hvcore.errors import MonitorError
from hvcore.hostnet import TapOptions
from tests.unit.ch_lab import Lab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make network devices")
MAC = "52:54:00:00:00:{:02x}"
NETWORKS = Path("/sys/class/net")


@pytest.fixture
def link():
    """Return an interface to put macvtaps on."""
    name = f"hvm{os.getpid() % 100000}"
    command = ["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p"]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no interfaces can be made here")
    yield name
    left = [path.name for path in NETWORKS.glob("macvtap*") if link_of(path.name) == name]
    subprocess.run(["ip", "link", "del", name], check=True)
    assert left == []


def link_of(name):
    index = (NETWORKS / name / "iflink").read_text("ascii").strip()
    return next(
        (
            each.name
            for each in NETWORKS.iterdir()
            if (each / "ifindex").read_text().strip() == index
        ),
        None,
    )


@pytest.fixture
def opened():
    """Return what opens devices, and close them."""
    descriptors = []

    def open_(path):
        try:
            descriptors.append(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            raise DriverError(str(error)) from error
        return descriptors[-1]

    yield open_
    for descriptor in descriptors:
        os.close(descriptor)


@pytest.mark.parametrize("mode", ["private", "vepa", "bridge"])
def test_a_macvtap_has_the_guests_address(link, opened, mode):
    tap = macvtap.make(opened, None, link, mode, TapOptions(queues=2, mac=MAC.format(1), mtu=1400))
    try:
        assert tap.name.startswith("macvtap")
        assert len(tap.fds) == 2
        shown = NETWORKS / tap.name
        assert (shown / "address").read_text("ascii").strip() == MAC.format(1)
        assert (shown / "mtu").read_text("ascii").strip() == "1400"
        assert int((shown / "flags").read_text("ascii"), 16) & 1  # up
        details = subprocess.run(
            ["ip", "-d", "link", "show", tap.name], check=True, capture_output=True, text=True
        ).stdout
        assert f"mode {mode}" in details
    finally:
        macvtap.remove(tap.name)
    assert not (NETWORKS / tap.name).exists()
    macvtap.remove(tap.name)


def test_what_the_kernel_refuses_leaves_nothing(link, opened):
    with pytest.raises(DriverError, match=r"error creating macvtap interface macvtap0@nowhere"):
        macvtap.make(opened, "macvtap0", "nowhere", "bridge", TapOptions(mac=MAC.format(1)))
    with pytest.raises(DriverError, match=rf"interface {link}@{link} \(<null>\): File exists"):
        macvtap.make(opened, link, link, "bridge", TapOptions())

    def refuse(path):
        raise DriverError(f"no {path}")

    with pytest.raises(DriverError, match="no /dev/tap"):
        macvtap.make(refuse, None, link, "bridge", TapOptions())


def interface(link, number):
    return (
        f"<interface type='direct'><mac address='{MAC.format(number)}'/>"
        f"<source dev='{link}' mode='bridge'/><model type='virtio'/></interface>"
    )


def mine(link):
    return [path.name for path in NETWORKS.glob("macvtap*") if link_of(path.name) == link]


async def test_guests_have_them_as_long_as_they_run(tmp_path, link):
    lab = Lab(tmp_path)
    async with await lab.host() as host:
        domain = await host.define(lab.document(devices=interface(link, 1)))
        await domain.start()
        (name,) = mine(link)
        assert f"<target dev='{name}'/>" in await domain.xml()
        await domain.attach_device(interface(link, 2))
        assert len(mine(link)) == 2
        assert await domain.detach_device_alias("net1") is True
        assert mine(link) == [name]
        lab.faults(requests={"vm.add-net": {"status": 500, "body": ["a", "b", "c"]}})
        with pytest.raises(MonitorError):
            await domain.attach_device(interface(link, 3))
        assert mine(link) == [name]
        lab.faults()
    async with await lab.host() as host:
        domain = await host.lookup_name("guest")
        await domain.destroy()
        assert mine(link) == []
        lab.faults(requests={"vm.boot": {"status": 500, "body": ["a", "b", "c"]}})
        with pytest.raises(MonitorError):
            await domain.start()
        assert mine(link) == []
