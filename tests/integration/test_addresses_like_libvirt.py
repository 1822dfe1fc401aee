"""Where libvirt is installed: a document gets the same addresses there, or the same refusal.

Documents are made at random from parts; each is defined by libvirt in a state directory of its
own and by the pipeline, with the capabilities that libvirt found.
"""

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
VIRTIO = ("virtio", "virtio-transitional", "virtio-non-transitional")
REFUSED = re.compile(
    r"^error: Failed to define domain from .*/(d\d+)\.xml\nerror: (.*)$", re.MULTILINE
)

pytestmark = pytest.mark.qemu


def by_libvirt(virsh, folder, documents):
    """Return what libvirt makes of each document: a definition, or the words of a refusal."""
    commands = []
    for name, document in documents.items():
        (folder / f"{name}.xml").write_text(document)
        commands += [f"define {folder}/{name}.xml", f"dumpxml --inactive {name}"]
    done = virsh(*commands)
    results = dict(REFUSED.findall(done.stderr))
    for xml in re.findall(r"<domain .*?</domain>", done.stdout, re.DOTALL):
        results[etree.fromstring(xml).findtext("name")] = places(xml)
    return results


def by_pipeline(registry, caps, document):
    """Return what we make of a document, likewise."""
    ctx = Context(
        registry=registry,
        driver="qemu",
        find_capabilities=lambda path: caps,
        find_program=lambda program: f"/usr/bin/{program}",
        host=HostInfo.from_system(),
        config=QemuConfig(),
        abi_update=True,
    )
    try:
        domain = pipeline(registry).load(document, ctx)
    except ValidationFailed as failed:
        return str(failed)
    return places(Definition(domain, registry).xml())


def make(choose, name):
    q35 = choose.random() < 0.6
    likely = choose.choice((0.02, 0.05, 0.08, 0.25))  # how often something has an address
    parts = []

    def pci():
        if choose.random() >= likely:
            return ""
        bus, slot = choose.choice((0, 0, 0, 1, 2, 3)), choose.choice((0, 1, 2, 3, 4, 0x1D, 0x1B))
        function = choose.choice((0, 0, 0, 0, 1, 7))
        return f"<address type='pci' bus='{bus}' slot='{slot}' function='{function}'/>"

    def usb():
        if choose.random() >= likely:
            return ""
        port = choose.choice(("", " port='1'", " port='2'", " port='1.2'", " port='3'"))
        return f"<address type='usb' bus='{choose.choice((0, 0, 0, 1))}'{port}/>"

    def some(most, form, *values):
        for number in range(choose.randint(0, most)):
            parts.append(form.format(choose.choice(values or ("",)), number, pci=pci(), usb=usb()))

    bridges = ["pcie-root-port"] * 4 + ["pcie-to-pci-bridge", "dmi-to-pci-bridge", "pci-bridge"]
    bridges += ["pcie-switch-upstream-port", "pcie-switch-downstream-port", "pcie-expander-bus"]
    if not q35:
        bridges = ["pci-bridge"] * 4 + ["pci-expander-bus"]
    for index in range(1, choose.choice((0, 0, 0, 1, 2, 4, 6)) + 1):
        model = choose.choice(bridges)
        parts.append(f"<controller type='pci' index='{index}' model='{model}'>{pci()}</controller>")
    many = choose.random() < 0.25
    letters = "abcdefghijklmnopqrstuvwxyz"
    for number in range(choose.randint(0, 26 if many else 4)):
        model = choose.choice(("", "", " model='virtio-transitional'"))
        parts.append(
            f"<disk type='file'{model}><source file='/x'/><target dev='vd{letters[number]}'"
            f" bus='virtio'/>{pci()}</disk>"
        )
    for bus, names in (("scsi", "abc"), ("usb", "xyz"), ("sata" if q35 else "ide", "fgh")):
        prefix = "hd" if bus == "ide" else "sd"
        parts += [
            f"<disk type='file'><source file='/x'/><target dev='{prefix}{name}' bus='{bus}'/>"
            f"{usb() if bus == 'usb' else ''}</disk>"
            for name in choose.sample(names, choose.choice((0, 0, 1, 2)))
        ]
    if choose.random() < 0.3:
        models = choose.sample(("ehci1", "uhci1", "uhci2", "uhci3"), 4)
        parts += [
            f"<controller type='usb' index='0' model='ich9-{model}'>{pci()}</controller>"
            for model in models
        ]
    else:
        models = ("qemu-xhci", "nec-xhci", "piix3-uhci", "ehci", "pci-ohci")
        some(1, "<controller type='usb' index='0' model='{}'>{pci}</controller>", *models)
    some(1, "<controller type='usb' index='1' model='{}'>{pci}</controller>", "nec-xhci", "ehci")
    some(1, "<controller type='scsi' model='{}'>{pci}</controller>", "virtio-scsi", "lsilogic")
    some(1, "<controller type='virtio-serial' index='{}'>{pci}</controller>", 0, 1)
    some(12 if many else 3, "<input type='tablet' bus='{}'/>", "usb", "virtio")
    some(1, "<hub type='usb'>{usb}</hub>")
    some(1, "<sound model='{}'>{pci}</sound>", "ich6", "ich9", "ac97", "es1370", "virtio")
    some(1, "<video><model type='{}'/>{pci}</video>", "vga", "cirrus", "virtio", "bochs")
    some(1, "<watchdog model='i6300esb'>{pci}</watchdog>")
    some(1, "<memballoon model='{}'/>", "virtio", "none", "virtio-transitional")
    some(1, "<vsock model='virtio'><cid auto='yes'/>{pci}</vsock>")
    some(1, "<crypto model='virtio' type='qemu'><backend model='builtin'/>{pci}</crypto>")
    some(1, "<panic model='pvpanic'/>")
    nets = ("virtio", "e1000", "e1000e", "rtl8139", "igb", "virtio-transitional", "pcnet")
    some(
        12 if many else 3,
        "<interface type='user'><model type='{}'/>{pci}</interface>",
        *nets,
    )
    some(1, "<rng model='{}'><backend model='random'>/dev/urandom</backend>{pci}</rng>", *VIRTIO)
    some(
        36 if choose.random() < 0.1 else 3,
        "<channel type='pty'><target type='virtio' name='{}{}'/></channel>",
        "org.example.",
    )
    some(1, "<console type='pty'><target type='virtio'/></console>")
    some(2, "<serial type='pty'><target type='{}'/></serial>", "isa-serial", "pci-serial")
    some(1, "<serial type='pty'><target type='usb-serial'/>{usb}</serial>")
    some(1, "<redirdev bus='usb' type='pty'>{usb}</redirdev>")
    some(
        2,
        "<hostdev mode='subsystem' type='pci'><source><address domain='0x7f' bus='{}' slot='{}'"
        " function='0'/></source>{pci}</hostdev>",
        17,
        18,
    )
    some(1, "<smartcard mode='host'/>")
    choose.shuffle(parts)
    return (
        f"<domain type='qemu'><name>{name}</name><memory>65536</memory><os><type arch='x86_64'"
        f" machine='{'q35' if q35 else 'pc'}'>hvm</type></os><features><acpi/></features><devices>"
        f"{''.join(parts)}</devices></domain>"
    )


def places(xml):
    """Return what of a definition is about places."""
    rows = []
    for device in etree.fromstring(xml).find("devices"):
        address = device.find("address")
        row = [device.tag, None if address is None else dict(address.attrib)]
        if device.tag == "controller":
            target = device.find("target")
            row += [device.get("type"), device.get("index"), device.get("model")]
            row += [None if target is None else dict(target.attrib)]
        rows.append(row)
    return rows


@pytest.mark.timeout(240)
def test_addresses_are_those_of_libvirt(libvirt, probed, qemu, tmp_path):
    virsh, root = libvirt
    documents = {f"d{seed}": make(random.Random(seed), f"d{seed}") for seed in range(DOCUMENTS)}
    wanted = by_libvirt(virsh, tmp_path, documents)
    caps = probed(root)
    registry = Registry()
    registry.freeze()
    for name, document in documents.items():
        assert by_pipeline(registry, caps, document) == wanted[name], document
    assert sum(isinstance(each, list) for each in wanted.values()) > DOCUMENTS // 3
