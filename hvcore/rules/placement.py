"""Where the threads of a domain may run: one rule for all of them.

A pin of its own comes first, then numad's advice where the virtual CPUs are placed automatically,
then the CPUs that ``<vcpu>`` names; what none of them says may run everywhere. Pins are inherited
when they are used and never written down, so the document keeps saying what its author said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from hvcore.model.types import NodeSet

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any
    from typing import Self

    from hvcore.model.domain import Domain


@attrs.frozen
class Advice:
    """Where an advisor wants a domain, asked once at its start.

    :param nodeset: host nodes for its memory.
    :param cpuset: host CPUs for its threads.
    """

    nodeset: NodeSet
    cpuset: NodeSet

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self | None:
        """Return the advice in what a driver keeps of a running domain; None without one."""
        kept = data.get("numad")
        if kept is None:
            return None
        return cls(NodeSet.parse(kept["nodeset"]), NodeSet.parse(kept["cpuset"]))

    def kept(self) -> dict[str, Any]:
        """Return what :meth:`of` reads."""
        return {"numad": {"nodeset": str(self.nodeset), "cpuset": str(self.cpuset)}}


def _inherited(domain: Domain, advice: Advice | None) -> NodeSet | None:
    """Return the CPUs of a thread without a pin; None for all."""
    vcpu = domain.vcpu
    if vcpu is None:
        return None
    if vcpu.placement == "auto":
        return None if advice is None else advice.cpuset
    return vcpu.cpuset


def vcpu_cpus(domain: Domain, number: int, advice: Advice | None) -> NodeSet | None:
    """Return the host CPUs that one virtual CPU may run on; None for all."""
    for pin in domain.cputune.vcpupins if domain.cputune is not None else ():
        if pin.vcpu == number:
            return pin.cpuset
    return _inherited(domain, advice)


def emulator_cpus(domain: Domain, advice: Advice | None) -> NodeSet | None:
    """Return the host CPUs that the hypervisor's own threads may run on; None for all."""
    if domain.cputune is not None and domain.cputune.emulatorpin is not None:
        return domain.cputune.emulatorpin.cpuset
    return _inherited(domain, advice)


def iothread_cpus(domain: Domain, number: int, advice: Advice | None) -> NodeSet | None:
    """Return the host CPUs that one I/O thread may run on; None for all."""
    for pin in domain.cputune.iothreadpins if domain.cputune is not None else ():
        if pin.iothread == number:
            return pin.cpuset
    return _inherited(domain, advice)
