"""Rules of <audio> that hold for every driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.model.devices.audio import Audio
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues

rules = Rules()


def unknown_backend(domain: Domain, audio_id: int | None) -> Issue | None:
    """Return the issue that no <audio> has the id a device refers to, or None."""
    if not audio_id or any(audio.id == audio_id for audio in domain.devices.audios):
        return None
    return Issue.xml(f"no audio device with ID {audio_id}")


@rules.check(Audio)
def _unique(domain: Domain, device: Audio, ctx: Context) -> Issues:
    """Refuse a second backend with the same id."""
    del ctx
    if any(other.id == device.id for other in domain.devices.audios if other is not device):
        yield Issue.xml(f"audio ID {device.id} is used multiple times")
