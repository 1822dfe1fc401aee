"""Builds the test guest: a stock kernel with an initramfs of busybox and our own /init.

Nothing is installed and no tool is needed: the modules are found by reading what each says of
itself, and the archive is written here. The result depends on its inputs alone.

By hand: ``python -m tests.guest.build [--architecture NAME] [FILE]`` writes the initramfs and
prints how to boot it.
"""

from __future__ import annotations

import argparse
import lzma
import os
import re
import shutil
import stat
import struct
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
EXTRACTED = HERE.parents[1] / "build" / "guest"
"""Where .ci/run unpacks packages, in a folder for each architecture."""

MARKER = "HVCORE-GUEST-READY"
"""Printed on the serial console once the guest answers to the power button."""

MODULES = (
    "button",  # the ACPI power button
    "evdev",  # /dev/input/event*, which acpid reads
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_scsi",
    "sd_mod",
    "sr_mod",
    "ata_piix",  # IDE disks of i440fx machines
    "virtio_console",
    "virtio_balloon",
    "virtio_rng",
    "virtio_input",
    "virtio_mem",
)
"""What a guest loads; dependencies are added, and modules built into the kernel are skipped."""
PANIC_MODULES = (
    "pvpanic_mmio",  # also drives the ISA device, which is found through ACPI
    "pvpanic_pci",
)
"""What Debian builds for x86_64 alone."""

_NEWC = "070701" + "{:08X}" * 13
_PT_INTERP = 3
_TRAILER = "TRAILER!!!"


class GuestUnavailableError(Exception):
    """The guest cannot be built here; the message says which file is missing."""


class Architecture(NamedTuple):
    """What differs between the machines that guests are built for."""

    debian: str
    """What Debian calls it."""
    elf: int
    """The number of the machine in programs."""
    modules: tuple[str, ...]
    run: str
    """The start of a QEMU command line that shows the guest on the terminal."""
    console: str
    needs_firmware: bool
    """Whether there is ACPI only with UEFI; the x86_64 machines bring a BIOS."""


ARCHITECTURES = {
    "x86_64": Architecture(
        "amd64", 62, (*MODULES, *PANIC_MODULES), "qemu-system-x86_64", "ttyS0", False
    ),
    "aarch64": Architecture(
        "arm64", 183, MODULES, "qemu-system-aarch64 -machine virt -cpu cortex-a57", "ttyAMA0", True
    ),
}


class Kernel(NamedTuple):
    """A kernel image and the modules that belong to it."""

    image: Path
    release: str
    modules: Path


class Firmware(NamedTuple):
    """UEFI firmware, as two flash images of the size that QEMU wants."""

    code: Path
    variables: Path


class Guest(NamedTuple):
    """What a domain XML names in ``<kernel>``, ``<initrd>``, ``<loader>`` and ``<nvram>``."""

    kernel: Path
    initrd: Path
    firmware: Firmware | None = None


def _variable(name: str, architecture: str) -> str:
    """Return the environment variable that says where a part of the guest is."""
    suffix = "" if architecture == "x86_64" else f"_{architecture.upper()}"
    return f"HVCORE_TEST_{name}{suffix}"


def find_kernel(architecture: str = "x86_64") -> Kernel:
    """Return the kernel to boot.

    ``HVCORE_TEST_KERNEL`` (a ``vmlinuz-RELEASE`` file; ``HVCORE_TEST_KERNEL_AARCH64`` for aarch64)
    wins over the one that .ci/run unpacked, and that over the newest cloud kernel in /boot.

    :raises GuestUnavailableError: when there is none, or its modules are missing.
    """
    variable = _variable("KERNEL", architecture)
    named = os.environ.get(variable)
    if named:
        images = [Path(named)]
    else:
        pattern = f"vmlinuz-*-cloud-{ARCHITECTURES[architecture].debian}"
        images = [
            image
            for folder in (EXTRACTED / architecture / "boot", Path("/boot"))
            for image in sorted(folder.glob(pattern), key=_version, reverse=True)
        ]
    if not images:
        raise GuestUnavailableError(
            f"no cloud kernel for {architecture} in /boot, and {variable} is not set"
        )
    image = images[0]
    if not os.access(image, os.R_OK):
        raise GuestUnavailableError(f"kernel {image} is missing or not readable")
    release = image.name.removeprefix("vmlinuz-")
    for root in (image.parent.parent, Path("/")):
        for library in ("lib", "usr/lib"):
            modules = root / library / "modules" / release
            if modules.is_dir():
                return Kernel(image, release, modules)
    raise GuestUnavailableError(f"no modules for kernel {image} (lib/modules/{release})")


def _version(image: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", image.name)]


def find_busybox(architecture: str = "x86_64") -> Path:
    """Return a statically linked busybox.

    ``HVCORE_TEST_BUSYBOX`` (``HVCORE_TEST_BUSYBOX_AARCH64`` for aarch64) wins over the one that
    .ci/run unpacked, and that over the one in PATH.

    :raises GuestUnavailableError: when there is none for the architecture.
    """
    folder = EXTRACTED / architecture
    unpacked = (folder / place / "busybox" for place in ("bin", "usr/bin"))
    found = (
        os.environ.get(_variable("BUSYBOX", architecture))
        or next((path for path in unpacked if path.exists()), None)
        or shutil.which("busybox")
    )
    if not found:
        raise GuestUnavailableError("no busybox found (Debian: busybox-static)")
    program = Path(found).read_bytes()
    (machine,) = struct.unpack_from("<H", program, 0x12)
    if machine != ARCHITECTURES[architecture].elf:
        raise GuestUnavailableError(f"{found} is not for {architecture}")
    if _has_interpreter(program):
        raise GuestUnavailableError(f"{found} is not statically linked (Debian: busybox-static)")
    return Path(found)


def find_firmware(architecture: str) -> Firmware | None:
    """Return the firmware that .ci/run unpacked; None for an architecture that needs none.

    An installed one is not taken: that of Debian 12 declares its flash to be memory, which SRAT has
    in no node, and Linux then makes do with a single node.

    :raises GuestUnavailableError: when there is none.
    """
    if not ARCHITECTURES[architecture].needs_firmware:
        return None
    folder = EXTRACTED / architecture / "usr" / "share" / "AAVMF"
    firmware = Firmware(folder / "AAVMF_CODE.fd", folder / "AAVMF_VARS.fd")
    if not all(path.exists() for path in firmware):
        raise GuestUnavailableError(f"no UEFI firmware for {architecture} in {folder}")
    return firmware


def _has_interpreter(program: bytes) -> bool:
    """Tell whether a 64-bit ELF program asks for a dynamic loader, which the initramfs lacks."""
    (table,) = struct.unpack_from("<Q", program, 0x20)
    size, count = struct.unpack_from("<HH", program, 0x36)
    kinds = (struct.unpack_from("<I", program, table + i * size)[0] for i in range(count))
    return _PT_INTERP in kinds


def _content(module: Path) -> bytes:
    raw = module.read_bytes()
    return lzma.decompress(raw) if module.suffix == ".xz" else raw


def load_order(folder: Path, wanted: tuple[str, ...]) -> dict[str, bytes]:
    """Return the modules to load by name, each after what it depends on.

    modules.dep would say this too, but it is made when a kernel package is installed, and the
    kernel may only have been unpacked.

    :param folder: ``lib/modules/RELEASE`` of the kernel.
    :raises GuestUnavailableError: when a module is neither there nor built in.
    """
    present = {
        path.name.partition(".ko")[0].replace("-", "_"): path for path in folder.rglob("*.ko*")
    }
    builtin = {
        Path(line).stem.replace("-", "_")
        for line in (folder / "modules.builtin").read_text().split()
    }
    order: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in order or name in builtin:
            return
        if name not in present:
            raise GuestUnavailableError(f"kernel {folder.name} has no module {name}")
        content = _content(present[name])
        depends = re.search(rb"\0depends=([^\0]*)\0", content)
        for dependency in depends[1].decode().split(",") if depends else []:
            if dependency:
                add(dependency.replace("-", "_"))
        order[name] = content

    for name in wanted:
        add(name)
    return order


class Archive:
    """A cpio archive in the ``newc`` format, as the kernel's initramfs loader reads it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._entries = 0

    def _add(
        self, path: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)
    ) -> None:
        self._entries += 1
        name = path.encode() + b"\0"
        # Fields: inode, mode, uid, gid, links, mtime, size, device, device number, name, checksum.
        head = _NEWC.format(
            self._entries, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name), 0
        ).encode()
        for part in (head + name, content):
            self._parts.append(part + b"\0" * (-len(part) % 4))

    def folder(self, path: str) -> None:
        """Add a folder; the archive lists folders before what is in them."""
        self._add(path, stat.S_IFDIR | 0o755)

    def file(self, path: str, content: bytes, mode: int = 0o755) -> None:
        """Add a regular file."""
        self._add(path, stat.S_IFREG | mode, content)

    def character(self, path: str, major: int, minor: int) -> None:
        """Add a character device."""
        self._add(path, stat.S_IFCHR | 0o600, device=(major, minor))

    def finish(self) -> bytes:
        """Return the whole archive."""
        self._add(_TRAILER, 0)
        return b"".join(self._parts)


def initramfs(kernel: Kernel, busybox: Path, wanted: tuple[str, ...]) -> bytes:
    """Return the initramfs, uncompressed: unpacking costs more than loading under emulation."""
    archive = Archive()
    for folder in ("bin", "dev", "etc", "etc/acpi", "etc/acpi/PWRF", "modules"):
        archive.folder(folder)
    # The kernel opens the console for /init before devtmpfs is mounted.
    archive.character("dev/console", 5, 1)
    archive.file("bin/busybox", busybox.read_bytes())
    archive.file("init", (HERE / "init.sh").read_bytes())
    # The name is what acpid runs for the power button.
    archive.file("etc/acpi/PWRF/00000080", (HERE / "power-button.sh").read_bytes())
    modules = load_order(kernel.modules, wanted)
    for name, content in modules.items():
        archive.file(f"modules/{name}.ko", content, 0o644)
    archive.file("modules/order", "".join(f"{name}.ko\n" for name in modules).encode(), 0o644)
    return archive.finish()


def build(target: Path, architecture: str = "x86_64") -> Guest:
    """Write the initramfs to ``target`` and return the guest.

    :raises GuestUnavailableError: when the kernel, its modules, busybox or firmware are missing.
    """
    kernel = find_kernel(architecture)
    busybox = find_busybox(architecture)
    firmware = find_firmware(architecture)
    target.write_bytes(initramfs(kernel, busybox, ARCHITECTURES[architecture].modules))
    return Guest(kernel.image, target, firmware)


def main(arguments: list[str]) -> int:
    """Build the guest from the command line."""
    parser = argparse.ArgumentParser("python -m tests.guest.build")
    parser.add_argument("--architecture", choices=ARCHITECTURES, default="x86_64")
    parser.add_argument("file", nargs="?", type=Path)
    options = parser.parse_args(arguments)
    target = options.file or EXTRACTED / options.architecture / "initramfs.cpio"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        guest = build(target, options.architecture)
    except GuestUnavailableError as error:
        print(f"no test guest: {error}", file=sys.stderr)
        return 1
    architecture = ARCHITECTURES[options.architecture]
    firmware = f" -bios {guest.firmware.code}" if guest.firmware else ""
    print(
        f"{architecture.run} -accel tcg -m 256 -nographic -no-reboot{firmware}"
        f" -kernel {guest.kernel} -initrd {guest.initrd}"
        f" -append 'console={architecture.console} hvcore.poweroff=1'"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
