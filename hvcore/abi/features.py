"""What the guest sees of <features>, in libvirt's order."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.abi.table import FLAG
from hvcore.abi.table import NUMBER
from hvcore.abi.table import RAW_TEXT
from hvcore.abi.table import SWITCH
from hvcore.abi.table import Compared
from hvcore.abi.table import Kind
from hvcore.abi.table import Parts
from hvcore.abi.table import Table
from hvcore.abi.table import differences
from hvcore.abi.table import one_of
from hvcore.model.features import ENLIGHTENMENTS
from hvcore.model.features import Features
from hvcore.model.features import Hyperv
from hvcore.model.features import Kvm
from hvcore.model.features import Xen
from hvcore.model.features import largest_unit

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

    from hvcore.errors import Issue
    from hvcore.model.domain import Domain


def _state(what: str, name: str) -> str:
    """Return the words for something that is on or off."""
    return f"State of {what} '{name}' differs: source: '{{source}}', destination: '{{target}}'"


def _feature(
    name: str,
    names: str,
    kind: Kind | Parts,
    get: Callable[[Any], Any] | None = None,
) -> Compared:
    return Compared(names, _state("feature", name), kind, get=get)


def _hyperv(features: Features) -> str:
    """Return the mode of the enlightenments, which libvirt shows as if it was a switch."""
    shown = {None: "default", "custom": "on", "passthrough": "off"}
    return shown[None if features.hyperv is None else features.hyperv.mode]


def _hpt(features: Features) -> tuple[bool, str | None, int | None]:
    given = features.hpt_resizing is not None or bool(features.hpt_maxpagesize)
    return given, features.hpt_resizing, features.hpt_maxpagesize


_NONE: Final = one_of("none")

_FEATURES: Final[Table] = (
    _feature("acpi", "acpi", FLAG),
    _feature("apic", "apic apic_eoi", Parts("{},eoi={}", (FLAG, SWITCH))),
    _feature("pae", "pae", FLAG),
    _feature("hap", "hap", SWITCH),
    _feature("viridian", "viridian", FLAG),
    _feature("privnet", "privnet", FLAG),
    _feature("hyperv", "hyperv", Kind(), _hyperv),
    _feature("kvm", "kvm", FLAG, lambda features: features.kvm is not None),
    _feature("pvspinlock", "pvspinlock", SWITCH),
    _feature("capabilities", "capabilities.policy", Kind("default", form="policy={}")),
    _feature("pmu", "pmu", SWITCH),
    _feature("vmport", "vmport", SWITCH),
    _feature("gic", "gic gic_version", Parts("{},version={}", (FLAG, _NONE))),
    _feature("smm", "smm", SWITCH),
    _feature("ioapic", "ioapic", Kind("none", form="driver={}")),
    _feature("hpt", "hpt_resizing", Parts("{},resizing={},maxpagesize={}", (FLAG, _NONE, NUMBER)),
             _hpt),
    _feature("vmcoreinfo", "vmcoreinfo", SWITCH),
    _feature("htm", "htm", SWITCH),
    _feature("nested-hv", "nested_hv", SWITCH),
    _feature("ccf-assist", "ccf_assist", SWITCH),
    _feature("xen", "xen", FLAG, lambda features: features.xen is not None),
    _feature("cfpc", "cfpc", Kind("none", form="value={}")),
    _feature("sbbc", "sbbc", Kind("none", form="value={}")),
    _feature("ibs", "ibs", Kind("none", form="value={}")),
    _feature("ras", "ras", SWITCH),
    _feature("ps2", "ps2", SWITCH),
    _feature("aia", "aia", Kind("default", form="value={}")),
)  # fmt: skip
"""Unknown registers, the cache of TCG and the speed of the end do not show in the guest."""

_SPECIAL: Final[dict[str, Compared]] = {
    # Of these the value counts, not whether they are on.
    "spinlocks": Compared(
        "spinlocks_retries",
        "HyperV spinlock retry count differs: source: '{source}', destination: '{target}'",
        NUMBER,
    ),
    "vendor_id": Compared(
        "vendor_id_value",
        "HyperV vendor_id differs: source: '{source}', destination: '{target}'",
        RAW_TEXT,
    ),
}

_HYPERV: Final[Table] = (
    *(
        _SPECIAL.get(name) or Compared(name, _state("HyperV enlightenment feature", name), SWITCH)
        for name in ENLIGHTENMENTS
    ),
    Compared(
        "stimer_direct",
        "State of HyperV stimer direct feature differs: source: '{source}', destination:"
        " '{target}'",
        SWITCH,
        where=lambda hyperv: bool(hyperv.stimer),
    ),
)

_XEN: Final[Table] = (
    Compared("e820_host", _state("Xen feature", "e820_host"), SWITCH),
    Compared("passthrough", _state("Xen feature", "passthrough"), SWITCH),
    Compared(
        "passthrough_mode",
        "'mode' of Xen passthrough feature differs: source: '{source}', destination: '{target}'",
        one_of("default"),
    ),
)

_KVM: Final[Table] = (
    Compared("hidden", _state("KVM feature", "hidden"), SWITCH),
    Compared("hint_dedicated", _state("KVM feature", "hint-dedicated"), SWITCH),
    Compared("poll_control", _state("KVM feature", "poll-control"), SWITCH),
    Compared("pv_ipi", _state("KVM feature", "pv-ipi"), SWITCH),
    Compared("dirty_ring", _state("KVM feature", "dirty-ring"), SWITCH),
    Compared(
        "dirty_ring_size",
        # libvirt names the feature after the last one, which has no name.
        "dirty ring size of KVM feature '(null)' differs: source: '{source}', destination:"
        " '{target}'",
        NUMBER,
    ),
)


def _tseg(features: Features) -> str | None:
    if features.tseg is None:
        return None
    number, unit = largest_unit(features.tseg)
    return f"{number} {unit}"


_SMM: Final[Table] = (
    Compared(
        "tseg",
        "SMM TSEG differs: source: {source}, destination: '{target}'",
        Kind(words={True: "specified", False: "not specified"}),
        get=lambda features: features.tseg is not None,
        decides=True,
    ),
    Compared(
        "tseg",
        "Size of SMM TSEG size differs: source: '{source}', destination: '{target}'",
        get=_tseg,
    ),
)


def compare(source: Domain, target: Domain) -> Iterator[Issue]:
    """Yield what differs; details count where the source has the feature."""
    was, now = source.features or Features(), target.features or Features()
    yield from differences(_FEATURES, was, now)
    if was.hyperv is not None:
        yield from differences(_HYPERV, was.hyperv, now.hyperv or Hyperv())
    if was.xen is not None:
        yield from differences(_XEN, was.xen, now.xen or Xen())
    if was.kvm is not None:
        yield from differences(_KVM, was.kvm, now.kvm or Kvm())
    if was.smm:
        yield from differences(_SMM, was, now)
