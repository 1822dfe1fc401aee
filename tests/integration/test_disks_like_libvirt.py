"""Where libvirt is installed: disks, controllers and filesystems of random documents are its own.

Each document is defined by libvirt in a state directory of its own, and read by the pipeline with
the capabilities that libvirt found; devices and command lines must agree, or both refuse in the
same words.
"""

import itertools
import random
import re
import shlex

import pytest
from lxml import etree

from hvcore.errors import HvError
from hvcore.hostinfo import HostInfo
from hvcore.pipeline import Context
from hvcore.pipeline import Definition
from hvcore.registry import Registry
from hvcore_qemu.config import QemuConfig
from hvcore_qemu.launch import pipeline
from hvcore_qemu.launch import plan_start
from hvcore_qemu.pretend import PretendHost

DOCUMENTS = 150
TAGS = frozenset({"disk", "controller", "filesystem"})
OPTIONS = frozenset({"-blockdev", "-device", "-drive", "-global", "-fsdev"})
TARGETS = {
    "virtio": "vd", "scsi": "sd", "sata": "sd", "usb": "sd", "ide": "hd", "fdc": "fd", "sd": "sd"
}  # fmt: skip
SCSI = ("virtio-scsi", "lsilogic", "lsisas1078", "vmpvscsi", "virtio-transitional", "auto")
USB = ("piix3-uhci", "ehci", "nec-xhci", "qemu-xhci", "none", "pci-ohci")

pytestmark = pytest.mark.qemu


class Maker:
    """Makes documents; what is rarely right together is rarely put together."""

    def __init__(self, seed):
        self.choose = random.Random(seed)
        self.machine = self.one("pc", "q35")

    def maybe(self, chance, text):
        return text if self.choose.random() < chance else ""

    def one(self, *values):
        return self.choose.choice(values)

    def server(self):
        return self.one(
            "<host name='h'/>",
            "<host name='::1' port='7'/>",
            "<host transport='unix' socket='/s,k'/>",
            "<host name='a'/><host name='b' port='3'/>",
        )

    def network(self):
        protocol = self.one("nbd", "rbd", "gluster", "iscsi", "http", "https", "ftp", "ssh", "nfs")
        inside = self.server() + self.maybe(0.2, "<snapshot name='s'/>")
        if protocol in ("http", "https", "ftp"):
            inside += self.maybe(0.3, "<ssl verify='no'/>")
            inside += self.maybe(0.3, "<readahead size='4096'/><timeout seconds='9'/>")
        if protocol == "nbd":
            inside += self.maybe(0.3, "<reconnect delay='5'/>")
        name = self.one("pool/image", "pool/image", "/abs", "plain", "iqn.t/1")
        query = self.maybe(0.2, " query='a=b'")
        return f"<source protocol='{protocol}' name='{name}'{query}>{inside}</source>"

    def source(self, kind):
        part = self.maybe(0.1, "<slices><slice type='storage' offset='512' size='1024'/></slices>")
        policy = self.maybe(0.1, f" startupPolicy='{self.one('optional', 'requisite')}'")
        path = self.one("/a", "/dev/b", "/c,d", "/e f")
        return {
            "file": f"<source file='{path}'{policy}>{part}</source>",
            "block": f"<source dev='{path}'{policy}>{part}</source>",
            "dir": f"<source dir='{path}'{policy}/>",
            "network": self.network(),
            "nvme": "<source type='pci' namespace='1' managed='no'>"
            "<address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></source>",
        }[kind]

    def driver(self, kind):
        form = self.one("raw", "raw", "qcow2", "qcow2", "vmdk", "vdi")
        values = {
            "cache": ("none", "writeback", "unsafe", "directsync"),
            "io": ("native", "threads", "io_uring"),
            "discard": ("unmap", "ignore"),
            "detect_zeroes": ("on", "off", "unmap"),
            "error_policy": ("stop", "report", "enospace"),
            "rerror_policy": ("ignore", "report"),
            "copy_on_read": ("on", "off"),
            "ioeventfd": ("on", "off"),
            "queues": (0, 2),
            "iommu": ("on", "off"),
            "discard_no_unref": ("on",),
        }
        chosen = "".join(
            f" {name}='{self.one(*each)}'" if self.choose.random() < 0.08 else ""
            for name, each in values.items()
        )
        if kind == "dir":
            form = "fat"
        return self.maybe(0.9, f"<driver name='qemu' type='{form}'{chosen}/>")

    def chain(self):
        below = self.one("", "", "<backingStore/>", self.chain() if self.maybe(0.3, "x") else "")
        kind = self.one("file", "block")
        form = self.one("raw", "qcow2")
        return (
            f"<backingStore type='{kind}'><format type='{form}'/>{self.source(kind)}{below}"
            "</backingStore>"
        )

    def disk(self, number):
        bus = self.one("virtio", "virtio", "scsi", "sata", "usb", "ide", "fdc", "sd")
        kind = self.one("file", "file", "block", "network", "dir", "nvme")
        device = self.one("disk", "disk", "disk", "cdrom", "lun")
        if bus == "fdc":
            device = "floppy"
        name = f"{TARGETS[bus]}{chr(ord('a') + number)}"
        media = self.source(kind) if device == "disk" or self.maybe(0.6, "x") else ""
        rest = "".join(
            (
                self.maybe(0.1, "<geometry cyls='16' heads='2' secs='32'/>"),
                self.maybe(0.1, "<blockio logical_block_size='512'/>"),
                self.maybe(0.1, "<iotune><total_bytes_sec>9</total_bytes_sec></iotune>"),
                self.maybe(0.6 if kind == "dir" else 0.1, "<readonly/>"),
                self.maybe(0.1, "<shareable/>"),
                self.maybe(0.1, "<transient/>"),
                self.maybe(0.1, f"<serial>{self.one('WD-1', 'a b', 'x;y')}</serial>"),
                self.maybe(0.1, "<wwn>5000c50015ea71ac</wwn>"),
                self.maybe(0.1, "<vendor>SEAGATE</vendor>"),
                self.maybe(0.1, "<product>ST3146707LC</product>"),
            )
        )
        removable = self.maybe(0.1, " removable='on'")
        rate = self.maybe(0.1, " rotation_rate='1'")
        said = self.maybe(0.8, f" bus='{bus}'")
        chain = self.maybe(0.2, self.chain()) if media else ""
        return (
            f"<disk type='{kind}' device='{device}'>{self.driver(kind)}{media}{chain}"
            f"<target dev='{name}'{said}{removable}{rate}/>{rest}</disk>"
        )

    def controller(self):
        index = self.maybe(0.7, f" index='{self.one(0, 0, 1, 2)}'")
        kind = self.one("scsi", "scsi", "usb", "sata", "virtio-serial", "pci", "ide", "ccid")
        model = self.maybe(0.9, f" model='{self.one(*SCSI)}'") if kind == "scsi" else ""
        inside = ""
        if kind == "scsi":
            inside = self.maybe(
                0.3, f"<driver queues='2'{self.maybe(0.3, chr(32) + 'ats=' + repr('on'))}/>"
            )
        elif kind == "usb":
            model = self.maybe(0.9, f" model='{self.one(*USB)}'") + self.maybe(0.2, " ports='4'")
        elif kind == "virtio-serial":
            model = self.maybe(0.3, " ports='4' vectors='2'")
        elif kind == "pci":
            root = "pcie-root" if self.machine == "q35" else "pci-root"
            bridge = "pcie-root-port" if self.machine == "q35" else "pci-bridge"
            model = f" model='{self.one(root, bridge, bridge, 'dmi-to-pci-bridge')}'"
            inside = self.maybe(0.1, "<target hotplug='off'/>")
        return f"<controller type='{kind}'{index}{model}>{inside}</controller>"

    def filesystem(self):
        mode = self.maybe(0.5, f" accessmode='{self.one('mapped', 'passthrough', 'squash')}'")
        bits = self.maybe(0.2, " fmode='0640' dmode='0750'")
        driver = self.maybe(0.3, f"<driver type='{self.one('path', 'mtp', 'handle', 'loop')}'/>")
        return (
            f"<filesystem type='mount'{mode}{bits}>{driver}<source dir='/x,y'/>"
            f"<target dir='t'/>{self.maybe(0.3, '<readonly/>')}</filesystem>"
        )

    def document(self, name):
        devices = "".join(self.disk(number) for number in range(self.one(0, 1, 1, 2)))
        devices += "".join(self.controller() for _ in range(self.one(0, 0, 1, 2)))
        devices += self.maybe(0.1, self.filesystem())
        return (
            f"<domain type='qemu'><name>{name}</name><memory>524288</memory>"
            f"<os><type arch='x86_64' machine='{self.machine}'>hvm</type></os>"
            f"<devices>{devices}</devices></domain>"
        )


def devices(xml):
    """Return the lines of the devices that the documents are about."""
    found = etree.fromstring(xml).find("devices")
    return [
        line.strip()
        for device in found
        if device.tag in TAGS
        for line in etree.tostring(device).decode().strip().split("\n")
    ]


def options(argv):
    """Return the options of devices and what is below them, with their values."""
    pairs = itertools.pairwise(argv)
    return [f"{option} {value}" for option, value in pairs if option in OPTIONS]


def by_libvirt(virsh, folder, documents):
    """Return what libvirt makes of each document: devices, options, or its refusal."""
    commands = []
    for name, document in documents.items():
        (folder / f"{name}.xml").write_text(document)
        commands += [
            f"define {folder}/{name}.xml",
            f"dumpxml --inactive {name}",
            f"domxml-to-native qemu-argv --domain {name}",
        ]
    done = virsh(*commands)
    defined = {
        etree.fromstring(xml).findtext("name"): devices(xml)
        for xml in re.findall(r"<domain .*?</domain>", done.stdout, re.DOTALL)
    }
    lowered = {
        re.search(r"guest=(\w+)", line)[1]: options(shlex.split(line))
        for line in re.findall(r"^LC_ALL=.*$", done.stdout, re.MULTILINE)
    }
    refused = dict(
        re.findall(r"Failed to define domain from .*/(\w+)\.xml\nerror: (.*)", done.stderr)
    )
    return {name: refused.get(name) or (defined.get(name), lowered.get(name)) for name in documents}


def by_pipeline(registry, caps, root, document):
    """Return what we make of a document, likewise."""
    ctx = Context(
        registry=registry,
        driver="qemu",
        find_capabilities=lambda path: caps,
        find_program=lambda program: f"/usr/bin/{program}",
        host=HostInfo.from_system(),
        config=QemuConfig(lib_dir=f"{root}/lib/qemu"),
        abi_update=True,
    )
    try:
        domain = pipeline(registry).load(document, ctx)
    except HvError as error:
        return str(error)
    found = devices(Definition(domain, registry).xml())
    try:
        # virsh hands over the written document, which is read again.
        domain = pipeline(registry).load(Definition(domain, registry).xml(), ctx)
        return found, options(plan_start(domain, ctx, PretendHost()).argv)
    except HvError:
        return found, None


@pytest.mark.timeout(240)
def test_disks_and_controllers_are_those_of_libvirt(libvirt, probed, qemu, tmp_path):
    virsh, root = libvirt
    documents = {f"d{seed}": Maker(seed).document(f"d{seed}") for seed in range(DOCUMENTS)}
    wanted = by_libvirt(virsh, tmp_path, documents)
    registry = Registry()
    registry.freeze()
    caps = probed(root)
    for name, document in documents.items():
        assert by_pipeline(registry, caps, root, document) == wanted[name], document
    assert sum(isinstance(found, tuple) for found in wanted.values()) > DOCUMENTS // 4
