"""<interface>: what is filled in, forgotten and refused, and what QEMU is told."""

from __future__ import annotations

import attrs
import pytest

from hvcore.errors import ValidationFailed
from hvcore.hostnet import TapOptions
from hvcore_qemu import aliases
from hvcore_qemu.devices import interface as qemu
from hvcore_qemu.prepare import Preparation
from hvcore_qemu.pretend import PretendHost
from hvcore_qemu.resources import Resources
from tests.unit.qemu_family import Family

CAPS = ("rtl8139", "netdev.json", "netdev.user", "netdev.stream", "virtio-pci-non-transitional")
MAC = "<mac address='52:54:00:00:00:01'/>"


@pytest.fixture
def family():
    return Family("interface", caps=CAPS)


def interface(kind, inside=""):
    return f"<interface type='{kind}'>{MAC}{inside}</interface>"


def test_an_interface_gets_an_address_and_the_most_supported_model(family):
    domain, _ = family.read("<interface type='user'/>")
    device = domain.devices.interfaces[0]
    assert device.mac.startswith("52:54:00:")
    assert device.model == "rtl8139"
    assert Family("interface").read("<interface/>", arch="s390x")[0].devices.interfaces[
        0
    ].model == ("virtio")


def test_names_of_the_host_that_nobody_chose_are_not_kept(family):
    for name, kept in (("vnet3", None), ("lan0", "lan0")):
        xml = interface("ethernet", f"<target dev='{name}'/>")
        assert family.read(xml)[0].devices.interfaces[0].target == kept
    xml = interface("ethernet", "<target dev='vnet3' managed='no'/>")
    assert family.read(xml)[0].devices.interfaces[0].target == "vnet3"


def test_driver_options_mean_something_for_virtio_only(family):
    for model, queues in (("virtio", 4), ("e1000", None)):
        xml = interface("user", f"<model type='{model}'/><driver queues='4'/>")
        assert family.read(xml)[0].devices.interfaces[0].queues == queues


def test_the_driver_of_a_host_device_stands_before_its_source(family):
    source = (
        "<source><address type='pci' domain='0x0000' bus='0x03' slot='0x07' function='0x1'/>"
        "</source>"
    )
    xml = f"<interface type='hostdev' managed='yes'>{MAC}<driver name='vfio'/>{source}</interface>"
    assert family.rewritten(xml) == xml


@pytest.mark.parametrize(
    ("kind", "inside", "message"),
    [
        ("bridge", "", "XML error: interface type='bridge' requires a 'source' element"),
        ("user", "<link state='odd'/>",
         "unsupported configuration: unknown interface link state 'odd'"),
        ("ethernet", "<vlan/>",
         "XML error: missing tag id - each <vlan> must have at least one <tag id='n'/> subelement"),
        ("user", "<virtualport type='openvswitch'/>",
         ("unsupported configuration: <virtualport> element unsupported for <interface"
         " type='user'>")),
        ("ethernet", "<ip address='10.0.0.300'/>",
         "XML error: Invalid address '10.0.0.300' in <ip>"),
        ("ethernet", "<route address='10.0.0.0' prefix='24'/>",
         "XML error: guest interface: Missing required gateway attribute in route definition"),
        ("ethernet", "<source><route address='10.0.0.1' prefix='24' gateway='10.0.0.1'/></source>",
         ("XML error: interface host IP: Address '10.0.0.1' in route definition is not a network"
         " address")),
        ("ethernet", "<bandwidth><inbound average='1' floor='1'/></bandwidth>",
         "unsupported configuration: floor attribute is not supported for this config"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(family, kind, inside, message):
    with pytest.raises(ValidationFailed) as failure:
        family.read(interface(kind, inside))
    assert str(failure.value) == message


@pytest.mark.parametrize(
    ("kind", "inside", "message"),
    [
        ("user", "<mtu size='1400'/>", "setting MTU on interface type user is not supported yet"),
        ("user", "<port isolated='yes'/>",
         ("interface 52:54:00:00:00:01 - <port isolated='yes'/> is not supported for network"
         " interfaces with type='user'")),
        ("user", "<driver iommu='on'/>",
         "iommu driver option is only supported for virtio devices"),
        ("ethernet", "<backend type='passt'/>",
         "The 'passt' backend can only be used with interface type='user' or type='vhostuser'"),
        ("ethernet", "<ip address='10.0.0.1'/>",
         ("Invalid attempt to set network interface guest-side IP address info, not supported by"
         " QEMU")),
        ("vdpa", "<source dev='/dev/vhost-vdpa-0'/>",
         "vDPA devices are not supported with this QEMU binary"),
        ("user", "<model type='virtio'/><driver rx_queue_size='300'/>",
         "rx_queue_size has to be a power of two"),
    ],
)  # fmt: skip
def test_what_qemu_cannot_do_is_refused(family, kind, inside, message):
    assert family.checked(interface(kind, inside)) == [f"unsupported configuration: {message}"]


PORT = (
    "<networkport><uuid>5d744f21-ba4a-4d6e-bdb2-30a35ff3207d</uuid><owner><name>g</name>"
    "<uuid>d54df46f-1ab5-4a22-8618-4560ef5fac2c</uuid></owner><mac address='52:54:00:00:00:01'/>"
    "{plug}</networkport>"
)


class Network(PretendHost):
    """A host whose only network gives ports with ``plug``."""

    def __init__(self, plug):
        super().__init__()
        self.plug = plug
        self.asked = []

    def network_port(self, network, port_xml):
        self.asked.append((network, port_xml))
        return PORT.format(plug=self.plug)


def started(family, xml, plug):
    domain, ctx = family.read(xml)
    domain.uuid = "d54df46f-1ab5-4a22-8618-4560ef5fac2c"
    aliases.assign(domain, family.caps)
    work = Preparation(
        domain=domain,
        caps=attrs.evolve(family.caps, names=family.caps.names | {"vfio-pci"}),
        config=ctx.config,
        host=Network(plug),
        registry=family.registry,
        resources=Resources(domain_dir="/d"),
    )
    qemu.prepare(work)
    qemu.prepare_host(work)
    return work


def test_a_running_interface_is_shown_as_what_the_network_made_of_it(family):
    xml = interface("network", "<source network='lan'/>")
    work = started(family, xml, "<plug type='bridge' bridge='br0'/>")
    device = work.domain.devices.interfaces[0]
    assert device.target == "vnet0"
    assert work.host.asked[0][0] == "lan"
    assert "<owner>\n    <name>g</name>" in work.host.asked[0][1]
    shown = family.written(work.domain, inactive=False)
    assert shown.startswith("<interface type='bridge'>")
    assert (
        "<source network='lan' portid='5d744f21-ba4a-4d6e-bdb2-30a35ff3207d' bridge='br0'/>"
        in shown
    )
    kept = family.written(work.domain)
    assert kept.startswith("<interface type='network'>")
    assert "<source network='lan'/>" in kept
    assert "vnet0" not in kept


def test_a_network_can_give_a_device_of_the_host(family):
    plug = (
        "<plug type='hostdev-pci' managed='yes'>"
        "<address domain='0x0000' bus='0x03' slot='0x07' function='0x1'/></plug>"
    )
    work = started(family, interface("network", "<source network='pool'/>"), plug)
    device = work.domain.devices.interfaces[0]
    assert str(device.source_pci) == "0000:03:07.1"
    assert device.port.host_driver == "vfio"
    twice = interface("network", "<source network='pool'/>") * 2
    with pytest.raises(ValidationFailed, match="is already in use by domain g"):
        started(family, twice, plug)


def test_qemu_drives_the_tap_that_the_host_made(family):
    xml = interface("bridge", "<source bridge='br0'/><alias name='ua-lan'/>")
    plan = family.plan(xml, prepare=[qemu.prepare, qemu.prepare_host], command=[qemu.command])
    assert plan.argv[1:] == [
        "-netdev", '{"type":"tap","fd":"3","id":"hostua-lan"}',
        "-device",
        '{"driver":"rtl8139","netdev":"hostua-lan","id":"ua-lan","mac":"52:54:00:00:00:01"}',
    ]  # fmt: skip


def test_without_json_the_same_is_written_as_keys():
    family = Family("interface", caps={"netdev.user", "netdev.stream"})
    xml = interface("user", "<backend type='passt'/><alias name='ua-lan'/>")
    plan = family.plan(xml, prepare=[qemu.prepare, qemu.prepare_host], command=[qemu.command])
    assert plan.argv[2] == (
        "stream,addr.type=unix,addr.path=/run/hvcore/qemu/passt/1-g-ua-lan.socket,server=off,"
        "id=hostua-lan"
    )


class Taps(PretendHost):
    """A host that remembers how taps were wanted."""

    def __init__(self):
        super().__init__()
        self.options = []

    def tap(self, name, options):
        self.options.append(options)
        return super().tap(name, options)


def test_the_host_is_told_how_the_tap_is_wanted(family):
    xml = interface(
        "ethernet",
        "<mtu size='1400'/><script path='/up'/><model type='virtio'/><driver queues='4'/>"
        "<backend tap='/dev//net/tun'/><bandwidth><inbound average='1'/></bandwidth>",
    )
    domain, ctx = family.read(xml)
    aliases.assign(domain, family.caps)
    work = Preparation(
        domain=domain,
        caps=family.caps,
        config=ctx.config,
        host=Taps(),
        registry=family.registry,
        resources=Resources(domain_dir="/d"),
    )
    qemu.prepare_host(work)
    assert work.host.options == [
        TapOptions(
            queues=4,
            path="/dev/net/tun",
            mac="52:54:00:00:00:01",
            mtu=1400,
            script="/up",
            others=("bandwidth limits",),
        )
    ]
