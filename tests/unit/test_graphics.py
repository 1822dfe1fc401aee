"""<graphics>: reading and writing, rules, and what QEMU is told."""

from __future__ import annotations

from typing import ClassVar

import pytest

from hvcore.errors import ValidationFailed
from hvcore_qemu.config import QemuConfig
from hvcore_qemu.devices import graphics
from hvcore_qemu.pretend import PretendHost
from tests.unit.qemu_family import Family

AUDIO = "<audio id='1' type='none'/>"


@pytest.fixture(scope="module")
def family():
    return Family(
        "graphics",
        caps=("vnc", "spice", "sdl", "egl-headless", "display-dbus", "spice-gl",
              "spice-rendernode", "egl-headless.rendernode"),
    )  # fmt: skip


class Host(PretendHost):
    """A host with a graphics processor."""

    def render_node(self):
        return "/dev/dri/renderD128"


def argv(family, xml, *, host=None, **config):
    return family.plan(
        xml + AUDIO,
        host=host or Host(),
        prepare=(graphics.prepare, graphics.prepare_secrets),
        command=(graphics.display_none, graphics.command),
        **config,
    ).argv[1:]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "<graphics type='vnc'/>",
            "<graphics type='vnc' port='-1' autoport='yes'><listen type='address'/></graphics>",
        ),
        (
            "<graphics type='vnc' port='5903' listen='::1' websocket='5700' passwd='secret'/>",
            (
                "<graphics type='vnc' port='5903' autoport='no' websocket='5700' listen='::1'>"
                "<listen type='address' address='::1'/></graphics>"
            ),
        ),
        (
            (
                "<graphics type='vnc' socket='/s'><listen type='address' address='1.2.3.4'/>"
                "</graphics>"
            ),
            "<graphics type='vnc' socket='/s'><listen type='socket' socket='/s'/></graphics>",
        ),
        (
            "<graphics type='spice' autoport='no'/>",
            "<graphics type='spice'><listen type='none'/></graphics>",
        ),
        (
            (
                "<graphics type='spice' autoport='yes' port='5'><channel name='inputs' mode='any'/>"
                "<channel name='inputs' mode='secure'/><channel name='main' mode='insecure'/>"
                "</graphics>"
            ),
            (
                "<graphics type='spice' autoport='yes'><listen type='address'/>"
                "<channel name='main' mode='insecure'/><channel name='inputs' mode='secure'/>"
                "</graphics>"
            ),
        ),
        (
            "<graphics type='rdp' autoport='yes'/>",
            "<graphics type='rdp' port='0' autoport='yes'><listen type='address'/></graphics>",
        ),
        (
            "<graphics type='sdl' fullscreen='no' display=':1'><gl enable='yes'/></graphics>",
            "<graphics type='sdl' display=':1'><gl enable='yes'/></graphics>",
        ),
    ],
)
def test_documents_become_complete(family, before, after):
    assert family.rewritten(before) == after


def test_passwords_are_shown_on_request_only(family):
    xml = (
        "<graphics type='vnc' port='-1' autoport='yes' passwd='p'"
        " passwdValidTo='2010-04-09T15:51:01' connected='keep'><listen type='address'/></graphics>"
    )
    assert family.rewritten(xml, secure=True) == xml
    assert "passwd=" not in family.rewritten(xml)


def test_without_a_password_nothing_of_it_counts(family):
    xml = "<graphics type='spice' autoport='yes' username='u' passwdValidTo='never'/>"
    assert family.rewritten(xml, secure=True) == (
        "<graphics type='spice' autoport='yes'><listen type='address'/></graphics>"
    )


def test_a_running_domain_keeps_its_ports(family):
    xml = (
        "<graphics type='vnc' port='5907' autoport='yes' listen='10.0.0.1'>"
        "<listen type='network' address='10.0.0.1' network='n'/></graphics>"
    )
    assert family.rewritten(xml, active=True) == xml
    assert family.rewritten(xml) == (
        "<graphics type='vnc' port='-1' autoport='yes'>"
        "<listen type='network' network='n'/></graphics>"
    )


def test_migration_leaves_out_what_settings_chose(family):
    domain, _ = family.read("<graphics type='spice' port='5900'/>")
    listen = domain.devices.graphics[0].listens[0]
    listen.address, listen.from_config = "127.0.0.1", True
    assert "127.0.0.1" in family.written(domain)
    assert family.written(domain, migratable=True) == (
        "<graphics type='spice' port='5900' autoport='no'/>"
    )


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (
            (
                "<graphics type='vnc' listen='1.1.1.1'><listen type='address' address='2.2.2.2'/>"
                "</graphics>"
            ),
            (
                "unsupported configuration: graphics 'listen' attribute '1.1.1.1' must match"
                " 'address' attribute of first listen element (found '2.2.2.2')"
            ),
        ),
        (
            "<graphics type='vnc'><listen type='address' network='n'/></graphics>",
            "XML error: 'network' attribute is valid only for listen type 'network'",
        ),
        (
            "<graphics type='vnc' passwd='x' connected='fail'/>",
            "unsupported configuration: VNC supports connected='keep' only",
        ),
        (
            "<graphics type='vnc' passwd='x' passwdValidTo='tomorrow'/>",
            (
                "internal error: cannot parse password validity time 'tomorrow', expect"
                " YYYY-MM-DDTHH:MM:SS"
            ),
        ),
        (
            "<graphics type='spice'><gl rendernode='/r'/></graphics>",
            "XML error: Missing required attribute 'enable' in element 'gl'",
        ),
        (
            "<graphics type='vnc'><audio/></graphics>",
            "XML error: Missing required attribute 'id' in element 'audio'",
        ),
        (
            "<graphics type='gtk'/>",
            "XML error: Invalid value for attribute 'type' in element 'graphics': 'gtk'.",
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
            "<graphics type='vnc'><listen type='network'/></graphics>",
            "XML error: 'network' attribute is required for listen type 'network'",
        ),
        (
            "<graphics type='vnc'><audio id='7'/></graphics>",
            "XML error: no audio device with ID 7",
        ),
        (
            "<graphics type='rdp'><listen type='none'/></graphics>",
            (
                "unsupported configuration: listen type 'none' is not available for graphics type"
                " 'rdp'"
            ),
        ),
        (
            "<graphics type='dbus' p2p='yes' address='a'/>",
            "XML error: D-Bus p2p with an address is not supported",
        ),
        (
            "<graphics type='desktop'/>",
            "unsupported configuration: desktop graphics are not supported with this QEMU",
        ),
        (
            "<graphics type='egl-headless'/><graphics type='sdl'/>",
            (
                "unsupported configuration: graphics type 'egl-headless' is only supported with one"
                " of: 'vnc', 'spice' graphics types"
            ),
        ),
        (
            "<graphics type='vnc' passwd='123456789'/>",
            "unsupported configuration: VNC password is 9 characters long, only 8 permitted",
        ),
        (
            "<graphics type='spice' tlsPort='5'/>",
            (
                "unsupported configuration: spice TLS port set in XML configuration, but TLS is"
                " disabled in qemu.conf"
            ),
        ),
        (
            "<graphics type='vnc' powerControl='yes'/>",
            "unsupported configuration: VNC power control is not available",
        ),
    ],
)
def test_validation_refuses(family, xml, message):
    assert family.checked(xml, qemu_rdp="/r") == [message]


@pytest.mark.parametrize(
    ("xml", "options"),
    [
        ("", ["-display", "none"]),
        ("<graphics type='vnc'/>", ["-vnc", "127.0.0.1:0,audiodev=audio1"]),
        (
            ("<graphics type='vnc' port='5905' listen='::1' keymap='de' sharePolicy='ignore'"
            " passwd='x'/>"),
            ["-vnc", "[::1]:5,share=ignore,password=on,audiodev=audio1", "-k", "de"],
        ),
        (
            "<graphics type='vnc'><listen type='socket'/></graphics>",
            ["-vnc", "vnc=unix:/d/vnc.sock,audiodev=audio1"],
        ),
        (
            ("<graphics type='spice' autoport='yes'><mouse mode='client'/>"
            "<clipboard copypaste='no'/><gl enable='yes'/></graphics>"),
            [
                "-spice",
                ("port=5901,addr=127.0.0.1,agent-mouse=on,disable-ticketing=on,"
                "disable-copy-paste=on,gl=on,rendernode=/dev/dri/renderD128,seamless-migration=on"),
            ],
        ),
        ("<graphics type='egl-headless'><gl rendernode='/a,b'/></graphics>",
         ["-display", "egl-headless,rendernode=/a,,b"]),
        ("<graphics type='dbus'><gl enable='no'/></graphics>",
         ["-display", "dbus,addr=unix:path=/run/hvcore/qemu/dbus/1-g-dbus.sock,gl=off"]),
        ("<graphics type='sdl' fullscreen='yes'/>", ["-full-screen", "-display", "sdl"]),
    ],
)  # fmt: skip
def test_commands(family, xml, options):
    assert argv(family, xml) == options


def test_settings_of_the_host(family):
    assert argv(family, "<graphics type='vnc'/>", vnc_auto_unix_socket=True, vnc_tls=True) == [
        "-object",
        (
            '{"qom-type":"tls-creds-x509","id":"vnc-tls-creds0","dir":"/etc/pki/libvirt-vnc",'
            '"endpoint":"server","verify-peer":false}'
        ),
        "-vnc",
        "vnc=unix:/d/vnc.sock,tls-creds=vnc-tls-creds0,audiodev=audio1",
    ]


def test_there_is_no_bus_that_nobody_started(family):
    host = PretendHost()
    host.pretends = False
    with pytest.raises(ValidationFailed, match="starting a D-Bus daemon"):
        argv(family, "<graphics type='dbus'/>", host=host)
    words = argv(family, "<graphics type='dbus' address='unix:path=/b'/>", host=host)
    assert words == ["-display", "dbus,addr=unix:path=/b"]


def test_channels_that_must_be_encrypted_need_a_port_with_tls(family):
    xml = (
        "<graphics type='spice' autoport='yes' defaultMode='insecure'>"
        "<channel name='main' mode='secure'/></graphics>"
    )
    assert "port=5901,tls-port=5902," in argv(family, xml, spice_tls=True)[1]
    # What a start would refuse can still be shown.
    assert "port=5901,tls-port=5902," in argv(family, xml)[1]
    host = PretendHost()
    host.pretends = False
    with pytest.raises(ValidationFailed, match=r"spice TLS is disabled in qemu\.conf"):
        argv(family, xml, host=host)


def test_ports_of_the_document_are_not_chosen_again(family):
    class Host(PretendHost):
        reserved: ClassVar = []

        def reserve_port(self, port):
            self.reserved.append(port)

    family.plan(
        "<graphics type='vnc' port='5901' websocket='5700'/><graphics type='vnc'/>"
        "<graphics type='spice' port='5905' tlsPort='5906'/><graphics type='spice'"
        " autoport='yes' tlsPort='1'/><graphics type='vnc' port='7'><listen type='none'/>"
        "</graphics>",
        prepare=(graphics.prepare,),
        host=Host(),
        spice_tls=True,
    )
    assert Host.reserved == [5901, 5700, 5905, 5906]


def test_passwords_are_told_to_the_monitor(family):
    domain, _ = family.read(
        "<graphics type='vnc' passwd='a'/><graphics type='spice' autoport='yes'/>"
        "<graphics type='vnc' passwd='b' connected='keep' passwdValidTo='1970-01-01T00:01:40'/>"
    )
    config = QemuConfig(spice_password="c")
    told = list(graphics.passwords(domain, config, now=99))
    assert told == [
        ("set_password", {"protocol": "vnc", "password": "a"}),
        ("expire_password", {"protocol": "vnc", "time": "never"}),
        ("set_password", {"protocol": "spice", "password": "c"}),
        ("expire_password", {"protocol": "spice", "time": "never"}),
        ("set_password", {"protocol": "vnc", "password": "b", "connected": "keep"}),
        ("expire_password", {"protocol": "vnc", "time": "100"}),
    ]
    assert list(graphics.passwords(domain, config, now=100))[-1][1]["time"] == "now"


def test_the_secret_of_a_key_is_encrypted(family):
    options = argv(
        family, "<graphics type='vnc'/>", vnc_tls=True, vnc_tls_x509_secret_uuid="0" * 32
    )
    assert options[0] == options[2] == "-object"
    assert '"id":"vnc-tls-creds0-secret0"' in options[1]
    assert '"passwordid":"vnc-tls-creds0-secret0"' in options[3]
    assert "secret0" not in options[1].split('"data":"')[1].split('"')[0]


MDEV = (
    "<hostdev mode='subsystem' type='mdev' model='vfio-pci' display='{}'><source>"
    "<address uuid='53764d0e-85a0-42b4-af5c-2046b460b1dc'/></source></hostdev>"
)


@pytest.mark.parametrize(
    ("xml", "added"),
    [
        (MDEV.format("on") + "<graphics type='vnc'/>", True),
        (MDEV.format("on") + "<graphics type='spice' autoport='yes'/>", True),
        (MDEV.format("off") + "<graphics type='vnc'/>", False),
        (
            (MDEV.format("on") + "<graphics type='spice' autoport='yes'><gl enable='yes'/>"
            "</graphics>"),
            False,
        ),
        (MDEV.format("on") + "<graphics type='vnc'/><graphics type='egl-headless'/>", False),
        (MDEV.format("on") + "<graphics type='sdl'/>", False),
    ],
)  # fmt: skip
def test_mediated_devices_get_opengl_where_the_administrator_wants_it(family, xml, added):
    plain = argv(family, xml)
    wanted = ["-display", "egl-headless,rendernode=/dev/dri/renderD128"] if added else []
    assert argv(family, xml, mdev_display_auto_egl_headless=True) == plain + wanted
