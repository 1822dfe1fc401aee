"""Rules of <video> that hold for every driver."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.model.devices.base import VIRTIO_OPTIONS
from hvcore.model.devices.video import Video
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues

rules = Rules()

_MIB: Final = 1024
_VRAM: Final = {
    # video memory in KiB by model; others have none of a fixed size
    "vga": 16 * _MIB,
    "cirrus": 16 * _MIB,
    "vmvga": 16 * _MIB,
    "bochs": 16 * _MIB,
    "xen": 4 * _MIB,
    "qxl": 64 * _MIB,
}
_VRAM_ELSEWHERE: Final = {"vbox": 8 * _MIB, "vmware": 4 * _MIB}
"""What a VGA of other hypervisors has, by domain type."""


def _default_ram(domain: Domain, device: Video) -> int:
    if device.type in ("vga", "cirrus", "vmvga") and domain.type in _VRAM_ELSEWHERE:
        return _VRAM_ELSEWHERE[domain.type]
    return _VRAM.get(device.type or "", 0)


def _power_of_two(value: int) -> int:
    return 1 << (value - 1).bit_length() if value else 0


@rules.post_parse_early
def _primary_first(domain: Domain, ctx: Context) -> None:
    """Move the adapter marked as primary to the front, the last one marked winning."""
    del ctx
    ordered: list[Video] = []
    for device in domain.devices.videos:
        if device.primary:
            ordered.insert(0, device)
        else:
            ordered.append(device)
    domain.devices.videos = ordered


@rules.post_parse(Video)
def _memory(domain: Domain, device: Video, ctx: Context) -> None:
    """Fill in memory sizes, rounded up to powers of two."""
    del ctx
    if device.type == "qxl" and not device.ram:
        device.ram = _default_ram(domain, device)
    if not device.vram:
        device.vram = _default_ram(domain, device)
    device.ram = _power_of_two(device.ram or 0)
    device.vram = _power_of_two(device.vram)


@rules.post_parse_late
def _implicit(domain: Domain, ctx: Context) -> Issues:
    """Add an adapter where there is a display; make the first one the primary one."""
    videos = domain.devices.videos
    if not videos and domain.devices.graphics:
        videos.append(Video())
        yield from ctx.complete(domain, videos[0])
    if not videos:
        return
    if videos[0].type == "none":
        # Nothing that was filled in for a device that is none may show.
        videos[0] = Video(type="none", heads=0, alias=videos[0].alias)
    else:
        videos[0].primary = True


@rules.check(Video)
def _settings(domain: Domain, device: Video, ctx: Context) -> Issues:
    """Refuse settings that the model does not have."""
    del ctx
    if device.type is None:
        yield Issue.internal("missing video model and cannot determine default")
        return
    if len(domain.devices.videos) > 1 and any(v.type == "none" for v in domain.devices.videos):
        yield Issue.unsupported(
            "a 'none' video type must be the only video device defined for the domain"
        )
    if device.backend == "vhostuser":
        if device.type != "virtio":
            yield Issue.unsupported("'vhostuser' driver is only supported with 'virtio' device")
    elif device.rendernode:
        yield Issue.unsupported("unsupported rendernode accel attribute without 'vhostuser'")
    if device.xres == 0 or device.yres == 0:
        yield Issue.unsupported("video resolution values must be greater than 0")
    if device.type != "qxl":
        for name in ("ram", "vram64", "vgamem"):
            if getattr(device, name):
                yield Issue.unsupported(f"{name} attribute only supported for video type qxl")
    if device.type == "ramfb" and device.address is not None:
        yield Issue.unsupported("address not supported for video type ramfb")
    if device.type != "virtio":
        for name in VIRTIO_OPTIONS:
            if getattr(device, name) is not None:
                yield Issue.unsupported(_ONLY_VIRTIO[name])
        if device.blob is not None:
            yield Issue.unsupported(f"video type '{device.type}' does not support blob resources")


@rules.check_domain
def _one_primary(domain: Domain, ctx: Context) -> Issues:
    """Refuse a second adapter that claims to be the one firmware draws on."""
    del ctx
    primary = [device for device in domain.devices.videos if device.primary]
    if len(primary) > 1:
        yield Issue.unsupported("Only one primary video device is supported", line=primary[1].line)


_ONLY_VIRTIO: Final = {
    "iommu": "iommu driver option is only supported for virtio devices",
    "ats": "ats driver option is only supported for virtio devices",
    "packed": "packed driver option is only supported for virtio devices",
    "page_per_vq": "page_per_vq option is only supported for virtio devices",
}
