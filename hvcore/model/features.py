"""The <features> section."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import Literal

from hvcore.errors import ErrorClass
from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import INTEGER
from hvcore.xml.codecs import ONOFF
from hvcore.xml.codecs import STR
from hvcore.xml.codecs import YESNO
from hvcore.xml.codecs import unit_factor
from hvcore.xml.context import is_unsigned
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import child
from hvcore.xml.fields import custom
from hvcore.xml.fields import element
from hvcore.xml.fields import fields_of
from hvcore.xml.fields import flag
from hvcore.xml.fields import scaled

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import FormatContext
    from hvcore.xml.context import ParseContext

HypervMode = Literal["custom", "passthrough"]
CapabilitiesPolicy = Literal["default", "allow", "deny"]
GicVersion = Literal["host", "2", "3"]
IoApic = Literal["qemu", "kvm"]
HptResizing = Literal["enabled", "disabled", "required"]
MsrsUnknown = Literal["ignore", "fault"]
Workaround = Literal["broken", "workaround", "fixed"]
IndirectBranch = Literal["broken", "workaround", "fixed-ibs", "fixed-ccd", "fixed-na"]
Aia = Literal["none", "aplic", "aplic-imsic"]
XenPassthroughMode = Literal["default", "sync_pt", "share_pt"]

VENDOR_ID_MAX: Final = 12
SPINLOCK_RETRIES_MIN: Final = 0xFFF

_NAME: Final = re.compile(r"<([^\s/>]+)")
_COUNT: Final = INTEGER(0, 2**32 - 1, base=0, expected="Expected non-negative integer value")


def _refuse_unknown(
    owner: Element, el: XmlElement, ctx: ParseContext, message: str, path: str = ""
) -> None:
    """Refuse each element of ``owner`` that libvirt does not know; second ones are no issue."""
    above = tuple(filter(None, (path,)))
    depth = len(above)
    specs = [spec for _, spec in fields_of(type(owner)) if len(spec.steps) > depth]
    known = {spec.steps[depth] for spec in specs if spec.steps[:depth] == above}
    for text in owner.unclaimed.get(path, ({}, ()))[1]:
        name = _NAME.match(text)
        if name is not None and name[1] not in known:
            ctx.issue(el, message.format(name=name[1]), kind=ErrorClass.CONFIG_UNSUPPORTED)


@element("hyperv", paired=True)
class Hyperv(Element):
    """Enlightenments: what Windows finds when it looks for Hyper-V."""

    mode: HypervMode = attr(
        "@mode", ENUM(HypervMode), default="custom", doc="``passthrough``: all that the host has"
    )
    relaxed: bool | None = attr("relaxed/@state", ONOFF, required=True)
    vapic: bool | None = attr("vapic/@state", ONOFF, required=True)
    spinlocks: bool | None = attr("spinlocks/@state", ONOFF, required=True)
    spinlocks_retries: int | None = attr("spinlocks/@retries", _COUNT)
    vpindex: bool | None = attr("vpindex/@state", ONOFF, required=True)
    runtime: bool | None = attr("runtime/@state", ONOFF, required=True)
    synic: bool | None = attr("synic/@state", ONOFF, required=True)
    stimer: bool | None = attr("stimer/@state", ONOFF, required=True)
    stimer_direct: bool | None = attr("stimer/direct/@state", ONOFF, required=True, omit=(False,))
    reset: bool | None = attr("reset/@state", ONOFF, required=True)
    vendor_id: bool | None = attr("vendor_id/@state", ONOFF, required=True)
    vendor_id_value: str | None = attr("vendor_id/@value", STR)
    frequencies: bool | None = attr("frequencies/@state", ONOFF, required=True)
    reenlightenment: bool | None = attr("reenlightenment/@state", ONOFF, required=True)
    tlbflush: bool | None = attr("tlbflush/@state", ONOFF, required=True)
    tlbflush_direct: bool | None = attr(
        "tlbflush/direct/@state", ONOFF, required=True, omit=(False,)
    )
    tlbflush_extended: bool | None = attr(
        "tlbflush/extended/@state", ONOFF, required=True, omit=(False,)
    )
    ipi: bool | None = attr("ipi/@state", ONOFF, required=True)
    evmcs: bool | None = attr("evmcs/@state", ONOFF, required=True)
    avic: bool | None = attr("avic/@state", ONOFF, required=True)
    emsr_bitmap: bool | None = attr("emsr_bitmap/@state", ONOFF, required=True)
    xmm_input: bool | None = attr("xmm_input/@state", ONOFF, required=True)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check the values that go with a state, and drop those that do not."""
        if self.mode == "passthrough":
            for name in ENLIGHTENMENTS:
                setattr(self, name, None)
            self._extra = None
        else:
            _refuse_unknown(self, el, ctx, "unsupported HyperV Enlightenment feature: {name}")
            _refuse_unknown(self, el, ctx, "unsupported Hyper-V stimer feature: {name}", "stimer")
            _refuse_unknown(
                self, el, ctx, "unsupported Hyper-V tlbflush feature: {name}", "tlbflush"
            )
        if not self.stimer:
            self.stimer_direct = None
        if not self.tlbflush:
            self.tlbflush_direct = self.tlbflush_extended = None
        self._check_spinlocks(el, ctx)
        self._check_vendor(el, ctx)

    def _check_spinlocks(self, el: XmlElement, ctx: ParseContext) -> None:
        if not self.spinlocks:
            self.spinlocks_retries = None
        elif self.spinlocks_retries is None:
            ctx.issue(el, "Missing required attribute 'retries' in element 'spinlocks'")
        elif self.spinlocks_retries < SPINLOCK_RETRIES_MIN:
            ctx.issue(el, "HyperV spinlock retry count must be at least 4095")

    def _check_vendor(self, el: XmlElement, ctx: ParseContext) -> None:
        if not self.vendor_id:
            self.vendor_id_value = None
        elif self.vendor_id_value is None:
            ctx.issue(el, "missing 'value' attribute for HyperV feature 'vendor_id'")
        elif len(self.vendor_id_value.encode()) > VENDOR_ID_MAX:
            ctx.issue(
                el, f"HyperV vendor_id value must not be more than {VENDOR_ID_MAX} characters."
            )
        elif "," in self.vendor_id_value:
            ctx.issue(el, "HyperV vendor_id value is invalid")


ENLIGHTENMENTS: Final = tuple(
    name for name, spec in fields_of(Hyperv) if len(spec.steps) == 1 and spec.attribute == "state"
)
"""Fields of :class:`Hyperv` that turn an enlightenment on or off, in libvirt's order."""


@element("kvm", paired=True)
class Kvm(Element):
    """How KVM presents itself."""

    hidden: bool | None = attr("hidden/@state", ONOFF, required=True)
    hint_dedicated: bool | None = attr("hint-dedicated/@state", ONOFF, required=True)
    poll_control: bool | None = attr("poll-control/@state", ONOFF, required=True)
    pv_ipi: bool | None = attr("pv-ipi/@state", ONOFF, required=True)
    dirty_ring: bool | None = attr("dirty-ring/@state", ONOFF, required=True)
    dirty_ring_size: int | None = attr("dirty-ring/@size", _COUNT, doc="entries, a power of two")

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Check the size of the ring."""
        _refuse_unknown(self, el, ctx, "unsupported KVM feature: {name}")
        size = self.dirty_ring_size
        if not self.dirty_ring:
            self.dirty_ring_size = None
        elif size is None:
            ctx.issue(el, "Missing required attribute 'size' in element 'dirty-ring'")
        elif size & (size - 1) or not 1024 <= size <= 65536:
            ctx.issue(el, "dirty ring must be power of 2 and ranges [1024, 65536]")


@element("xen", paired=True)
class Xen(Element):
    """Features of Xen guests."""

    e820_host: bool | None = attr("e820_host/@state", ONOFF, required=True)
    passthrough: bool | None = attr("passthrough/@state", ONOFF, required=True)
    passthrough_mode: XenPassthroughMode | None = attr(
        "passthrough/@mode",
        ENUM(Literal["sync_pt", "share_pt"]),
    )

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Drop the mode of what is off."""
        _refuse_unknown(self, el, ctx, "unsupported Xen feature: {name}")
        if not self.passthrough:
            self.passthrough_mode = None


@element("capabilities", omit_empty=True)
class ProcessCapabilities(Element):
    """Which capabilities a container keeps."""

    policy: CapabilitiesPolicy | None = attr("@policy", ENUM(CapabilitiesPolicy))
    audit_control: bool | None = attr("audit_control/@state", ONOFF, bare=True)
    audit_write: bool | None = attr("audit_write/@state", ONOFF, bare=True)
    block_suspend: bool | None = attr("block_suspend/@state", ONOFF, bare=True)
    chown: bool | None = attr("chown/@state", ONOFF, bare=True)
    dac_override: bool | None = attr("dac_override/@state", ONOFF, bare=True)
    dac_read_search: bool | None = attr("dac_read_search/@state", ONOFF, bare=True)
    fowner: bool | None = attr("fowner/@state", ONOFF, bare=True)
    fsetid: bool | None = attr("fsetid/@state", ONOFF, bare=True)
    ipc_lock: bool | None = attr("ipc_lock/@state", ONOFF, bare=True)
    ipc_owner: bool | None = attr("ipc_owner/@state", ONOFF, bare=True)
    kill: bool | None = attr("kill/@state", ONOFF, bare=True)
    lease: bool | None = attr("lease/@state", ONOFF, bare=True)
    linux_immutable: bool | None = attr("linux_immutable/@state", ONOFF, bare=True)
    mac_admin: bool | None = attr("mac_admin/@state", ONOFF, bare=True)
    mac_override: bool | None = attr("mac_override/@state", ONOFF, bare=True)
    mknod: bool | None = attr("mknod/@state", ONOFF, bare=True)
    net_admin: bool | None = attr("net_admin/@state", ONOFF, bare=True)
    net_bind_service: bool | None = attr("net_bind_service/@state", ONOFF, bare=True)
    net_broadcast: bool | None = attr("net_broadcast/@state", ONOFF, bare=True)
    net_raw: bool | None = attr("net_raw/@state", ONOFF, bare=True)
    setgid: bool | None = attr("setgid/@state", ONOFF, bare=True)
    setfcap: bool | None = attr("setfcap/@state", ONOFF, bare=True)
    setpcap: bool | None = attr("setpcap/@state", ONOFF, bare=True)
    setuid: bool | None = attr("setuid/@state", ONOFF, bare=True)
    sys_admin: bool | None = attr("sys_admin/@state", ONOFF, bare=True)
    sys_boot: bool | None = attr("sys_boot/@state", ONOFF, bare=True)
    sys_chroot: bool | None = attr("sys_chroot/@state", ONOFF, bare=True)
    sys_module: bool | None = attr("sys_module/@state", ONOFF, bare=True)
    sys_nice: bool | None = attr("sys_nice/@state", ONOFF, bare=True)
    sys_pacct: bool | None = attr("sys_pacct/@state", ONOFF, bare=True)
    sys_ptrace: bool | None = attr("sys_ptrace/@state", ONOFF, bare=True)
    sys_rawio: bool | None = attr("sys_rawio/@state", ONOFF, bare=True)
    sys_resource: bool | None = attr("sys_resource/@state", ONOFF, bare=True)
    sys_time: bool | None = attr("sys_time/@state", ONOFF, bare=True)
    sys_tty_config: bool | None = attr("sys_tty_config/@state", ONOFF, bare=True)
    syslog: bool | None = attr("syslog/@state", ONOFF, bare=True)
    wake_alarm: bool | None = attr("wake_alarm/@state", ONOFF, bare=True)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Write the default policy only where there is something it applies to."""
        _refuse_unknown(self, el, ctx, "unexpected capability feature '{name}'")
        named = any(getattr(self, name) is not None for name, _ in fields_of(type(self))[1:])
        if self.policy in (None, "default"):
            self.policy = "default" if named else None


_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def largest_unit(value: int) -> tuple[int, str]:
    """Return a number of bytes in the largest unit that divides it, and that unit."""
    power = 0
    while value and power < len(_UNITS) - 1 and value % 1024 ** (power + 1) == 0:
        power += 1
    return value // 1024**power, _UNITS[power]


class _Tseg:
    """The size of SMM's memory in bytes, written in the largest unit that divides it."""

    tags: tuple[str, ...] = ("tseg",)
    rng: str = "<element name='tseg'><ref name='scaledInteger'/></element>"
    json: Mapping[str, Any] = {"type": "integer", "minimum": 0}

    def parse(self, elements: list[XmlElement], ctx: ParseContext, owner: Features) -> int | None:
        """Return the size; mebibytes are meant where no unit is given."""
        if not elements or not owner.smm:
            return None
        el = elements[0]
        digits, unit = (el.text or "").strip(), el.get("unit") or "MiB"
        if not digits:
            return None
        if not is_unsigned(digits):
            place = "string(./features/smm/tseg)"
            ctx.issue(el, f"Invalid value '{digits}' for element or attribute '{place}'")
            return None
        try:
            size = int(digits) * unit_factor(unit)
        except ValueError as error:
            ctx.issue(el, str(error), kind=ErrorClass.INVALID_ARG)
            return None
        if size >= 2**64:
            ctx.issue(el, f"value too large: {digits}{unit}", kind=ErrorClass.OVERFLOW)
            return None
        return size

    def format(
        self, value: int, out: list[str], indent: str, ctx: FormatContext, owner: Any
    ) -> None:
        """Append the element."""
        del ctx, owner
        number, unit = largest_unit(value)
        out.append(f"{indent}<tseg unit='{unit}'>{number}</tseg>\n")

    def clone(self, value: int) -> int:
        """Return ``value``: a number is immutable."""
        return value


@element("features", omit_empty=True, last_wins=True)
class Features(Element):
    """Hypervisor features of the machine."""

    acpi: bool = flag("acpi")
    apic: bool = flag("apic")
    apic_eoi: bool | None = attr("apic/@eoi", ONOFF, doc="paravirtualised end of interrupt")
    pae: bool = flag("pae")
    hap: bool | None = attr("hap/@state", ONOFF, bare=True)
    viridian: bool = flag("viridian")
    privnet: bool = flag("privnet")
    hyperv: Hyperv | None = child("hyperv", Hyperv)
    kvm: Kvm | None = child("kvm", Kvm)
    pvspinlock: bool | None = attr("pvspinlock/@state", ONOFF, bare=True)
    capabilities: ProcessCapabilities | None = child("capabilities", ProcessCapabilities)
    pmu: bool | None = attr("pmu/@state", ONOFF, bare=True)
    vmport: bool | None = attr("vmport/@state", ONOFF, bare=True)
    gic: bool = flag("gic")
    gic_version: GicVersion | None = attr("gic/@version", ENUM(GicVersion))
    smm: bool | None = attr("smm/@state", ONOFF, bare=True)
    tseg: int | None = custom(_Tseg(), wrapper="smm", doc="bytes of memory for SMM")
    ioapic: IoApic | None = attr("ioapic/@driver", ENUM(IoApic))
    hpt_resizing: HptResizing | None = attr("hpt/@resizing", ENUM(HptResizing))
    hpt_maxpagesize: int | None = scaled(
        "hpt/maxpagesize",
        omit=(0,),
        refused="unsupported configuration: Unable to parse HPT maxpagesize setting",
        doc="in KiB",
    )
    vmcoreinfo: bool | None = attr("vmcoreinfo/@state", ONOFF, bare=True)
    htm: bool | None = attr("htm/@state", ONOFF, required=True)
    nested_hv: bool | None = attr("nested-hv/@state", ONOFF, required=True)
    msrs_unknown: MsrsUnknown | None = attr("msrs/@unknown", ENUM(MsrsUnknown), required=True)
    ccf_assist: bool | None = attr("ccf-assist/@state", ONOFF, required=True)
    xen: Xen | None = child("xen", Xen)
    cfpc: Workaround | None = attr("cfpc/@value", ENUM(Workaround))
    sbbc: Workaround | None = attr("sbbc/@value", ENUM(Workaround))
    ibs: IndirectBranch | None = attr("ibs/@value", ENUM(IndirectBranch))
    tcg_tb_cache: int | None = scaled("tcg/tb-cache", omit=(0,), doc="KiB of translated code")
    async_teardown: bool | None = attr("async-teardown/@enabled", YESNO, bare=True)
    ras: bool | None = attr("ras/@state", ONOFF, required=True)
    ps2: bool | None = attr("ps2/@state", ONOFF, required=True)
    aia: Aia | None = attr("aia/@value", ENUM(Aia))

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse what libvirt does not know; features are no place for other programs' data."""
        _refuse_unknown(self, el, ctx, "unexpected feature '{name}'")
