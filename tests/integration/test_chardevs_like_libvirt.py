"""Where libvirt is installed: character devices and displays become the same, or are refused alike.

Documents are made at random, each with hardly more than one mistake; libvirt completes or refuses
each, and so does the pipeline with the capabilities that libvirt found.
"""

from __future__ import annotations

import random
import re

import pytest
from lxml import etree

from hvcore.errors import ValidationFailed
from hvcore.hostinfo import HostInfo
from hvcore.pipeline import Context
from hvcore.pipeline import Definition
from hvcore.registry import Registry
from hvcore_qemu.config import QemuConfig
from hvcore_qemu.launch import pipeline

DOCUMENTS = 120
REFUSED = re.compile(
    r"^error: Failed to define domain from .*/(d\d+)\.xml\nerror: (.*)$", re.MULTILINE
)
COMPARED = {"graphics", "serial", "parallel", "console", "channel", "redirfilter", "rng", "tpm"}

pytestmark = pytest.mark.qemu


class Maker:
    """Makes parts of documents at random."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def one(self, *values):
        return self.random.choice(values)

    def maybe(self, often, *values):
        return self.one(*values) if self.random.random() < often else ""

    def at(self, name, often, *values):
        return self.maybe(often, *(f" {name}='{value}'" for value in values))

    def source(self, kind):
        mode, path = self.at("mode", 0.7, "bind", "connect"), self.at("path", 0.95, "/p", "/a,b")
        reconnect = "<reconnect enabled='yes' timeout='5'/>", "<reconnect enabled='no'/>"
        address = self.at("host", 0.95, "h") + self.at("service", 0.95, "1")
        vdagent = self.maybe(0.5, "<clipboard copypaste='yes'/>", "<mouse mode='client'/>")
        made = {
            "file": f"<source{path}{self.at('append', 0.3, 'on', 'off')}/>",
            "unix": f"<source{mode}{path}>{self.maybe(0.3, *reconnect)}</source>",
            "tcp": f"<source{mode}{address}{self.at('tls', 0.2, 'yes', 'no')}>"
            f"{self.maybe(0.3, *reconnect)}</source>"
            + self.maybe(0.4, "<protocol type='telnet'/>", "<protocol type='tls'/>"),
            "udp": f"<source mode='connect'{address}/>" + self.maybe(0.5, "<source mode='bind'/>"),
            "dbus": f"<source{self.at('channel', 0.95, 'org.x', 'a b')}/>",
            "qemu-vdagent": f"<source>{vdagent}</source>",
        }
        log = self.maybe(0.1, "<log file='/l'/>", "<log file='/l' append='on'/>")
        return made.get(kind, f"<source{path}/>") + log

    def chardev(self, tag, target):
        kind = self.one(
            "null", "vc", "pty", "pty", "dev", "file", "pipe", "stdio", "udp", "tcp", "unix",
            "qemu-vdagent", "dbus",
        )  # fmt: skip
        return f"<{tag} type='{kind}'>{self.source(kind)}{target}</{tag}>"

    def serial(self):
        kinds = "isa-serial", "usb-serial", "pci-serial", "isa-debug", "system-serial", "none"
        models = "isa-serial", "pci-serial", "usb-serial", "pl011", "none", "isa-debugcon"
        model = self.maybe(0.15, *(f"<model name='{name}'/>" for name in models))
        attributes = self.at("type", 0.6, *kinds) + self.at("port", 0.4, "0", "2", "7", "-1")
        return self.chardev("serial", self.maybe(0.8, f"<target{attributes}>{model}</target>"))

    def parallel(self):
        return self.chardev("parallel", self.maybe(0.6, "<target port='3'/>"))

    def console(self):
        kind = self.at("type", 0.8, "serial", "virtio", "virtio", "none", "sclp", "xen")
        return self.chardev("console", f"<target{kind}/>")

    def channel(self):
        kind = self.one("virtio", "virtio", "guestfwd", "xen")
        attributes = f" type='{kind}'" + self.at("name", 0.6, "org.a", "b")
        if kind == "guestfwd":
            attributes += " address='10.0.2.1'" + self.at("port", 0.9, "4600")
        return self.chardev("channel", f"<target{attributes}/>")

    def redirfilter(self):
        rule = (
            f"<usbdev{self.at('class', 0.5, '0x08', '-1', '8', '0x1ff')}"
            f"{self.at('vendor', 0.4, '0x1234', '77')}"
            f"{self.at('version', 0.4, '2.56', '1.1', '1', '10.10')} allow='yes'/>"
        )
        return f"<redirfilter>{rule}</redirfilter>"

    def rng(self):
        rate = self.maybe(0.4, "<rate bytes='10'/>", "<rate bytes='9' period='8'/>", "<rate/>")
        backend = self.one("<backend model='random'/>", "<backend model='builtin'/>")
        return f"<rng model='{self.one('virtio', 'virtio-transitional')}'>{rate}{backend}</rng>"

    def tpm(self):
        model = self.at("model", 0.7, "tpm-tis", "tpm-crb", "tpm-spapr")
        device = self.maybe(0.5, "<device path='/dev/tpm1'/>", "<device/>")
        return f"<tpm{model}><backend type='passthrough'>{device}</backend></tpm>"

    def listen(self):
        kind = self.one("address", "address", "network", "socket", "none")
        details = {
            "address": self.at("address", 0.5, "1.2.3.4", "::1", ""),
            "network": self.at("network", 0.9, "default"),
            "socket": self.at("socket", 0.5, "/s"),
        }
        return f"<listen type='{kind}'{details.get(kind, '')}/>"

    def graphics(self):
        kind = self.one("vnc", "vnc", "vnc", "sdl", "egl-headless", "dbus", "desktop")
        attributes, content = f" type='{kind}'", ""
        if kind == "vnc":
            attributes += self.at("port", 0.5, "5900", "-1", "0", "abc")
            attributes += self.at("autoport", 0.4, "yes", "no", "maybe")
            attributes += self.at("listen", 0.3, "1.2.3.4", "") + self.at("socket", 0.2, "/s")
            attributes += self.at("websocket", 0.2, "-1", "5700")
            attributes += self.at("sharePolicy", 0.2, "ignore", "default")
            attributes += self.at("powerControl", 0.2, "yes", "no")
            attributes += self.at("passwd", 0.3, "x", "123456789")
            attributes += self.at("passwdValidTo", 0.2, "2030-1-2T3:4:5", "never")
            attributes += self.at("connected", 0.1, "keep", "fail")
            content = "".join(self.listen() for _ in range(self.one(0, 0, 1, 2)))
        elif kind != "desktop" and self.random.random() < 0.4:
            node = "" if kind == "sdl" else self.at("rendernode", 0.4, "/dev/dri/x")
            content = f"<gl{self.at('enable', 0.9, 'yes', 'no')}{node}/>"
        if kind in ("sdl", "desktop"):
            attributes += self.at("display", 0.3, ":0") + self.at("fullscreen", 0.4, "yes", "no")
        if kind == "dbus":
            attributes += self.at("p2p", 0.3, "yes", "no") + self.at("address", 0.2, "unix:x")
        return f"<graphics{attributes}>{content}</graphics>"

    def document(self, name):
        families = (
            self.graphics, self.graphics, self.serial, self.serial, self.console, self.channel,
            self.channel, self.parallel, self.redirfilter, self.rng, self.tpm,
        )  # fmt: skip
        devices = "".join(self.one(*families)() for _ in range(self.one(1, 1, 2)))
        machine = self.one("pc", "q35")
        return (
            f"<domain type='qemu'><name>{name}</name><memory>65536</memory><os><type arch='x86_64'"
            f" machine='{machine}'>hvm</type></os><devices>{devices}</devices></domain>"
        )


def shown(xml):
    """Return the compared devices, without the white space between elements."""
    found = []
    for device in etree.fromstring(xml).find("devices"):
        if device.tag in COMPARED:
            lines = etree.tostring(device, encoding="unicode").splitlines()
            found.append("".join(line.strip() for line in lines))
    return found


def by_libvirt(virsh, folder, documents):
    """Return what libvirt makes of each document: its devices, or the words of a refusal."""
    commands = []
    for name, document in documents.items():
        (folder / f"{name}.xml").write_text(document)
        commands += [f"define {folder}/{name}.xml", f"dumpxml --inactive --security-info {name}"]
    done = virsh(*commands)
    results = dict(REFUSED.findall(done.stderr))
    for xml in re.findall(r"<domain .*?</domain>", done.stdout, re.DOTALL):
        results[etree.fromstring(xml).findtext("name")] = shown(xml)
    return results


def by_pipeline(registry, ctx, document):
    """Return what we make of a document: its devices, and what we refuse."""
    try:
        domain = pipeline(registry).load(document, ctx)
    except ValidationFailed as failed:
        return None, [str(issue) for issue in failed.issues]
    return shown(Definition(domain, registry).xml(secure=True)), []


@pytest.mark.timeout(240)
def test_devices_are_those_of_libvirt(libvirt, probed, qemu, tmp_path):
    virsh, root = libvirt
    documents = {f"d{seed}": Maker(seed).document(f"d{seed}") for seed in range(DOCUMENTS)}
    wanted = by_libvirt(virsh, tmp_path, documents)
    caps = probed(root)
    registry = Registry()
    registry.freeze()
    host = HostInfo.from_system()
    for name, document in documents.items():
        ctx = Context(
            registry=registry,
            driver="qemu",
            find_capabilities=lambda path: caps,
            find_program=lambda program: f"/usr/bin/{program}",
            host=host,
            config=QemuConfig(swtpm_versions=()),
            abi_update=True,
        )
        found, refusals = by_pipeline(registry, ctx, document)
        assert wanted[name] == found or wanted[name] in refusals, (document, refusals)
    assert sum(isinstance(each, list) for each in wanted.values()) > DOCUMENTS // 3
