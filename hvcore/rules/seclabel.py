"""Rules of <seclabel> that hold for every driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import ErrorClass
from hvcore.errors import Issue
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context

rules = Rules()


@rules.post_parse_early
def _models(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Each label belongs to a security driver; a single one may leave open to which."""
    labels = domain.seclabels
    for number, label in enumerate(labels):
        if any(other.model == label.model for other in labels[:number]):
            yield Issue(
                f"seclabel for model {label.model or '(null)'} is already provided",
                ErrorClass.XML_DETAIL,
                line=label.line,
            )
            return
    if len(labels) > 1 and any(label.model is None for label in labels):
        yield Issue.xml("missing security model when using multiple labels")
    model = getattr(ctx.config, "security_model", None)
    if len(labels) != 1 or labels[0].model is not None or model is None:
        return
    (label,) = labels
    if label.type == "static" or label.baselabel is not None:
        yield Issue.xml("missing security model in domain seclabel", line=label.line)
        return
    label.model = model
    if model == "none":
        label.type, label.relabel = "none", None
