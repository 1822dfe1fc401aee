"""Whether a definition keeps what the guest of another one sees: its ABI.

A guest that goes on under a changed definition (restored from a file, migrated to another host)
must find the hardware that it left. What it sees, and the words for what differs, are those of
libvirt 11.3 (``virDomainDefCheckABIStability``); libvirt stops at the first difference, which is
the first here too.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING
from typing import Final

from hvcore.abi.devices import FAMILIES
from hvcore.abi.sections import sections
from hvcore.driver import Record
from hvcore.errors import AbiChanged
from hvcore.errors import ValidationFailed
from hvcore.pipeline import located

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Iterator

    from hvcore.abi.table import Check
    from hvcore.driver import Driver
    from hvcore.errors import Issue
    from hvcore.feature import Feature
    from hvcore.model.domain import Domain

USER_ALIAS: Final = "ua-"
"""How aliases begin that belong to the document; the others are given anew at each start."""


def compare(
    source: Domain,
    target: Domain,
    *,
    extra: Iterable[Check] = (),
    features: Iterable[Feature] = (),
    volatile: bool = False,
) -> list[Issue]:
    """Return every difference that the guest would see, in libvirt's order.

    :param source: complete; :func:`comparable` makes one of a document or of a running domain.
    :param target: likewise.
    :param extra: what the driver compares.
    :param features: those of plugins, which may compare what they added.
    :param volatile: compare also what changes while a guest runs: the size of its balloon.
    """
    return list(_differences(source, target, extra, features, volatile=volatile))


def _differences(
    source: Domain,
    target: Domain,
    extra: Iterable[Check],
    features: Iterable[Feature],
    *,
    volatile: bool,
) -> Iterator[Issue]:
    for section in sections(volatile=volatile):
        yield from section(source, target)
    for family in FAMILIES:
        yield from family.compare(source, target)
    for check in extra:
        yield from check(source, target)
    for feature in features:
        if feature.abi_checks:
            was, now = feature.uses(source), feature.uses(target)
            if was.found or now.found:
                for rule in feature.abi_checks:
                    yield from rule(was, now) or ()


def _numbered() -> Callable[[int], bytes]:
    """Return a source of bytes that gives two documents the same ones.

    A UUID or MAC address that neither document has is no difference between them.
    """
    numbers = itertools.count(1)
    return lambda count: next(numbers).to_bytes(max(count, 8), "big")[-count:]


async def comparable(
    driver: Driver,
    domain: Domain,
    *,
    document: str | bytes | None = None,
    record: Record | None = None,
) -> Domain:
    """Return a complete copy of ``domain`` without what only a running domain has.

    That is what libvirt gets from the migratable document: a running domain is compared with what
    it would be on another host, and with what somebody wrote by hand.

    :param domain: of a definition, or as it stands in a document.
    :param document: where it comes from, for the lines of errors.
    :param record: what runs, where ``domain`` is its live definition.
    :raises ValidationFailed: it cannot be completed on this host.
    """
    copy: Domain = driver.registry.binding.clone(domain)
    for device in copy.devices.walk():
        if device.alias is not None and not device.alias.startswith(USER_ALIAS):
            device.alias = None
    context = await driver.context(copy)
    context.random_bytes = _numbered()
    complete = driver.pipeline().post_parse
    try:
        # What is left out of the second round is that of a complete definition.
        complete(copy, context)
        driver.migratable(copy, record)
        complete(copy, context)
    except ValidationFailed as error:
        if document is None:
            raise
        raise ValidationFailed(located(error.issues, document)) from None
    return copy


async def require_same(
    driver: Driver,
    source: Domain | Record,
    target: Domain,
    *,
    document: str | bytes | None = None,
    volatile: bool = False,
) -> None:
    """Refuse a target that the guest of the source could not go on with.

    :param source: the domain as it is, or the definition of a saved one.
    :param target: what it is to become.
    :param document: the document of the target, for the lines of what differs.
    :param volatile: compare also what changes while a guest runs, as for a saved one.
    :raises AbiChanged: with every difference.
    :raises ValidationFailed: one of them cannot be completed on this host.
    """
    if isinstance(source, Record):
        running = source if source.live is not None else None
        was = await comparable(driver, source.definition.domain, record=running)
    else:
        was = await comparable(driver, source)
    now = await comparable(driver, target, document=document)
    found = compare(
        was,
        now,
        extra=driver.abi_checks(),
        features=driver.registry.features.values(),
        volatile=volatile,
    )
    if found:
        raise AbiChanged(found if document is None else located(found, document))
