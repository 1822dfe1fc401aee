"""Rules of <launchSecurity>, <keywrap> that hold for every driver."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.model.launchsecurity import SevSnp
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context

rules = Rules()

SNP_SIZES: Final = (
    ("guestVisibleWorkarounds", "guest_visible_workarounds", 16),
    ("idBlock", "id_block", 96),
    ("idAuth", "id_auth", 4096),
    ("hostData", "host_data", 32),
)
"""Element, field and bytes of each structure that SNP's launch takes (SEV-SNP firmware ABI)."""


@rules.check_domain
def _structures(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Check that encoded structures have the size the firmware expects."""
    del ctx
    snp = domain.launch_security
    if not isinstance(snp, SevSnp):
        return
    for name, field, expected in SNP_SIZES:
        text = getattr(snp, field)
        if text is None:
            continue
        try:
            size = len(base64.b64decode(text))
        except binascii.Error:
            size = 0
        if size != expected:
            yield Issue.unsupported(
                f"Unexpected length of '{name}', expected {expected} got {size}", line=snp.line
            )
