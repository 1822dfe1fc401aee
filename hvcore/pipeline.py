"""From a document to a sealed definition: parse, post-parse, addresses, validate.

Every stage collects all its issues; a stage with errors ends the pipeline, since the next one
would stumble over the same. The first issue is what libvirt would have said.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import cast

import attrs

from hvcore.errors import Issue
from hvcore.errors import Unsupported
from hvcore.errors import ValidationFailed
from hvcore.model import reading
from hvcore.model.devices import Devices
from hvcore.model.domain import Domain
from hvcore.rules.base import Rules
from hvcore.rules.table import CORE
from hvcore.xml.context import FormatContext
from hvcore.xml.context import ParseContext
from hvcore.xml.fields import child_names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hvcore.feature import Feature
    from hvcore.model.devices.base import Device
    from hvcore.registry import Registry
    from hvcore.rules.base import Issues
    from hvcore.xml.fields import Element


@attrs.define(kw_only=True, eq=False)
class Context:
    """What rules may ask about beside the domain.

    :ivar driver: name of the driver, as in ``domain.type`` refusals and feature tables.
    :ivar caps: what the hypervisor can do (the driver's own type); None for the core alone.
    :ivar host: what the host is (:class:`hvcore.hostinfo.HostInfo`); None where unknown.
    :ivar config: the driver's settings.
    :ivar abi_update: the guest is new, so that defaults visible to it may be improved.
    :ivar active: the document describes a running domain.
    :ivar environ: the environment of the managing process.
    :ivar complete: runs the device rules for a device that a late rule added.
    :ivar random_bytes: source of generated identifiers; tests put a fixed one here.
    :ivar find_program: the path of a program by its name, as ``shutil.which`` does.
    :ivar find_capabilities: the capabilities of a binary by its path, where a host can have
        several; the driver puts what it returns for the domain's emulator in ``caps``.
    :ivar network_forward: how a virtual network forwards (``nat``, ``hostdev``...) by its name.
    :ivar stub_console: the first console is another name of the first serial port.
    :ivar placed: the driver assigned the addresses of a new domain in this context.
    """

    registry: Registry
    driver: str = "none"
    caps: Any = None
    host: Any = None
    config: Any = None
    abi_update: bool = False
    active: bool = False
    environ: Mapping[str, str] = attrs.field(factory=lambda: os.environ)
    complete: Callable[[Domain, Any], list[Issue]] = lambda domain, device: []  # noqa: ARG005
    random_bytes: Callable[[int], bytes] = os.urandom
    find_program: Callable[[str], str | None] = shutil.which
    find_capabilities: Callable[[str], Any] | None = None
    network_forward: Callable[[str], str | None] | None = None
    stub_console: bool = True
    placed: bool = False


@attrs.frozen(eq=False)
class Definition:
    """A domain that passed the pipeline. Swapped as a whole, never changed in place.

    :ivar domain: the model; treat it as read-only and change a :meth:`clone`.
    :ivar placed_for: the capabilities for which the driver assigned all addresses of a new
        domain; None where that is not known, as of a definition read back from a file. With the
        same capabilities a second assignment would find nothing to do.
    :ivar complete: whether it passed the pipeline in this process; False for one read back from
        a file, whose document leaves out what the pipeline always fills in.
    """

    domain: Domain
    _registry: Registry
    placed_for: Any = None
    complete: bool = True

    @property
    def name(self) -> str:
        """The domain's name."""
        return self.domain.name

    @property
    def uuid(self) -> str:
        """The domain's UUID, lower case with dashes."""
        assert self.domain.uuid is not None  # the pipeline generates one
        return self.domain.uuid

    def xml(self, *, inactive: bool = True, secure: bool = False, migratable: bool = False) -> str:
        """Return the document as libvirt writes it."""
        ctx = FormatContext(inactive=inactive, secure=secure, migratable=migratable)
        return self._registry.binding.format(self.domain, ctx)

    def clone(self) -> Domain:
        """Return a deep copy to modify."""
        copy: Domain = self._registry.binding.clone(self.domain)
        return copy


class Rulebook:
    """The rules of core and one driver, arranged for running."""

    def __init__(self, driver: Rules | None = None) -> None:
        mine = driver or Rules()
        self.early: Final = (*CORE.early, *mine.early)
        self.domain: Final = mine.domain
        self.late: Final = (*CORE.late, *mine.late)
        self.domain_checks: Final = (*mine.domain_checks, *CORE.domain_checks)
        classes = {*CORE.device, *mine.device}
        self.device: Final = {
            cls: (*mine.device.get(cls, ()), *CORE.device.get(cls, ())) for cls in classes
        }
        classes = {*CORE.checks, *mine.checks}
        self.checks: Final = {
            cls: (*CORE.checks.get(cls, ()), *mine.checks.get(cls, ())) for cls in classes
        }


class Pipeline:
    """The stages for one driver.

    :param registry: a frozen registry.
    :param rules: the driver's rules; None for libvirt's generic behaviour.
    :param assign: the driver's address assignment, ``assign(domain, ctx)``.
    """

    def __init__(self, registry: Registry, rules: Rules | None = None, assign: Any = None) -> None:
        self.registry = registry
        self.rules = Rulebook(rules)
        self.assign = assign

    def parse(self, xml: str | bytes, *, strict: bool = False) -> Domain:
        """Return the document as it stands, without defaults.

        :param strict: refuse elements and attributes that nothing claims.
        :raises XmlSyntaxError: when the text is not acceptable XML.
        :raises ValidationFailed: when a value cannot be read; holds all such.
        """
        from hvcore.xml.reader import control_characters  # noqa: PLC0415 - see below
        from hvcore.xml.reader import read  # noqa: PLC0415 - formatting alone never needs lxml

        root = read(xml, "domain")
        ctx = ParseContext(strict=strict)
        ctx.issues += control_characters(root, xml)
        domain: Domain = self.registry.binding.parse(Domain, root, ctx)
        if ctx.issues:
            _stop_at(sorted(ctx.issues, key=reading.rank))
        return domain

    def parse_device(self, xml: str | bytes, *, strict: bool = False) -> Element:
        """Return the device that a document describes, as it stands.

        It may be an element of a plugin that stands among the devices.

        :param strict: refuse elements and attributes that nothing claims.
        :raises XmlSyntaxError: when the text is not acceptable XML.
        :raises Unsupported: when there is no such device.
        :raises ValidationFailed: when a value cannot be read; holds all such.
        """
        from lxml import etree  # noqa: PLC0415 - as in parse

        from hvcore.xml.reader import control_characters  # noqa: PLC0415 - as in parse
        from hvcore.xml.reader import read  # noqa: PLC0415

        root = read(xml, None, source="device_definition")
        ctx = ParseContext(strict=strict)
        ctx.issues += control_characters(root, xml)
        holder = etree.Element("devices")
        holder.append(root)
        devices: Devices = self.registry.binding.parse(Devices, holder, ctx)
        if ctx.issues:
            _stop_at(sorted(ctx.issues, key=reading.rank))
        found: list[Element] = [*devices.walk(), *devices.extensions()]
        if not found:
            line = cast("int | None", root.sourceline)
            raise Unsupported(f"unknown device type '{root.tag}'", line=line)
        return found[0]

    def complete_device(
        self, domain: Domain, device: Device, ctx: Context, *, validate: bool = True
    ) -> None:
        """Fill in what a single device leaves open, for a domain that it is not part of yet.

        :param domain: what it is meant for; only looked at.
        :raises ValidationFailed: with every issue; their lines are those of the device's document.
        """
        kind = type(device)
        rules = (*self.rules.device.get(kind, ()), *(self.rules.checks.get(kind, ()) * validate))
        issues: list[Issue] = []
        for rule in rules:
            issues += [_at(device, issue) for issue in rule(domain, device, ctx) or ()]
        for extension in device._ext or ():  # noqa: SLF001 - as in _features
            feature = self.registry.features.get(extension)
            refusal = feature.refusal(ctx.driver, ctx.caps) if feature and validate else None
            issues += [refusal] if refusal else []
        _stop_at(issues)

    def post_parse(self, domain: Domain, ctx: Context) -> None:
        """Fill in everything the document left open, addresses included.

        :raises ValidationFailed: when that is impossible.
        """
        issues: list[Issue] = []
        ctx.placed = False
        _run(self.rules.early, domain, ctx, issues)
        _stop_at(issues)
        _run(self.rules.domain, domain, ctx, issues)
        _stop_at(issues)
        rules = self.rules.device

        def complete(domain: Domain, device: Any) -> list[Issue]:
            issues: list[Issue] = []
            for rule in rules.get(type(device), ()):
                for issue in rule(domain, device, ctx) or ():
                    issues.append(_at(device, issue))  # noqa: PERF401 - nearly always none
            return issues

        ctx.complete = complete
        for device in domain.devices.walk():
            issues += complete(domain, device)
        for owner, feature in self._features(domain):
            found = feature.run(feature.post_parses, domain, owner, ctx)
            issues += [_at(owner, issue) for issue in found]
        _stop_at(issues)
        _run(self.rules.late, domain, ctx, issues)
        for found in self.registry.each("hv_post_parse", domain=domain, ctx=ctx):
            issues += found or ()
        _stop_at(issues)
        assigned = self.registry.manager.hook.hv_assign_addresses(domain=domain, ctx=ctx)
        if assigned is None and self.assign is not None:
            assigned = self.assign(domain, ctx)
            ctx.placed = ctx.abi_update
        issues += assigned or ()
        _stop_at(issues)

    def validate(self, domain: Domain, ctx: Context) -> list[Issue]:
        """Return everything wrong with a post-parsed domain, in libvirt's order."""
        issues: list[Issue] = []
        driver_checks = len(self.rules.domain_checks) - len(CORE.domain_checks)
        _run(self.rules.domain_checks[:driver_checks], domain, ctx, issues)
        rules = self.rules.checks
        for device in domain.devices.walk():
            for rule in rules.get(type(device), ()):
                for issue in rule(domain, device, ctx) or ():
                    issues.append(_at(device, issue))  # noqa: PERF401 - nearly always none
        _run(self.rules.domain_checks[driver_checks:], domain, ctx, issues)
        for owner, feature in self._features(domain):
            found = feature.run(feature.checks, domain, owner, ctx)
            if ctx.caps is not None:
                refusal = feature.refusal(ctx.driver, ctx.caps)
                found += [refusal] if refusal else []
            issues += [_at(owner, issue) for issue in found]
        for found in self.registry.each("hv_validate", domain=domain, ctx=ctx):
            issues += found or ()
        return issues

    def load(
        self, xml: str | bytes, ctx: Context, *, strict: bool = False, validate: bool = True
    ) -> Domain:
        """Return the domain that ``xml`` describes, complete and valid.

        :raises XmlSyntaxError: when the text is not acceptable XML.
        :raises ValidationFailed: with every issue of the stage that failed.
        """
        domain = self.parse(xml, strict=strict)
        self.finish(domain, ctx, xml, validate=validate)
        return domain

    def finish(
        self, domain: Domain, ctx: Context, xml: str | bytes, *, validate: bool = True
    ) -> Definition:
        """Return the sealed definition of a domain just parsed from ``xml``.

        :raises ValidationFailed: with every issue of the stage that failed, each with its line.
        """
        try:
            self.post_parse(domain, ctx)
            if validate:
                _stop_at(self.validate(domain, ctx))
        except ValidationFailed as error:
            raise ValidationFailed(located(error.issues, xml)) from None
        return Definition(domain, self.registry, ctx.caps if ctx.placed else None)

    def define(self, xml: str | bytes, ctx: Context, *, strict: bool = False) -> Definition:
        """Return the sealed definition of ``xml``; raises as :meth:`load`."""
        return self.finish(self.parse(xml, strict=strict), ctx, xml)

    def seal(self, domain: Domain, ctx: Context) -> Definition:
        """Return the sealed definition of a changed clone, validated anew.

        :raises ValidationFailed: when the change made it invalid.
        """
        _stop_at(self.validate(domain, ctx))
        return Definition(domain, self.registry)

    def reseal(self, domain: Domain, ctx: Context) -> Definition:
        """Return the sealed definition of a changed clone, completed and validated anew.

        Issues have no lines: the document that is meant was never written.

        :raises ValidationFailed: when the change made it invalid.
        """
        try:
            self.post_parse(domain, ctx)
            return self.seal(domain, ctx)
        except ValidationFailed as error:
            issues = [attrs.evolve(issue, line=None) for issue in error.issues]
            raise ValidationFailed(issues) from None

    def _features(self, domain: Domain) -> Iterable[tuple[Element, Feature]]:
        """Yield each element that carries a feature, with the feature."""
        features = self.registry.features
        if not features:
            return
        for owner in owners(domain):
            for extension in owner._ext or ():  # noqa: SLF001 - extensions by class, not instances
                if extension in features:
                    yield owner, features[extension]


def owners(domain: Domain) -> Iterable[Element]:
    """Return the elements that can carry a feature, in the order in which rules visit them."""
    return (domain, domain.devices, *domain.devices.walk())


def unclaimed(domain: Domain) -> list[Issue]:
    """Return an issue for every part of the document that no declaration claims.

    Such a domain can be kept and rewritten, but not started: nobody knows what is missing.
    """
    issues = []
    owners: list[Element] = []
    _collect_unclaimed(domain, owners)
    for owner in owners:
        for path, (attributes, elements) in owner.unclaimed.items():
            where = "/".join(filter(None, (owner.spec.tag, path)))
            names = [f"attribute '{name}'" for name in attributes]
            names += [f"element {text.split(None, 1)[0].rstrip('/>')}>" for text in elements]
            issues += [
                Issue.unsupported(f"{name} of <{where}> is not supported", line=owner.line)
                for name in names
            ]
    return issues


def _collect_unclaimed(owner: Element, found: list[Element]) -> None:
    """Append ``owner`` and every element below it, extensions included, with unclaimed parts.

    Every start walks the whole document here, hence no generator.
    """
    if owner._extra:  # noqa: SLF001 - unclaimed, without making an empty mapping for each
        found.append(owner)
    for name in child_names(type(owner)):
        value = getattr(owner, name)
        if type(value) is list:
            for item in value:
                _collect_unclaimed(item, found)
        elif value is not None:
            _collect_unclaimed(value, found)
    if owner._ext is not None:  # noqa: SLF001 - as above
        for extension in owner.extensions():
            _collect_unclaimed(extension, found)


def _at(owner: Element, issue: Issue) -> Issue:
    """Return ``issue``, placed at ``owner`` unless it has a line."""
    return issue if issue.line is not None else attrs.evolve(issue, line=owner.line)


def located(issues: Iterable[Issue], xml: str | bytes) -> list[Issue]:
    """Return ``issues`` with lines and absolute paths, looked up in the document again.

    Only failures pay for this: rules know their element's line at most, and give a path relative
    to it where they mean something inside.
    """
    from hvcore.xml.reader import read  # noqa: PLC0415 - only when a document failed

    root = read(xml, "domain")
    at_line: dict[int | None, list[Any]] = {}
    for element in root.iter():
        at_line.setdefault(cast("int | None", element.sourceline), []).append(element)
    found = []
    for issue in issues:
        element, tail = at_line.get(issue.line, [root])[0], ""
        if issue.path is not None and not issue.path.startswith("/"):
            steps, _, attribute = issue.path.partition("@")
            element, tail = _inside(at_line.get(issue.line, [root]), steps.rstrip("/"), attribute)
        path = element.getroottree().getpath(element) + tail
        found.append(attrs.evolve(issue, line=element.sourceline, path=path))
    return found


def _inside(around: list[Any], steps: str, attribute: str) -> tuple[Any, str]:
    """Return the element that a path leads to, and what remains of the path.

    :param around: all elements of one line; the first from which the path leads somewhere is meant.
    """
    found = [(each.find(steps) if steps else each) for each in around]
    there = [each for each in found if each is not None]
    named = [each for each in there if not attribute or attribute in each.attrib]
    inner = next(iter(named or there), None)
    return around[0] if inner is None else inner, f"/@{attribute}" if attribute else ""


def _run(rules: Iterable[Any], domain: Domain, ctx: Context, issues: list[Issue]) -> None:
    for rule in rules:
        found: Issues | None = rule(domain, ctx)
        issues += found or ()


def _stop_at(issues: list[Issue]) -> None:
    errors = [issue for issue in issues if issue.severity == "error"]
    if errors:
        raise ValidationFailed(errors)
