"""The platform: what firmware tells the guest about its machine, PCI segments, the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.model.clock import Clock
from hvcore.model.domain import Domain
from hvcore.model.sysinfo import ChassisTable
from hvcore.model.sysinfo import Entry
from hvcore.model.sysinfo import SmbiosInfo
from hvcore.model.sysinfo import SystemTable
from hvcore.rules.base import Rules
from hvcore_ch.accepts import ANY
from hvcore_ch.accepts import one_of
from hvcore_ch.command import present
from hvcore_ch.devices.info import segments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.pipeline import Context
    from hvcore_ch.accepts import Accepts
    from hvcore_ch.command import Command

rules = Rules()

_SYSTEM: Final = {
    "manufacturer": "system_manufacturer",
    "product": "system_product_name",
    "version": "system_version",
    "serial": "system_serial_number",
    "uuid": "system_uuid",
    "sku": "system_sku_number",
    "family": "system_family",
}
"""Entries of libvirt's system table and what they are called here."""
_OLD: Final = {"system_serial_number": "serial_number", "system_uuid": "uuid"}
"""How versions before 53 call what they have of it."""

ACCEPTS: Accepts = {
    Domain: {"sysinfo": one_of("smbios"), "clock": ANY},
    Clock: {"offset": one_of("utc")},
    SmbiosInfo: {"system": ANY, "chassis": ANY, "oem_strings": ANY},
    SystemTable: {"entries": ANY},
    ChassisTable: {"entries": ANY},
    Entry: {"name": ANY, "value": ANY},
}


def _table(domain: Domain) -> SmbiosInfo | None:
    wanted = domain.os is not None and domain.os.smbios_mode == "sysinfo"
    found = [each for each in domain.sysinfo if isinstance(each, SmbiosInfo)]
    return found[0] if wanted and found else None


@rules.check_domain
def _shown(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Check a table that is shown; one that the guest does not see is only kept."""
    info = _table(domain)
    wanted = domain.os is not None and domain.os.smbios_mode == "sysinfo"
    if wanted and info is None:
        yield Issue.xml(f"Domain '{domain.name}' sysinfo are not available")
    if info is None:
        return
    others = set(info.chassis.values()) - {"asset"} if info.chassis is not None else set()
    for name in sorted(others):
        yield Issue.unsupported(
            f"Cloud-Hypervisor doesn't support entry '{name}' in 'chassis'", line=info.line
        )
    if ctx.caps is not None and "smbios-system" not in ctx.caps:
        known = {"serial", "uuid"}
        given = set(info.system.values()) if info.system is not None else set()
        for name in sorted(given - known):
            yield Issue.unsupported(
                f"entry '{name}' in 'system' is not supported by this Cloud-Hypervisor binary",
                line=info.line,
            )


def command(vm: Command) -> None:
    """Describe the platform; the guest always sees the domain's UUID."""
    info = _table(vm.domain)
    system = info.system.values() if info is not None and info.system is not None else {}
    chassis = info.chassis.values() if info is not None and info.chassis is not None else {}
    count = segments(vm.domain)
    members = {"system_uuid": vm.domain.uuid}
    members |= {_SYSTEM[name]: value for name, value in system.items()}
    if "smbios-system" not in vm.caps:
        members = {_OLD[name]: value for name, value in members.items()}
    more = {
        "chassis_asset_tag": chassis.get("asset"),
        "oem_strings": info.oem_strings if info is not None and info.oem_strings else None,
        "num_pci_segments": count if count > 1 else None,
    }
    vm.set("platform", {**members, **present(more)})
