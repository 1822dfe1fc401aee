"""<disk> and <filesystem> in QEMU: nodes, devices, limits, refusals."""

from __future__ import annotations

import json

import pytest

from hvcore.errors import HvError
from hvcore.errors import ValidationFailed
from hvcore_qemu import aliases
from hvcore_qemu import images
from hvcore_qemu.devices import disk as disks
from hvcore_qemu.devices import filesystem
from hvcore_qemu.pretend import PretendHost
from hvcore_qemu.resources import FdGroup
from hvcore_qemu.resources import Volume
from tests.unit.qemu_family import Family

PCI = "<address type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x0'/>"
ROOT = "<controller type='pci' index='0' model='pci-root'/>"
RAW = frozenset({"blockjob.backing-mask-protocol", "pr-manager-helper", "scsi-block"})


class Host(PretendHost):
    def secret(self, usage_type, *, uuid=None, usage=None):
        return f"{usage_type} {uuid or usage}".encode()

    def random_bytes(self, count):
        return bytes(count)

    def file_problem(self, path):
        return "No such file or directory" if path == "/gone" else None

    def fd_group(self, name):
        return FdGroup((20, 21), writable=True) if name == "group" else None

    def volume(self, pool, volume):
        if pool == "gone":
            raise HvError("no storage pool with matching name 'gone'")
        if pool == "iscsi":
            xml = (
                "<pool type='iscsi'><source><host name='h'/><device path='iqn.t'/>"
                "<auth type='chap' username='u'><secret usage='s'/></auth></source></pool>"
            )
            return Volume("block", "/dev/x", xml)
        return Volume("dir", "/v", "<pool type='dir'/>")


def disk(source, kind="file", form="raw", rest="", driver="", **names):
    target = names.get("target", "<target dev='vda' bus='virtio'/>")
    place = PCI if "virtio" in target else ""
    return (
        f"<disk type='{kind}' device='{names.get('device', 'disk')}'>"
        f"<driver name='qemu' type='{form}' {driver}/>{source}{target}{rest}{place}</disk>"
    )


def network(protocol, inside="", name="name='p/q'"):
    return disk(f"<source protocol='{protocol}' {name}>{inside}</source>", "network")


def name_devices(domain):
    aliases.assign(domain, frozenset())


def plan(xml, caps=RAW, **how):
    family = Family("disk", "controller", caps=caps)
    return family.plan(
        xml + ROOT,
        prepare=[images.prepare, images.prepare_host],
        command=[disks.pr_manager, disks.command],
        aliases=name_devices,
        host=Host(),
        **how,
    )


def options(found, name):
    argv = found.argv
    values = [argv[place + 1] for place, option in enumerate(argv) if option == name]
    return [json.loads(value) if value.startswith("{") else value for value in values]


def nodes(xml, **how):
    return options(plan(xml, **how), "-blockdev")


def test_a_raw_image_is_one_node_and_other_formats_get_a_second():
    assert nodes(disk("<source file='/a'/>")) == [
        {"driver": "file", "filename": "/a", "node-name": "libvirt-1-storage", "read-only": False}
    ]
    storage, form = nodes(disk("<source file='/a'/>", form="qcow2"))
    assert storage["auto-read-only"] is True
    assert form["file"] == storage["node-name"]
    assert "backing" not in form


def test_a_chain_is_opened_from_the_bottom_and_ends_where_the_document_says():
    chain = (
        "<backingStore type='block'><format type='qcow2'/><source dev='/dev/b'/>"
        "<backingStore/></backingStore>"
    )
    found = nodes(disk("<source file='/a'/>", form="qcow2", rest=chain))
    assert [node["node-name"] for node in found] == [
        "libvirt-2-storage",
        "libvirt-2-format",
        "libvirt-1-storage",
        "libvirt-1-format",
    ]
    assert found[1]["backing"] is None
    assert found[1]["read-only"] is True
    assert found[3]["backing"] == "libvirt-2-format"


def test_numbers_start_at_the_last_disk_and_count_empty_drives():
    cdrom = disk("", "block", target="<target dev='hda' bus='ide'/>", device="cdrom")
    found = nodes(disk("<source file='/a'/>") + cdrom)
    assert found[0]["node-name"] == "libvirt-2-storage"


def test_slices_filters_and_copy_on_read_stack_up():
    part = "<source file='/a'><slices><slice type='storage' offset='1' size='2'/></slices></source>"
    rest = "<throttlefilters><throttlefilter group='g'/></throttlefilters>"
    found = plan(disk(part, rest=rest, driver="copy_on_read='on'"))
    storage, piece, copy, throttle = options(found, "-blockdev")
    assert (piece["offset"], piece["size"], piece["file"]) == (1, 2, storage["node-name"])
    assert copy["file"] == piece["node-name"]
    assert throttle["file"] == copy["node-name"] == "libvirt-CoR-vda"
    assert options(found, "-device")[0]["drive"] == throttle["node-name"]


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        (
            network("nbd", "<host transport='unix' socket='/s'/>"),
            {"driver": "nbd", "server": {"type": "unix", "path": "/s"}, "export": "p/q"},
        ),
        (
            network("gluster", "<host name='h'/>"),
            {
                "driver": "gluster",
                "volume": "p",
                "path": "q",
                "server": [{"type": "inet", "host": "h", "port": "24007"}],
                "debug": 4,
            },
        ),
        (
            network("https", "<host name='::1'/><ssl verify='no'/>", "name='a b' query='c'"),
            {"driver": "https", "url": "https://[::1]:443/a%20b?c", "sslverify": False},
        ),
        (
            network("iscsi", "<host name='h'/>", "name='iqn.t/3'"),
            {
                "driver": "iscsi",
                "portal": "h:3260",
                "target": "iqn.t",
                "lun": 3,
                "transport": "tcp",
            },
        ),
        (
            network("nfs", "<host name='h'/><identity user='+7' group='8'/>", "name='/x'"),
            {
                "driver": "nfs",
                "server": {"host": "h", "type": "inet"},
                "path": "/x",
                "user": 7,
                "group": 8,
            },
        ),
        (
            network("rbd", "<snapshot name='s'/>"),
            {"driver": "rbd", "pool": "p", "image": "q", "snapshot": "s"},
        ),
        (
            network("ssh", "<host name='h'/><identity username='u' keyfile='/k'/>", "name='/x'"),
            {
                "driver": "ssh",
                "path": "/x",
                "server": {"host": "h", "port": "22"},
                "user": "u",
            },
        ),
    ],
)
def test_servers(xml, expected):
    found = nodes(xml)[0]
    assert {**found, **expected} == found
    assert list(found)[: len(expected)] == list(expected)


def test_credentials_stand_before_the_node_that_refers_to_them():
    auth = "<auth username='u'><secret type='iscsi' usage='s'/></auth>"
    source = f"<source protocol='iscsi' name='iqn.t'><host name='h'/>{auth}</source>"
    found = plan(disk(source, "network"))
    argv = found.argv
    secret = options(found, "-object")[0]
    assert secret["id"] == "libvirt-1-storage-auth-secret0"
    assert secret["keyid"] == "masterKey0"
    assert options(found, "-blockdev")[0]["password-secret"] == secret["id"]
    assert argv.index("-object") < argv.index("-blockdev")


def test_luks_is_undone_by_a_node_with_the_passphrase():
    encryption = "<encryption format='luks'><secret type='passphrase' usage='u'/></encryption>"
    found = plan(disk(f"<source file='/a'>{encryption}</source>"))
    form = options(found, "-blockdev")[1]
    assert (form["driver"], form["key-secret"]) == ("luks", options(found, "-object")[0]["id"])


def test_descriptors_are_passed_as_a_set():
    found = plan(disk("<source file='/a' fdgroup='group'/>"))
    assert options(found, "-add-fd") == [
        "set=0,fd=20,opaque=libvirt-1-storage0",
        "set=0,fd=21,opaque=libvirt-1-storage1",
    ]
    assert options(found, "-blockdev")[0]["filename"] == "/dev/fdset/0"
    with pytest.raises(ValidationFailed, match="file descriptor group 'other' was not"):
        plan(disk("<source file='/a' fdgroup='other'/>"))


def test_volumes_are_what_their_pool_says():
    iscsi = "<source pool='iscsi' volume='unit:0:0:2' mode='direct'/>"
    found = nodes(disk(iscsi, "volume"))[0]
    assert (found["driver"], found["target"], found["lun"], found["user"]) == (
        "iscsi", "iqn.t", 2, "u",
    )  # fmt: skip


def test_an_optional_volume_may_be_missing():
    lost = "<source pool='gone' volume='v' startupPolicy='optional'/>"
    cdrom = disk(lost, "volume", target="<target dev='hda' bus='ide'/>", device="cdrom")
    found = plan(cdrom)
    assert options(found, "-blockdev") == []
    assert "drive" not in options(found, "-device")[0]


def test_a_missing_file_stops_the_start_unless_the_document_says_otherwise():
    with pytest.raises(HvError, match="Cannot access storage file '/gone': No such file"):
        plan(disk("<source file='/gone'/>"))
    optional = "<source file='/gone' startupPolicy='optional'/>"
    assert plan(disk(optional)).argv[1:] == []
    cdrom = disk(optional, target="<target dev='hda' bus='ide'/>", device="cdrom")
    assert "drive" not in options(plan(cdrom), "-device")[0]


def test_sd_cards_are_drives():
    sd = disk(
        "<source protocol='nbd' name='e,x'><host name='h'/></source>",
        "network",
        target="<target dev='sdb' bus='sd'/>",
    )
    assert options(plan(sd), "-drive") == [
        (
            "file.driver=nbd,file.server.type=inet,file.server.host=h,file.server.port=10809,"
            "file.export=e,,x,format=raw,if=sd,index=1"
        )
    ]


def test_a_shared_helper_for_reservations_is_made_once():
    lun = "<source dev='/dev/{}'><reservations managed='yes'/></source>"
    place = "<target dev='{}' bus='scsi'/>"
    xml = "".join(
        disk(lun.format(name), "block", target=place.format(name), device="lun")
        for name in ("sda", "sdb")
    )
    found = plan(xml + "<controller type='scsi' index='0' model='virtio-scsi'/>")
    assert [each["qom-type"] for each in options(found, "-object")] == ["pr-manager-helper"]
    assert {node["pr-manager"] for node in options(found, "-blockdev")} == {"pr-helper0"}


def test_serial_numbers_are_escaped_and_cache_shows_at_the_device():
    found = plan(disk("<source file='/a'/>", rest="<serial>a b</serial>", driver="cache='none'"))
    device = options(found, "-device")[0]
    assert device["serial"] == "a\\ b"
    assert device["write-cache"] == "on"
    assert options(found, "-blockdev")[0]["cache"] == {"direct": True, "no-flush": False}


def test_limits_are_set_while_qemu_waits():
    family = Family("disk")
    tune = "<iotune><total_bytes_sec>5</total_bytes_sec><group_name>g</group_name></iotune>"
    domain, _ = family.read(disk("<source file='/a'/>", rest=tune))
    name_devices(domain)
    ((name, arguments),) = disks.limits(domain)
    assert name == "block_set_io_throttle"
    assert (arguments["id"], arguments["bps"], arguments["group"]) == (
        "/machine/peripheral/virtio-disk0/virtio-backend", 5, "g",
    )  # fmt: skip
    assert "bps_max_length" not in arguments


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (
            disk("<source file='/a'/>", form="iso"),
            "storage format 'iso' is not directly supported by QEMU, use 'raw' instead",
        ),
        (disk("<source file='/a'/>", driver="io='native'"), "io='native' needs either no disk"),
        (disk("<source file='/a'/>", rest="<wwn>5000c50015ea71ac</wwn>"), "Only ide and scsi"),
        (
            disk("<source file='/a'/>", rest="<readonly/>", target="<target dev='hda' bus='ide'/>"),
            "readonly ide disks are not supported",
        ),
        (disk("<source file='/a'/>", driver="iothread='9'"), "Disk iothread '9' not defined"),
        (network("sheepdog", "<host name='h'/>"), "'sheepdog' protocol is no longer supported"),
        (
            disk("<source dir='/d'/>", "dir", form="fat"),
            "virtual FAT storage can't be accessed in read-write mode",
        ),
    ],
)
def test_what_qemu_does_not_have_is_refused(xml, message):
    issues = Family("disk").checked(xml)
    assert issues[0].startswith(f"unsupported configuration: {message}")


# --- filesystems ---


def shared(inside, attributes="", driver=""):
    return (
        f"<filesystem type='mount'{attributes}>{driver}{inside}<target dir='t'/>{PCI}</filesystem>"
    )


def filesystem_plan(xml):
    return Family("filesystem").plan(
        xml + ROOT,
        prepare=[filesystem.prepare],
        command=[filesystem.command],
        aliases=name_devices,
    )


def test_9p_says_how_owners_are_kept():
    found = filesystem_plan(
        shared("<source dir='/a,b'/><readonly/>", " accessmode='mapped' fmode='0644'")
    )
    assert options(found, "-fsdev") == [
        "local,security_model=mapped,fmode=0644,id=fsdev-fs0,path=/a,,b,readonly"
    ]
    assert options(found, "-device")[0]["mount_tag"] == "t"


def test_virtiofs_talks_to_the_process_that_serves_it():
    found = filesystem_plan(shared("<source dir='/a'/>", driver="<driver type='virtiofs'/>"))
    assert options(found, "-chardev") == ["socket,id=chr-vu-fs0,path=/d/fs0-fs.sock"]
    assert options(found, "-device")[0]["driver"] == "vhost-user-fs-pci"


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (shared("<source dir='/a'/>", " fmode='644'"), "fmode and dmode must be used with"),
        (
            shared("<source dir='/a'/>", driver="<driver type='virtiofs'/>"),
            "virtiofs is not supported with this QEMU binary",
        ),
        (shared("<source dir='/a'/><boot order='1'/>"), "boot order is only supported for"),
    ],
)
def test_filesystems_that_qemu_cannot_share(xml, message):
    issues = Family("filesystem").checked(xml)
    assert issues[0].startswith(f"unsupported configuration: {message}")
