"""Where libvirt is installed: CPUs and memory of random documents are told QEMU in its words.

Each document is defined by libvirt in a state directory of its own, and read by the pipeline with
the capabilities that libvirt found; sections and command lines must agree, or both refuse.
"""

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

DOCUMENTS = 120
SECTIONS = frozenset(
    {"memory", "currentMemory", "maxMemory", "memoryBacking", "vcpu", "vcpus", "iothreads"}
    | {"iothreadids", "cputune", "numatune", "cpu"}
)
OPTIONS = frozenset({"-cpu", "-m", "-overcommit", "-smp", "-numa", "-mem-path", "-mem-prealloc"})
OBJECTS = re.compile(r"memory-backend|iothread|thread-context|main-loop")
MODELS = ("qemu64", "Nehalem", "Haswell", "EPYC", "Penryn", "Opteron_G2", "Icelake-Server")

pytestmark = pytest.mark.qemu


class Maker:
    """Makes documents; what is rarely right together is rarely put together."""

    def __init__(self, seed):
        self.choose = random.Random(seed)
        self.vcpus = self.choose.choice((1, 2, 3, 4, 8))
        self.cells = self.choose.choice((0, 0, 0, 1, 2, 3))

    def maybe(self, chance, text):
        return text if self.choose.random() < chance else ""

    def one(self, *values):
        return self.choose.choice(values)

    def memory(self):
        backing = "".join(
            (
                self.maybe(0.2, "<nosharepages/>"),
                self.maybe(0.2, "<locked/>"),
                self.maybe(0.5, f"<source type='{self.one('file', 'anonymous', 'memfd')}'/>"),
                self.maybe(0.4, f"<access mode='{self.one('shared', 'private')}'/>"),
                self.maybe(0.4, f"<allocation mode='{self.one('immediate', 'ondemand')}'/>"),
                self.maybe(0.2, "<discard/>"),
            )
        )
        unit = self.maybe(0.3, f" unit='{self.one('KiB', 'k', 'KB')}'")
        return (
            self.maybe(0.2, f"<maxMemory slots='{self.one(1, 4)}'>8388608</maxMemory>")
            + f"<memory{unit}>{self.one(524288, 1048576, 1048577)}</memory>"
            + self.maybe(0.3, f"<currentMemory>{self.one(0, 1000, 4194304)}</currentMemory>")
            + self.maybe(0.3, f"<memoryBacking>{backing}</memoryBacking>")
        )

    def threads(self):
        current = self.maybe(0.2, f" current='{self.one(1, self.vcpus)}'")
        cpuset = self.maybe(0.3, f" cpuset='{self.one('0', '0-1', '0-3,^2', ' 0 , 1,')}'")
        online = self.choose.randint(1, self.vcpus)
        states = "".join(
            f"<vcpu id='{number}' enabled='{'yes' if number < online else 'no'}'/>"
            for number in range(self.vcpus)
        )
        poll = self.maybe(0.4, f"<poll max='{self.one(0, 123)}'/>")
        return (
            f"<vcpu{cpuset}{current}>{self.vcpus}</vcpu>"
            + self.maybe(0.2, f"<vcpus>{states}</vcpus>")
            + self.maybe(0.4, f"<iothreads>{self.one(0, 1, 3)}</iothreads>")
            + self.maybe(0.3, f"<iothreadids><iothread id='2'>{poll}</iothread></iothreadids>")
        )

    def tuning(self):
        tune = "".join(
            (
                self.maybe(0.5, f"<shares>{self.one(1, 2048)}</shares>"),
                self.maybe(0.5, f"<quota>{self.one(-1, 0, 1000)}</quota>"),
                self.maybe(0.5, "<vcpupin vcpu='0' cpuset='0'/>"),
                self.maybe(0.3, "<vcpupin vcpu='99' cpuset='0'/>"),
                self.maybe(0.3, "<emulatorpin cpuset='0'/>"),
                self.maybe(0.3, "<vcpusched vcpus='0' scheduler='fifo' priority='1'/>"),
            )
        )
        mode = self.one("strict", "preferred", "interleave")
        nodes = "".join(
            f"<memnode cellid='{cell}' mode='{self.one('strict', 'preferred')}' nodeset='0'/>"
            for cell in range(self.one(0, self.cells))
        )
        memory = f"<memory mode='{mode}' nodeset='{self.one(*'000001')}'/>"
        return self.maybe(0.3, f"<cputune>{tune}</cputune>") + self.maybe(
            0.4, f"<numatune>{self.maybe(0.8, memory)}{nodes}</numatune>"
        )

    def cpu(self):
        mode = self.one(None, None, "host-model", "host-passthrough", "custom", "custom", "maximum")
        model = features = ""
        if mode == "custom":
            fallback = self.maybe(0.3, f" fallback='{self.one('allow', 'forbid')}'")
            model = f"<model{fallback}>{self.one(*MODELS)}</model>"
        if mode is not None and self.choose.random() < 0.5:
            policy = self.one("require", "disable", "optional", "force", "forbid")
            name = self.one("vmx", "avx", "invtsc", "lahf_lm", "pcid", "sse4a")
            features = f"<feature name='{name}' policy='{policy}'/>"
        topology = self.maybe(
            0.2, f"<topology sockets='{self.vcpus}' cores='1' threads='{self.one(1, 1, 1, 2)}'/>"
        )
        numa = f"<numa>{''.join(self.cell(cell) for cell in range(self.cells))}</numa>"
        return (
            f"<cpu{f' mode={mode!r}' if mode else ''}>{model}{topology}{features}"
            f"{numa if self.cells else ''}</cpu>"
        )

    def cell(self, number):
        cpus = f" cpus='{number}'" if number < self.vcpus and self.choose.random() < 0.8 else ""
        other = (number + 1) % self.cells
        distance = f"<distances><sibling id='{other}' value='{self.one(20, 21, 31)}'/></distances>"
        return (
            f"<cell id='{number}'{cpus} memory='{self.one(262144, 262145)}'"
            f"{self.maybe(0.2, ' memAccess=' + repr(self.one('shared', 'private')))}>"
            f"{self.maybe(0.2, distance) if self.cells > 1 else ''}</cell>"
        )

    def document(self, name):
        kind, machine = self.one("kvm", "qemu"), self.one("pc", "q35")
        return (
            f"<domain type='{kind}'><name>{name}</name>{self.memory()}{self.threads()}"
            f"{self.tuning()}<os><type arch='x86_64' machine='{machine}'>hvm</type></os>"
            f"{self.cpu()}<devices/></domain>"
        )


def sections(xml):
    """Return the lines of the sections that are about CPUs and memory."""
    return [
        line.strip()
        for section in etree.fromstring(xml)
        if section.tag in SECTIONS
        for line in etree.tostring(section).decode().strip().split("\n")
    ]


def options(argv):
    """Return the options that are about CPUs and memory, with their values."""
    found = []
    for option, value in zip(argv, [*argv[1:], ""], strict=True):
        if option in OPTIONS or (option == "-object" and OBJECTS.search(value)):
            found.append(f"{option} {value}")
    return found


def by_libvirt(virsh, folder, documents):
    """Return what libvirt makes of each document: sections, and options unless it refuses."""
    commands = []
    for name, document in documents.items():
        (folder / f"{name}.xml").write_text(document)
        commands += [
            f"define {folder}/{name}.xml",
            f"dumpxml --inactive {name}",
            f"domxml-to-native qemu-argv --domain {name}",
        ]
    said = virsh(*commands).stdout
    defined = {
        etree.fromstring(xml).findtext("name"): sections(xml)
        for xml in re.findall(r"<domain .*?</domain>", said, re.DOTALL)
    }
    lowered = {
        re.search(r"guest=(\w+)", line)[1]: options(shlex.split(line))
        for line in re.findall(r"^LC_ALL=.*$", said, re.MULTILINE)
    }
    return {name: (defined.get(name), lowered.get(name)) for name in documents}


def by_pipeline(registry, caps, root, document):
    """Return what we make of a document, likewise."""
    config = QemuConfig(lib_dir=f"{root}/lib/qemu", memory_backing_dir=f"{root}/lib/qemu/ram")
    ctx = Context(
        registry=registry,
        driver="qemu",
        find_capabilities=lambda path: caps,
        find_program=lambda program: f"/usr/bin/{program}",
        host=HostInfo.from_system(),
        config=config,
        abi_update=True,
    )
    try:
        domain = pipeline(registry).load(document, ctx)
    except HvError:
        return None, None
    found = sections(Definition(domain, registry).xml())
    try:
        return found, options(plan_start(domain, ctx, PretendHost()).argv)
    except HvError:
        return found, None


@pytest.mark.timeout(240)
def test_cpus_and_memory_are_those_of_libvirt(libvirt, probed, qemu, tmp_path):
    virsh, root = libvirt
    documents = {f"d{seed}": Maker(seed).document(f"d{seed}") for seed in range(DOCUMENTS)}
    wanted = by_libvirt(virsh, tmp_path, documents)
    registry = Registry()
    registry.freeze()
    caps = probed(root)
    for name, document in documents.items():
        assert by_pipeline(registry, caps, root, document) == wanted[name], document
    assert sum(lowered is not None for _, lowered in wanted.values()) > DOCUMENTS // 4
