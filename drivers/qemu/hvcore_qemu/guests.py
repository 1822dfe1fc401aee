"""Which guests the QEMU binaries of a host can run, and which binary is for which guest."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.hostinfo import GuestArch
from hvcore.hostinfo import GuestFeature
from hvcore.hostinfo import GuestMachine
from hvcore_qemu.capabilities import is_native

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator

    from hvcore_qemu.capabilities import QemuCapabilities

#: architectures in libvirt's order, with their word size
ARCHES: Final = {
    "alpha": 64,
    "armv6l": 32,
    "armv7l": 32,
    "armv7b": 32,
    "aarch64": 64,
    "cris": 32,
    "i686": 32,
    "ia64": 64,
    "lm32": 32,
    "loongarch64": 64,
    "m68k": 32,
    "microblaze": 32,
    "microblazeel": 32,
    "mips": 32,
    "mipsel": 32,
    "mips64": 64,
    "mips64el": 64,
    "openrisc": 32,
    "parisc": 32,
    "parisc64": 64,
    "ppc": 32,
    "ppcle": 32,
    "ppc64": 64,
    "ppc64le": 64,
    "ppcemb": 32,
    "riscv32": 32,
    "riscv64": 64,
    "s390": 32,
    "s390x": 64,
    "sh4": 32,
    "sh4eb": 64,
    "sparc": 32,
    "sparc64": 64,
    "unicore32": 32,
    "x86_64": 64,
    "xtensa": 32,
    "xtensaeb": 32,
}

_TARGETS: Final = {"i686": "i386", "armv6l": "arm", "armv7l": "arm", "openrisc": "or32"}
_X86: Final = frozenset({"i686", "x86_64"})
_WITH_ACPI: Final = _X86 | {"aarch64", "loongarch64"}

#: what RHEL calls its only QEMU, outside of PATH
_RHEL: Final = "/usr/libexec/qemu-kvm"


def default_emulator(host: str, guest: str, find: Callable[[str], str | None]) -> str | None:
    """Return the binary that runs guests of an architecture unless the document names another.

    :param find: looks a program up, as `shutil.which` does.
    """
    candidates = [guest]
    # Only the 64-bit binary gives 32-bit ARM guests KVM.
    if (host, guest) == ("aarch64", "armv7l"):
        candidates.insert(0, host)
    native = is_native(host, guest)
    target = host if native else guest
    candidates.append("ppc64" if target == "ppc64le" else target)
    names = dict.fromkeys(f"qemu-system-{_TARGETS.get(arch, arch)}" for arch in candidates)
    for name in (*names, *([_RHEL] if native else [])):
        found = find(name)
        if found is not None:
            return found
    return None


def guest_arch(caps: QemuCapabilities, arch: str) -> GuestArch:
    """Return what ``virsh capabilities`` says of a binary's guests of one architecture."""
    return GuestArch(
        arch=arch,
        word_size=ARCHES[arch],
        emulator=caps.binary,
        machines=tuple(_machines(caps)),
        virt_types=tuple(t for t in ("qemu", "kvm", "hvf") if caps.supports_virt_type(t)),
        features=tuple(_features(arch)),
    )


def guest_archs(
    host: str,
    find: Callable[[str], str | None],
    lookup: Callable[[str], QemuCapabilities | None],
) -> Iterator[GuestArch]:
    """Yield all guests that the binaries of this host can run, in libvirt's order.

    :param lookup: capabilities of a binary, or None when it cannot be asked.
    """
    for arch in ARCHES:
        binary = default_emulator(host, arch, find)
        caps = lookup(binary) if binary is not None else None
        if caps is not None:
            yield guest_arch(caps, arch)


def _machines(caps: QemuCapabilities) -> Iterator[GuestMachine]:
    """Yield the machine types of the best accelerator; an alias comes after what it stands for."""
    machines = caps.accelerator(caps.virt_type or "qemu").machines
    listed = {machine.alias or machine.name for machine in machines}
    for machine in machines:
        if machine.alias is None or machine.name not in listed:
            yield GuestMachine(
                name=machine.name, max_cpus=machine.max_cpus, deprecated=machine.deprecated
            )
        if machine.alias is not None:
            yield GuestMachine(
                name=machine.alias,
                canonical=machine.name,
                max_cpus=machine.max_cpus,
                deprecated=machine.deprecated,
            )


def _features(arch: str) -> Iterator[GuestFeature]:
    if arch == "i686":
        yield GuestFeature("pae")
        yield GuestFeature("nonpae")
    if arch in _WITH_ACPI:
        yield GuestFeature("acpi", default=True, toggle=True)
    if arch in _X86:
        yield GuestFeature("apic", default=True, toggle=False)
    yield GuestFeature("cpuselection")
    yield GuestFeature("deviceboot")
    yield GuestFeature("disksnapshot", default=True, toggle=False)
    yield GuestFeature("externalSnapshot")
