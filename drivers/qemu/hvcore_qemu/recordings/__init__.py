"""Recorded capabilities of QEMUs, for hosts that have none: libvirt's documents, compressed.

The files here were written by ``tools/record_capabilities.py``. libvirt's own are as good: it keeps
one for each QEMU in ``/var/cache/libvirt/qemu/capabilities``.
"""

from __future__ import annotations

import lzma
import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Final

from lxml import etree

from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.hostinfo import HostInfo
from hvcore.hostinfo import HostThread
from hvcore.hostinfo import NumaCell
from hvcore.hostinfo import Pages
from hvcore_qemu.capabilities import QemuCapabilities
from hvcore_qemu.flags import order

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME: Final = re.compile(r"qemu-(\d+)\.(\d+)\.(\d+)-(\w+)\Z")
_SUFFIX: Final = ".xml.xz"


def shipped() -> Mapping[str, bytes]:
    """Return the recordings that come with the driver, by name, such as ``qemu-10.0.2-x86_64``."""
    folder = resources.files(__package__)
    return {
        entry.name.removesuffix(_SUFFIX): entry.read_bytes()
        for entry in folder.iterdir()
        if entry.name.endswith(_SUFFIX)
    }


def load(recording: str) -> QemuCapabilities:
    """Return recorded capabilities.

    :param recording: path of a document, which may be compressed with xz, or the name of one that
        comes with the driver. Releases of one series have the same capabilities, so
        ``qemu-10.0.0-x86_64`` is good for that of 10.0.2.
    :raises HvError: there is no such recording.
    :raises ProbeError: it cannot be understood.
    """
    if "/" not in recording:
        return _named(recording)
    try:
        return read(Path(recording).read_bytes())
    except OSError as error:
        raise HvError(
            f"cannot read '{recording}': {error.strerror}", kind=ErrorClass.SYSTEM
        ) from error


def _named(name: str) -> QemuCapabilities:
    found = shipped()
    wanted = _NAME.match(name)
    for other in sorted(found, reverse=True):
        there = _NAME.match(other)
        if wanted and there and (wanted[1], wanted[2], wanted[4]) == (there[1], there[2], there[4]):
            return read(found[other])
    raise HvError(
        f"there is no recording called '{name}'",
        kind=ErrorClass.INVALID_ARG,
        hint=f"there are {', '.join(sorted(found))}; or give the path of a file",
    )


def read(document: bytes) -> QemuCapabilities:
    """Return the capabilities in a document, with those that plugins added to it.

    :raises ProbeError: it cannot be understood.
    """
    if document.startswith(b"\xfd7zXZ"):
        document = lzma.decompress(document)
    try:
        parser = etree.XMLParser(resolve_entities=False, no_network=True)
        root = etree.fromstring(document, parser)
    except etree.XMLSyntaxError:
        return QemuCapabilities.load(document)  # says what is wrong
    known, extra = order(), []
    for flag in root.findall("flag"):
        name = flag.get("name") or ""
        if name not in known:
            extra.append(name)
            root.remove(flag)
    return QemuCapabilities.load(etree.tostring(root)).replace(add=extra)


def host_of(caps: QemuCapabilities) -> HostInfo:
    """Return a host that a QEMU could run on: two nodes with eight CPUs and 32 GiB each."""
    size = 32 << 20
    cells = tuple(
        NumaCell(
            id=number,
            memory=size,
            pages=(Pages(4, size // 4),),
            cpus=tuple(
                HostThread(cpu, socket=number, core=cpu % 8, siblings=(cpu,))
                for cpu in range(number * 8, number * 8 + 8)
            ),
            distances=((number, 10), (1 - number, 20)),
        )
        for number in range(2)
    )
    return HostInfo(
        arch=caps.arch,
        cells=cells,
        memory=2 * size,
        kvm=caps.supports_virt_type("kvm"),
        iommu=True,
        vfio=True,
    )
