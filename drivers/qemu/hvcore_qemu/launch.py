"""From a sealed definition to the plan of its start, in one call.

The same path serves a real start, ``domxml-to-native`` and tests; only the host differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import ValidationFailed
from hvcore.pipeline import Pipeline
from hvcore.pipeline import unclaimed
from hvcore_qemu import addresses
from hvcore_qemu.command import build
from hvcore_qemu.extensions import changed_capabilities
from hvcore_qemu.prepare import Preparation
from hvcore_qemu.prepare import prepare
from hvcore_qemu.resources import Resources
from hvcore_qemu.rules import RULES

if TYPE_CHECKING:
    from hvcore.errors import Issue
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.registry import Registry
    from hvcore_qemu.capabilities import QemuCapabilities
    from hvcore_qemu.command import QemuPlan
    from hvcore_qemu.resources import Host

_NAME_IN_PATHS: Final = 20


def pipeline(registry: Registry) -> Pipeline:
    """Return the stages that definitions of QEMU guests pass."""
    return Pipeline(registry, RULES, _assign_addresses)


def _assign_addresses(domain: Domain, ctx: Context) -> list[Issue]:
    try:
        addresses.assign(
            domain,
            ctx.caps,
            new_domain=ctx.abi_update,
            host=None if ctx.host is None else ctx.host.pci,
        )
    except ValidationFailed as failed:
        return list(failed.issues)
    return []


def short_name(domain: Domain) -> str:
    """Return the name of a domain's private directories: its id and the start of its name.

    Cut where libvirt cuts (virDomainDefGetShortName), since paths of sockets must stay short.
    """
    number = -1 if domain.id is None else domain.id
    return f"{number}-{domain.name[:_NAME_IN_PATHS]}"


def plan_start(
    domain: Domain,
    ctx: Context,
    host: Host,
    *,
    domain_dir: str | None = None,
    incoming: str | None = None,
    placed_for: QemuCapabilities | None = None,
) -> QemuPlan:
    """Return what a start of ``domain`` would do.

    :param domain: a clone of a sealed definition, which becomes the live one.
    :param ctx: the context of its validation; has the capabilities and the configuration.
    :param domain_dir: the domain's private directory; None for the one libvirt would use.
    :param incoming: the URI to receive a migration from.
    :param placed_for: the capabilities for which all addresses are assigned already (see
        :class:`hvcore.pipeline.Definition`).
    :raises ValidationFailed: when the domain cannot be started here.
    :raises HvError: when the host lacks something.
    """
    caps, issues = changed_capabilities(domain, ctx.caps)
    issues += unclaimed(domain)
    if issues:
        raise ValidationFailed(issues)
    resources = Resources(
        short_name=short_name(domain),
        domain_dir=domain_dir or f"{ctx.config.lib_dir}/domain-{short_name(domain)}",
        incoming=incoming,
        launch_time=host.now(),
    )
    work = Preparation(
        domain=domain,
        caps=caps,
        config=ctx.config,
        host=host,
        registry=ctx.registry,
        resources=resources,
        info=ctx.host,
        new=incoming is None,
        placed=placed_for is caps,
    )
    prepare(work)
    return build(domain, caps, ctx.config, resources, ctx.registry)
