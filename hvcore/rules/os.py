"""Rules of <os>, <idmap> that hold for every driver."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING
from typing import Final
from typing import cast

from hvcore.errors import ErrorClass
from hvcore.errors import Issue
from hvcore.model.os import BootDevice
from hvcore.model.os import Os
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.model.os import Arch
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues

rules = Rules()

TIMEOUT_MAX: Final = 65535
"""Largest boot menu and reboot timeout, in milliseconds."""

SELECTS_FIRMWARE: Final = frozenset({"qemu", "test", "none"})
"""Drivers that pick firmware by its features; without a driver nothing is refused."""


def os_of(domain: Domain) -> Os:
    """Return the <os> section, which every domain has after the first rule."""
    assert domain.os is not None
    return domain.os


def is_pflash(domain: Domain) -> bool:
    """Return whether the firmware is in flash memory (libvirt: old-style UEFI)."""
    os = os_of(domain)
    return os.loader is not None and os.loader.type == "pflash"


def _details(message: str) -> Issue:
    return Issue(message, ErrorClass.XML_DETAIL)


def complete(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Find out the type of guest and its architecture, on which all other rules depend."""
    if domain.os is None:
        domain.os = Os()
    os = domain.os
    if os.type is None:
        if not domain.bootloader:
            yield Issue.xml("an os <type> must be specified")
            return
        os.type = "xen"
    if os.type == "linux" and domain.type == "xen":
        os.type = "xen"
    if os.arch is None:
        os.arch = cast("Arch", ctx.host.arch if ctx.host is not None else platform.machine())
    if os.firmware_features and not os.firmware and not ctx.abi_update:
        # Documents for migration from libvirt 8.6 to 9.1 have features without firmware.
        os.firmware_features = []


@rules.post_parse_late
def _init(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Containers need a first process."""
    del ctx
    os = os_of(domain)
    if os.type == "exe" and not os.init:
        yield Issue.xml("init binary must be specified")


@rules.post_parse_late
def _loader(domain: Domain, ctx: Context) -> Issues:
    """Firmware is ROM where nothing else is said."""
    del ctx
    loader = os_of(domain).loader
    if loader is not None and loader.path and loader.type is None:
        loader.type = "rom"
    return ()


@rules.post_parse_late
def _boot_order(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Boot from the first disk, unless the document says otherwise in one of two ways."""
    del ctx
    os = os_of(domain)
    if os.type != "hvm":
        return
    seen: set[int] = set()
    for device in domain.devices.walk():
        order = device.boot_order
        if order is None:
            continue
        if order in seen:
            yield Issue.unsupported(f"boot order '{order}' used for more than one device")
            return
        seen.add(order)
    if os.boot and seen:
        yield Issue.unsupported(
            "per-device boot elements cannot be used together with os/boot elements"
        )
    elif not os.boot and not seen:
        os.boot = [BootDevice(dev="hd")]


def firmware_issue(os: Os) -> Issue | None:
    """Return what is wrong with the choice of firmware, whatever the driver, or None."""
    issue = _firmware_source(os) or _variable_store(os)
    if issue is None and os.loader is not None and os.shim and not os.kernel:
        issue = Issue.unsupported("shim only allowed with kernel option")
    return issue


@rules.check_domain
def _firmware(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Check that what is said about the firmware goes together."""
    os = os_of(domain)
    if os.firmware and ctx.driver not in SELECTS_FIRMWARE:
        yield _details("firmware auto selection not implemented for this driver")
        return
    issue = firmware_issue(os)
    if issue is not None:
        yield issue


def _firmware_source(os: Os) -> Issue | None:
    """Check how the firmware is found: by its features or by its path."""
    wanted = {feature.name: feature.enabled for feature in os.firmware_features}
    if os.firmware:
        if wanted.get("enrolled-keys") is True and wanted.get("secure-boot") is False:
            return _details(
                "firmware feature 'enrolled-keys' cannot be enabled when "
                "firmware feature 'secure-boot' is disabled"
            )
        if os.nvram is not None and os.firmware != "efi":
            return _details(f"firmware type '{os.firmware}' does not support nvram")
        return None
    if wanted:
        return _details(
            "cannot use feature-based firmware autoselection when "
            "firmware autoselection is disabled"
        )
    if os.loader is not None and not os.loader.path:
        return _details("no loader path specified and firmware auto selection disabled")
    return None


def _variable_store(os: Os) -> Issue | None:
    """Check that there is a variable store only where there can be one."""
    stateless = os.loader.stateless if os.loader is not None else None
    if stateless is True and os.nvram is not None:
        if os.nvram.template:
            return _details("NVRAM template is not permitted when loader is stateless")
        return _details("NVRAM is not permitted when loader is stateless")
    if stateless is False:
        if os.firmware is None and (os.loader is None or os.loader.type != "pflash"):
            return _details("Only pflash loader type permits NVRAM")
        if os.firmware not in (None, "efi"):
            return _details("Only EFI firmware permits NVRAM")
    return None


@rules.check_domain
def _timeouts(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Check the ranges that firmware has room for."""
    del ctx
    os = os_of(domain)
    if os.bootmenu_timeout is not None and os.bootmenu_timeout > TIMEOUT_MAX:
        yield Issue.unsupported(
            f"invalid value for boot menu timeout, must be in range [0,{TIMEOUT_MAX}]"
        )
    delay = os.bios_reboot_timeout
    if delay is not None and not -1 <= delay <= TIMEOUT_MAX:
        yield Issue.unsupported(
            f"invalid value for rebootTimeout, must be in range [-1,{TIMEOUT_MAX}]"
        )


@rules.check_domain
def _idmap(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Users and groups of a container are mapped together, root included."""
    del ctx
    idmap = domain.idmap
    if idmap is None:
        return
    if bool(idmap.uids) != bool(idmap.gids):
        yield Issue.unsupported("uid and gid should be mapped both")
    elif any(ranges and ranges[0].start != 0 for ranges in (idmap.uids, idmap.gids)):
        yield Issue.unsupported("You must map the root user of container")
