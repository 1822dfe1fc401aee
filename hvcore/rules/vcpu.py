"""Rules of <vcpu> and <vcpus>, and what follows from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.model.vcpu import Vcpu
from hvcore.model.vcpu import VcpuState
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context

rules = Rules()


def max_vcpus(domain: Domain) -> int:
    """Return how many virtual CPUs the guest can have."""
    return 1 if domain.vcpu is None else domain.vcpu.count


def vcpu_states(domain: Domain) -> list[VcpuState]:
    """Return the state of every virtual CPU, also where the document does not list them.

    Those that ``current`` leaves offline can be plugged later, the others are there to stay.
    """
    if domain.vcpus:
        return domain.vcpus
    count = max_vcpus(domain)
    current = count if domain.vcpu is None else domain.vcpu.current
    online = count if current is None else current
    return [VcpuState(id=n, enabled=n < online, hotpluggable=n >= online) for n in range(count)]


def online_vcpus(domain: Domain) -> int:
    """Return how many virtual CPUs are online at start."""
    return sum(state.enabled for state in vcpu_states(domain))


@rules.post_parse_early
def _counts(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Give every guest a count, and let the list of states decide where there is one."""
    del ctx
    if domain.vcpu is None:
        domain.vcpu = Vcpu()
    vcpu = domain.vcpu
    vcpu.placement = vcpu.placement or "static"
    given: dict[int, VcpuState] = {}
    for state in domain.vcpus:
        if state.id >= vcpu.count:
            yield Issue.xml(
                f"vcpu id '{state.id}' is out of range of maximum vcpu count", line=state.line
            )
        given[state.id] = state
    if given:
        domain.vcpus = [
            given.get(number) or VcpuState(id=number, enabled=False) for number in range(vcpu.count)
        ]
        online = sum(state.enabled for state in domain.vcpus)
    else:
        online = vcpu.count if vcpu.current is None else vcpu.current
        if online > vcpu.count:
            yield Issue.unsupported(
                "maximum vCPU count must not be less than current vCPU count", line=vcpu.line
            )
    vcpu.current = online if online < vcpu.count else None


@rules.post_parse_late
def _hotpluggable(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Make sure that a CPU that is offline at start can come later."""
    del ctx
    for state in domain.vcpus:
        if state.hotpluggable is None:
            state.hotpluggable = not state.enabled
        elif not state.hotpluggable and not state.enabled:
            yield Issue.unsupported(
                f"vcpu '{state.id}' is both offline and not hotpluggable", line=state.line
            )
