"""The <domain> element: identity, memory, and one attribute for each section."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import ClassVar
from typing import Final
from typing import Literal

import attrs

from hvcore.errors import ErrorClass
from hvcore.errors import Issue
from hvcore.model.blkiotune import BlkioTune
from hvcore.model.clock import Clock
from hvcore.model.cpu import Cpu
from hvcore.model.cputune import CpuTune
from hvcore.model.devices import Devices
from hvcore.model.features import Features
from hvcore.model.iothread import DefaultIOThread
from hvcore.model.iothread import IOThread
from hvcore.model.iothread import ThrottleGroup
from hvcore.model.launchsecurity import LAUNCH_SECURITY
from hvcore.model.launchsecurity import Keywrap
from hvcore.model.launchsecurity import LaunchSecurity
from hvcore.model.memory import MemoryBacking
from hvcore.model.memory import MemoryTuning
from hvcore.model.metadata import METADATA
from hvcore.model.numatune import NumaTune
from hvcore.model.os import IdMap
from hvcore.model.os import Os
from hvcore.model.power import Perf
from hvcore.model.power import PowerManagement
from hvcore.model.resource import Resource
from hvcore.model.seclabel import Seclabel
from hvcore.model.sysinfo import SYSINFO
from hvcore.model.sysinfo import SysInfo
from hvcore.model.vcpu import Vcpu
from hvcore.model.vcpu import VcpuState
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import INT
from hvcore.xml.codecs import NONEMPTY
from hvcore.xml.codecs import ONOFF
from hvcore.xml.codecs import UINT
from hvcore.xml.codecs import UUID
from hvcore.xml.codecs import parse_uuid
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import child
from hvcore.xml.fields import children
from hvcore.xml.fields import choice
from hvcore.xml.fields import custom
from hvcore.xml.fields import element
from hvcore.xml.fields import scaled
from hvcore.xml.fields import text

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import ParseContext

VirtType = Literal[
    "none", "qemu", "kvm", "xen", "lxc", "uml", "openvz", "test", "vmware", "hyperv", "vbox",
    "phyp", "parallels", "bhyve", "vz", "hvf", "ch",
]  # fmt: skip
LifecycleAction = Literal[
    "destroy", "restart", "rename-restart", "preserve", "coredump-destroy", "coredump-restart"
]
LockFailureAction = Literal["default", "poweroff", "restart", "pause", "ignore"]

_UUID: Final = attrs.evolve(UUID, convert=lambda text: parse_uuid(text) if text else "")
"""A UUID, or the empty text, which asks for a new one."""

_ACTION: Final = "unsupported configuration: unknown {} action: {{value}}"


@element("domain")
class Domain(Element):
    """A virtual machine as its document describes it."""

    namespaces_here: ClassVar[bool] = True

    type: VirtType = attr(
        "@type",
        ENUM(VirtType),
        required=True,
        refused="unsupported configuration: invalid domain type {value}",
        missing="internal error: missing domain type attribute",
    )
    id: int | None = attr("@id", INT, show="live")
    name: str = text("name", default="")
    uuid: str | None = text("uuid", _UUID, refused="internal error: malformed uuid element")
    genid: str | None = text("genid", _UUID, refused="internal error: malformed genid element")
    title: str | None = text("title", NONEMPTY)
    description: str | None = text("description", NONEMPTY)
    metadata: str | None = custom(METADATA)
    max_memory_slots: int | None = attr(
        "maxMemory/@slots", UINT, omit=(0,), refused="Failed to parse memory slot count"
    )
    max_memory: int | None = scaled("maxMemory", doc="KiB that memory hotplug may reach")
    memory_dump_core: bool | None = attr("memory/@dumpCore", ONOFF)
    memory: int | None = scaled("memory", doc="KiB of memory, modules included")
    current_memory: int | None = scaled("currentMemory", doc="KiB the balloon leaves")
    blkiotune: BlkioTune | None = child("blkiotune", BlkioTune)
    memtune: MemoryTuning | None = child("memtune", MemoryTuning)
    memory_backing: MemoryBacking | None = child("memoryBacking", MemoryBacking)
    vcpu: Vcpu | None = child("vcpu", Vcpu)
    vcpus: list[VcpuState] = children("vcpus/vcpu", VcpuState)
    iothreads: int | None = text("iothreads", UINT, refused="invalid iothreads count '{value}'")
    iothreadids: list[IOThread] = children("iothreadids/iothread", IOThread)
    defaultiothread: DefaultIOThread | None = child("defaultiothread", DefaultIOThread)
    throttlegroups: list[ThrottleGroup] = children("throttlegroups/throttlegroup", ThrottleGroup)
    cputune: CpuTune | None = child("cputune", CpuTune)
    numatune: NumaTune | None = child("numatune", NumaTune)
    resource: Resource | None = child("resource", Resource)
    sysinfo: list[SysInfo] = choice("sysinfo", "@type", SYSINFO, many=True)
    bootloader: str | None = text("bootloader")
    bootloader_args: str | None = text("bootloader_args")
    os: Os | None = child("os", Os)
    idmap: IdMap | None = child("idmap", IdMap)
    features: Features | None = child("features", Features)
    cpu: Cpu | None = child("cpu", Cpu)
    clock: Clock | None = child("clock", Clock)
    on_poweroff: LifecycleAction | None = text(
        "on_poweroff", ENUM(LifecycleAction), refused=_ACTION.format("on_poweroff")
    )
    on_reboot: LifecycleAction | None = text(
        "on_reboot", ENUM(LifecycleAction), refused=_ACTION.format("on_reboot")
    )
    on_crash: LifecycleAction | None = text(
        "on_crash", ENUM(LifecycleAction), refused=_ACTION.format("on_crash")
    )
    on_lockfailure: LockFailureAction | None = text(
        "on_lockfailure",
        ENUM(LockFailureAction),
        omit=("default",),
        refused=_ACTION.format("on_lockfailure"),
    )
    pm: PowerManagement | None = child("pm", PowerManagement)
    perf: Perf | None = child("perf", Perf)
    devices: Devices = child("devices", Devices)
    seclabels: list[Seclabel] = children("seclabel", Seclabel)
    keywrap: Keywrap | None = child("keywrap", Keywrap)
    launch_security: LaunchSecurity | None = choice("launchSecurity", "@type", LAUNCH_SECURITY)
    uuid_generated: bool = attrs.field(default=False, eq=False, repr=False)
    """Whether the UUID is of our making rather than the document's."""

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check what only the document shows, and fill in what everything after relies on."""
        if not self.name:
            ctx.issue(el, "missing name information", kind=ErrorClass.NO_NAME)
        if self.title is not None and "\n" in self.title:
            ctx.issue(el, "Domain title can't contain newlines")
        for tag in ("name", "uuid"):
            # libvirt silently takes the first; which domain is meant must not be a guess.
            if len(el.findall(tag)) > 1:
                ctx.issue(el.findall(tag)[1], f"element '{tag}' appears twice")
        if len(el.findall("genid")) > 1:
            ctx.issue(el, "element 'genid' can only appear once")
        if len(el.findall("numatune")) > 1:
            ctx.issue(el.findall("numatune")[1], "only one numatune is supported")
        if len(el.findall("resource")) > 1:
            ctx.issue(el, "only one resource element is supported")
        if el.find("devices") is None:
            self.devices = Devices()
        if ctx.issues and not (el.findtext("os/type") or self.bootloader):
            # Alone it is found when the document is completed; beside others it comes first.
            missing = "an os <type> must be specified"
            ctx.issues.append(Issue.xml(missing, path="/domain/os/type", line=el.sourceline))
