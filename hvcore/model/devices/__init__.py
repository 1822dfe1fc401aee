"""The <devices> element: one list for each family, in the order in which libvirt writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.model.devices.audio import Audio
from hvcore.model.devices.chardev import Channel
from hvcore.model.devices.chardev import Console
from hvcore.model.devices.chardev import Parallel
from hvcore.model.devices.chardev import Serial
from hvcore.model.devices.controller import Controller
from hvcore.model.devices.crypto import Crypto
from hvcore.model.devices.disk import Disk
from hvcore.model.devices.filesystem import Filesystem
from hvcore.model.devices.graphics import GRAPHICS
from hvcore.model.devices.graphics import Graphics
from hvcore.model.devices.hostdev import Hostdev
from hvcore.model.devices.hub import Hub
from hvcore.model.devices.input import Input
from hvcore.model.devices.interface import Interface
from hvcore.model.devices.iommu import Iommu
from hvcore.model.devices.lease import Lease
from hvcore.model.devices.memballoon import Memballoon
from hvcore.model.devices.memory import MemoryDevice
from hvcore.model.devices.nvram import Nvram
from hvcore.model.devices.panic import Panic
from hvcore.model.devices.pstore import Pstore
from hvcore.model.devices.redirdev import Redirdev
from hvcore.model.devices.redirdev import RedirFilter
from hvcore.model.devices.rng import Rng
from hvcore.model.devices.shmem import Shmem
from hvcore.model.devices.smartcard import Smartcard
from hvcore.model.devices.sound import Sound
from hvcore.model.devices.tpm import Tpm
from hvcore.model.devices.video import Video
from hvcore.model.devices.vsock import Vsock
from hvcore.model.devices.watchdog import Watchdog
from hvcore.xml.fields import Element
from hvcore.xml.fields import children
from hvcore.xml.fields import choice
from hvcore.xml.fields import element
from hvcore.xml.fields import text

if TYPE_CHECKING:
    from hvcore.model.devices.base import Device
    from hvcore.xml.context import FormatContext


def _consoles(devices: Devices, ctx: FormatContext) -> list[Console]:
    """Return the consoles to write; one that is the first serial port reads like that."""
    del ctx
    return [
        console.like(devices.serials[0]) if console.is_serial and devices.serials else console
        for console in devices.consoles
    ]


def _inputs(devices: Devices, ctx: FormatContext) -> list[Input]:
    """Return the inputs to write; old versions know no keyboards."""
    return [each for each in devices.inputs if not (ctx.migratable and each.implied)]


@element("devices", paired=True)
class Devices(Element):
    """All devices of a domain."""

    emulator: str | None = text("emulator", doc="path of the hypervisor binary")
    disks: list[Disk] = children("disk", Disk)
    controllers: list[Controller] = children("controller", Controller)
    leases: list[Lease] = children("lease", Lease)
    filesystems: list[Filesystem] = children("filesystem", Filesystem)
    interfaces: list[Interface] = children("interface", Interface)
    smartcards: list[Smartcard] = children("smartcard", Smartcard)
    serials: list[Serial] = children("serial", Serial)
    parallels: list[Parallel] = children("parallel", Parallel)
    consoles: list[Console] = children("console", Console, written=_consoles)
    channels: list[Channel] = children("channel", Channel)
    inputs: list[Input] = children("input", Input, written=_inputs)
    tpms: list[Tpm] = children("tpm", Tpm)
    graphics: list[Graphics] = choice("graphics", "@type", GRAPHICS, many=True)
    sounds: list[Sound] = children("sound", Sound)
    audios: list[Audio] = children("audio", Audio)
    videos: list[Video] = children("video", Video)
    hostdevs: list[Hostdev] = children("hostdev", Hostdev)
    redirdevs: list[Redirdev] = children("redirdev", Redirdev)
    redirfilters: list[RedirFilter] = children("redirfilter", RedirFilter)
    hubs: list[Hub] = children("hub", Hub)
    watchdogs: list[Watchdog] = children("watchdog", Watchdog)
    memballoons: list[Memballoon] = children("memballoon", Memballoon)
    rngs: list[Rng] = children("rng", Rng)
    nvrams: list[Nvram] = children("nvram", Nvram)
    panics: list[Panic] = children("panic", Panic)
    shmems: list[Shmem] = children("shmem", Shmem)
    memories: list[MemoryDevice] = children("memory", MemoryDevice)
    cryptos: list[Crypto] = children("crypto", Crypto)
    iommus: list[Iommu] = children("iommu", Iommu)
    vsocks: list[Vsock] = children("vsock", Vsock)
    pstores: list[Pstore] = children("pstore", Pstore)

    def walk(self) -> list[Device]:
        """Return every device, in the order in which libvirt visits them."""
        return [device for name in VISITED for device in getattr(self, name)]


ADDRESSED: Final = (
    "disks",
    "interfaces",
    "sounds",
    "hostdevs",
    "videos",
    "controllers",
    "smartcards",
    "serials",
    "parallels",
    "channels",
    "consoles",
    "inputs",
    "filesystems",
    "watchdogs",
    "memballoons",
    "rngs",
    "nvrams",
    "hubs",
    "shmems",
    "tpms",
    "panics",
    "memories",
    "redirdevs",
    "iommus",
    "vsocks",
    "cryptos",
    "pstores",
)
"""Names of the lists whose devices may have an address, in visiting order."""

VISITED: Final = (*ADDRESSED, "graphics", "audios", "leases")
"""Names of the lists in visiting order (libvirt's virDomainDeviceInfoIterate)."""
