"""A feature: an element of the document, its rules, and what each driver makes of it.

A driver without a lowering needs nothing: the core says that it does not support the feature.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from collections.abc import Iterable
from typing import TYPE_CHECKING
from typing import Any
from typing import TypeVar

import attrs

from hvcore.errors import Issue

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.xml.fields import Element

_F = TypeVar("_F", bound=Callable[..., Any])


class _When(enum.Enum):
    LIVE = "live"
    COLD = "cold"


@attrs.frozen
class Hotplug:
    """Whether a feature can come and go while the guest runs, or why not."""

    when: _When
    reason: str = ""

    @property
    def possible(self) -> bool:
        """Whether it can come and go while the guest runs."""
        return self.when is _When.LIVE

    @classmethod
    def COLD(cls, reason: str) -> Hotplug:  # noqa: N802 - reads as a constant with a reason
        """Only at start, because of ``reason``."""
        return cls(_When.COLD, reason)

    @classmethod
    def LIVE(cls) -> Hotplug:  # noqa: N802 - see COLD
        """At any time."""
        return cls(_When.LIVE)


@attrs.frozen
class Lowering:
    """What one driver makes of a feature.

    :ivar after: whether it comes behind the device it belongs to, not before it.
    :ivar lacking: what is said where a capability is missing; None for the usual.
    """

    driver: str
    function: Callable[..., Iterable[Issue] | None]
    requires: frozenset[str]
    hotplug: Hotplug
    after: bool = False
    lacking: str | None = None


@attrs.frozen(eq=False)
class Uses:
    """All that one domain says of a feature.

    :ivar found: each element that carries it, with the extension, in document order.
    """

    domain: Domain
    found: tuple[tuple[Element, Any], ...]


class Feature:
    """One feature and all that is known of it.

    :param name: for messages and the feature table, such as ``mdev-display``.
    :param element: the extension class that carries it in the document.
    :param title: what messages call it; the name unless given.
    """

    def __init__(self, name: str, element: type[Element], *, title: str | None = None) -> None:
        if element.spec.extends is None:
            raise TypeError(f"{element.__qualname__} extends no element")
        self.name = name
        self.title = title or name
        self.element = element
        self.lowerings: dict[str, Lowering] = {}
        self.checks: list[Callable[..., Iterable[Issue] | None]] = []
        self.post_parses: list[Callable[..., Iterable[Issue] | None]] = []
        self.abi_checks: list[Callable[[Uses, Uses], Iterable[Issue] | None]] = []

    def validate(self, rule: _F) -> _F:
        """Check each use: ``rule(domain, owner, extension, ctx)`` yields issues."""
        self.checks.append(rule)
        return rule

    def post_parse(self, rule: _F) -> _F:
        """Fill in defaults at each use: ``rule(domain, owner, extension, ctx)``."""
        self.post_parses.append(rule)
        return rule

    def abi(self, rule: _F) -> _F:
        """Compare what guests see of it: ``rule(source, target)`` yields what differs.

        Both are :class:`Uses`, of complete domains; it is asked where either has the feature.
        """
        self.abi_checks.append(rule)
        return rule

    def uses(self, domain: Domain) -> Uses:
        """Return what ``domain`` says of this feature."""
        from hvcore.pipeline import owners  # noqa: PLC0415 - plugins load without the model

        found = []
        for owner in owners(domain):
            here = self.element.of(owner)
            if here is not None:
                found += [(owner, each) for each in (here if isinstance(here, list) else [here])]
        return Uses(domain, tuple(found))

    def lower(
        self,
        driver: str,
        *,
        requires: Iterable[str] = (),
        hotplug: Hotplug,
        after: bool = False,
        lacking: str | None = None,
    ) -> Callable[[_F], _F]:
        """Teach ``driver`` the feature: ``function(domain, owner, extension, target)``.

        It may return issues that only show at a start, which is refused then.

        :param driver: name of the driver, whose documentation says what ``target`` is.
        :param requires: capability names without which the feature is refused.
        :param hotplug: whether it can be added to a running guest.
        :param after: add to the guest behind the device, where the order counts.
        :param lacking: what to say where a capability is missing, if libvirt has words for it.
        """

        def add(function: _F) -> _F:
            self.lowerings[driver] = Lowering(
                driver, function, frozenset(requires), hotplug, after, lacking
            )
            return function

        return add

    def run(
        self,
        rules: list[Callable[..., Iterable[Issue] | None]],
        domain: Any,
        owner: Any,
        ctx: Context,
    ) -> list[Issue]:
        """Return what ``rules`` report for this feature on ``owner``."""
        found = self.element.of(owner)
        issues: list[Issue] = []
        for extension in found if isinstance(found, list) else [found]:
            for rule in rules:
                issues += rule(domain, owner, extension, ctx) or ()
        return issues

    def refusal(self, driver: str, capabilities: Any) -> Issue | None:
        """Return why ``driver`` with ``capabilities`` cannot have this feature, or None."""
        lowering = self.lowerings.get(driver)
        if lowering is None:
            return Issue.unsupported(f"driver '{driver}' does not support {self.name}")
        lacking = [name for name in sorted(lowering.requires) if name not in capabilities]
        if lacking:
            return Issue.unsupported(
                lowering.lacking or f"{self.name} is not supported by this hypervisor binary",
                hint=f"the binary lacks: {', '.join(lacking)}",
            )
        return None
