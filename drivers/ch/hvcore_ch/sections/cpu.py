"""Virtual CPUs: how many, their topology, where they run, and what they show of the host's CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.model.cpu import Cpu
from hvcore.model.cpu import CpuFeature
from hvcore.model.cputune import CpuTune
from hvcore.model.cputune import EmulatorPin
from hvcore.model.cputune import VcpuPin
from hvcore.model.domain import Domain
from hvcore.model.features import Features
from hvcore.model.features import Hyperv
from hvcore.model.vcpu import Vcpu
from hvcore.model.vcpu import VcpuState
from hvcore.rules.base import Rules
from hvcore.rules.placement import vcpu_cpus
from hvcore.rules.vcpu import max_vcpus
from hvcore.rules.vcpu import online_vcpus
from hvcore.rules.vcpu import vcpu_states
from hvcore_ch.accepts import ANY
from hvcore_ch.accepts import one_of
from hvcore_ch.command import present

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from hvcore.pipeline import Context
    from hvcore_ch.accepts import Accepts
    from hvcore_ch.command import Command

rules = Rules()

_NESTED: Final = ("vmx", "svm")
_AMX: Final = "amx-tile"
_FEATURES: Final = {_AMX: ("require", "force"), **dict.fromkeys(_NESTED, ("disable", "forbid"))}
"""CPU features that can be chosen, and the choices; all others are the host's."""

ACCEPTS: Accepts = {
    Domain: {"vcpu": ANY, "vcpus": ANY, "cputune": ANY, "cpu": ANY, "features": ANY},
    Vcpu: {"placement": one_of("static"), "cpuset": ANY, "current": ANY, "count": ANY},
    VcpuState: {"id": ANY, "enabled": ANY, "hotpluggable": ANY, "order": ANY},
    CpuTune: {"vcpupins": ANY, "emulatorpin": ANY},
    VcpuPin: {"vcpu": ANY, "cpuset": ANY},
    EmulatorPin: {"cpuset": ANY},
    Cpu: {
        "mode": one_of("host-passthrough", "maximum"),
        "check": one_of("none"),
        "migratable": one_of(False),
        "sockets": ANY,
        "dies": ANY,
        "clusters": one_of(1),
        "cores": ANY,
        "threads": one_of(1, 2),
        "addr_mode": one_of("emulate"),
        "addr_bits": ANY,
        "features": ANY,
        "numa": ANY,
    },
    CpuFeature: {"name": one_of(*_FEATURES), "policy": ANY},
    # The machine always has them.
    Features: {"acpi": one_of(True), "apic": one_of(True), "pae": one_of(True), "hyperv": ANY},
    Hyperv: {"mode": one_of("passthrough")},
}


@rules.check_domain
def _first_ones(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Require that the CPUs that are there at start are the first ones."""
    del ctx
    states = [state.enabled for state in vcpu_states(domain)]
    if not states[0] or states != sorted(states, reverse=True):
        yield Issue.unsupported(
            "Cloud-Hypervisor starts with the first vCPUs of a guest", path="vcpus"
        )


@rules.check_domain
def _policies(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Features that can be chosen can be chosen one way only."""
    del ctx
    for feature in domain.cpu.features if domain.cpu is not None else ():
        if feature.name in _FEATURES and feature.policy not in _FEATURES[feature.name]:
            yield Issue.unsupported(
                f"Cloud-Hypervisor doesn't support policy '{feature.policy}' for CPU feature "
                f"'{feature.name}'",
                path="@policy",
                line=feature.line,
            )


def _topology(cpu: Cpu | None) -> dict[str, int] | None:
    if cpu is None or cpu.sockets is None:
        return None
    return {
        "threads_per_core": cpu.threads or 1,
        "cores_per_die": cpu.cores or 1,
        "dies_per_package": cpu.dies or 1,
        "packages": cpu.sockets,
    }


def _affinity(domain: Domain) -> list[dict[str, Any]] | None:
    pinned = {number: vcpu_cpus(domain, number, None) for number in range(max_vcpus(domain))}
    return [
        {"vcpu": number, "host_cpus": list(cpus)} for number, cpus in pinned.items() if cpus
    ] or None


def command(vm: Command) -> None:
    """Describe the CPUs."""
    domain, cpu = vm.domain, vm.domain.cpu
    features = {each.name for each in cpu.features} if cpu is not None else set()
    hyperv = domain.features is not None and domain.features.hyperv is not None
    members = {
        "boot_vcpus": online_vcpus(domain),
        "max_vcpus": max_vcpus(domain),
        "topology": _topology(cpu),
        "kvm_hyperv": True if hyperv else None,
        "max_phys_bits": cpu.addr_bits if cpu is not None else None,
        "nested": False if features & set(_NESTED) else None,
        "affinity": _affinity(domain),
        "features": {"amx": True} if _AMX in features else None,
    }
    vm.set("cpus", present(members))
