"""Every hook a plugin can implement, in the order in which they are called.

All hooks are plain functions: a coroutine would count as an answer. They run at registration and at
coarse points, never once for each device; what differs by device goes through
:class:`hvcore.feature.Feature`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import pluggy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hvcore.capabilities import ProbeSession
    from hvcore.errors import Issue
    from hvcore.model.devices.base import Device
    from hvcore.model.domain import Domain
    from hvcore.model.types import NodeSet
    from hvcore.pipeline import Context
    from hvcore.registry import Registry

PROJECT: Final = "hvcore"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

# -- registration ----------------------------------------------------------------------------------


@hookspec(historic=True)
def hv_register(registry: Registry) -> None:
    """Add drivers, elements and features to ``registry``; a duplicate is an error naming both."""


# -- probing ---------------------------------------------------------------------------------------


@hookspec
def hv_probe(driver: str, binary: str, session: ProbeSession) -> Iterable[str] | None:
    """Return further capability names after the driver's own probe; the union is taken.

    ``session`` has the capabilities that the driver found, and every command with its reply, so
    that a name is concluded from what the binary said. Asked only when the binary is: the names are
    kept with the answers until the binary, the host or one of the plugins with this hook changes.
    """


# -- a definition ----------------------------------------------------------------------------------


@hookspec
def hv_post_parse(domain: Domain, ctx: Context) -> Iterable[Issue] | None:
    """Fill in defaults after core, driver and features did."""


@hookspec(firstresult=True)
def hv_assign_addresses(domain: Domain, ctx: Context) -> Iterable[Issue] | None:
    """Assign addresses in place of the driver; a non-None answer (an empty list too) ends it."""


@hookspec
def hv_validate(domain: Domain, ctx: Context) -> Iterable[Issue] | None:
    """Return what is wrong with ``domain``; never raise, a raise blames the plugin."""


# -- a running domain ------------------------------------------------------------------------------


@hookspec(firstresult=True)
def hv_advise_placement(vcpus: int, memory: int) -> NodeSet | None:
    """Return the host nodes for a domain that leaves them to an advisor; asked once at its start.

    ``vcpus`` are those online at start, ``memory`` is in MiB. Runs in a thread, so it may take its
    time; raises :class:`~hvcore.errors.HvError` when there is no advice to be had, and returns None
    to leave it to another plugin.
    """


@hookspec
def hv_amend_plan(driver: str, domain: Domain, plan: Any, ctx: Any) -> None:
    """Change the plan that the driver built for a start."""


@hookspec
def hv_amend_attach(driver: str, domain: Domain, device: Device, plan: Any) -> None:
    """Change the plan by which the driver plugs ``device`` into a running ``domain``."""


@hookspec
def hv_validate_detach(domain: Domain, device: Device, live: bool) -> Iterable[Issue] | None:
    """Return why ``device`` may not be taken out of ``domain``, running or as defined."""


@hookspec
def hv_amend_detach(driver: str, domain: Domain, device: Device, plan: Any) -> None:
    """Change the plan by which the driver unplugs ``device`` from a running ``domain``."""


@hookspec(firstresult=True)
def hv_authorize(operation: str, domain: Domain | None, subject: Any) -> str | None:
    """Return why ``subject`` may not do ``operation``, or None; asked before a job is taken."""


@hookspec
def hv_event(event: Any) -> None:
    """Observe an event after its publication; a raise is logged and goes no further."""


@hookspec
def hv_state_save(domain: str) -> dict[str, Any] | None:
    """Return private data to keep in the status of the domain with this UUID."""


@hookspec
def hv_state_load(domain: str, blob: dict[str, Any]) -> None:
    """Take back what :func:`hv_state_save` returned, when a manager finds the domain running."""
