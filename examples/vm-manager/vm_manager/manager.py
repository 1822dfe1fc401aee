"""Keeps machines running on several hosts.

Two rules make it safe. What is about to be done is written to the inventory before it is done, so
that whatever goes wrong, the next :meth:`Manager.reconcile` knows where to look. And a machine is
never started on a host before it is certain that no other host has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import TYPE_CHECKING
from typing import NamedTuple

from hvcore import connect
from hvcore import events
from hvcore.errors import HvError
from hvcore.errors import NoSuchDomain
from hvcore.lifecycle import State
from hvcore.operations import Op
from hvcore.registry import Registry
from vm_manager.inventory import Entry
from vm_manager.machine import uuid_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from collections.abc import Iterator
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

    from hvcore import Domain
    from hvcore import Host
    from vm_manager.inventory import Inventory
    from vm_manager.machine import Machine
    from vm_manager.machine import Template

_log = logging.getLogger(__name__)

FAILURES = (HvError, TimeoutError)
"""What can be expected to go wrong."""


class NoHostError(Exception):
    """No host can have a machine.

    :param causes: what each host said.
    """

    def __init__(self, name: str, causes: Mapping[str, Exception]) -> None:
        said = "; ".join(f"{host}: {error}" for host, error in causes.items())
        super().__init__(f"no host can have '{name}' ({said or 'none is up'})")
        self.causes = dict(causes)


class UncertainError(Exception):
    """A host may still have a machine, so no other may have it."""


class Action(NamedTuple):
    """Something that was done."""

    what: str
    machine: str
    host: str


@dataclass
class Report:
    """What was done, and what could not be done, by machine or host."""

    actions: list[Action] = field(default_factory=list)
    problems: dict[str, Exception] = field(default_factory=dict)


class Manager:
    """Connections to hosts and what is wanted of them.

    :param hosts: connection URIs by the names that the hosts are called here.
    :param registry: drivers and plugins; all that are installed unless given.
    :param patience: seconds that a host has for one machine.
    :param grace: seconds that a guest has for shutting down.
    """

    def __init__(
        self,
        hosts: Mapping[str, str],
        template: Template,
        inventory: Inventory,
        *,
        registry: Registry | None = None,
        patience: float = 60.0,
        grace: float = 30.0,
    ) -> None:
        self._uris = dict(hosts)
        self._template = template
        self.inventory = inventory
        self._registry = registry or Registry.default()
        self._patience = patience
        self._grace = grace
        self._hosts: dict[str, Host] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        for name in self._uris:
            try:
                await self.host_returned(name)
            except FAILURES as error:
                _log.warning("host %s cannot be reached: %s", name, error)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name in list(self._hosts):
            await self._close(name)

    # -- what can be wanted -------------------------------------------------------------

    async def create(self, machine: Machine) -> str:
        """Have a machine from now on; return the name of its host.

        :raises NoHostError: no host can have it, and it is forgotten.
        :raises UncertainError: it came to be half; the next reconciliation brings it up.
        """
        async with self._turn:
            if machine.name in self.inventory.entries:
                raise ValueError(f"there is a machine '{machine.name}' already")
            entry = Entry(machine, self._template.document(machine))
            self.inventory.entries[machine.name] = entry
            try:
                return await self._place(entry, Report())
            except NoHostError:
                del self.inventory.entries[machine.name]
                self.inventory.save()
                raise

    async def resize(
        self, name: str, *, cpus: int | None = None, memory: int | None = None
    ) -> bool:
        """Give a machine another size; return whether its guest has it already.

        :raises ValueError: it cannot have that much.
        :raises HvError: its host does not take the new size, and nothing is changed.
        """
        async with self._turn:
            entry = self.inventory.entries[name]
            old = entry.machine
            new = replace(old, cpus=cpus or old.cpus, memory=memory or old.memory)
            domain = await self._domain(entry)
            async with self._restored(entry):
                # The next start first: that lasts, whatever happens to the guest meanwhile.
                await domain.set_vcpus(new.cpus, config=True)
                await domain.set_memory(new.memory * 1024, config=True)
                definition = await _definition(domain)
            entry.machine, entry.definition = new, definition
            if domain.is_active:
                entry.unsettled = {
                    each
                    for each in ("cpus", "memory")
                    if getattr(new, each) != getattr(old, each) or each in entry.unsettled
                }
            self.inventory.save()
            with contextlib.suppress(*FAILURES):
                await self._settle(domain, entry)
            return not entry.unsettled

    async def set_running(self, name: str, *, running: bool) -> None:
        """Start or stop a machine, and keep it so.

        :raises NoHostError: no host can run it so far.
        """
        async with self._turn:
            entry = self.inventory.entries[name]
            entry.machine = replace(entry.machine, running=running)
            await self._place(entry, Report())

    async def remove(self, name: str) -> None:
        """Have a machine no longer.

        :raises HvError: its host does not let it go; reconciliation does once it can.
        """
        async with self._turn:
            entry = self.inventory.entries.pop(name)
            self.inventory.save()
            if entry.host in self._hosts:
                await self._discard(self._hosts[entry.host], entry.machine.uuid)

    # -- hosts --------------------------------------------------------------------------

    async def host_failed(self, name: str) -> Report:
        """Restart what a host had on others.

        Whoever calls this has made sure that nothing runs there any more.
        """
        async with self._turn:
            await self._close(name)
            report = Report()
            lost = self.inventory.on(name)
            for entry in lost:
                entry.host = None if entry.host == name else entry.host
                entry.destination = None if entry.destination == name else entry.destination
            self.inventory.save()
            for entry in lost:
                await self._bring(entry, report)
            return report

    async def host_returned(self, name: str) -> None:
        """Use a host, again; what it still has and another has now, it loses.

        :raises HvError: it cannot be reached.
        """
        async with asyncio.timeout(self._patience):
            host = await connect(self._uris[name], registry=self._registry)
        self._hosts[name] = host
        self._watchers[name] = asyncio.create_task(self._watch(host))
        self._changed.set()

    async def drain(self, name: str) -> Report:
        """Move everything off a host that works, and use it no more once it is empty.

        Guests move while they run where their host can do that; others are shut down and started
        elsewhere.
        """
        async with self._turn:
            report = Report()
            for entry in self.inventory.on(name):
                with self._noting(entry.machine.name, report):
                    await self._locate(entry)
                    if entry.host != name or await self._migrated(entry, report):
                        continue
                    domain = await self._domain(entry)
                    if domain.is_active:
                        await self._stop(domain)
                    await self._leave(entry)
                    await self._place(entry, report, without=name)
            if not self.inventory.on(name):
                await self._close(name)
            return report

    @property
    def hosts(self) -> list[str]:
        """The hosts that are used, those with the fewest machines first."""
        return sorted(self._hosts, key=lambda each: (len(self.inventory.on(each)), each))

    # -- making it so -------------------------------------------------------------------

    async def reconcile(self) -> Report:
        """Compare what is with what is wanted, and make it so."""
        async with self._turn:
            report = Report()
            for name, host in self._hosts.items():
                with self._noting(name, report):
                    await self._sweep(name, host, report)
            for _, entry in sorted(self.inventory.entries.items()):
                await self._bring(entry, report)
            return report

    async def run(self, interval: float = 60.0) -> None:
        """Reconcile whenever something happens, and now and then in case nobody was told."""
        while True:
            self._changed.clear()
            report = await self.reconcile()
            for action in report.actions:
                _log.info("%s %s on %s", *action)
            for name, error in report.problems.items():
                _log.error("%s: %s", name, error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self._changed.wait()

    async def _watch(self, host: Host) -> None:
        kinds = (events.Stopped, events.Suspended, events.Undefined)
        with host.events(kinds) as stream:
            async for _ in stream:  # also what says that events were lost
                self._changed.set()

    async def _close(self, name: str) -> None:
        host = self._hosts.pop(name, None)
        if host is not None:
            self._watchers.pop(name).cancel()
            with contextlib.suppress(*FAILURES):
                async with asyncio.timeout(self._patience):
                    await host.close()

    async def _bring(self, entry: Entry, report: Report) -> None:
        """Do what one machine needs, and note it."""
        name = entry.machine.name
        with self._noting(name, report):
            host = await self._place(entry, report)
            if entry.unsettled:
                await self._settle(await self._domain(entry), entry)
                report.actions.append(Action("resized", name, host))

    async def _sweep(self, name: str, host: Host, report: Report) -> None:
        """Take away what is ours and belongs elsewhere, or nowhere."""
        here = {entry.machine.name for entry in self.inventory.on(name)}
        for domain in await host.domains():
            if domain.uuid == uuid_of(domain.name) and domain.name not in here:
                await self._discard(host, domain.uuid)
                report.actions.append(Action("removed", domain.name, name))

    async def _place(self, entry: Entry, report: Report, *, without: str | None = None) -> str:
        """See to it that a host has a machine and runs it if it should; return which.

        :raises NoHostError: none can.
        :raises UncertainError: one may have it and does not say.
        """
        await self._locate(entry)
        name, first = entry.machine.name, entry.host
        if first is not None and first not in self._hosts:
            raise UncertainError(f"'{name}' may be on {first}, which cannot be reached")
        causes: dict[str, Exception] = {}
        others = [each for each in self.hosts if each not in (first, without)]
        for host in [*([first] if first else []), *others]:
            entry.host = host
            self.inventory.save()
            try:
                async with asyncio.timeout(self._patience):
                    done = await self._up(self._hosts[host], entry)
            except FAILURES as error:
                _log.warning("%s cannot be on %s: %s", name, host, error)
                causes[host] = error
                await self._leave(entry)
            else:
                self.inventory.save()
                report.actions += [Action(what, name, host) for what in done]
                return host
        raise NoHostError(name, causes)

    async def _up(self, host: Host, entry: Entry) -> list[str]:
        """Define and start a machine as far as it is not; return what was done."""
        done = []
        domain = await _find(host, entry.machine.uuid)
        if domain is None or await _definition(domain) != entry.definition:
            domain = await host.define(entry.definition)
            entry.definition = await _definition(domain)
            done.append("defined")
        state, _ = await domain.state()
        if not entry.machine.running:
            if domain.is_active:
                await self._stop(domain)
                done.append("stopped")
        elif not domain.is_active:
            await domain.start()
            entry.unsettled.clear()
            done.append("started")
        elif state is State.PAUSED:
            await domain.resume()
            done.append("resumed")
        return done

    async def _migrated(self, entry: Entry, report: Report) -> bool:
        """Move a running guest to another host; return whether that went well."""
        domain = await self._domain(entry)
        if not domain.is_active or not domain.supports(Op.MIGRATE):
            return False
        for name in self.hosts:
            if name == entry.host:
                continue
            entry.destination = name
            self.inventory.save()
            try:
                async with asyncio.timeout(self._patience):
                    await domain.migrate(
                        self._hosts[name], live=True, persistent=True, undefine_source=True
                    )
            except FAILURES as error:
                _log.warning("%s cannot move to %s: %s", entry.machine.name, name, error)
            await self._locate(entry)
            if entry.host == name:
                report.actions.append(Action("moved", entry.machine.name, name))
                return True
        return False

    async def _locate(self, entry: Entry) -> None:
        """Find out on which side of a move a machine is; it runs on one of them at most.

        :raises UncertainError: the host that it was on its way to cannot be reached.
        """
        if entry.destination is None:
            return
        if entry.destination not in self._hosts:
            name = entry.machine.name
            raise UncertainError(f"'{name}' may be on {entry.destination}, which cannot be reached")
        domain = await _find(self._hosts[entry.destination], entry.machine.uuid)
        if domain is not None and domain.is_active:
            entry.host = entry.destination
            entry.definition = await _definition(domain)
        entry.destination = None
        self.inventory.save()

    async def _settle(self, domain: Domain, entry: Entry) -> None:
        """Give the running guest the size that its definition has."""
        machine = entry.machine
        verbs = {
            "cpus": lambda: domain.set_vcpus(machine.cpus, live=True),
            "memory": lambda: domain.set_memory(machine.memory * 1024, live=True),
        }
        for what in sorted(entry.unsettled):
            async with asyncio.timeout(self._patience):
                await verbs[what]()
            entry.unsettled.discard(what)
            self.inventory.save()

    async def _stop(self, domain: Domain) -> None:
        """Ask the guest; cut its power if it does not answer."""
        try:
            async with asyncio.timeout(self._grace):
                await domain.shutdown()
                await domain.wait_for(State.SHUTOFF)
        except FAILURES:
            if domain.is_active:
                await domain.destroy()

    async def _leave(self, entry: Entry) -> None:
        """Make sure that a machine is not where it is.

        :raises UncertainError: it may be; so it stays with this host.
        """
        try:
            await self._discard(self._hosts[entry.host or ""], entry.machine.uuid)
        except FAILURES as error:
            name = entry.machine.name
            raise UncertainError(f"'{name}' may be on {entry.host}: {error}") from error
        entry.host = None
        self.inventory.save()

    async def _discard(self, host: Host, uuid: str) -> None:
        async with asyncio.timeout(self._patience):
            domain = await _find(host, uuid)
            if domain is None:
                return
            if domain.is_active:
                await domain.destroy()
            domain = await _find(host, uuid)  # one that was not defined is gone now
            if domain is not None:
                await domain.undefine()

    async def _domain(self, entry: Entry) -> Domain:
        if entry.host not in self._hosts:
            raise NoHostError(entry.machine.name, {})
        return await self._hosts[entry.host].lookup_uuid(entry.machine.uuid)

    @contextlib.asynccontextmanager
    async def _restored(self, entry: Entry) -> AsyncIterator[None]:
        """Take a definition back that could only be changed by half."""
        try:
            yield
        except FAILURES:
            with contextlib.suppress(*FAILURES):
                await self._hosts[entry.host or ""].define(entry.definition)
            raise

    @contextlib.contextmanager
    def _noting(self, name: str, report: Report) -> Iterator[None]:
        try:
            yield
        except (*FAILURES, NoHostError, UncertainError) as error:
            report.problems[name] = error


async def _find(host: Host, uuid: str) -> Domain | None:
    try:
        return await host.lookup_uuid(uuid)
    except NoSuchDomain:
        return None


async def _definition(domain: Domain) -> str:
    return await domain.xml(inactive=True, secure=True)
