"""<smartcard>, <redirdev>, <redirfilter>, <rng>, <tpm>: documents, rules and commands."""

from __future__ import annotations

import pytest

from hvcore.errors import ValidationFailed
from hvcore_qemu import chardev as backends
from hvcore_qemu.devices import redirdev
from hvcore_qemu.devices import rng
from hvcore_qemu.devices import smartcard
from hvcore_qemu.devices import tpm
from tests.unit.qemu_family import Family

CCID = "<address type='ccid' controller='0' slot='0'/>"
USB = "<controller type='usb' index='0' model='nec-xhci'/>"


@pytest.fixture(scope="module")
def family():
    return Family(
        "smartcard", "redirdev", "rng", "tpm",
        caps=("ccid-emulated", "ccid-passthru", "usb-redir", "rng-random", "rng-egd",
              "rng-builtin", "virtio-rng", "tpm-emulator", "tpm-passthrough", "tpm-tis",
              "tpm-crb", "spapr-tpm-proxy"),
    )  # fmt: skip


def name(domain):
    devices = domain.devices
    for prefix in ("smartcard", "redirdev", "rng", "tpm"):
        for place, device in enumerate(getattr(devices, f"{prefix}s")):
            device.alias = f"{prefix}{place}"
    for controller in devices.controllers:
        controller.alias = f"{controller.type}{controller.index}"


def argv(family, xml, *commands, **how):
    return family.plan(
        xml,
        aliases=name,
        prepare=(backends.prepare, backends.prepare_host, tpm.prepare),
        command=commands,
        **how,
    ).argv[1:]


@pytest.mark.parametrize(
    "xml",
    [
        f"<smartcard mode='host'>{CCID}</smartcard>",
        (
            "<smartcard mode='host-certificates'><certificate>a</certificate>"
            "<certificate>b</certificate><certificate>c</certificate><database>/d</database>"
            f"{CCID}</smartcard>"
        ),
        (
            "<smartcard mode='passthrough' type='tcp'>"
            "<source mode='bind' host='127.0.0.1' service='2001'/><protocol type='raw'/>"
            f"{CCID}</smartcard>"
        ),
        "<redirdev bus='usb' type='spicevmc'><boot order='1'/></redirdev>",
        (
            "<redirfilter><usbdev class='0x08' vendor='0x1234' product='0xBEEF' version='2.56'"
            " allow='yes'/><usbdev allow='no'/></redirfilter>"
        ),
        (
            "<rng model='virtio'><rate bytes='123' period='1234'/>"
            "<backend model='egd' type='unix'><source mode='connect' path='/s'/></backend></rng>"
        ),
        "<rng model='virtio'><backend model='builtin'/><driver iommu='on'/></rng>",
        (
            "<tpm model='tpm-crb'><backend type='emulator' version='2.0' persistent_state='yes'"
            " debug='3'><encryption secret='b63e835f-af14-4138-86d1-641fec7d4b7e'/>"
            "<active_pcr_banks><sha256/><sha512/></active_pcr_banks>"
            "<source type='dir' path='/state'/>"
            "<profile source='local:x' removeDisabled='check' name='y'/></backend></tpm>"
        ),
        (
            "<tpm model='tpm-tis'><backend type='external'>"
            "<source type='unix' mode='connect' path='/t'/></backend></tpm>"
        ),
    ],
)
def test_complete_documents_stay_as_they_are(family, xml):
    assert family.rewritten(xml) == xml


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "<redirdev type='dbus'/>",
            "<redirdev bus='usb' type='dbus'><source channel='org.qemu.usbredir'/></redirdev>",
        ),
        (
            "<redirfilter><usbdev version='1.1' class='-1' allow='yes'/></redirfilter>",
            "<redirfilter><usbdev version='1.10' allow='yes'/></redirfilter>",
        ),
        (
            "<rng model='virtio'><rate bytes='0' period='5'/><backend model='random'/></rng>",
            "<rng model='virtio'><backend model='random'>/dev/random</backend></rng>",
        ),
        (
            "<tpm><backend type='passthrough'/></tpm>",
            (
                "<tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm0'/>"
                "</backend></tpm>"
            ),
        ),
        (
            "<tpm><backend type='emulator'/></tpm>",
            "<tpm model='tpm-tis'><backend type='emulator' version='1.2'/></tpm>",
        ),
        (
            (
                "<tpm model='tpm-crb'><backend type='emulator'><profile removeDisabled='check'/>"
                "</backend></tpm>"
            ),
            "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>",
        ),
    ],
)
def test_documents_become_complete(family, before, after):
    assert family.rewritten(before) == after


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (
            "<smartcard mode='host-certificates'><certificate>a</certificate></smartcard>",
            "XML error: host-certificates mode needs exactly three certificates",
        ),
        (
            "<smartcard mode='passthrough'/>",
            "XML error: passthrough mode requires a character device type attribute",
        ),
        ("<redirdev bus='usb'/>", "internal error: missing type in redirdev"),
        (
            "<redirdev type='pty'><address type='isa'/></redirdev>",
            "XML error: Invalid address for a USB device",
        ),
        (
            "<redirfilter><usbdev version='300.1' allow='yes'/></redirfilter>",
            "XML error: Cannot parse USB device version 300.1",
        ),
        (
            "<redirfilter><usbdev class='0x1FF' allow='yes'/></redirfilter>",
            "internal error: Invalid USB Class code 0x1ff",
        ),
        ("<rng model='virtio'/>", "XML error: only one RNG backend is supported"),
        (
            "<rng model='virtio'><backend model='egd'/></rng>",
            "XML error: missing EGD backend type",
        ),
        ("<tpm/>", "XML error: missing TPM device backend"),
        (
            (
                "<tpm><backend type='emulator'><active_pcr_banks><md5/></active_pcr_banks>"
                "</backend></tpm>"
            ),
            "unsupported configuration: Unsupported PCR banks 'md5'",
        ),
        (
            "<tpm><backend type='emulator'><source type='dir'/></backend></tpm>",
            "XML error: missing TPM source path",
        ),
        (
            "<tpm><backend type='external'/></tpm>",
            "XML error: missing external TPM backend source type",
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
            "<smartcard mode='host'><address type='usb'/></smartcard>",
            "unsupported configuration: Controllers must use the 'ccid' address type",
        ),
        (
            "<redirdev type='pty'/>",
            (
                "unsupported configuration: cannot add redirected USB device: USB is disabled for"
                " this domain"
            ),
        ),
        (
            "<redirfilter/><redirfilter/>",
            "internal error: only one set of redirection filter rule is supported",
        ),
        (
            f"{USB}<redirdev type='pty'/><redirfilter><usbdev allow='no'/></redirfilter>",
            (
                "unsupported configuration: USB redirection filter is not supported by this version"
                " of QEMU"
            ),
        ),
        (
            "<rng model='virtio'><backend model='egd' type='udp'/></rng>",
            "internal error: Missing source service attribute for char device",
        ),
        (
            "<rng model='virtio-transitional'><backend model='builtin'/></rng>",
            (
                "unsupported configuration: domain configuration does not support rng model"
                " 'virtio-transitional'"
            ),
        ),
        (
            (
                "<tpm><backend type='emulator'><active_pcr_banks><sha1/></active_pcr_banks>"
                "</backend></tpm>"
            ),
            "XML error: <active_pcr_banks/> requires TPM version '2.0'",
        ),
        (
            "<tpm model='tpm-crb'><backend type='emulator' version='1.2'/></tpm>",
            "unsupported configuration: TPM 1.2 is not supported for model 'tpm-crb'",
        ),
        (
            "<tpm model='tpm-spapr'><backend type='passthrough'/></tpm>",
            (
                "unsupported configuration: The QEMU executable None does not support TPM model"
                " tpm-spapr"
            ),
        ),
        (
            "<tpm><backend type='passthrough'/></tpm><tpm><backend type='passthrough'/></tpm>",
            "unsupported configuration: only a single TPM non-proxy device is supported",
        ),
    ],
)
def test_validation_refuses(family, xml, message):
    assert family.checked(xml)[0] == message


def test_versions_of_the_emulator(family):
    xml = "<tpm><backend type='emulator'/></tpm>"
    assert family.checked(xml) == []
    assert family.checked(xml, swtpm_versions=("2.0",)) == [
        "unsupported configuration: TPM version '1.2' is not supported"
    ]


def test_smartcards(family):
    reader = "<controller type='ccid' index='0'/>"
    xml = f"{reader}<smartcard mode='passthrough' type='spicevmc'>{CCID}</smartcard>"
    assert argv(family, xml, smartcard.command) == [
        "-chardev",
        "spicevmc,id=charsmartcard0,name=smartcard",
        "-device",
        (
            '{"driver":"ccid-card-passthru","chardev":"charsmartcard0","id":"smartcard0",'
            '"bus":"ccid0.0"}'
        ),
    ]
    certificates = "".join(f"<certificate>{each}</certificate>" for each in "abc")
    xml = f"{reader}<smartcard mode='host-certificates'>{certificates}{CCID}</smartcard>"
    assert argv(family, xml, smartcard.command)[1] == (
        '{"driver":"ccid-card-emulated","backend":"certificates","cert1":"a","cert2":"b",'
        '"cert3":"c","db":"/etc/pki/nssdb","id":"smartcard0","bus":"ccid0.0"}'
    )


def test_redirected_devices(family):
    xml = (
        f"{USB}<redirdev type='spicevmc'><boot order='2'/></redirdev><redirfilter>"
        "<usbdev class='0x08' version='2.5' allow='yes'/><usbdev allow='no'/></redirfilter>"
    )
    assert argv(family, xml, redirdev.command) == [
        "-chardev",
        "spicevmc,id=charredirdev0,name=usbredir",
        "-device",
        (
            '{"driver":"usb-redir","chardev":"charredirdev0","id":"redirdev0",'
            '"filter":"0x08:-1:-1:0x0250:1|-1:-1:-1:-1:0","bootindex":2}'
        ),
    ]


def test_random_bytes(family):
    xml = (
        "<rng model='virtio'><rate bytes='9'/><backend model='egd' type='tcp'>"
        "<source host='h' service='1'/></backend><address type='virtio-mmio'/></rng>"
    )
    assert argv(family, xml, rng.command) == [
        "-chardev",
        "socket,id=charrng0,host=h,port=1",
        "-object",
        '{"qom-type":"rng-egd","id":"objrng0","chardev":"charrng0"}',
        "-device",
        '{"driver":"virtio-rng-device","rng":"objrng0","id":"rng0","max-bytes":9,"period":1000}',
    ]


@pytest.mark.parametrize(
    ("xml", "arch", "words"),
    [
        (
            "<tpm><backend type='passthrough'/></tpm>",
            "x86_64",
            [
                "-add-fd", "set=0,fd=3,opaque=tpm0-tpm",
                "-add-fd", "set=1,fd=4,opaque=tpm0-cancel",
                "-tpmdev", "passthrough,id=tpm-tpm0,path=/dev/fdset/0,cancel-path=/dev/fdset/1",
                "-device", '{"driver":"tpm-tis","tpmdev":"tpm-tpm0","id":"tpm0"}',
            ],
        ),
        (
            "<tpm><backend type='emulator'/></tpm>",
            "aarch64",
            [
                "-chardev", "socket,id=chrtpm,path=/run/hvcore/qemu/swtpm/1-g-swtpm.sock",
                "-tpmdev", "emulator,id=tpm-tpm0,chardev=chrtpm",
                "-device", '{"driver":"tpm-tis-device","tpmdev":"tpm-tpm0","id":"tpm0"}',
            ],
        ),
        (
            "<tpm model='spapr-tpm-proxy'><backend type='passthrough'/></tpm>",
            "ppc64",
            ["-device", '{"driver":"spapr-tpm-proxy","id":"tpm0","host-path":"/dev/tpm0"}'],
        ),
    ],
)  # fmt: skip
def test_tpms(family, xml, arch, words):
    assert argv(family, xml, tpm.command, arch=arch) == words
