"""The domain as a whole: what it is called, who runs it, and what follows its end."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import ErrorClass
from hvcore.errors import Issue
from hvcore.model.devices import Devices
from hvcore.model.domain import Domain
from hvcore.model.seclabel import Seclabel
from hvcore.rules.base import Rules
from hvcore_ch.accepts import ANY
from hvcore_ch.accepts import one_of
from hvcore_ch.accepts import refusals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.pipeline import Context
    from hvcore_ch.accepts import Accepts
    from hvcore_ch.command import Command

rules = Rules()

HYPERVISORS: Final = {"kvm": "kvm", "hyperv": "mshv"}
"""Types of domains, and the capability that each needs."""

PROGRAM: Final = "cloud-hypervisor"

ACCEPTS: Accepts = {
    Domain: {
        "type": one_of(*HYPERVISORS),
        "id": ANY,
        "name": ANY,
        "uuid": ANY,
        "title": ANY,
        "description": ANY,
        "metadata": ANY,
        "on_poweroff": one_of("destroy", "restart"),
        "on_reboot": one_of("destroy", "restart"),
        "on_crash": one_of("destroy", "restart", "preserve"),
        "devices": ANY,
        "seclabels": ANY,
    },
    Devices: {"emulator": ANY},
    Seclabel: {"type": one_of("none"), "model": ANY},
}


@rules.post_parse_early
def _emulator(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Take the program that is found in the path."""
    if not domain.devices.emulator:
        domain.devices.emulator = ctx.find_program(PROGRAM)
        if domain.devices.emulator is None:
            yield Issue.unsupported("No emulator found for cloud-hypervisor")


@rules.post_parse_domain
def _hypervisor(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Refuse kinds of guests that the binary cannot run, as libvirt looks them up."""
    os = domain.os
    needed = HYPERVISORS.get(domain.type)
    if ctx.caps is None or os is None or os.type is None:
        return
    wrong = ""
    if os.type != "hvm":
        wrong = f"ostype={os.type} "
    elif os.arch != ctx.caps.arch:
        wrong = f"arch={os.arch} "
    elif needed is None or needed not in ctx.caps:
        wrong = f"domaintype={domain.type} "
    if wrong:
        yield Issue(f"could not find capabilities for {wrong}", ErrorClass.INVALID_ARG)


@rules.check_domain
def _only_what_is_taken(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Refuse everything that would be passed over."""
    del ctx
    yield from refusals(domain)


def command(vm: Command) -> None:
    """Lower what plugins added to the domain, to its devices and to each of them."""
    devices = vm.domain.devices
    for owner in (vm.domain, devices, *devices.walk()):
        if owner._ext is not None:  # noqa: SLF001 - the common case must cost nothing
            vm.features(owner)
