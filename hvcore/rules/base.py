"""Tables of post-parse and validation rules, filled by decorators and run by the pipeline.

A rule is a plain function. It reports by yielding (or returning a list of)
:class:`~hvcore.errors.Issue`; it never raises for what the document says. The stages are
libvirt's:

post-parse: ``early`` (driver: emulator, machine) - controller indexes - ``domain`` (driver:
implicit devices) - ``device`` for each device (driver, then core) - ``late`` (core, then driver) -
addresses

validation: ``check_domain`` (driver) - ``check`` for each device (core, then driver) -
``check_domain`` (core)
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from typing import TYPE_CHECKING
from typing import Any
from typing import TypeVar

import attrs

from hvcore.errors import ErrorClass
from hvcore.errors import Issue

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.xml.fields import Element

Issues = Iterable[Issue]
"""What rules that may find something return; others return None."""
DomainRule = Callable[["Domain", "Context"], Issues | None]
DeviceRule = Callable[["Domain", Any, "Context"], Issues | None]

_D = TypeVar("_D", bound=DomainRule)
_V = TypeVar("_V", bound=DeviceRule)


@attrs.define(eq=False)
class Rules:
    """The rules of one family, or of one driver."""

    early: list[DomainRule] = attrs.field(factory=list)
    domain: list[DomainRule] = attrs.field(factory=list)
    device: dict[type[Element], list[DeviceRule]] = attrs.field(factory=dict)
    late: list[DomainRule] = attrs.field(factory=list)
    checks: dict[type[Element], list[DeviceRule]] = attrs.field(factory=dict)
    domain_checks: list[DomainRule] = attrs.field(factory=list)

    def post_parse_early(self, rule: _D) -> _D:
        """Run ``rule`` before everything else; for what later defaults depend on."""
        self.early.append(rule)
        return rule

    def only_one(self, devices: str, words: str, *, kind: ErrorClass = ErrorClass.XML) -> None:
        """Refuse a second device of a kind.

        :param devices: field of :class:`~hvcore.model.devices.Devices`.
        :param words: what libvirt calls it.
        """

        def single(domain: Domain, ctx: Context) -> Issues:
            del ctx
            found = getattr(domain.devices, devices)
            if len(found) > 1:
                message = f"only a single {words} device is supported"
                yield Issue(message, kind, line=found[1].line)

        self.early.append(single)

    def post_parse_domain(self, rule: _D) -> _D:
        """Run ``rule`` once, before the devices; the place to add implicit devices."""
        self.domain.append(rule)
        return rule

    def post_parse(self, *classes: type[Element]) -> Callable[[_V], _V]:
        """Run the decorated rule for each device of ``classes``."""

        def add(rule: _V) -> _V:
            for cls in classes:
                self.device.setdefault(cls, []).append(rule)
            return rule

        return add

    def post_parse_late(self, rule: _D) -> _D:
        """Run ``rule`` once, after the devices and before addresses."""
        self.late.append(rule)
        return rule

    def check_domain(self, rule: _D) -> _D:
        """Validate the domain as a whole with ``rule``."""
        self.domain_checks.append(rule)
        return rule

    def check(self, *classes: type[Element]) -> Callable[[_V], _V]:
        """Validate each device of ``classes`` with the decorated rule."""

        def add(rule: _V) -> _V:
            for cls in classes:
                self.checks.setdefault(cls, []).append(rule)
            return rule

        return add

    @classmethod
    def merged(cls, many: Iterable[Rules]) -> Rules:
        """Return one table with the rules of all, in order."""
        whole = cls()
        for rules in many:
            whole.early += rules.early
            whole.domain += rules.domain
            whole.late += rules.late
            whole.domain_checks += rules.domain_checks
            for into, source in ((whole.device, rules.device), (whole.checks, rules.checks)):
                for device, found in source.items():
                    into.setdefault(device, []).extend(found)
        return whole
