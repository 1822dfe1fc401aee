"""The way in: ``connect(uri)`` returns a :class:`Host`, the place where domains live.

::

    async with await connect("qemu:///session") as host:
        domain = await host.define(xml)
        await domain.start()

This is the asynchronous API; :mod:`hvcore.sync` is the same for blocking programs, generated from
this module and :mod:`hvcore.domain`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hvcore.domain import Domain
from hvcore.engine import Engine
from hvcore.errors import StateLocked
from hvcore.errors import UnsupportedOperation
from hvcore.registry import Registry
from hvcore.state import StateDirectory
from hvcore.uri import default_uri
from hvcore.uri import parse
from hvcore.uri import state_roots
from hvcore.verbs.saving import SavingHost
from hvcore.verbs.statistics import StatisticsHost

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Self

    from hvcore.domaincaps import DomainCapabilities
    from hvcore.events import Event
    from hvcore.events import EventStream
    from hvcore.hostinfo import NodeInfo
    from hvcore.operations import Op
    from hvcore.pipeline import Definition
    from hvcore.testing.control import TestControl


async def connect(uri: str | None = None, *, registry: Registry | None = None) -> Host:
    """Open the hypervisor behind a connection URI.

    The first process to open a URI owns its state until it closes; it follows what runs and may
    change it. Others see the same domains, read from the owner's files, and take over when the
    owner is gone. Nothing is started by connecting: see :meth:`Host.autostart`.

    :param uri: for instance ``qemu:///system``, ``qemu:///session``, ``qemu:///embed?root=/DIR``
        or ``test:///default``; ``None`` for ``$HVCORE_DEFAULT_URI`` or what fits the user.
    :param registry: drivers and plugins to use; everything installed unless given.
    :raises HvError: no driver serves the URI, or it refuses the path.
    :raises DriverError: the state directories cannot be used.
    """
    parsed = parse(uri if uri is not None else default_uri(os.environ, os.geteuid()))
    plugins = registry if registry is not None else Registry.default()
    driver = plugins.driver(parsed.scheme).for_uri(parsed)
    driver.check_parameters(parsed)
    driver.check_uri(parsed)
    directory = None
    if driver.keeps_state:
        roots = state_roots(parsed, environ=os.environ, uid=os.geteuid(), home=str(Path.home()))
        directory = StateDirectory(roots)
    return Host(await Engine.share(parsed, driver, plugins, directory))


class Host(SavingHost, StatisticsHost):
    """A connection to one hypervisor. Made by :func:`connect`; close it when done."""

    __slots__ = ("_closed",)

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<Host {self.uri}>"

    @property
    def uri(self) -> str:
        """The connection URI."""
        return str(self._engine.uri)

    @property
    def read_only(self) -> bool:
        """Whether another process owns the state at the moment."""
        return not self._engine.owned

    @property
    def operations(self) -> frozenset[Op]:
        """The verbs that the driver has."""
        return self._engine.driver.operations()

    @property
    def test(self) -> TestControl:
        """The controls of a host that exists only for a test: its clock, and faults.

        :raises UnsupportedOperation: the host is a real one.
        """
        driver = self._engine.driver
        if driver.test is None:
            raise UnsupportedOperation("test", driver=driver.name)
        return driver.test

    async def close(self) -> None:
        """End the connection; domains go on running."""
        if not self._closed:
            self._closed = True
            await self._engine.release()

    async def define(self, xml: str | bytes, *, strict: bool = False) -> Domain:
        """Make a domain persistent, or replace the definition of its next start.

        :param strict: refuse elements and attributes that nothing claims.
        :raises ConfigError: the document is refused; ``ValidationFailed`` holds all issues.
        :raises DomainExists: its name or UUID belongs to another domain.
        :raises StateLocked: another process owns the state.
        """
        return Domain(self._engine, await self._engine.define(xml, strict=strict))

    async def check(self, xml: str | bytes, *, strict: bool = True) -> Definition:
        """Return what :meth:`define` would make of a document; nothing is kept.

        :param strict: refuse elements and attributes that nothing claims.
        :raises ConfigError: the document is refused; ``ValidationFailed`` holds all issues.
        """
        return await self._engine.driver.compile(xml, strict=strict)

    async def check_abi(
        self, source: str | bytes, target: str | bytes, *, volatile: bool = False
    ) -> None:
        """Refuse a document with which the guest of another could not go on.

        Neither is validated beyond that, and nothing is kept. What both leave to be generated (a
        UUID, MAC addresses) is no difference.

        :param source: the guest as it is, or as it was saved.
        :param target: what it is to become.
        :param volatile: compare also what changes while a guest runs, as for a saved one.
        :raises AbiChanged: the guest would not find the hardware that it left; holds every
            difference, with its line in the target.
        :raises ConfigError: one of the documents is refused.
        """
        from hvcore.abi import require_same  # noqa: PLC0415 - few programs compare

        driver = self._engine.driver
        parse = driver.pipeline().parse
        await require_same(driver, parse(source), parse(target), document=target, volatile=volatile)

    async def create(
        self, xml: str | bytes, *, paused: bool = False, strict: bool = False
    ) -> Domain:
        """Start a domain straight from its document; unless defined it vanishes when it stops.

        :param paused: leave its CPUs stopped.
        :raises ConfigError: the document is refused.
        :raises StateError: it exists already, or another process owns the state.
        :raises LaunchError: it did not come up.
        """
        record = await self._engine.create(xml, paused=paused, strict=strict)
        return Domain(self._engine, record)

    async def domains(
        self, *, active: bool | None = None, persistent: bool | None = None
    ) -> list[Domain]:
        """Return the domains, by name.

        :param active: only those that run, or only those that do not.
        :param persistent: only those that are defined, or only the transient ones.
        """
        return [
            Domain(self._engine, record)
            for record in self._engine.records()
            if active in (None, record.active)
            and persistent in (None, record.persistent is not None)
        ]

    async def lookup(self, key: str | int) -> Domain:
        """Return the domain with this number, UUID or name, as virsh understands its argument.

        :raises NoSuchDomain: there is none.
        """
        return Domain(self._engine, self._engine.find(key))

    async def lookup_name(self, name: str) -> Domain:
        """Return the domain with this name.

        :raises NoSuchDomain: there is none.
        """
        return Domain(self._engine, self._engine.by_name(name))

    async def lookup_uuid(self, uuid: str) -> Domain:
        """Return the domain with this UUID.

        :raises NoSuchDomain: there is none.
        """
        return Domain(self._engine, self._engine.by_uuid(uuid))

    async def lookup_id(self, number: int) -> Domain:
        """Return the running domain with this number.

        :raises NoSuchDomain: there is none.
        """
        return Domain(self._engine, self._engine.by_id(number))

    async def autostart(self) -> list[Domain]:
        """Start every domain that is marked for it and does not run; return those started.

        libvirt's daemon does this once after boot. A library is opened many times, so it is the
        program that decides when the host has just started. A domain that does not come up keeps
        no other from being started; what went wrong is in the log.

        :raises StateLocked: another process owns the state.
        """
        return [Domain(self._engine, record) for record in await self._engine.autostart()]

    async def lower(self, xml: str | bytes, *, strict: bool = False) -> str:
        """Return what would be handed to the hypervisor to start ``xml``; nothing is started.

        :raises ConfigError: the document is refused.
        :raises UnsupportedOperation: the driver has no such text.
        """
        driver = self._engine.driver
        return await driver.lower(await driver.compile(xml, strict=strict))

    async def capabilities(self) -> str:
        """Return libvirt's ``<capabilities>`` document.

        :raises UnsupportedOperation: the driver has none.
        """
        return await self._engine.driver.capabilities()

    async def domain_capabilities(
        self,
        *,
        emulator: str | None = None,
        arch: str | None = None,
        machine: str | None = None,
        virt_type: str | None = None,
        disable_deprecated: bool = False,
    ) -> DomainCapabilities:
        """Return what guests of one kind can have: CPU models, devices, features.

        :param emulator: path of the hypervisor's binary; the usual one for ``arch`` unless given.
        :param arch: the host's unless given.
        :param machine: machine type or its alias; the preferred one unless given.
        :param virt_type: as in ``<domain type=...>``; the best one unless given.
        :param disable_deprecated: turn what is advised against off in the host's CPU model.
        :raises HvError: the host has no such guests.
        :raises ProbeError: the emulator cannot be asked.
        :raises UnsupportedOperation: the driver cannot tell.
        """
        return await self._engine.driver.domain_capabilities(
            emulator=emulator,
            arch=arch,
            machine=machine,
            virt_type=virt_type,
            disable_deprecated=disable_deprecated,
        )

    async def nodeinfo(self) -> NodeInfo:
        """Return the host's CPUs and memory."""
        return self._engine.driver.nodeinfo()

    async def version(self) -> int:
        """Return the hypervisor's version: major * 1,000,000 + minor * 1,000 + release.

        :raises UnsupportedOperation: the driver cannot tell.
        """
        return await self._engine.driver.version()

    def events(
        self, kinds: Iterable[type[Event]] = (), *, domain: Domain | None = None
    ) -> EventStream:
        """Return a stream of what happens from now on.

        :param kinds: event classes of interest; all unless given.
        :param domain: the only domain of interest.
        :raises StateLocked: another process owns the state, and so learns of events.
        """
        if not self._engine.owned:
            raise self._locked()
        return self._engine.hub.stream(kinds, domain=None if domain is None else domain.uuid)

    def _locked(self) -> StateLocked:
        assert self._engine.directory is not None  # what is not on disk is always owned
        return self._engine.directory.locked()
