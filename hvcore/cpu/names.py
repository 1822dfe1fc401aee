"""What is known of CPU models by their names: which there are, who made them, what they are."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING
from typing import Final

from hvcore.cpu import ppc64
from hvcore.cpu import x86
from hvcore.cpu.guest import ARM
from hvcore.cpu.guest import PPC64
from hvcore.cpu.guest import S390
from hvcore.cpu.guest import X86

if TYPE_CHECKING:
    from collections.abc import Collection

_LEFT_TO_HYPERVISOR: Final = S390 | ARM | {"riscv64", "loongarch64"}
"""Architectures on which every model is one that the hypervisor names."""


def model_names(arch: str) -> Collection[str] | None:
    """Return the models that documents may name; None for all that the hypervisor has.

    Where nothing is known of an architecture's CPUs there are none.
    """
    if arch in X86:
        return frozenset(x86.cpu_map().names())
    if arch in PPC64:
        return ppc64.model_names()
    return None if arch in _LEFT_TO_HYPERVISOR else ()


def vendor_of(arch: str, name: str) -> str | None:
    """Return who makes CPUs of a model; None when not known."""
    if arch in X86:
        model = x86.cpu_map().model(name)
        return None if model is None else model.vendor
    if arch in PPC64:
        return ppc64.vendors().get(name)
    return "IBM" if arch in S390 and name.startswith(("z", "gen")) else None


def canonical_of(arch: str, name: str) -> str | None:
    """Return the versioned model of which a name is an alias; None where it is none."""
    return _canonical().get(name) if arch in X86 else None


@functools.cache
def _canonical() -> dict[str, str]:
    """Return the versioned models that differ in nothing from the model they were made of."""
    return dict(x86.cpu_map().renamed())
