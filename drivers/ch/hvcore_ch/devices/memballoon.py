"""The balloon, which takes from the guest what it was given beyond its current memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.model.devices.memballoon import Memballoon
from hvcore.rules.base import Rules
from hvcore_ch.accepts import ANY
from hvcore_ch.accepts import one_of
from hvcore_ch.command import present
from hvcore_ch.devices.info import behind_iommu
from hvcore_ch.devices.info import place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore_ch.accepts import Accepts
    from hvcore_ch.command import Command

rules = Rules()

ACCEPTS: Accepts = {
    Memballoon: {
        "model": one_of("virtio", "virtio-non-transitional", "none"),
        "autodeflate": ANY,
        "free_page_reporting": ANY,
    },
}


def balloon_of(domain: Domain) -> Memballoon | None:
    """Return the balloon of a guest that has one."""
    found = [each for each in domain.devices.memballoons if each.model != "none"]
    return found[0] if found else None


def size(domain: Domain) -> int:
    """Return the KiB that the balloon takes."""
    return (domain.memory or 0) - (domain.current_memory or domain.memory or 0)


@rules.check_domain
def _needed(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Only a balloon can leave a guest less than it has."""
    del ctx
    if size(domain) and balloon_of(domain) is None:
        yield Issue.unsupported(
            "Cloud-Hypervisor needs a memory balloon device for a current memory below the maximum",
            path="currentMemory",
        )


def command(vm: Command) -> None:
    """Describe the balloon."""
    balloon = balloon_of(vm.domain)
    if balloon is None:
        return
    members = {
        "size": size(vm.domain) * 1024,
        "deflate_on_oom": balloon.autodeflate,
        "free_page_reporting": balloon.free_page_reporting,
        "iommu": behind_iommu(balloon),
        **place(balloon),
    }
    vm.set("balloon", present(members))
