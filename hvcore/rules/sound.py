"""Rules of <sound> that hold for every driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.model.devices.sound import Sound
from hvcore.rules.audio import unknown_backend
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues

rules = Rules()


@rules.post_parse(Sound)
def _streams(domain: Domain, device: Sound, ctx: Context) -> None:
    """Give virtio-sound one stream to play and one to record."""
    del domain, ctx
    if device.model == "virtio" and not device.streams:
        device.streams = 2


@rules.check(Sound)
def _backend(domain: Domain, device: Sound, ctx: Context) -> Issues:
    """Require the backend it refers to."""
    del ctx
    issue = unknown_backend(domain, device.audio_id)
    if issue is not None:
        yield issue
