"""Devices plugged into running QEMU guests and out of them, against a scripted monitor."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Generator
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from typing import ClassVar
from typing import Final

import attrs

from hvcore.driver import Record
from hvcore.errors import HvError
from hvcore.errors import MonitorError
from hvcore.model.devices.base import Device
from hvcore.model.domain import Domain
from hvcore.model.types import NodeSet
from hvcore.pipeline import Context
from hvcore.registry import Registry
from hvcore.rules import hotplug as rules
from hvcore.rules import tuning
from hvcore.xml.context import FormatContext
from hvcore.xml.reader import read_file
from hvcore_qemu import addresses
from hvcore_qemu import aliases
from hvcore_qemu.capabilities import QemuCapabilities
from hvcore_qemu.driver import QemuDriver
from hvcore_qemu.extensions import register
from hvcore_qemu.launch import pipeline
from tests.conformance.compare import expected_text
from tests.conformance.compare import same_text
from tests.conformance.fakes import FakeHost
from tests.conformance.fakes import config_of
from tests.conformance.fakes import find_program
from tests.conformance.fakes import host_info
from tests.conformance.fakes import random_bytes
from tests.conformance.qmpschema import schema_of
from tests.conformance.suite import CaseFailedError
from tests.conformance.suite import Progress
from tests.conformance.suite import Suite

ID: Final = 7
"""Number of the running domain."""

PATIENCE: Final = 0.01
"""Seconds the pretended guests have for letting a device go."""

_OBJECTS: Final = re.compile(r"\r\n|\n(?=\{)")
_LOOKING: Final = ("qom-list", "query-block")
"""What libvirt asks after an attach, and what need not be asked: it changes nothing."""


def _extra(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what differs by case, as the suite qemuxmlconf tells it."""
    return {"host_arch": row["arch"], "driver_config": row.get("driver_config", {})}


class ScriptedMonitor:
    """A monitor that answers what a case says, and only that."""

    def __init__(self, script: list[Any], schema: Any) -> None:
        self.script = [(name, text) for name, text in script]
        self.schema = schema
        self.guest: Any = None

    async def execute(
        self, command: str, arguments: Mapping[str, Any] | None = None, fd: int | None = None
    ) -> Any:
        """Return the scripted reply, after the events that come before it."""
        del fd
        if not self.script or self.script[0][0] != command:
            wanted = self.script[0][0] if self.script else "(nothing)"
            raise CaseFailedError(f"- {wanted}\n+ {command} {dict(arguments or {})}")
        problem = self.schema.problem(command, dict(arguments or {}))
        if problem:
            raise CaseFailedError(f"{command}: {problem}")
        _, text = self.script.pop(0)
        reply: Any = {}
        for part in filter(None, _OBJECTS.split(text)):
            found = json.loads(part)
            if "event" in found:
                self.guest.tell_departure(found["data"]["device"], gone=True)
            elif "error" in found:
                raise MonitorError(
                    found["error"]["desc"], sent={}, error_class=found["error"]["class"]
                )
            else:
                reply = found["return"]
        return reply

    async def run(self, steps: Generator[Any, Any, Any]) -> Any:
        """Carry out a conversation."""
        try:
            command = next(steps)
            while True:
                try:
                    reply = await self.execute(*command)
                except MonitorError as error:
                    command = steps.throw(error)
                else:
                    command = steps.send(reply)
        except StopIteration as end:
            return end.value

    def finish(self) -> None:
        """Refuse a script that was not carried out to its end."""
        left = [name for name, _ in self.script if name not in _LOOKING]
        if left:
            raise CaseFailedError("\n".join(f"- {name}" for name in left))


class RecordedMonitor:
    """A monitor that answers from a transcript; what changes the guest must be as recorded.

    What only looks is answered with the next recorded reply, however often it is asked.
    """

    run = ScriptedMonitor.run

    def __init__(self, text: str) -> None:
        decoder, at = json.JSONDecoder(), 0
        objects = []
        while at < len(text.rstrip()):
            found, at = decoder.raw_decode(text, at)
            objects.append(found)
            at += len(text[at:]) - len(text[at:].lstrip())
        self.exchanges = list(zip(objects[::2], objects[1::2], strict=True))
        self.seen: dict[str, Any] = {"query-iothreads": []}
        self.guest: Any = None

    async def execute(
        self, command: str, arguments: Mapping[str, Any] | None = None, fd: int | None = None
    ) -> Any:
        """Return the recorded reply, after the events that come before it."""
        del fd
        if command.startswith("query-"):
            while self.exchanges and self.exchanges[0][0]["execute"].startswith("query-"):
                asked, reply = self.exchanges.pop(0)
                self.seen[asked["execute"]] = reply["return"]
            return self.seen[command]
        if not self.exchanges:
            raise CaseFailedError(f"+ {command} {dict(arguments or {})}")
        asked, reply = self.exchanges.pop(0)
        wanted = (asked["execute"], asked.get("arguments", {}))
        if wanted != (command, dict(arguments or {})):
            raise CaseFailedError(f"- {wanted}\n+ {(command, dict(arguments or {}))}")
        return reply["return"]

    def finish(self) -> None:
        """Refuse a transcript with changes that were not made."""
        left = [asked["execute"] for asked, _ in self.exchanges]
        if any(not name.startswith("query-") for name in left):
            raise CaseFailedError("\n".join(f"- {name}" for name in left))


class NoPlacement:
    """A guest whose threads are nowhere in particular."""

    def all_nodes(self, nodes: NodeSet) -> contextlib.AbstractContextManager[None]:
        """Open nothing."""
        del nodes
        return contextlib.nullcontext()

    def place_vcpu(self, domain: Domain, number: int, tid: int) -> None:
        """Leave the thread where it is."""

    def forget_vcpu(self, number: int) -> None:
        """Forget nothing."""


class PluggingHost(FakeHost):
    """The host of a case, whose descriptors nobody has to close."""

    def close(self) -> None:
        """Close nothing."""

    def give_back_ports(self) -> None:
        """Give nothing back."""


@attrs.define(eq=False)
class PretendedGuest:
    """What the driver keeps of a guest, as far as plugging needs it."""

    monitor: ScriptedMonitor | RecordedMonitor
    placement: Any = None
    leaving: dict[str, asyncio.Future[bool]] = attrs.field(factory=dict)
    pending: dict[str, Any] = attrs.field(factory=dict)
    folders: list[str] = attrs.field(factory=list)

    def tell_departure(self, alias: str, *, gone: bool) -> bool:
        """Tell whoever waits."""
        waiting = self.leaving.get(alias)
        if waiting is not None and not waiting.done():
            waiting.set_result(gone)
        return waiting is not None


class PretendingDriver(QemuDriver):
    """The driver with a host and a context of the case."""

    def __init__(self, registry: Registry, case_context: Context, host: PluggingHost) -> None:
        # Nothing of a real driver's state is needed.
        self.registry = registry
        self.config = case_context.config
        self.case_context = case_context
        self.case_host = host

    def host(self) -> Any:
        """Return the facts of the case's host."""
        return self.case_context.host

    async def context(self, domain: Domain, *, new: bool = False) -> Context:
        """Return the context of the case."""
        del domain
        return attrs.evolve(self.case_context, abi_update=new)

    def _host_of(self, record: Record) -> Any:
        del record
        return self.case_host

    def _folder(self, record: Record) -> Path:
        del record
        return Path("/var/run/libvirt/qemu/channel")


@attrs.define(eq=False)
class Machine:
    """One pretended guest that several cases work on, one after the other."""

    live: Domain
    ctx: Context
    record: Record


class Cases(Suite):
    """The suite ``hotplug``."""

    name: ClassVar[str] = "hotplug"

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self.registry = Registry()
        self.registry.load_entry_points()
        register(self.registry)
        self.registry.freeze()
        self.pipeline = pipeline(self.registry)
        self.chains: dict[int, list[str]] = {}
        for name, row in self.cases.items():
            if "chain" in row:
                self.chains.setdefault(row["chain"], []).append(name)

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the rows that are about devices, numbered where an id comes twice."""
        listed = json.loads((self.folder / self.listing).read_text("utf-8"))
        found: dict[str, dict[str, Any]] = {}
        for row in listed:
            name, number = row["id"], 2
            while name in found:
                name, number = f"{row['id']}#{number}", number + 1
            found[name] = row
        return found

    def check(self, case: dict[str, Any], progress: Progress) -> None:
        """Carry out the cases before this one on the same guest, then this one."""
        if case["kind"] != "device":
            self._check_vcpus(case, progress)
            return
        machine: Machine | None = None
        for name in self.chains[case["chain"]]:
            row = self.cases[name]
            if machine is None:
                progress.current = "guest"
                machine = self._machine(row)
            progress.current = row["action"]
            self._carry_out(row, machine, progress, counts=row is case)
            if row is case:
                return

    def _check_vcpus(self, row: Mapping[str, Any], progress: Progress) -> None:
        """Plug virtual CPUs of a guest and list them for its next start."""
        progress.current = "guest"
        machine = self._machine(row)
        config = self._next_start(machine)
        text = (self.folder / row["monitor_file"]).read_text("utf-8")
        monitor = RecordedMonitor(text)
        guest = PretendedGuest(monitor, placement=NoPlacement())
        monitor.guest = guest
        machine.record.runtime = guest
        host = PluggingHost(self.data / "qemuxmlconf" / "aux", _extra(row))
        driver = PretendingDriver(self.registry, machine.ctx, host)
        progress.current = row["kind"]
        try:
            asyncio.run(self._set_vcpus(row, machine, config, driver))
        except HvError as error:
            if row["expect"] == "success":
                raise CaseFailedError(str(error)) from error
            return
        if row["expect"] != "success":
            raise CaseFailedError("+ (accepted)")
        monitor.finish()
        for domain, wanted, inactive in (
            (machine.live, row["expected_live_xml"], False),
            (config, row["expected_config_xml"], True),
        ):
            progress.current = "config xml" if inactive else "live xml"
            ctx = FormatContext(inactive=inactive, secure=True)
            same_text(
                expected_text(self.folder / wanted), self.registry.binding.format(domain, ctx)
            )

    def _next_start(self, machine: Machine) -> Domain:
        """Return the definition of the next start of a guest."""
        inactive = FormatContext(inactive=True, secure=True)
        found = self.pipeline.parse(self.registry.binding.format(machine.live, inactive))
        self.pipeline.post_parse(found, attrs.evolve(machine.ctx, active=False))
        return found

    async def _set_vcpus(
        self, row: Mapping[str, Any], machine: Machine, config: Domain, driver: PretendingDriver
    ) -> None:
        live, record = machine.live, machine.record
        if row["kind"] == "vcpus-group":
            tuning.set_vcpus(config, row["new_vcpus"], hotpluggable=True)
            await driver.set_vcpus(record, live, row["new_vcpus"])
            return
        chosen, enabled = NodeSet.parse(row["vcpu_map"]), row["state"]
        for domain, runs in ((config, False), (live, True)):
            tuning.check_chosen_vcpus(domain, chosen, live=runs)
        tuning.choose_vcpus(config, chosen, enabled=enabled)
        await driver.set_vcpu(record, live, chosen, enabled=enabled)

    def _machine(self, row: Mapping[str, Any]) -> Machine:
        caps = QemuCapabilities.load(
            self.data / "qemucapabilities" / "data" / f"{row['caps']}.xml"
        ).strip_machine_aliases()
        aux = self.data / "qemuxmlconf" / "aux"
        extra = _extra(row)
        config = config_of(aux, extra)
        ctx = Context(
            registry=self.registry,
            driver="qemu",
            caps=caps,
            find_capabilities=lambda _: caps,
            find_program=find_program,
            host=host_info(aux, extra),
            config=config,
            active=True,
            random_bytes=random_bytes,
        )
        domain = self.pipeline.parse(read_file(self.folder / row["domain"]))
        self.pipeline.post_parse(domain, ctx)
        addresses.assign(domain, caps, new_domain=True)
        aliases.assign(domain, caps)
        domain.id = ID
        record = Record(name=domain.name, uuid=domain.uuid or "")
        return Machine(domain, ctx, record)

    def _carry_out(
        self, row: Mapping[str, Any], machine: Machine, progress: Progress, *, counts: bool
    ) -> None:
        replies = self.data / "qemucapabilities" / "data" / f"{row['caps']}.replies"
        monitor = ScriptedMonitor(row["monitor"], schema_of(replies))
        guest = monitor.guest = PretendedGuest(monitor)
        machine.record.runtime = guest
        extra = _extra(row)
        host = PluggingHost(self.data / "qemuxmlconf" / "aux", extra)
        driver = PretendingDriver(self.registry, machine.ctx, host)
        problem: HvError | None = None
        try:
            done = asyncio.run(self._act(row, machine, driver))
        except HvError as error:
            done, problem = False, error
        if not counts:
            return
        if done != (row["expect"] == "success"):
            raise CaseFailedError(str(problem) if problem else f"+ {row['action']} succeeded")
        if not done:
            return
        monitor.finish()
        if row["expected_xml"]:
            progress.current = "xml"
            ctx = FormatContext(inactive=False, secure=True)
            said = self.registry.binding.format(machine.live, ctx)
            same_text(expected_text(self.folder / row["expected_xml"]), said)

    async def _act(
        self, row: Mapping[str, Any], machine: Machine, driver: PretendingDriver
    ) -> bool:
        """Carry out one case; return whether it took effect."""
        live, record, action = machine.live, machine.record, row["action"]
        device: Any = self.pipeline.parse_device(read_file(self.folder / row["device"]))
        assert isinstance(device, Device)
        new = action == "attach"
        ctx = attrs.evolve(machine.ctx, active=not new, abi_update=new)
        self.pipeline.complete_device(live, device, ctx, validate=action != "detach")
        if action == "attach":
            rules.forget_alias(device)
            rules.check_compatible(live, device, live=True, attach=True)
            await driver.attach_device(record, live, device)
            return True
        if action == "update":
            await driver.update_device(record, live, device, force=False)
            return True
        found = rules.find(live, device, live=True)
        return await driver.detach_device(record, live, found, PATIENCE)
