"""What a host is, read from libvirt's ``<capabilities>`` document (``virsh capabilities``).

The opposite of :meth:`hvcore.hostinfo.HostInfo.to_xml`, for hosts that are somewhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

from hvcore.errors import XmlSyntaxError
from hvcore.hostinfo import HostInfo
from hvcore.hostinfo import HostThread
from hvcore.hostinfo import NumaCell
from hvcore.hostinfo import Pages
from hvcore.model.types import NodeSet
from hvcore.xml.reader import read

if TYPE_CHECKING:
    from collections.abc import Iterator


def read_host(xml: str | bytes, *, kvm: bool = True) -> HostInfo:
    """Return the host of a document.

    :param kvm: whether guests can use KVM there, which the document does not say of the host.
    :raises XmlSyntaxError: it is no such document.
    """
    root = read(xml, "capabilities", source="capabilities")
    host = root.find("host")
    arch = root.findtext("host/cpu/arch")
    if host is None or arch is None:
        raise XmlSyntaxError("(capabilities): the architecture of the host is missing")
    try:
        cells = tuple(_cell(cell) for cell in host.iterfind("topology/cells/cell"))
        sizes = tuple(int(each.get("size", "")) for each in host.iterfind("cpu/pages"))
    except ValueError as error:
        raise XmlSyntaxError(f"(capabilities): {error}") from error
    iommu = host.find("iommu")
    support = None if iommu is None else iommu.get("support")
    return HostInfo(
        arch=arch,
        uuid=host.findtext("uuid"),
        cells=cells,
        memory=sum(cell.memory for cell in cells),
        page_size=sizes[0] if sizes else 4,
        page_sizes=sizes or (4,),
        kvm=kvm,
        iommu=support == "yes",
        vfio=support == "yes",
        sleep_states=tuple(str(each.tag) for each in host.iterfind("power_management/*")),
    )


def _cell(cell: Any) -> NumaCell:
    return NumaCell(
        id=int(cell.get("id")),
        memory=int(cell.findtext("memory", "0")),
        cpus=tuple(_threads(cell)),
        pages=tuple(
            Pages(int(each.get("size")), int(each.text or 0)) for each in cell.iterfind("pages")
        ),
        distances=tuple(
            (int(each.get("id")), int(each.get("value")))
            for each in cell.iterfind("distances/sibling")
        ),
    )


def _threads(cell: Any) -> Iterator[HostThread]:
    for cpu in cell.iterfind("cpus/cpu"):
        number = int(cpu.get("id"))
        yield HostThread(
            number,
            socket=int(cpu.get("socket_id", "0")),
            die=int(cpu.get("die_id", "0")),
            cluster=int(cpu.get("cluster_id", "0")),
            core=int(cpu.get("core_id", number)),
            siblings=tuple(NodeSet.parse(cpu.get("siblings", str(number)))),
        )
