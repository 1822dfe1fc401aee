"""<disk>: reading and writing of every kind of source."""

from __future__ import annotations

import pytest
from lxml import etree

from hvcore.model.devices import Devices
from hvcore.model.devices.disk import Disk
from hvcore.model.domain import Domain
from hvcore.pipeline import Context
from hvcore.registry import Registry
from hvcore.rules import disk as rules_of_disks
from hvcore.xml.codegen import Binding
from hvcore.xml.context import FormatContext
from hvcore.xml.context import ParseContext


def read(xml):
    ctx = ParseContext()
    disk = Binding().parse(Disk, etree.fromstring(xml), ctx)
    return disk, [str(issue) for issue in ctx.issues]


def written(disk, **how):
    return Binding().format(disk, FormatContext(**how))


def disk_with(source, kind, rest=""):
    return f"<disk type='{kind}'>{source}{rest}<target dev='vda' bus='virtio'/></disk>"


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("file", "<source file='/a&amp;b' fdgroup='g' startupPolicy='optional'/>"),
        ("block", "<source dev='/dev/sda'/>"),
        ("dir", "<source dir='/d'/>"),
        ("volume", "<source pool='p' volume='v' mode='direct'/>"),
        ("vhostvdpa", "<source dev='/dev/vhost-vdpa-0'/>"),
    ],
)
def test_sources_without_content_stay_as_they_are(kind, source):
    disk, issues = read(disk_with(source, kind))
    assert issues == []
    assert f"  {source}\n" in written(disk)


def test_network_source_gets_the_usual_port_and_keeps_its_order():
    disk, issues = read(
        disk_with(
            "<source protocol='nbd' name='e' tls='yes'><reconnect delay='10'/>"
            "<host name='h'/></source>",
            "network",
        )
    )
    assert issues == []
    lines = written(disk).splitlines()
    assert "    <host name='h' port='10809'/>" in lines
    assert "    <reconnect delay='10'/>" in lines


def test_what_a_protocol_does_not_have_is_dropped():
    disk, _ = read(
        disk_with(
            "<source protocol='rbd' name='p/i' query='q'><ssl verify='no'/></source>", "network"
        )
    )
    assert disk.source.query is None
    assert disk.source.ssl_verify is None


def test_cookies_are_shown_to_those_who_may_see_secrets():
    disk, _ = read(
        disk_with(
            "<source protocol='http' name='x'><host name='h'/>"
            "<cookies><cookie name='a'>b</cookie></cookies></source>",
            "network",
        )
    )
    assert "cookie" not in written(disk)
    assert "<cookie name='a'>b</cookie>" in written(disk, secure=True)


def test_backing_chain_ends_at_the_mark():
    disk, issues = read(
        disk_with(
            "<source file='/top'/>",
            "file",
            "<backingStore type='file'><format type='qcow2'/><source file='/mid'/>"
            "<backingStore/></backingStore>",
        )
    )
    assert issues == []
    assert [layer.source.path for layer in disk.backing_chain()] == ["/mid"]
    assert "<backingStore/>" in written(disk)


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (
            disk_with("<source protocol='gluster' name='volume'/>", "network"),
            "XML error: can't split path 'volume' into pool name and image name",
        ),
        (
            disk_with("<source protocol='nfs'/>", "network"),
            "XML error: missing name for disk source",
        ),
        (
            disk_with("<source pool='p'/>", "volume"),
            "XML error: 'pool' and 'volume' must be specified together for 'pool' type source",
        ),
        (
            disk_with("<source type='unix'/>", "vhostuser"),
            "XML error: missing 'path' attribute for vhostuser disk source",
        ),
        (
            disk_with("", "file", "<driver name='qemu' type='odd'/>"),
            "unsupported configuration: unknown driver format value 'odd'",
        ),
        (
            disk_with("", "file", "<encryption format='luks'><secret type='x'/></encryption>"),
            "unsupported configuration: unknown volume encryption secret type x",
        ),
        (
            disk_with("", "file", "<iotune><read_iops_sec>x</read_iops_sec></iotune>"),
            "XML error: disk iotune field 'read_iops_sec' must be an integer",
        ),
    ],
)
def test_refusals_say_what_libvirt_says(xml, message):
    _, issues = read(xml)
    assert issues[0] == message


def test_disks_without_a_name_stay_between_those_with_one():
    def disk(name, bus="virtio"):
        return Disk(bus=bus, target=name)

    names = ["vdc", None, "vdb", "vdd", "vda", None]
    domain = Domain(type="test", name="d", devices=Devices())
    domain.devices.disks = [disk(name) for name in names] + [disk("sda", "scsi")]
    for rule in rules_of_disks.rules.early:
        assert not list(rule(domain, Context(registry=Registry.default())) or ())
    assert [each.target for each in domain.devices.disks] == [
        "vda", "vdb", "vdc", None, "vdd", None, "sda",
    ]  # fmt: skip
