"""Ports for servers of displays."""

from __future__ import annotations

import socket

import pytest

from hvcore.errors import HvError
from hvcore_qemu.ports import PortPool
from hvcore_qemu.ports import PortRange
from hvcore_qemu.realhost import RealHost


@pytest.fixture
def listening():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_ports_in_use_are_passed_over(listening):
    pool = PortPool()
    only = PortRange("display", listening, listening)
    with pytest.raises(HvError) as caught:
        pool.take(only)
    assert str(caught.value) == (
        "internal error: Unable to find an unused port in range 'display'"
        f" ({listening}-{listening})"
    )


def test_a_port_is_handed_out_once_until_it_is_given_back():
    pool = PortPool()
    some = PortRange("display", 47000)
    first, second = pool.take(some), pool.take(some)
    assert first < second
    pool.give_back(first)
    assert pool.take(some) == first


def test_displays_of_one_start_get_different_ports():
    host = RealHost()
    ports = {
        host.graphics_port("vnc"),
        host.graphics_port("spice"),
        host.graphics_port("spice-tls"),
    }
    assert len(ports) == 3
    assert host.graphics_port("rdp") not in ports
    host.give_back_ports()
    assert host.ports == []


def test_reserved_ports_are_passed_over():
    pool = PortPool()
    some = PortRange("display", 48000)
    port = pool.take(some)
    pool.give_back(port)
    assert pool.reserve(port)
    assert not pool.reserve(port)
    assert pool.take(some) != port
