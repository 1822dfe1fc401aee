"""POWER CPUs: models without features, and compatibility modes."""

from __future__ import annotations

import functools
import json
import re
from importlib import resources
from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import ErrorClass
from hvcore.errors import HvError

if TYPE_CHECKING:
    from collections.abc import Collection
    from collections.abc import Mapping

    from hvcore.cpu.spec import Comparison
    from hvcore.cpu.spec import CpuSpec
    from hvcore.model.cpu import CpuMode

_LEGACY: Final = frozenset({"POWER7_v2.1", "POWER7_v2.3", "POWER7+_v2.1", "POWER8_v1.0"})
_GENERATION: Final = re.compile(r"(POWER|power)([0-9]+)\Z")
_GENERATIONS: Final = range(6, 11)


@functools.cache
def vendors() -> Mapping[str, str]:
    """Return all models, each with its vendor."""
    text = resources.files("hvcore.cpu").joinpath("data/ppc64.json").read_text("utf-8")
    return {name: vendor for name, vendor, _ in json.loads(text)["models"]}


def model_names() -> Collection[str]:
    """Return the names of all models."""
    return vendors().keys()


def convert_legacy(name: str | None) -> str | None:
    """Return today's name of a model that once had a version in it."""
    return name[: len("POWERx")] if name in _LEGACY else name


def _known(name: str | None) -> str:
    if name is None or name not in model_names():
        raise HvError(f"Unknown CPU model {name}", kind=ErrorClass.INTERNAL)
    return name


def _generation(name: str, prefix: str) -> int | None:
    match = _GENERATION.match(name)
    if match is None or match[1] != prefix or int(match[2]) not in _GENERATIONS:
        return None
    return int(match[2])


def _runs_as(host: str, compatible: str) -> bool:
    """Return whether a host can behave like an older generation (``power8``)."""
    own = _generation(host, "POWER")
    if own is None:
        raise HvError("Host CPU does not support compatibility modes", kind=ErrorClass.INTERNAL)
    wanted = _generation(compatible, "power")
    if wanted is None:
        raise HvError(f"Unknown compatibility mode {compatible}", kind=ErrorClass.INTERNAL)
    return wanted <= own


def compare(
    host: CpuSpec | None, guest: CpuSpec, *, mode: CpuMode
) -> tuple[Comparison, str | None]:
    """Return what ``host`` is to the CPU of a guest, and why it is incompatible.

    :raises HvError: when a model is unknown.
    """
    if host is None or host.model is None:
        return "incompatible", "unknown host CPU"
    if guest.vendor and guest.vendor != host.vendor:
        return (
            "incompatible",
            f"host CPU vendor does not match required CPU vendor {guest.vendor}",
        )
    own = _known(host.model)
    if mode == "host-model" and guest.model is not None and not _runs_as(own, guest.model):
        return "incompatible", None
    if mode == "custom":
        wanted = _known(convert_legacy(guest.model))
        if wanted != own:
            return "incompatible", f"host CPU model does not match required CPU model {wanted}"
    return "identical", None
