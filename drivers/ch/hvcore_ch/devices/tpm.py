"""The TPM, which an emulator serves that runs already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.model.devices.tpm import ExternalTpm
from hvcore.model.devices.tpm import Tpm
from hvcore.rules.base import Rules
from hvcore_ch.accepts import ANY
from hvcore_ch.accepts import one_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore_ch.accepts import Accepts
    from hvcore_ch.command import Command

rules = Rules()

ACCEPTS: Accepts = {
    Tpm: {"model": one_of("tpm-crb"), "backend": one_of("external")},
    ExternalTpm: {"source_type": one_of("unix"), "mode": one_of("connect"), "path": ANY},
}


@rules.check_domain
def _one(domain: Domain, ctx: Context) -> Iterator[Issue]:
    del ctx
    if len(domain.devices.tpms) > 1:
        yield Issue.unsupported("only a single TPM non-proxy device is supported")


def command(vm: Command) -> None:
    """Describe the TPM."""
    for tpm in vm.domain.devices.tpms:
        assert isinstance(tpm.backend, ExternalTpm)  # validated
        vm.set("tpm", {"socket": tpm.backend.path})
