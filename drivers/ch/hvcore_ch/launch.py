"""From a sealed definition to the plan of its start, in one call.

The same path serves a real start, ``domxml-to-native`` and tests; nothing of the host is touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import ValidationFailed
from hvcore.pipeline import Pipeline
from hvcore.pipeline import unclaimed
from hvcore_ch import aliases
from hvcore_ch.command import build
from hvcore_ch.rules import RULES

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.registry import Registry
    from hvcore_ch.command import ChPlan


def pipeline(registry: Registry) -> Pipeline:
    """Return the stages that definitions of cloud-hypervisor guests pass.

    cloud-hypervisor gives out PCI addresses itself, so a document has those that it asks for.
    """
    return Pipeline(registry, RULES)


def plan_start(domain: Domain, ctx: Context, folder: str, states: str) -> ChPlan:
    """Return what a start of ``domain`` would ask for.

    :param domain: a clone of a sealed definition, which becomes the live one.
    :param ctx: the context of its validation; has the capabilities and the configuration.
    :param folder: the domain's private directory.
    :param states: the directory for what is saved.
    :raises ValidationFailed: when the domain cannot be started here.
    """
    issues = unclaimed(domain)
    if issues:
        raise ValidationFailed(issues)
    aliases.assign(domain)
    return build(domain, ctx.caps, ctx.config, ctx.registry, (folder, states))
