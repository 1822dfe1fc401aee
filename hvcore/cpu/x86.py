"""x86 CPUs: models and features as bits of CPUID leaves and MSRs.

All bits of all leaves are laid out in one integer, so that sets of features are compared and
combined by single operations. Which leaf lies where is private to this module.
"""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import NoReturn

import attrs

from hvcore.cpu.spec import UNWANTED
from hvcore.cpu.spec import WANTED
from hvcore.cpu.spec import CpuSpec
from hvcore.cpu.spec import incompatible
from hvcore.cpu.spec import unsupported
from hvcore.cpu.spec import unsupported_model
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.model.types import NodeSet

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Iterator
    from collections.abc import Mapping
    from collections.abc import Sequence

    from hvcore.cpu.spec import Comparison
    from hvcore.cpu.spec import KnownModel
    from hvcore.cpu.spec import Models
    from hvcore.model.cpu import CpuFallback
    from hvcore.model.cpu import CpuMatch
    from hvcore.model.cpu import CpuMode
    from hvcore.model.cpu import FeaturePolicy

_LEAF_BITS: Final = 128
# What makes a model differ from its ancestor.
_OWN: Final = frozenset({"signatures", "vendor", "features", "removed", "added"})
_DISABLED_PENALTY: Final = 2
# Processors whose transactional memory is broken: family 6, model and first good stepping.
_BROKEN_TSX: Final[Mapping[int, int]] = {60: 16, 63: 4, 69: 16, 70: 16}

# Features of KVM and Hyper-V that guests may be compared by although no model has them:
# leaf, EAX, EDX.
_PARAVIRTUAL: Final[Mapping[str, tuple[int, int, int]]] = {
    "kvm_pv_unhalt": (0x40000001, 0x00000080, 0),
    "hv-runtime": (0x40000003, 0x00000001, 0),
    "hv-synic": (0x40000003, 0x00000004, 0),
    "hv-stimer": (0x40000003, 0x00000008, 0),
    "hv-xmm_input": (0x40000003, 0x00000010, 0),
    "hv-relaxed": (0x40000003, 0x00000020, 0),
    "hv-vapic": (0x40000003, 0x00000030, 0),
    "hv-vpindex": (0x40000003, 0x00000040, 0),
    "hv-reset": (0x40000003, 0x00000080, 0),
    "hv-frequencies": (0x40000003, 0x00000800, 0),
    "hv-reenlightenment": (0x40000003, 0x00002000, 0),
    "hv-tlbflush": (0x40000004, 0x00000004, 0),
    "hv-avic": (0x40000004, 0x00000200, 0),
    "hv-ipi": (0x40000004, 0x00000400, 0),
    "hv-evmcs": (0x40000004, 0x00004000, 0),
    "hv-stimer-direct": (0x40000003, 0, 0x00080000),
    "hv-emsr_bitmap": (0x4000000A, 0x00080000, 0),
    "hv-tlbflush-direct": (0x40000003, 0, 0x00004000),
    "hv-tlbflush-ext": (0x40000004, 0, 0x00004000),
}


@attrs.frozen
class Signature:
    """Family and model of a processor, and the steppings meant (None for all)."""

    family: int
    model: int
    steppings: NodeSet | None = None

    def matches(self, found: tuple[int, int, int]) -> bool:
        """Return whether a processor is one of those meant."""
        family, model, stepping = found
        return (self.family, self.model) == (family, model) and (
            self.steppings is None or stepping in self.steppings
        )


@attrs.define(eq=False)
class Model:
    """A CPU model.

    :ivar decode_host: whether hosts may be described by it; ``decode_guest``: guests.
    :ivar compat_check: whether it is compared feature by feature, and not by what QEMU says.
    :ivar removed: features that it once had; a guest has them only when asked for.
    :ivar added: features that it always had without libvirt knowing.
    """

    name: str
    bits: int = 0
    decode_host: bool = False
    decode_guest: bool = False
    compat_check: bool = False
    vendor: str | None = None
    signatures: tuple[Signature, ...] = ()
    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class CpuData:
    """A processor's answers: features, and who made it.

    :ivar signature: family, model and stepping, zero where they are not known.
    """

    bits: int = 0
    vendor: str | None = None
    signature: tuple[int, int, int] = (0, 0, 0)


class CpuMap:
    """All features and models; models are made when they are asked for.

    Newer models stand later; the order of features is libvirt's.
    """

    def __init__(self, rows: Mapping[str, Any]) -> None:
        self._slots: dict[tuple[int, ...], int] = {}
        self.vendors: Final[dict[str, str]] = dict(rows["vendors"])
        self.features: Final[dict[str, int]] = {}
        self.blockers: Final[set[str]] = set()
        self.msrs: Final[set[str]] = set()
        self._by_lowest: dict[int, list[tuple[int, str, int]]] = {}
        for name, migratable, items in rows["features"]:
            self._feature(name, items, migratable=migratable)
        self.paravirtual: Final = {
            name: self._place((leaf, 0)) * (eax | edx << 96)
            for name, (leaf, eax, edx) in _PARAVIRTUAL.items()
        }
        self._rows: Final[dict[str, dict[str, Any]]] = {row["name"]: row for row in rows["models"]}
        self._models: dict[str, Model] = {}

    def _place(self, key: tuple[int, ...]) -> int:
        """Return what bits of a leaf or MSR are multiplied by."""
        return 1 << (self._slots.setdefault(key, len(self._slots)) * _LEAF_BITS)

    def _feature(self, name: str, items: list[list[int]], *, migratable: bool) -> None:
        bits = 0
        for item in items:
            if len(item) == 3:
                index, eax, edx = item
                bits |= self._place((index,)) * (eax | edx << 32)
                self.msrs.add(name)
            else:
                leaf, subleaf, *registers = item
                value = sum(register << 32 * n for n, register in enumerate(registers))
                bits |= self._place((leaf, subleaf)) * value
        self._by_lowest.setdefault(bits & -bits, []).append((len(self.features), name, bits))
        self.features[name] = bits
        if not migratable:
            self.blockers.add(name)

    def names(self) -> Iterator[str]:
        """Yield the names of all models, the newest first."""
        return reversed(self._rows)

    def renamed(self) -> Iterator[tuple[str, str]]:
        """Yield models with those that are the same under another name.

        QEMU's name without a version is an alias; the map has it the other way round.
        """
        for name, row in self._rows.items():
            if "ancestor" in row and not _OWN.intersection(row):
                yield row["ancestor"], name

    def model(self, name: str) -> Model | None:
        """Return a model by its name."""
        row = self._rows.get(name)
        if row is None:
            return None
        if name not in self._models:
            self._models[name] = self._made(row)
        return self._models[name]

    def _made(self, row: dict[str, Any]) -> Model:
        model = Model(
            row["name"],
            decode_host=row.get("host", False),
            decode_guest=row.get("guest", False),
            compat_check=row.get("compat", False),
            removed=tuple(row.get("removed", ())),
            added=tuple(row.get("added", ())),
        )
        ancestor = self.model(row["ancestor"]) if "ancestor" in row else None
        if ancestor is not None:
            model.bits = ancestor.bits & ~self.bits_of(ancestor.removed)
            model.vendor, model.signatures = ancestor.vendor, ancestor.signatures
        if "signatures" in row:
            model.signatures = tuple(
                Signature(family, number, None if steppings is None else NodeSet.parse(steppings))
                for family, number, steppings in row["signatures"]
            )
        model.vendor = row.get("vendor", model.vendor)
        model.bits |= self.bits_of(row.get("features", ()))
        return model

    def bits_of(self, names: Iterable[str]) -> int:
        """Return the bits of features; unknown ones have none."""
        bits = 0
        for name in names:
            bits |= self.features.get(name, 0)
        return bits

    def names_in(self, bits: int) -> Iterator[str]:
        """Yield the features that ``bits`` consist of, each bit counting once."""
        found: list[tuple[int, str, int]] = []
        rest = bits
        while rest:
            lowest = rest & -rest
            found += self._by_lowest.get(lowest, ())
            rest ^= lowest
        for _, name, mask in sorted(found):
            if bits & mask == mask:
                bits &= ~mask
                yield name

    def all_in(self, bits: int) -> Iterator[str]:
        """Yield every feature whose bits are all in ``bits``."""
        return (name for name, mask in self.features.items() if bits & mask == mask)


@functools.cache
def cpu_map() -> CpuMap:
    """Return the map, which is read at the first call."""
    text = resources.files("hvcore.cpu").joinpath("data/x86.json").read_text("utf-8")
    return CpuMap(json.loads(text))


def _internal(message: str) -> NoReturn:
    raise HvError(message, kind=ErrorClass.INTERNAL)


def unknown_model(name: str) -> HvError:
    """Return the error for a question about a model that there is not."""
    return HvError(f"unknown CPU model {name}", kind=ErrorClass.INVALID_ARG)


def _find(name: str | None) -> Model:
    model = cpu_map().model(name or "")
    if model is None:
        _internal(f"Unknown CPU model {name}")
    return model


def _feature_bits(name: str) -> int:
    bits = cpu_map().features.get(name)
    if bits is None:
        _internal(f"Unknown CPU feature {name}")
    return bits


def bits_of(cpu: CpuSpec) -> int:
    """Return the features a CPU has: those of its model, as changed by its own.

    :raises HvError: when model or a feature is unknown.
    """
    bits = _find(cpu.model).bits if cpu.model is not None else 0
    for name, policy in cpu.features.items():
        if policy in WANTED:
            bits |= _feature_bits(name)
        elif policy in UNWANTED:
            bits &= ~_feature_bits(name)
    return bits


def _with_policy(cpu: CpuSpec, policy: FeaturePolicy) -> int:
    """Return the bits of the features with one policy; the model's are required ones."""
    bits = _find(cpu.model).bits if policy == "require" and cpu.model is not None else 0
    for name, found in cpu.features.items():
        if found == policy:
            bits |= _feature_bits(name)
    return bits


def data_of(
    features: Iterable[str], *, vendor: str | None, signature: tuple[int, int, int]
) -> CpuData:
    """Return the data of a CPU from what a hypervisor tells of it; unknown features are left out.

    :param vendor: the processor's own string, such as ``GenuineIntel``.
    """
    known = cpu_map()
    bits = 0
    for name in features:
        bits |= known.features.get(name) or known.paravirtual.get(name, 0)
    maker = next((name for name, string in known.vendors.items() if string == vendor), None)
    return CpuData(bits=bits, vendor=maker, signature=signature)


_LINUX: Final[Mapping[str, str]] = {
    "avx512_bitalg": "avx512bitalg",
    "avx512_vbmi2": "avx512vbmi2",
    "avx512_vnni": "avx512vnni",
    "cqm": "cmt",
    "cr8_legacy": "cr8legacy",
    "nonstop_tsc": "invtsc",
    "pausefilter": "pause-filter",
    "pclmulqdq": "pclmuldq",
    "sse4_1": "sse4.1",
    "sse4_2": "sse4.2",
    "tsc_deadline_timer": "tsc-deadline",
}
# The kernel calls the mitigations of both vendors by one name, libvirt by the bit they are.
_LINUX_INTEL: Final[Mapping[str, str]] = {"ibrs": "spec-ctrl", "ibpb": "spec-ctrl"}
_LINUX_AMD: Final[Mapping[str, str]] = {"ssbd": "amd-ssbd", "stibp": "amd-stibp"}


def from_linux(vendor: str, signature: tuple[int, int, int], flags: str) -> CpuSpec:
    """Return the host's CPU from what ``/proc/cpuinfo`` tells.

    :param vendor: such as ``GenuineIntel``.
    :param flags: features by the kernel's names, separated by blanks.
    :raises HvError: when no model fits.
    """
    special = {**_LINUX, **(_LINUX_INTEL if vendor == "GenuineIntel" else _LINUX_AMD)}
    known = cpu_map().features
    names = []
    for flag in flags.split():
        name = special.get(flag, flag)
        names.append(name if name in known else name.replace("_", "-"))
    return decode(data_of(names, vendor=vendor, signature=signature), host=True)


# -- comparing ----------------------------------------------------------------------------------


def compare(
    host: CpuSpec | None, guest: CpuSpec, *, strict: bool = False
) -> tuple[Comparison, str | None]:
    """Return what ``host`` is to the CPU of a guest, and why it is incompatible.

    :param strict: the host must not have more than the guest.
    :raises HvError: when a model or feature is unknown.
    """
    if host is None or host.model is None:
        return "incompatible", "unknown host CPU"
    if guest.vendor and guest.vendor != host.vendor:
        return (
            "incompatible",
            f"host CPU vendor does not match required CPU vendor {guest.vendor}",
        )
    has = bits_of(host)
    force, require, optional, disable, forbid = (
        _with_policy(guest, policy)
        for policy in ("force", "require", "optional", "disable", "forbid")
    )
    forbidden = forbid & has
    if forbidden:
        return "incompatible", f"Host CPU provides forbidden features: {_listed(forbidden)}"
    require &= ~(force | optional | disable)
    missing = require & ~has
    if missing:
        return "incompatible", f"Host CPU does not provide required features: {_listed(missing)}"
    extra = has & ~(optional | require | disable | force)
    if not extra:
        return "identical", None
    if strict:
        return (
            "incompatible",
            f"Host CPU does not strictly match guest CPU: Extra features: {_listed(extra)}",
        )
    return "superset", None


def _listed(bits: int) -> str:
    return ", ".join(cpu_map().all_in(bits))


def check_unusable(host: CpuSpec, guest: CpuSpec, blockers: Sequence[str]) -> None:
    """Check a model of which the hypervisor says that the host lacks ``blockers``.

    :raises HvError: unless the guest goes without them, and the host has all else.
    """
    missing = [name for name in blockers if guest.features.get(name) != "disable"]
    has = expand(host).features
    missing += [
        name
        for name, policy in guest.features.items()
        if policy == "require" and has.get(name) != "require"
    ]
    if missing:
        raise incompatible(f"Host CPU does not provide required features: {', '.join(missing)}")


# -- decoding -----------------------------------------------------------------------------------


@attrs.define(eq=False)
class _Candidate:
    """A model under consideration, with what has to be changed about it."""

    model: Model
    features: dict[str, FeaturePolicy]

    def score(self) -> tuple[int, int]:
        """Return how many changes it takes, and how much of that is for disabled features.

        libvirt counts disabled features while shortening the list it walks, so that it sees only
        the first half of those at its end; models are chosen by that count.
        """
        policies = list(self.features.values())
        enabled, disabled, penalty, place = len(policies), 0, _DISABLED_PENALTY, 0
        while place < enabled:
            if policies[place] == "disable":
                enabled -= 1
                disabled += penalty
                penalty += 1
            place += 1
        return enabled + disabled, disabled


def _candidate(data: CpuData, model: Model, known: KnownModel | None, *, host: bool) -> _Candidate:
    extra, lacking = data.bits & ~model.bits, model.bits & ~data.bits
    features = cpu_map().features
    # The hypervisor's own version of the model may have features the host lacks.
    for blocker in known.blockers if known is not None else ():
        bits = features.get(blocker)
        if bits is not None and extra & bits != bits:
            lacking |= bits
    policies: dict[str, FeaturePolicy] = dict.fromkeys(cpu_map().names_in(extra), "require")
    policies |= dict.fromkeys(cpu_map().names_in(lacking), "disable")
    if not host:
        for name in model.removed:
            policies.setdefault(name, "disable")
    return _Candidate(model, policies)


def _usable(other: _Candidate, *, host: bool) -> bool:
    """Return whether a model may be used at all; hosts have no disabled features."""
    if host:
        return other.model.decode_host and "disable" not in other.features.values()
    return other.model.decode_guest


def _better(
    best: _Candidate | None, other: _Candidate, data: CpuData, *, host: bool, preferred: bool
) -> bool:
    """Return whether ``other`` describes the data better than the best so far."""
    if best is None:
        return True
    if any(data.signature):
        matches = any(s.matches(data.signature) for s in other.model.signatures)
        if matches != any(s.matches(data.signature) for s in best.model.signatures):
            return matches
    if host:
        return len(other.features) < len(best.features)
    (current, current_disabled), (changes, disabled) = best.score(), other.score()
    if changes < current or (changes == current and disabled < current_disabled):
        return True
    return preferred and disabled < current_disabled


def decode(
    data: CpuData,
    *,
    models: Models | None = None,
    preferred: Sequence[str] = (),
    host: bool = False,
    fallback: CpuFallback = "allow",
    migratable: bool = False,
) -> CpuSpec:
    """Return the model that describes ``data`` best, with the features in which it differs.

    :param models: those that the hypervisor has; None for all.
    :param preferred: models to take where possible; a single one is taken at once.
    :param host: describe a host.
    :param fallback: whether another model may be taken where the hypervisor lacks the preferred.
    :param migratable: leave out features with which a guest cannot be migrated.
    :raises HvError: when no model fits.
    """
    data = _without_broken_tsx(data)
    best: _Candidate | None = None
    for name in cpu_map().names():
        known = models.get(name) if models is not None else None
        only = len(preferred) == 1 and preferred[0] == name
        if models is not None and known is None:
            if only and fallback != "allow":
                unsupported_model(name)
            continue
        model = _find(name)
        if data.vendor and model.vendor and data.vendor != model.vendor:
            continue
        other = _candidate(data, model, known, host=host)
        if not _usable(other, host=host):
            continue
        if only:
            best = other
            break
        if _better(best, other, data, host=host, preferred=model.name in preferred):
            best = other
    if best is None:
        _internal("Cannot find suitable CPU model for given data")
    blockers = cpu_map().blockers if migratable else frozenset()
    return CpuSpec(
        model=best.model.name,
        vendor=data.vendor,
        features={name: p for name, p in best.features.items() if name not in blockers},
        host=host,
        fallback=fallback,
    )


def _without_broken_tsx(data: CpuData) -> CpuData:
    family, model, stepping = data.signature
    if data.vendor == "Intel" and family == 6 and stepping < _BROKEN_TSX.get(model, 0):
        return attrs.evolve(data, bits=data.bits & ~cpu_map().bits_of(("hle", "rtm")))
    return data


# -- changing -----------------------------------------------------------------------------------


def expand(cpu: CpuSpec) -> CpuSpec:
    """Return a copy that lists the features of its model too.

    :raises HvError: when the model is unknown.
    """
    model = cpu_map().model(cpu.model or "")
    if model is None:
        _internal(f"unknown CPU model {cpu.model}")
    made = attrs.evolve(cpu, features=dict.fromkeys(cpu_map().names_in(model.bits), "require"))
    for name, policy in cpu.features.items():
        if cpu.host or policy in ("require", "disable"):
            made.features[name] = policy
    if not cpu.host:
        for name in model.removed:
            made.features.setdefault(name, "disable")
    return made


def copy_migratable(cpu: CpuSpec) -> CpuSpec:
    """Return a copy without the features with which a guest cannot be migrated."""
    return cpu.without(frozenset(cpu_map().blockers))


def update(
    guest: CpuSpec,
    host: CpuSpec | None,
    *,
    mode: CpuMode,
    match: CpuMatch,
    removed: FeaturePolicy = "disable",
) -> None:
    """Decide what depends on the host: optional features, and with host-model all of it.

    :param removed: policy of features that the model once had.
    :raises HvError: when the host is unknown, or the model.
    """
    relative = mode == "host-model" or match == "minimum" or "optional" in guest.features.values()
    if relative:
        if host is None:
            unsupported("unknown host CPU model")
        has = bits_of(host)
        for name, policy in guest.features.items():
            if policy == "optional":
                bits = cpu_map().features.get(name) or cpu_map().paravirtual.get(name)
                if bits is None:
                    _internal(f"unknown CPU feature {name}")
                guest.features[name] = "require" if has & bits == bits else "disable"
        if mode == "host-model" or match == "minimum":
            guest.features = {**host.features, **guest.features}
            guest.model = host.model
            if mode != "custom":
                guest.vendor = host.vendor
                guest.vendor_id = guest.vendor_id or host.vendor_id
    for name in _find(guest.model).removed:
        guest.features.setdefault(name, removed)


def translate(cpu: CpuSpec, models: Models | None) -> None:
    """Express a CPU by a model that the hypervisor has.

    :raises HvError: when there is none, or no other may be taken.
    """
    if models is None or cpu.model in models:
        return
    if cpu.fallback != "allow":
        unsupported_model(cpu.model)
    model = _find(cpu.model)
    signature = (0, 0, 0)
    if model.signatures:
        first = model.signatures[0]
        signature = (first.family, first.model, next(iter(first.steppings or ()), 0))
    data = CpuData(bits=bits_of(cpu), vendor=model.vendor, signature=signature)
    made = decode(data, models=models, fallback=cpu.fallback)
    cpu.model = made.model
    cpu.features = {**made.features, **cpu.features}


def check_features(cpu: CpuSpec) -> None:
    """Refuse features that nobody knows.

    :raises HvError: naming the first.
    """
    for name in cpu.features:
        if name not in cpu_map().features:
            unsupported(f"unknown CPU feature: {name}")
