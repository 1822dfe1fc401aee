"""The <blkiotune> section."""

from __future__ import annotations

from hvcore.xml.codecs import STR
from hvcore.xml.codecs import UINT
from hvcore.xml.codecs import ULONG
from hvcore.xml.fields import Element
from hvcore.xml.fields import children
from hvcore.xml.fields import element
from hvcore.xml.fields import text


@element("device")
class BlkioDevice(Element):
    """Weight and limits of one block device of the host."""

    path: str = text(
        "path", STR, required=True,
        missing="unsupported configuration: missing per-device path",
    )  # fmt: skip
    weight: int | None = text(
        "weight", UINT, omit=(0,),
        refused="unsupported configuration: could not parse weight {value}",
    )  # fmt: skip
    read_iops_sec: int | None = text(
        "read_iops_sec", UINT, omit=(0,),
        refused="unsupported configuration: could not parse read iops sec {value}",
    )  # fmt: skip
    write_iops_sec: int | None = text(
        "write_iops_sec", UINT, omit=(0,),
        refused="unsupported configuration: could not parse write iops sec {value}",
    )  # fmt: skip
    read_bytes_sec: int | None = text(
        "read_bytes_sec", ULONG, omit=(0,),
        refused="unsupported configuration: could not parse read bytes sec {value}",
    )  # fmt: skip
    write_bytes_sec: int | None = text(
        "write_bytes_sec", ULONG, omit=(0,),
        refused="unsupported configuration: could not parse write bytes sec {value}",
    )  # fmt: skip


@element("blkiotune", omit_empty=True)
class BlkioTune(Element):
    """Weights and limits of block I/O."""

    weight: int | None = text("weight", UINT, omit=(0,))
    devices: list[BlkioDevice] = children("device", BlkioDevice)
