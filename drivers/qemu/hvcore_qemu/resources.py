"""What one start of a domain needs from the host, and who provides it.

Building a command line is pure; everything it needs that must be opened, created or allocated
first goes through a :class:`Host`: the real one opens taps and files, the pretending one (for
``domxml-to-native``, and with other numbers for tests) only counts.
"""

from __future__ import annotations

from typing import Any
from typing import Protocol

import attrs


class Host(Protocol):
    """Provider of file descriptors and allocations; see the methods for who asks."""

    def monitor(self, path: str) -> int:
        """Return a descriptor of a unix socket that listens at ``path``."""


@attrs.define(kw_only=True)
class Resources:
    """The outcome of preparation, as plain data.

    :ivar domain_dir: directory of the domain's private files (sockets, master key).
    :ivar monitor_fd: the listening monitor socket.
    :ivar fd_sets: descriptors handed over by ``-add-fd``, in order of creation.
    :ivar by_alias: what a family prepared for one device, under the device's alias.
    """

    domain_dir: str
    monitor_fd: int = -1
    master_key: bytes = b""
    fd_sets: list[tuple[int, int, str]] = attrs.field(factory=list)
    by_alias: dict[str, Any] = attrs.field(factory=dict)
