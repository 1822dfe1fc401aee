"""Rules of <tpm> that hold for every driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.model.devices.tpm import EmulatorTpm
from hvcore.model.devices.tpm import ExternalTpm
from hvcore.model.devices.tpm import Tpm
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues

rules = Rules()


@rules.check(Tpm)
def _backend(domain: Domain, device: Tpm, ctx: Context) -> Issues:
    """Refuse what the version of the TPM, or the kind of its backend, cannot have."""
    del domain, ctx
    backend = device.backend
    if isinstance(backend, EmulatorTpm) and backend.version != "2.0":
        if backend.banks:
            yield Issue.xml("<active_pcr_banks/> requires TPM version '2.0'")
        elif backend.profile_source is not None:
            yield Issue.xml("<profile/> requires TPM version '2.0'")
    elif isinstance(backend, ExternalTpm):
        if backend.source_type != "unix":
            yield Issue.xml("only source type 'unix' is supported for external TPM device")
        elif backend.mode == "bind":
            yield Issue.xml("only 'connect' mode is supported for external TPM device")
        elif backend.path is None:
            yield Issue.xml("missing socket path for external TPM device")
