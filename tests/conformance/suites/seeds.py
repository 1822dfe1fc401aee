"""The founding features: audio, NUMA placement, pinning, generic initiators, mediated displays.

The rules for what counts as passed are those of the data's CASES.md: definitions, refusals and the
options that the features own have to be equal, other differences of the command line are told.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from typing import ClassVar
from typing import Final

import attrs
from lxml import etree

from hvcore.capabilities import Exchange
from hvcore.capabilities import ProbeSession
from hvcore.errors import HvError
from hvcore.hostinfo import HostInfo
from hvcore.hostinfo import HostThread
from hvcore.hostinfo import NumaCell
from hvcore.model.domain import Domain
from hvcore.model.types import NodeSet
from hvcore.pipeline import Context
from hvcore.registry import Registry
from hvcore.xml.reader import read_file
from hvcore_qemu import conffile
from hvcore_qemu import rendernode
from hvcore_qemu.capabilities import QemuCapabilities
from hvcore_qemu.command import QemuPlan
from hvcore_qemu.config import QemuConfig
from hvcore_qemu.config import configured
from hvcore_qemu.extensions import register
from hvcore_qemu.launch import pipeline
from hvcore_qemu.launch import plan_start
from hvcore_qemu.pretend import PretendHost
from tests.conformance.compare import parse_command
from tests.conformance.compare import same_command
from tests.conformance.compare import same_text
from tests.conformance.decisions import Expectation
from tests.conformance.decisions import expected
from tests.conformance.suite import CaseFailedError
from tests.conformance.suite import Progress
from tests.conformance.suite import Suite
from tests.conformance.suite import data_folder
from tests.conformance.suites.qemucapabilities import conversations

VERSION: Final = "10.0"
"""Of the QEMU that the argv were recorded with."""
RUNNING: Final = 1
"""The id of a domain whose argv is that of a real start."""
HOST_CPUS: Final = 2
NO_ROOT: Final = Path("/nonexistent")
"""The root of a file system without any device."""

CONFIG: Final = QemuConfig(
    lib_dir="@ROOT@/lib/qemu",
    channel_target_dir="@ROOT@/run/qemu/channel",
    memory_backing_dir="@ROOT@/lib/qemu/ram",
    nvram_dir="@ROOT@/lib/qemu/nvram",
    passt_state_dir="@ROOT@/run/qemu/passt",
    dbus_state_dir="@ROOT@/run/qemu/dbus",
)
ALLOW_EMULATORPIN: Final = "allow_emulatorpin_with_auto_placement"

_OWN_OPTIONS: Final = {"-audiodev", "-vnc", "-spice", "-display", "-smp", "-m", "-numa"}
_OWN_OBJECTS: Final = re.compile("memory-backend-|thread-context$|acpi-generic-initiator$")
_OWN_DEVICES: Final = {
    "AC97", "ES1370", "hda-duplex", "hda-micro", "hda-output", "ich9-intel-hda", "intel-hda",
    "sb16", "usb-audio", "vfio-pci", "vfio-pci-nohotplug", "virtio-sound-pci",
}  # fmt: skip
_OWN_MACHINE_OPTIONS: Final = re.compile("memory-backend=|[a-z-]*audiodev=")
_OWN_VARIABLES: Final = ("QEMU_AUDIO_DRV=", "SDL_AUDIODRIVER=")


class SeedHost(PretendHost):
    """The host of one case."""

    def __init__(self, setup: Mapping[str, Any]) -> None:
        super().__init__()
        self.setup = setup
        self.numad_calls: list[str] = []

    def env(self, name: str) -> str | None:
        found: str | None = self.setup["env"].get(name)
        return found

    def numa_nodes(self) -> Mapping[int, NodeSet]:
        cpus = NodeSet(range(HOST_CPUS))
        return {node: NodeSet() if node else cpus for node in range(self.setup["host_nodes"])}

    def numa_advice(self, *, vcpus: int, memory: int) -> NodeSet | None:
        self.numad_calls.append(f"-w {vcpus}:{memory}")
        numad = self.setup["numad"]
        return NodeSet.parse(numad["advice"]) if numad else None

    def vfio(self) -> bool:
        found: bool = self.setup["vfio"]
        return found

    def render_node(self) -> str:
        return rendernode.first(NO_ROOT)


@attrs.frozen
class Result:
    """What became of one document; ``error`` of the start, where ``plan`` is None."""

    xml: str
    plan: QemuPlan | None
    error: str | None
    numad_calls: list[str]


class Cases(Suite):
    """The suite ``seeds``."""

    name: ClassVar[str] = "seeds"

    @classmethod
    def default_data(cls) -> Path:
        """Return the folder beside libvirt's own data."""
        return data_folder().parent / "seeds"

    @classmethod
    def folder_in(cls, data: Path) -> Path:
        """Return the data itself: it holds no other suite."""
        return data

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self.files = self.folder / "cases"
        self.registry = Registry()
        self.registry.load_entry_points()
        register(self.registry)
        self.registry.freeze()
        self.pipeline = pipeline(self.registry)

    def check(self, case: dict[str, Any], progress: Progress) -> None:
        document = read_file(self.files / case["xml"])
        conf: dict[str, str] = case["setup"]["conf"]
        recorded = self._recorded(case)
        self._check(document, case, conf, recorded, progress)
        if ALLOW_EMULATORPIN not in conf and "emulatorpin" in document.decode():
            # The decision can be taken back, and then everything is as it was recorded.
            self._check(document, case, {**conf, ALLOW_EMULATORPIN: "1"}, recorded, progress)
        if not case["setup"]["vfio"] and case["setup"]["host_nodes"] == 1:
            return
        if case["without_mock_err"]:
            bare = {**case["setup"], "vfio": False, "host_nodes": 1}
            refused = attrs.evolve(
                recorded, argv=None, start_error=_said(self._text(case["without_mock_err"]))
            )
            self._check(document, {**case, "setup": bare}, conf, refused, progress)

    def _check(
        self,
        document: bytes,
        case: Mapping[str, Any],
        conf: Mapping[str, str],
        recorded: Expectation,
        progress: Progress,
    ) -> None:
        setup = case["setup"]
        wanted = expected(etree.fromstring(document), conf, recorded)
        with progress.stage("define"):
            try:
                result = self._run(document, setup, conf)
            except HvError as error:
                _same_line(wanted.define_error or "(accepted)", str(error))
                return
            if wanted.define_error is not None:
                raise CaseFailedError(f"- {wanted.define_error}\n+ (accepted)")
        if wanted.same_as is not None:
            with progress.stage("same"):
                other = self._run(wanted.same_as, setup, conf)
                wanted = attrs.evolve(
                    wanted, xml=other.xml, argv=other.plan.argv if other.plan else None
                )
        if wanted.xml is not None:
            with progress.stage("xml"):
                same_text(_canonical(wanted.xml), _canonical(result.xml))
        if wanted.start_error is not None or (result.plan is None and wanted.argv is not None):
            with progress.stage("start"):
                _same_line(wanted.start_error or "(started)", result.error or "(started)")
        if wanted.argv is None or result.plan is None:
            return
        self._check_command(wanted, result.plan, progress)
        if setup["numad"]:
            with progress.stage("numad"):
                _same_line(setup["numad"]["call"], "\n".join(result.numad_calls))

    def _check_command(self, wanted: Expectation, plan: QemuPlan, progress: Progress) -> None:
        assert wanted.argv is not None
        env = [f"{name}={value}" for name, value in plan.env.items()]
        with progress.stage("args"):
            same_command(
                (_own_variables(wanted.env), _own(wanted.argv)),
                _own_variables(env),
                _own(plan.argv),
            )
        try:
            same_command((wanted.env, wanted.argv), env, plan.argv)
        except CaseFailedError as elsewhere:
            progress.remark(elsewhere.detail)

    def _run(self, document: bytes, setup: Mapping[str, Any], conf: Mapping[str, str]) -> Result:
        """Define a document and plan its start.

        :raises HvError: when it cannot be defined.
        """
        ctx, host = self._context(setup, conf), SeedHost(setup)
        domain = self.pipeline.parse(document)
        ctx.caps = self._capabilities(domain)
        definition = self.pipeline.finish(domain, ctx, document)
        live = definition.clone()
        live.id = RUNNING if setup["captured_from_running"] else None
        try:
            plan = plan_start(live, attrs.evolve(ctx, abi_update=False), host)
        except HvError as error:
            return Result(definition.xml(), None, str(error), host.numad_calls)
        return Result(definition.xml(), plan, None, host.numad_calls)

    def _context(self, setup: Mapping[str, Any], conf: Mapping[str, str]) -> Context:
        text = "".join(f"{name} = {value}\n" for name, value in conf.items())
        cells = tuple(
            NumaCell(
                id=number,
                memory=2097152,
                cpus=() if number else tuple(HostThread(cpu, siblings=(cpu,)) for cpu in range(2)),
            )
            for number in range(setup["host_nodes"])
        )
        return Context(
            registry=self.registry,
            driver="qemu",
            find_program=lambda name: f"/usr/bin/{name}" if name.startswith("qemu") else None,
            host=HostInfo(arch="x86_64", cells=cells, memory=len(cells) * 2097152),
            config=configured(CONFIG, conffile.parse(text, "qemu.conf")),
            abi_update=True,
            environ=setup["env"],
        )

    def _capabilities(self, domain: Domain) -> QemuCapabilities:
        arch = (domain.os.arch if domain.os is not None else None) or "x86_64"
        found = capabilities(data_folder() / "qemucapabilities" / "data", arch)
        binary = domain.devices.emulator or f"/usr/bin/qemu-system-{arch}"
        # Plugins ask for objects that QEMU has for all architectures, or for none.
        said = exchanges(data_folder() / "qemucapabilities" / "data")
        probed = self.registry.probed("qemu", binary, ProbeSession(found, said))
        return found.replace(add=probed)

    def _recorded(self, case: Mapping[str, Any]) -> Expectation:
        found = Expectation()
        if case["define_err"]:
            found.define_error = _said(self._text(case["define_err"]))
        if case["out_xml"]:
            found.xml = self._text(case["out_xml"])
        if case["err"]:
            found.start_error = _said(self._text(case["err"]))
        if case["args"]:
            found.env, found.argv = parse_command(self._text(case["args"]))
        return found

    def _text(self, name: str) -> str:
        return (self.files / name).read_text("utf-8")


def _said(text: str) -> str:
    """Return what virsh was told, of all that it printed: the line that names a reason."""
    for said in re.split("^error: ", text, flags=re.MULTILINE):
        if said.strip() and not said.startswith(
            ("Failed to define domain", "failed to get domain")
        ):
            return said.strip()
    raise CaseFailedError(f"no error in: {text}")


def _same_line(expected_line: str, actual: str) -> None:
    same_text(expected_line + "\n", actual)


def _canonical(xml: str) -> str:
    text: str = etree.tostring(etree.fromstring(xml.strip()), encoding="unicode")
    return text + "\n"


def _own_variables(environment: list[str]) -> list[str]:
    return [text for text in environment if text.startswith(_OWN_VARIABLES)]


def _own(argv: list[str]) -> list[str]:
    """Return the part of a command line that belongs to the features, in its order."""
    found: list[str] = []
    for option, value in zip(argv, [*argv[1:], ""], strict=True):
        if option in _OWN_OPTIONS:
            found += [option, value]
        elif option == "-machine":
            parts = [part for part in value.split(",") if _OWN_MACHINE_OPTIONS.match(part)]
            found += [option, ",".join(parts)]
        elif option in ("-object", "-device") and _is_own(option, value):
            found += [option, value]
    return found


def _is_own(option: str, value: str) -> bool:
    if not value.startswith("{"):
        kind = value.partition(",")[0]
    else:
        kind = json.loads(value)["qom-type" if option == "-object" else "driver"]
    return bool(_OWN_OBJECTS.match(kind)) if option == "-object" else kind in _OWN_DEVICES


@functools.lru_cache(maxsize=8)
def capabilities(folder: Path, arch: str) -> QemuCapabilities:
    """Return what the recording's QEMU can do; of an older one where there is no such data."""
    exact = folder / f"caps_{VERSION}.0_{arch}.xml"
    if exact.is_file():
        return QemuCapabilities.load(exact)
    newest = max(_versions(folder, arch))
    text = (folder / f"caps_{newest[0]}.{newest[1]}.0_{arch}.xml").read_text("utf-8")
    # Its newest machines stand for those of the recording.
    return QemuCapabilities.load(
        text.replace(f"-{newest[0]}.{newest[1]}'", f"-{VERSION}'").encode()
    )


@functools.lru_cache(maxsize=2)
def exchanges(folder: Path) -> tuple[Exchange, ...]:
    """Return what the recording's QEMU was asked."""
    first, *_ = conversations(folder / f"caps_{VERSION}.0_x86_64.replies")
    return tuple(Exchange(command, reply) for command, reply in first)


def _versions(folder: Path, arch: str) -> Iterator[tuple[int, int]]:
    for path in folder.glob(f"caps_*_{arch}.xml"):
        major, minor, _ = path.name.split("_")[1].split(".")
        yield int(major), int(minor)
