"""<video> in QEMU: defaults, validation and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.errors import ErrorClass
from hvcore.errors import Issue
from hvcore.model.devices.video import Video
from hvcore.model.devices.video import VideoType
from hvcore.rules.base import Rules
from hvcore_qemu.machines import PPC64
from hvcore_qemu.machines import S390
from hvcore_qemu.machines import machine_of
from hvcore_qemu.props import add_device
from hvcore_qemu.props import address_props
from hvcore_qemu.props import positive
from hvcore_qemu.props import refuse
from hvcore_qemu.props import virtio_props

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues
    from hvcore_qemu.capabilities import QemuCapabilities
    from hvcore_qemu.command import Command
    from hvcore_qemu.prepare import Preparation

rules = Rules()

CAPABILITIES: Final = {
    "vga": "VGA",
    "cirrus": "cirrus-vga",
    "vmvga": "vmware-svga",
    "qxl": "qxl",
    "virtio": "virtio-gpu",
    "bochs": "bochs-display",
    "ramfb": "ramfb",
}
_PRIMARY: Final = {
    "vga": "VGA",
    "cirrus": "cirrus-vga",
    "vmvga": "vmware-svga",
    "qxl": "qxl-vga",
    "bochs": "bochs-display",
    "ramfb": "ramfb",
}
_WITH_RESOLUTION: Final = ("vga", "qxl", "virtio", "bochs")
_QXL_VGAMEM: Final = 16 * 1024
_UINT_KIB: Final = (2**32 - 1) // 1024


def _default_type(domain: Domain, caps: QemuCapabilities) -> VideoType | None:
    machine = machine_of(domain)
    if machine.arch in PPC64:
        return "vga"
    if machine.arm_virt or machine.loongarch_virt or machine.riscv_virt or machine.arch in S390:
        return "virtio"
    if "cirrus-vga" in caps:
        return "cirrus"
    return "vga" if "VGA" in caps else None


@rules.post_parse(Video)
def _defaults(domain: Domain, device: Video, ctx: Context) -> None:
    """Choose the model that suits the machine."""
    if device.type is None:
        device.type = _default_type(domain, ctx.caps)
    if device.type == "qxl" and not device.vgamem:
        device.vgamem = _QXL_VGAMEM


@rules.check(Video)
def _supported(domain: Domain, device: Video, ctx: Context) -> Issues:
    """Refuse models, and settings of models, that this QEMU does not have."""
    if device.type in (None, "none"):
        return
    if CAPABILITIES.get(device.type) not in ctx.caps:
        yield Issue.unsupported(
            f"domain configuration does not support video model '{device.type}'"
        )
        return
    if device.type not in ("qxl", "virtio"):
        if not device.primary:
            yield Issue.unsupported(
                f"video type '{device.type}' is only valid as primary video device"
            )
        if device.heads != 1:
            yield Issue.unsupported(f"video type '{device.type}' doesn't support multiple 'heads'")
    if device.accel2d:
        yield Issue.unsupported("qemu does not support the accel2d setting")
    yield from _memory(device)
    if device.xres is not None and device.type not in _WITH_RESOLUTION:
        yield Issue.xml("model resolution is not supported")
    yield from _acceleration(domain, device, ctx)
    if device.type == "ramfb" and device.address is not None:
        yield Issue.unsupported("'address' is not supported for 'ramfb' video devices")


def _memory(device: Video) -> Issues:
    if device.type == "qxl":
        for name, value in (("vram", device.vram), ("ram", device.ram)):
            if (value or 0) > _UINT_KIB:
                yield Issue(
                    f"value for '{name}' must be less than '{_UINT_KIB}'", ErrorClass.OVERFLOW
                )
        vgamem = device.vgamem or 0
        if vgamem and vgamem < 1024:
            yield Issue.unsupported("value for 'vgamem' must be at least 1 MiB (1024 KiB)")
        elif vgamem & (vgamem - 1):
            yield Issue.unsupported("value for 'vgamem' must be power of two")
    if device.type in ("vga", "vmvga") and device.vram and device.vram < 1024:
        yield Issue.unsupported("value for 'vram' must be at least 1 MiB (1024 KiB)")


def _acceleration(domain: Domain, device: Video, ctx: Context) -> Issues:
    if device.backend == "vhostuser":
        if device.type == "virtio" and "vhost-user-gpu" not in ctx.caps:
            yield Issue.unsupported("this QEMU does not support 'vhost-user' video device")
    elif device.accel3d:
        if device.type != "virtio":
            yield Issue.unsupported("3d acceleration is supported only with 'virtio' video device")
        elif not any(
            name in ctx.caps for name in ("virtio-gpu.virgl", "virtio-gpu-gl-pci", "virtio-vga-gl")
        ):
            yield Issue.unsupported("3d acceleration is not supported by this QEMU binary")
    if device.type == "virtio" and device.blob is not None:
        backing = domain.memory_backing
        if "virtio-gpu.blob" not in ctx.caps:
            yield Issue.unsupported("this QEMU does not support 'blob' for virtio-gpu devices")
        elif device.blob and (backing is None or backing.source != "memfd"):
            yield Issue.unsupported(
                "'blob' support for virtio-gpu devices requires a memfd memory backend"
            )


def prepare(work: Preparation) -> None:
    """Start the helpers that render outside QEMU."""
    for device in work.domain.devices.videos:
        if device.backend == "vhostuser":
            assert device.alias is not None  # aliases are assigned before
            work.resources.vhost_fds[device.alias] = work.host.vhost_user_gpu(device.alias)


def _vga_compatible(device: Video, caps: QemuCapabilities) -> bool:
    """Return whether the device can be the one that firmware and early kernels draw on."""
    if not device.primary:
        return False
    if device.type != "virtio":
        return True
    return ("vhost-user-vga" if device.backend == "vhostuser" else "virtio-vga") in caps


def _driver(device: Video, caps: QemuCapabilities) -> dict[str, Any]:
    vga = _vga_compatible(device, caps)
    if device.backend == "vhostuser":
        if vga:
            return {"driver": "vhost-user-vga"}
        return virtio_props("vhost-user-gpu", device, caps)
    if device.type == "virtio":
        accelerated = device.accel3d and ("virtio-vga-gl" if vga else "virtio-gpu-gl-pci") in caps
        base = ("virtio-vga" if vga else "virtio-gpu") + ("-gl" if accelerated else "")
        return virtio_props(base, device, caps, transport=not vga)
    name = _PRIMARY.get(device.type or "") if vga else {"qxl": "qxl"}.get(device.type or "")
    if name is None:
        refuse(Issue.internal(f"invalid model for video type '{device.type}'"))
    return {"driver": name}


def _model_props(device: Video, caps: QemuCapabilities) -> dict[str, Any]:
    """Return the memory and the like, which every model names in its own way."""
    vram = device.vram or 0
    if device.type == "qxl":
        return {
            "ram_size": positive((device.ram or 0) * 1024),
            "vram_size": positive(vram * 1024),
            "vram64_size_mb": (device.vram64 or 0) // 1024,
            "vgamem_mb": (device.vgamem or 0) // 1024,
        }
    if device.backend == "vhostuser":
        return {"chardev": f"chr-vu-{device.alias}"}
    if device.type in ("vga", "vmvga"):
        supported = f"{CAPABILITIES[device.type]}.vgamem_mb" in caps
        return {"vgamem_mb": positive(vram // 1024) if supported else None}
    if device.type == "bochs":
        return {"vgamem": positive(vram * 1024)}
    return {"blob": device.blob} if device.type == "virtio" else {}


def command(cmd: Command) -> None:
    """Append the adapters, each with the socket of its helper where it has one."""
    for device in cmd.domain.devices.videos:
        if device.type == "none":
            continue
        if device.backend == "vhostuser":
            fd = cmd.resources.vhost_fds[device.alias or ""]
            cmd.option("-chardev", f"socket,id=chr-vu-{device.alias},fd={fd}")
        own_virtio = device.type == "virtio" and device.backend != "vhostuser"
        virgl = own_virtio and "virtio-gpu.virgl" in cmd.caps
        heads = device.heads if device.type in ("qxl", "virtio") else None
        add_device(
            cmd,
            device,
            {
                **_driver(device, cmd.caps),
                "id": device.alias,
                "virgl": device.accel3d if virgl else None,
                "max_outputs": positive(heads),
                **_model_props(device, cmd.caps),
                "xres": positive(device.xres),
                "yres": positive(device.yres),
                **address_props(cmd.domain, device),
            },
        )
