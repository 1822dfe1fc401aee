"""Which machine a guest is: the few properties of machine types that rules depend on.

A machine type is recognised by its name, versions included; which names belong to a kind
on which architecture is libvirt's table.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING
from typing import Final
from typing import NamedTuple

import attrs

if TYPE_CHECKING:
    from hvcore.model.domain import Domain

X86: Final = frozenset({"i686", "x86_64"})
PPC: Final = frozenset({"ppc", "ppcle", "ppc64", "ppc64le", "ppcemb"})
PPC64: Final = frozenset({"ppc64", "ppc64le"})
ARM: Final = frozenset({"armv6l", "armv7l", "armv7b", "aarch64"})
RISCV: Final = frozenset({"riscv32", "riscv64"})
S390: Final = frozenset({"s390", "s390x"})
MIPS: Final = frozenset({"mips", "mipsel", "mips64", "mips64el"})
LOONGARCH: Final = frozenset({"loongarch64"})


class _Kind(NamedTuple):
    arches: frozenset[str]
    names: frozenset[str]
    prefixes: tuple[str, ...]

    def has(self, arch: str, name: str) -> bool:
        return arch in self.arches and (name in self.names or name.startswith(self.prefixes))


_VIRT: Final = (frozenset({"virt"}), ("virt-",))

_KINDS: Final = {
    "q35": _Kind(X86, frozenset({"q35"}), ("pc-q35-",)),
    "i440fx": _Kind(X86, frozenset({"pc"}), ("pc-0.", "pc-1.", "pc-i440fx-", "rhel")),
    "xenfv": _Kind(X86, frozenset({"xenfv"}), ("xenfv-",)),
    "s390_ccw": _Kind(S390, frozenset(), ("s390-ccw",)),
    # Big-endian ARMv7 has no virt machine.
    "arm_virt": _Kind(ARM - {"armv7b"}, *_VIRT),
    "riscv_virt": _Kind(RISCV, *_VIRT),
    "loongarch_virt": _Kind(LOONGARCH, *_VIRT),
    "pseries": _Kind(PPC64, frozenset({"pseries"}), ("pseries-",)),
    "malta": _Kind(MIPS, frozenset({"malta"}), ()),
}

# Machines that have an IDE controller named "ide" on the board, whatever their architecture.
_IDE_ON_BOARD: Final = frozenset({"malta", "sun4u", "g3beige"})


@attrs.frozen(kw_only=True)
class Machine:
    """What is known of an architecture and machine type.

    :param arch: libvirt's name of the architecture.
    :param name: the machine type as the document has it.
    """

    arch: str
    name: str
    q35: bool
    i440fx: bool
    xenfv: bool
    s390_ccw: bool
    arm_virt: bool
    riscv_virt: bool
    loongarch_virt: bool
    pseries: bool
    malta: bool

    @property
    def builtin_ide(self) -> bool:
        """The first IDE controller is part of the board."""
        return self.i440fx or self.name in _IDE_ON_BOARD

    @property
    def builtin_esp(self) -> bool:
        """The first SCSI controller is an NCR 53C90 on the board."""
        if self.arch == "sparc":
            return True
        if self.arch in ("mips64", "mips64el"):
            return self.name in ("magnum", "pica61")
        return self.arch == "m68k" and self.name == "q800"

    @property
    def supports_pci(self) -> bool:
        """There is a PCI bus, or may be one for all that is known."""
        if self.arch in ARM:
            return self.arm_virt or self.name == "versatilepb"
        if self.arch in RISCV:
            return self.riscv_virt
        return True

    @property
    def pci_multibus(self) -> bool:
        """QEMU names the root bus ``pci.0`` rather than ``pci``, as there may be others."""
        return (
            self.arch in X86
            or self.arch in PPC
            or self.arch in S390
            or self.arm_virt
            or self.loongarch_virt
            or self.riscv_virt
        )


@functools.lru_cache(maxsize=256)
def machine(arch: str, name: str) -> Machine:
    """Return what is known of a machine type."""
    return Machine(
        arch=arch, name=name, **{kind: rule.has(arch, name) for kind, rule in _KINDS.items()}
    )


def machine_of(domain: Domain) -> Machine:
    """Return what is known of a domain's machine type."""
    os = domain.os
    if os is None:
        return machine("", "")
    return machine(os.arch or "", os.machine or "")
