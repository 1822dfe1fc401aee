"""What somebody wants, and the domain document that says so."""

from __future__ import annotations

import string
import uuid
from dataclasses import dataclass
from dataclasses import field
from xml.sax.saxutils import escape
from xml.sax.saxutils import quoteattr

_OURS = uuid.UUID("5d1d8f3c-97a5-4c6e-8c49-0f5c8c1b9a52")


def uuid_of(name: str) -> str:
    """Return the UUID of our machine of this name, which tells it from a stranger's."""
    return str(uuid.uuid5(_OURS, name))


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A virtual machine that is wanted.

    Memory is in MiB. It can be resized up to ``max_cpus`` and ``max_memory``, which are ``cpus``
    and ``memory`` unless given. Disks are images by target (``vda``).
    """

    name: str
    cpus: int = 1
    memory: int = 512
    max_cpus: int = 0
    max_memory: int = 0
    disks: dict[str, str] = field(default_factory=dict)
    running: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_cpus", self.max_cpus or self.cpus)
        object.__setattr__(self, "max_memory", self.max_memory or self.memory)
        if not 0 < self.cpus <= self.max_cpus:
            raise ValueError(f"{self.name} cannot have {self.cpus} of {self.max_cpus} CPUs")
        if not 0 < self.memory <= self.max_memory:
            raise ValueError(f"{self.name} cannot have {self.memory} of {self.max_memory} MiB")

    @property
    def uuid(self) -> str:
        return uuid_of(self.name)


class Template:
    """The part of the documents that is the site's business: ``$machine`` and ``$disks`` stand in
    it for the part that is the machine's. Nothing else in this program knows a hypervisor."""

    def __init__(self, text: str) -> None:
        self.text = text

    def document(self, machine: Machine) -> str:
        """Return the document of a machine."""
        return string.Template(self.text).substitute(
            machine=(
                f"<name>{escape(machine.name)}</name><uuid>{machine.uuid}</uuid>"
                f"<memory unit='MiB'>{machine.max_memory}</memory>"
                f"<currentMemory unit='MiB'>{machine.memory}</currentMemory>"
                f"<vcpu current='{machine.cpus}'>{machine.max_cpus}</vcpu>"
            ),
            disks="".join(
                f"<disk type='file'><driver type='raw'/><source file={quoteattr(path)}/>"
                f"<target dev={quoteattr(target)} bus='virtio'/></disk>"
                for target, path in machine.disks.items()
            ),
        )
