"""<smartcard> in QEMU: validation and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.errors import Issue
from hvcore.model.devices.base import CcidAddress
from hvcore.model.devices.smartcard import Smartcard
from hvcore.rules.base import Rules
from hvcore_qemu import chardev
from hvcore_qemu.props import add_device
from hvcore_qemu.props import controller_alias

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues
    from hvcore_qemu.command import Command

rules = Rules()

_DATABASE: Final = "/etc/pki/nssdb"


@rules.check(Smartcard)
def _supported(domain: Domain, device: Smartcard, ctx: Context) -> Issues:
    """Refuse more than one card, and what this QEMU lacks."""
    address = device.address
    first = isinstance(address, CcidAddress) and not address.controller and not address.slot
    if len(domain.devices.smartcards) > 1 or not first:
        yield Issue.unsupported("this QEMU binary lacks multiple smartcard support")
    elif device.mode != "passthrough":
        if "ccid-emulated" not in ctx.caps:
            yield Issue.unsupported("this QEMU binary lacks smartcard host mode support")
    elif "ccid-passthru" not in ctx.caps:
        yield Issue.unsupported("this QEMU binary lacks smartcard passthrough mode support")
    else:
        yield from chardev.check(domain, device, ctx)


def command(cmd: Command) -> None:
    """Append the smartcard."""
    for card in cmd.domain.devices.smartcards[:1]:
        assert isinstance(card.address, CcidAddress)  # validation requires it
        reader = controller_alias(cmd.domain, "ccid", card.address.controller or 0)
        props = {**_card(cmd, card), "id": card.alias, "bus": f"{reader}.0"}
        add_device(cmd, card, props)


def _card(cmd: Command, card: Smartcard) -> dict[str, Any]:
    if card.mode == "host":
        return {"driver": "ccid-card-emulated", "backend": "nss-emulated"}
    if card.mode == "passthrough":
        name = chardev.command(cmd, card, card.alias or "", spicevmc="smartcard")
        return {"driver": "ccid-card-passthru", "chardev": name}
    certificates = {f"cert{n}": name for n, name in enumerate(card.certificates, start=1)}
    return {
        "driver": "ccid-card-emulated",
        "backend": "certificates",
        **certificates,
        "db": card.database or _DATABASE,
    }
