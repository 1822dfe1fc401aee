"""A CPU as a model and the features in which it differs from that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import Final
from typing import Literal
from typing import NoReturn
from typing import Protocol

import attrs

from hvcore.errors import ErrorClass
from hvcore.errors import HvError

if TYPE_CHECKING:
    from hvcore.model.cpu import CpuFallback
    from hvcore.model.cpu import FeaturePolicy

Comparison = Literal["incompatible", "identical", "superset"]
"""What a host is to a guest's CPU; a superset has features that the guest does not see."""

WANTED: Final = frozenset({"force", "require"})
UNWANTED: Final = frozenset({"disable", "forbid"})


class KnownModel(Protocol):
    """What a hypervisor says of a CPU model."""

    @property
    def usable(self) -> bool | None:
        """Whether the host can run it; None where that is not known."""

    @property
    def blockers(self) -> tuple[str, ...]:
        """The features that keep it from being usable."""


@attrs.define(kw_only=True)
class CpuSpec:
    """A CPU as a model and the features in which it differs from that.

    :ivar features: policy by name; those of a host are all ``require``.
    :ivar host: it describes a host, not what a guest shall have.
    :ivar fallback: whether another model will do where the hypervisor lacks this one.
    """

    model: str | None = None
    vendor: str | None = None
    vendor_id: str | None = None
    features: dict[str, FeaturePolicy] = attrs.field(factory=dict)
    host: bool = False
    fallback: CpuFallback = "allow"

    def copy(self) -> CpuSpec:
        """Return an independent copy."""
        return attrs.evolve(self, features=dict(self.features))

    def without(self, names: frozenset[str]) -> CpuSpec:
        """Return a copy without the features ``names``."""
        kept = {name: policy for name, policy in self.features.items() if name not in names}
        return attrs.evolve(self, features=kept)


Models = Mapping[str, KnownModel]
"""The models of a hypervisor by name."""


def incompatible(reason: str | None) -> HvError:
    """Return the error for a CPU that the host cannot provide."""
    text = "the CPU is incompatible with host CPU"
    return HvError(f"{text}: {reason}" if reason else text, kind=ErrorClass.CPU_INCOMPATIBLE)


def unsupported(message: str) -> NoReturn:
    """Refuse a configuration.

    :raises HvError: always.
    """
    raise HvError(message, kind=ErrorClass.CONFIG_UNSUPPORTED)


def unsupported_model(name: str | None) -> NoReturn:
    """Refuse a model that the hypervisor lacks.

    :raises HvError: always.
    """
    unsupported(f"CPU model {name} is not supported by hypervisor")


def check_forbidden(guest: CpuSpec, host: CpuSpec) -> None:
    """Make sure that the host lacks what the guest must not have.

    :raises HvError: when it has one of the features.
    """
    for name, policy in guest.features.items():
        if policy == "forbid" and host.features.get(name, "disable") != "disable":
            raise incompatible(f"Host CPU provides forbidden feature '{name}'")
