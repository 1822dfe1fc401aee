"""Whether another process can see the guest's memory, which vhost-user devices rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain


def shared_memory(domain: Domain, what: str) -> Iterator[Issue]:
    """Yield an issue unless all of the guest's memory is shared.

    :param what: libvirt's name of the device that needs it.
    """
    backing = domain.memory_backing
    usual = backing.access if backing is not None else None
    numa = domain.cpu.numa if domain.cpu is not None else None
    cells = numa.cells if numa is not None else []
    modes = [cell.mem_access or usual for cell in cells] or [usual]
    if any(mode != "shared" for mode in modes):
        yield Issue.unsupported(f"'{what}' requires shared memory")
