"""Rules of <filesystem> that hold for every driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import ErrorClass
from hvcore.errors import Issue
from hvcore.model.devices.filesystem import Filesystem
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context

rules = Rules()


@rules.post_parse(Filesystem)
def _access(domain: Domain, device: Filesystem, ctx: Context) -> None:
    """Access files as they are, unless a process of its own decides that."""
    del domain, ctx
    if device.accessmode is None and device.socket is None:
        device.accessmode = "passthrough"


@rules.check(Filesystem)
def _target(domain: Domain, device: Filesystem, ctx: Context) -> Iterator[Issue]:
    """Require a target, unique among those that virtiofs serves."""
    del ctx
    if device.target is None:
        source = device.path or device.socket
        about = f" {source}" if source else ""
        yield Issue(
            f"missing target information for device{about}",
            ErrorClass.NO_TARGET,
            line=device.line,
        )
        return
    if device.boot_order and device.driver_type != "virtiofs":
        yield Issue.unsupported("boot order is only supported for virtiofs", line=device.line)
    served: dict[str | None, Filesystem] = {}
    for each in domain.devices.filesystems:
        if each.driver_type == "virtiofs" and served.setdefault(each.target, each) is not each:
            yield Issue.unsupported(
                f"filesystem target '{each.target}' specified twice", line=each.line
            )
            return
    if served.get(device.target, device) is not device:
        yield Issue.unsupported(
            f"filesystem target '{device.target}' specified twice", line=device.line
        )
