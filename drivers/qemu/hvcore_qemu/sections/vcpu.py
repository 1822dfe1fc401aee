"""Virtual CPUs in QEMU: which can be plugged, how many there may be, and ``-smp``."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.rules.base import Rules
from hvcore.rules.cpu import topology_vcpus
from hvcore.rules.vcpu import max_vcpus
from hvcore.rules.vcpu import online_vcpus
from hvcore.rules.vcpu import vcpu_states
from hvcore_qemu.machines import X86
from hvcore_qemu.machines import machine_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.model.vcpu import VcpuState
    from hvcore.pipeline import Context
    from hvcore_qemu.command import Command

rules = Rules()

# APIC ids of 8 bits end here; beyond, interrupts need the IOMMU's extended mode.
_MAX_WITHOUT_EIM: Final = 255


@rules.post_parse_domain
def _states(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """CPU 0 is always there, and those that cannot be plugged come first."""
    del ctx
    states = vcpu_states(domain)
    if not states:
        return
    first = states[0]
    if not first.enabled:
        yield Issue.unsupported("vcpu 0 can't be offline")
    if first.hotpluggable:
        yield Issue.unsupported("vcpu0 can't be hotpluggable")
    if (first.order or 0) > 1:
        yield Issue.unsupported("vcpu0 must be enabled first")
    for before, state in itertools.pairwise(states):
        yield from _state(state, before, ordered=bool(first.order))


def _state(state: VcpuState, before: VcpuState, *, ordered: bool) -> Iterator[Issue]:
    if state.enabled and bool(state.order) != ordered:
        yield Issue.unsupported("all vcpus must have either set or unset order")
    if state.hotpluggable is False:
        if before.hotpluggable:
            yield Issue.unsupported(
                "online non-hotpluggable vcpus need to be ordered prior to hotpluggable vcpus"
            )
        if (before.order or 0) > (state.order or 0):
            yield Issue.unsupported(
                "online non-hotpluggable vcpus must be ordered in ascending order"
            )


@rules.check_domain
def _count(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Check the count against machine, topology and hotplug granularity."""
    os = domain.os
    assert os is not None  # the rules of <os> come before
    online, most = online_vcpus(domain), max_vcpus(domain)
    if online == 0:
        yield Issue.unsupported("Domain requires at least 1 vCPU")
    limit = ctx.caps.machine_max_cpus(domain.type, os.machine or "")
    if 0 < limit < most:
        yield Issue.unsupported(f"Maximum CPUs greater than specified machine type limit {limit}")
    if topology_vcpus(domain.cpu) not in (None, most):
        yield Issue.unsupported("CPU topology doesn't match maximum vcpu count")
    machine = machine_of(domain)
    granularity = (domain.cpu.threads if domain.cpu and machine.pseries else None) or 1
    if online % granularity:
        yield Issue.unsupported(
            f"vCPUs count must be a multiple of the vCPU hotplug granularity ({granularity})"
        )
    if machine.arch in X86 and most > _MAX_WITHOUT_EIM:
        if not machine.q35:
            yield Issue.unsupported(
                f"more than {_MAX_WITHOUT_EIM} vCPUs are only supported on q35-based machine types"
            )
        elif not any(getattr(iommu, "eim", None) for iommu in domain.devices.iommus):
            yield Issue.unsupported(
                f"more than {_MAX_WITHOUT_EIM} vCPUs require extended interrupt mode enabled on "
                "the iommu device"
            )


@rules.check_domain
def _resctrl(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Only threads of KVM guests can have a share of the host's caches."""
    del ctx
    tune = domain.cputune
    if tune and (tune.cachetunes or tune.memorytunes) and domain.type != "kvm":
        yield Issue.unsupported("cachetune is only supported for KVM domains")


def smp(cmd: Command) -> None:
    """Append ``-smp``; CPUs that can be unplugged again are added later, through the monitor.

    :raises ValidationFailed: when the topology has levels that QEMU does not know.
    """
    most = max_vcpus(cmd.domain)
    fixed = sum(s.enabled and not s.hotpluggable for s in vcpu_states(cmd.domain))
    parts = [str(fixed)]
    if fixed != most:
        parts.append(f"maxcpus={most}")
    cpu = cmd.domain.cpu
    if cpu is not None and cpu.sockets:
        parts.append(f"sockets={cpu.sockets}")
        for name, flag, value in (
            ("dies", "smp-dies", cpu.dies),
            ("clusters", "smp-clusters", cpu.clusters),
        ):
            if flag in cmd.caps:
                parts.append(f"{name}={value}")
        parts += [f"cores={cpu.cores}", f"threads={cpu.threads}"]
    else:
        parts += [f"sockets={most}", "cores=1", "threads=1"]
    cmd.option("-smp", ",".join(parts))


@rules.check_domain
def _levels(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Refuse levels of the topology that QEMU does not know."""
    cpu = domain.cpu
    if cpu is None or not cpu.sockets:
        return
    if cpu.dies != 1 and "smp-dies" not in ctx.caps:
        yield Issue.unsupported("Only 1 die per socket is supported")
    if cpu.clusters != 1 and "smp-clusters" not in ctx.caps:
        yield Issue.unsupported("Only 1 cluster per die is supported")
