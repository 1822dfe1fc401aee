"""<serial>, <parallel>, <console>, <channel>: documents, rules, and what QEMU is told."""

from __future__ import annotations

import json

import pytest

from hvcore.errors import ValidationFailed
from hvcore_qemu import chardev as backends
from hvcore_qemu.devices import chardev
from tests.unit.qemu_family import Family

SERIAL = "<target type='isa-serial' port='0'><model name='isa-serial'/></target>"


@pytest.fixture(scope="module")
def family():
    return Family("chardev", caps=("isa-serial", "usb-serial", "pci-serial", "spapr-vty", "pl011"))


def name(domain):
    devices = domain.devices
    for prefix in ("serial", "parallel", "channel", "console"):
        for place, device in enumerate(getattr(devices, f"{prefix}s")):
            device.alias = f"{prefix}{place}"


def argv(family, xml, **how):
    return family.plan(
        xml,
        aliases=name,
        prepare=(backends.prepare, backends.prepare_host),
        command=(chardev.serials, chardev.parallels, chardev.channels, chardev.consoles),
        **how,
    ).argv[1:]


def option(family, source, **how):
    """Return -chardev for a parallel port, which has hardly anything else."""
    words = argv(family, f"<parallel {source}</parallel>", **how)
    return words[words.index("-chardev") + 1]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "<serial type='pty'><source path='/dev/pts/3'/></serial>",
            (
                f"<serial type='pty'>{SERIAL}</serial>"
                "<console type='pty'><target type='serial' port='0'/></console>"
            ),
        ),
        (
            "<console type='tcp'><source host='h' service='1' tls='yes'/></console>",
            (
                "<serial type='tcp'><source mode='connect' host='h' service='1' tls='yes'/>"
                f"<protocol type='raw'/>{SERIAL}</serial>"
                "<console type='tcp'><source mode='connect' host='h' service='1' tls='yes'/>"
                "<protocol type='raw'/><target type='serial' port='0'/></console>"
            ),
        ),
        (
            "<serial type='null'><target type='pci-serial'/></serial>",
            (
                "<serial type='null'><target type='pci-serial' port='0'><model name='pci-serial'/>"
                "</target></serial>"
            ),
        ),
        (
            (
                "<serial type='stdio'><target port='4'/></serial><serial type='vc'/>"
                "<console type='pty'><target type='virtio'/></console>"
            ),
            (
                "<serial type='stdio'><target type='isa-serial' port='4'><model name='isa-serial'/>"
                "</target></serial><serial type='vc'><target type='isa-serial' port='5'>"
                "<model name='isa-serial'/></target></serial>"
                "<console type='stdio'><target type='serial' port='4'/></console>"
                "<console type='pty'><target type='virtio' port='1'/></console>"
            ),
        ),
        (
            (
                "<parallel type='udp'><source mode='connect' host='a' service='1'/>"
                "<source mode='bind' service='2'/><log file='/l' append='off'/></parallel>"
            ),
            (
                "<parallel type='udp'><source mode='bind' service='2'/>"
                "<source mode='connect' host='a' service='1'/><log file='/l' append='off'/>"
                "<target port='0'/></parallel>"
            ),
        ),
        (
            "<channel type='unix'><target type='virtio' name='n' state='connected'/></channel>",
            "<channel type='unix'><target type='virtio' name='n'/></channel>",
        ),
        (
            (
                "<channel type='unix'><source mode='bind'"
                " path='/run/hvcore/qemu/channel/1-old/org.x'/>"
                "<target type='virtio' name='org.x'/></channel>"
            ),
            "<channel type='unix'><target type='virtio' name='org.x'/></channel>",
        ),
        (
            (
                "<channel type='qemu-vdagent'><source><clipboard copypaste='yes'/>"
                "<mouse mode='client'/></source><target type='virtio'/></channel>"
            ),
            (
                "<channel type='qemu-vdagent'><source><clipboard copypaste='yes'/>"
                "<mouse mode='client'/></source><target type='virtio'/></channel>"
            ),
        ),
    ],
)
def test_documents_become_complete(family, before, after):
    assert family.rewritten(before) == after


def test_a_running_domain_shows_its_terminal(family):
    xml = "<serial type='pty'><source path='/dev/pts/3'/></serial>"
    assert family.rewritten(xml, active=True).endswith(
        "<console type='pty' tty='/dev/pts/3'><source path='/dev/pts/3'/>"
        "<target type='serial' port='0'/></console>"
    )


def test_the_terminal_is_escaped_in_both_places(family):
    xml = "<console type='pty'><source path='/&lt;&apos;&amp;'/></console>"
    assert "<console type='pty' tty='/&lt;&apos;&amp;'>" in family.rewritten(xml, active=True)


@pytest.mark.parametrize(
    ("arch", "machine", "target", "model"),
    [
        ("x86_64", "q35", "isa-serial", "isa-serial"),
        ("ppc64", "pseries", "spapr-vio-serial", "spapr-vty"),
        ("aarch64", "virt", "system-serial", "pl011"),
        ("riscv64", "virt", "system-serial", "16550a"),
        ("s390x", "s390-ccw-virtio", "sclp-serial", "sclpconsole"),
        ("aarch64", "versatilepb", None, None),
    ],
)
def test_the_default_serial_port_is_that_of_the_machine(family, arch, machine, target, model):
    xml = "<serial type='pty'><target type='isa-serial'/></serial>"
    domain, _ = family.read(xml, arch=arch, machine=machine)
    serial = domain.devices.serials[0]
    assert (serial.target_type, serial.target_model) == (target, model)


def test_without_a_driver_nothing_is_known_of_the_port(family):
    domain, _ = family.read("<serial type='pty'/>", driver=False)
    assert domain.devices.serials[0].target_type is None
    assert family.written(domain).startswith("<serial type='pty'><target port='0'/></serial>")


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (
            "<serial type='telegraph'/>",
            (
                "unsupported configuration: unknown type presented to host for character device:"
                " telegraph"
            ),
        ),
        (
            "<serial type='file'><source path='a'/><source path='b'/></serial>",
            "XML error: only one source element is allowed for character device",
        ),
        (
            "<serial type='unix'><source path='a'><reconnect enabled='yes'/></source></serial>",
            "XML error: Missing required attribute 'timeout' in element 'reconnect'",
        ),
        (
            "<channel type='pty'/>",
            "XML error: target type must be specified for channel device",
        ),
        (
            "<channel type='pty'><target name='n'/></channel>",
            (
                "unsupported configuration: unknown target type '(null)' specified for character"
                " device"
            ),
        ),
        (
            "<channel type='pty'><target type='guestfwd' address='::1' port='1'/></channel>",
            "unsupported configuration: guestfwd channel only supports IPv4 addresses",
        ),
        (
            (
                "<serial type='pty'><target type='usb-serial'/>"
                "<address type='pci' bus='0' slot='1' function='0'/></serial>"
            ),
            "unsupported configuration: usb-serial requires address of usb type",
        ),
        (
            "<serial type='spicevmc'/>",
            "unsupported configuration: spicevmc device type only supports virtio",
        ),
    ],
)
def test_the_parser_refuses(family, xml, message):
    with pytest.raises(ValidationFailed) as caught:
        family.read(xml)
    assert str(caught.value.issues[0]) == message


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (
            "<console type='pty'/><console type='pty'/>",
            "unsupported configuration: Only the first console can be a serial port",
        ),
        (
            "<serial type='file'/>",
            "internal error: Missing source path attribute for char device",
        ),
        (
            "<parallel type='tcp'><source service='1'/></parallel>",
            "internal error: Missing source host attribute for char device",
        ),
        (
            "<parallel type='udp'><source mode='bind' service='1'/></parallel>",
            "internal error: Missing source service attribute for char device",
        ),
        (
            "<parallel type='unix'/>",
            "internal error: Missing source path attribute for char device",
        ),
        (
            (
                "<parallel type='tcp'><source mode='bind' host='h' service='1'>"
                "<reconnect enabled='no'/></source></parallel>"
            ),
            "internal error: chardev reconnect is possible only for connect mode",
        ),
        (
            "<parallel type='dbus'><source channel='a b'/></parallel>",
            "invalid argument: Invalid character in source channel for char device",
        ),
        (
            (
                "<parallel type='tcp'><source host='h' service='1'/><protocol type='telnets'/>"
                "</parallel>"
            ),
            "unsupported configuration: tcp chardev protocol 'telnets' not supported",
        ),
        (
            "<channel type='spicevmc'><target type='virtio'/></channel>",
            "unsupported configuration: chardev 'spicevmc' not supported without spice graphics",
        ),
        (
            (
                "<serial type='pty'><target type='pci-serial'><model name='usb-serial'/></target>"
                "</serial>"
            ),
            (
                "unsupported configuration: Target model 'usb-serial' requires target type"
                " 'usb-serial'"
            ),
        ),
        (
            "<serial type='pty'><address type='usb'/></serial>",
            "unsupported configuration: Target type 'isa-serial' requires address type 'isa'",
        ),
        (
            "<serial type='pty'><target type='sclp-serial'/></serial>",
            (
                "unsupported configuration: Serial device with target type 'sclp-serial' and target"
                " model 'sclpconsole' not compatible with guest architecture or machine type"
            ),
        ),
        (
            (
                "<serial type='null'><target type='pci-serial'/></serial>"
                "<console type='pty'><target type='xen'/></console>"
            ),
            "unsupported configuration: unsupported console target type xen",
        ),
    ],
)
def test_validation_refuses(family, xml, message):
    assert family.checked(xml) == [message]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("type='null'>", "null,id=charparallel0"),
        ("type='dev'><source path='/dev/parport0'/>", ("parallel,id=charparallel0,"
         "path=/dev/parport0")),
        ("type='pipe'><source path='/a,b'/>", "pipe,id=charparallel0,path=/a,,b"),
        ("type='file'><source path='/f'/>", "file,id=charparallel0,path=/dev/fdset/0,append=on"),
        ("type='unix'><source mode='bind' path='/s'/>", ("socket,id=charparallel0,fd=3,server=on,"
         "wait=off")),
        (("type='unix'><source mode='connect' path='/s'><reconnect enabled='yes' timeout='5'/>"
         "</source>"), "socket,id=charparallel0,path=/s,reconnect=5"),
        ("type='tcp'><source mode='bind' host='h' service='1'/><protocol type='telnet'/>",
         "socket,id=charparallel0,host=h,port=1,telnet=on,server=on,wait=off"),
        ("type='udp'><source mode='connect' host='h' service='1'/>",
         "udp,id=charparallel0,host=h,port=1,localaddr=,localport=0"),
        ("type='pty'><log file='/l' append='off'/>", ("pty,id=charparallel0,"
         "logfile=/dev/fdset/0,logappend=on")),
        ("type='dbus'><source channel='c'/>", "dbus,id=charparallel0,name=c"),
        ("type='spiceport'><source channel='c'/>", "spiceport,id=charparallel0,name=c"),
    ],
)  # fmt: skip
def test_character_devices(family, source, expected):
    assert option(family, source) == expected


@pytest.mark.parametrize(
    ("source", "kind", "data"),
    [
        ("type='null'>", "null", {}),
        ("type='file'><source path='/f'/>", "file", {"out": "/dev/fdset/0", "append": True}),
        ("type='dev'><source path='/d'/>", "parallel", {"device": "/d"}),
        (
            "type='unix'><source mode='bind' path='/s'/>",
            "socket",
            {"addr": {"type": "fd", "data": {"str": "3"}}, "server": True, "wait": False},
        ),
        (
            "type='unix'><source path='/s'/>",
            "socket",
            {"addr": {"type": "unix", "data": {"path": "/s"}}, "server": False},
        ),
        (
            "type='tcp'><source host='h' service='1'/>",
            "socket",
            {
                "addr": {"type": "inet", "data": {"host": "h", "port": "1"}},
                "telnet": False,
                "server": False,
            },
        ),
        (
            "type='udp'><source mode='connect' service='1'/>",
            "udp",
            {"remote": {"type": "inet", "data": {"host": "", "port": "1"}}},
        ),
        ("type='spiceport'><source channel='c'/>", "spiceport", {"fqdn": "c"}),
        ("type='qemu-vdagent'>", "qemu-vdagent", {}),
    ],
)
def test_the_monitor_has_other_names(source, kind, data):
    told = json.loads(option(Family("chardev", caps=["chardev.json"]), source))
    assert told == {"id": "charparallel0", "backend": {"type": kind, "data": data}}


def test_newer_versions_count_in_milliseconds():
    family = Family("chardev", caps=["chardev-reconnect-miliseconds"])
    source = "type='tcp'><source host='h' service='1'><reconnect enabled='no'/></source>"
    assert option(family, source).endswith("port=1,reconnect-ms=0")


def test_tls(family):
    xml = "<parallel type='tcp'><source mode='bind' host='h' service='1'/></parallel>"
    words = argv(
        family, xml, chardev_tls=True, chardev_tls_x509_secret_uuid="0" * 32,
    )  # fmt: skip
    assert words[::2] == ["-object", "-object", "-chardev", "-device"]
    assert '"id":"charparallel0-secret0"' in words[1]
    assert words[3] == (
        '{"qom-type":"tls-creds-x509","id":"objcharparallel0_tls0",'
        '"dir":"/etc/pki/libvirt-chardev","endpoint":"server","verify-peer":true,'
        '"passwordid":"charparallel0-secret0"}'
    )
    assert words[5].endswith(",tls-creds=objcharparallel0_tls0")
    refused = "<parallel type='tcp'><source host='h' service='1' tls='no'/></parallel>"
    assert "-object" not in argv(family, refused, chardev_tls=True)


def test_descriptors_are_named_after_the_device(family):
    xml = "<parallel type='file'><source path='/f'/><log file='/l'/></parallel>"
    words = argv(family, xml)
    assert words[:4] == [
        "-add-fd",
        "set=0,fd=3,opaque=parallel0-source",
        "-add-fd",
        "set=1,fd=4,opaque=parallel0-log",
    ]


def test_isa_serial_ports_get_the_free_numbers(family):
    isa = "<serial type='pty'><target type='isa-serial'{}/></serial>"
    domain, _ = family.read(isa.format("") + isa.format(" port='0'") + isa.format(" port='-1'"))
    assert [serial.target_port for serial in domain.devices.serials] == [1, 0, 2]
    assert family.checked(isa.format("") * 5) == [
        "internal error: Maximum supported number of ISA serial ports is '4'"
    ]
    assert family.checked(isa.format(" port='1'") * 2) == [
        "internal error: target port '1' already allocated"
    ]


def test_labels_that_were_skipped_in_a_run_are_forgotten(family):
    xml = "<parallel type='file'><source path='/f'>{}</source></parallel>"
    skipped = xml.format("<seclabel model='dac' labelskip='yes'/>")
    assert "seclabel" not in family.rewritten(skipped)
    assert "<seclabel model='dac' labelskip='yes'/>" in family.rewritten(skipped, active=True)


def test_serial_ports_on_the_board_have_no_device(family):
    xml = "<serial type='pty'/>"
    assert argv(family, xml, arch="aarch64", machine="virt") == [
        "-chardev", "pty,id=charserial0", "-serial", "chardev:charserial0",
    ]  # fmt: skip
    assert argv(family, xml)[2:] == [
        "-device",
        '{"driver":"isa-serial","chardev":"charserial0","id":"serial0","index":0}',
    ]


def test_a_serial_port_that_qemu_lacks_is_refused():
    family = Family("chardev")
    with pytest.raises(ValidationFailed, match="'isa-serial' is not supported in this QEMU"):
        argv(family, "<serial type='pty'/>")


def test_channels_get_a_path(family):
    domain, _ = family.read("<channel type='unix'><target type='virtio' name='n'/></channel>")
    assert domain.devices.channels[0].source.mode == "bind"
    words = argv(family, "<channel type='unix'><target type='virtio' name='n'/></channel>")
    assert words == [
        "-chardev",
        "socket,id=charchannel0,fd=3,server=on,wait=off",
        "-device",
        '{"driver":"virtserialport","chardev":"charchannel0","id":"channel0","name":"n"}',
    ]


def test_guestfwd(family):
    xml = "<channel type='pty'><target type='guestfwd' address='10.0.2.1' port='4600'/></channel>"
    assert argv(family, xml)[2:] == [
        "-netdev",
        (
            '{"type":"user","guestfwd":[{"str":"tcp:10.0.2.1:4600-chardev:charchannel0"}],'
            '"id":"channel0"}'
        ),
    ]


def test_labels_need_relabelling():
    family = Family("chardev")
    xml = (
        "<serial type='file'><source path='/f'><seclabel model='dac'><label>l</label></seclabel>"
        "</source></serial>"
    )
    domain, _ = family.read(xml)
    from hvcore.model.seclabel import Seclabel
    from hvcore.rules.chardev import check_source

    assert list(check_source(domain, domain.devices.serials[0])) == []
    domain.seclabels.append(Seclabel(type="none", model="dac"))
    assert [str(issue) for issue in check_source(domain, domain.devices.serials[0])] == [
        (
            "unsupported configuration: label overrides require relabeling to be enabled at the"
            " domain level"
        )
    ]
