"""The command line of QEMU as a plan: a pure function of definition, capabilities and resources.

Sections stand in libvirt's order; each is filled by the ``command`` functions of the module of its
family. A device's features (extensions of plugins) are lowered right before the device itself.
"""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs

from hvcore.errors import ValidationFailed
from hvcore.plan import Plan
from hvcore_qemu.extensions import overridden

if TYPE_CHECKING:
    from hvcore.errors import Issue
    from hvcore.model.domain import Domain
    from hvcore.registry import Registry
    from hvcore.xml.fields import Element
    from hvcore_qemu.capabilities import QemuCapabilities
    from hvcore_qemu.config import QemuConfig
    from hvcore_qemu.resources import FdSet
    from hvcore_qemu.resources import Resources

Value = str | Mapping[str, Any] | None

SECTIONS: Final[tuple[tuple[str, str], ...]] = (
    # section, "module:function" that fills it
    ("environment", "sections.base:environment"),
    ("name", "sections.base:name"),
    ("compat", "sections.base:compat"),
    ("stopped", "sections.base:stopped"),
    ("master-key", "sections.base:master_key"),
    ("pr-manager", "devices.disk:pr_manager"),
    ("pflash", "sections.os:pflash"),
    ("machine", "sections.machine:machine"),
    ("accel", "sections.machine:accel"),
    ("tseg", "sections.machine:tseg"),
    ("cpu", "sections.cpu:cpu"),
    ("loader", "sections.os:loader"),
    ("memory", "sections.memory:memory"),
    ("smp", "sections.vcpu:smp"),
    ("iothreads", "sections.iothread:iothreads"),
    ("throttle-groups", "sections.iothread:throttle_groups"),
    ("numa", "sections.numa:numa"),
    ("uuid", "sections.base:uuid"),
    ("smbios", "sections.sysinfo:smbios"),
    ("fw-cfg", "sections.sysinfo:fw_cfg"),
    ("genid", "sections.base:genid"),
    ("display-none", "devices.graphics:display_none"),
    ("defaults", "sections.base:no_defaults"),
    ("monitor", "sections.base:monitor"),
    ("clock", "sections.clock:clock"),
    ("power", "sections.power:power"),
    ("boot", "sections.os:boot"),
    ("iommu", "devices.iommu:command"),
    ("controller-globals", "devices.controller:global_options"),
    ("controllers", "devices.controller:command"),
    ("memory-devices", "devices.memory:command"),
    ("hubs", "devices.hub:command"),
    ("smartcard-controllers", "devices.controller:ccid"),
    ("disks", "devices.disk:command"),
    ("filesystems", "devices.filesystem:command"),
    ("interfaces", "devices.interface:command"),
    ("smartcards", "devices.smartcard:command"),
    ("serials", "devices.chardev:serials"),
    ("parallels", "devices.chardev:parallels"),
    ("channels", "devices.chardev:channels"),
    ("consoles", "devices.chardev:consoles"),
    ("tpms", "devices.tpm:command"),
    ("inputs", "devices.input:command"),
    ("audios", "devices.audio:command"),
    ("graphics", "devices.graphics:command"),
    ("videos", "devices.video:command"),
    ("sounds", "devices.sound:command"),
    ("watchdogs", "devices.watchdog:command"),
    ("redirdevs", "devices.redirdev:command"),
    ("hostdevs", "devices.hostdev:command"),
    ("incoming", "sections.base:incoming"),
    ("memballoons", "devices.memballoon:command"),
    ("rngs", "devices.rng:command"),
    ("nvrams", "devices.nvram:command"),
    ("vmcoreinfo", "sections.machine:vmcoreinfo"),
    ("launch-security", "sections.launchsecurity:command"),
    ("passthrough", "sections.base:passthrough"),
    ("sandbox", "sections.base:sandbox"),
    ("panics", "devices.panic:command"),
    ("shmems", "devices.shmem:command"),
    ("vsocks", "devices.vsock:command"),
    ("cryptos", "devices.crypto:command"),
    ("pstores", "devices.pstore:command"),
    ("features", "sections.base:features"),
    ("async-teardown", "sections.machine:async_teardown"),
    ("messages", "sections.base:messages"),
)


_TO_JSON: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


@attrs.frozen
class Argument:
    """One option of the command line with its value; a mapping is written as JSON."""

    option: str
    value: Value = None

    def argv(self) -> tuple[str, ...]:
        """Return the option as QEMU receives it."""
        if self.value is None:
            return (self.option,)
        if isinstance(self.value, str):
            return (self.option, self.value)
        return (self.option, _TO_JSON(self.value))

    def lines(self) -> list[str]:
        """Return the option as one line for people."""
        return [" ".join(shlex.quote(part) for part in self.argv())]


@attrs.frozen
class Variable:
    """One environment variable of the QEMU process."""

    name: str
    value: str

    def lines(self) -> list[str]:
        """Return the assignment."""
        return [f"{self.name}={self.value}"]


class QemuPlan(Plan["Argument | Variable"]):
    """Everything a start of QEMU needs.

    :ivar binary: path of the emulator.
    :ivar files: contents of files to write, mode 0600, before QEMU starts.
    :ivar folders: see :class:`hvcore_qemu.resources.Resources`.
    :ivar numbers: see :attr:`hvcore_qemu.resources.Resources.numbers`.
    """

    def __init__(self, binary: str) -> None:
        super().__init__(tuple(name for name, _ in SECTIONS))
        self.binary = binary
        self.files: dict[str, bytes] = {}
        self.folders: list[str] = []
        self.numbers = (0, 0)

    @property
    def argv(self) -> list[str]:
        """The command line, binary first."""
        out = [self.binary]
        for step in self.steps():
            if isinstance(step, Argument):
                out += step.argv()
        return out

    @property
    def env(self) -> dict[str, str]:
        """The environment, in the order in which libvirt writes it."""
        return {step.name: step.value for step in self.steps() if isinstance(step, Variable)}


class Command:
    """The plan under construction, and what the ``command`` functions may look at.

    :ivar domain: the live definition, prepared (addresses, aliases, ports, node names).
    :ivar resources: what was opened or allocated on the host for this start.
    """

    def __init__(
        self,
        domain: Domain,
        caps: QemuCapabilities,
        config: QemuConfig,
        resources: Resources,
        registry: Registry,
    ) -> None:
        self.domain = domain
        self.caps = caps
        self.config = config
        self.resources = resources
        self.registry = registry
        self.plan = QemuPlan(domain.devices.emulator or "")
        self._current = self.plan.section("environment")
        self._following: dict[str | None, list[Callable[[], None]]] = {}

    def option(self, option: str, value: Value = None) -> None:
        """Append ``option`` (with its dash) to the current section."""
        self._current.steps.append(Argument(option, value))

    def env(self, name: str, value: str) -> None:
        """Append an environment variable to the current section."""
        self._current.steps.append(Variable(name, value))

    def device(self, props: Mapping[str, Any]) -> None:
        """Append ``-device``; properties that are None are left out.

        The document's own overrides of the device's properties have the last word. Devices given
        as JSON cannot be unplugged before QEMU 7.0, which is told in the old form therefore.
        """
        final = overridden(self.domain, present(props))
        json_form = "device.json+hotplug" in self.caps
        self.option("-device", final if json_form else flat(final))
        for lower in self._following.pop(final.get("id"), ()):
            lower()

    def object(self, props: Mapping[str, Any]) -> None:
        """Append ``-object`` with JSON properties; entries that are None are left out."""
        self.option("-object", present(props))

    def descriptor(self, fd: int, name: str) -> str:
        """Return how an option refers to an open descriptor that QEMU is to have.

        :param name: for a QEMU that runs already, which receives it under this name.
        """
        del name
        return str(fd)

    def pass_fds(self, fds: FdSet) -> None:
        """Append the descriptors that QEMU opens as ``/dev/fdset/N``."""
        for fd, name in fds.descriptors:
            self.option("-add-fd", f"set={fds.number},fd={fd},opaque={name}")

    def features(self, owner: Element) -> None:
        """Lower the features that plugins attached to ``owner``.

        Those that want to stand behind the device wait for it.

        :raises ValidationFailed: when one finds that the guest cannot be started.
        """
        if owner._ext is None:  # noqa: SLF001 - the common case must cost nothing
            return
        for extension in owner.extensions():
            lowering = self.registry.lowering("qemu", extension)
            if lowering is None:
                continue
            lower = functools.partial(self._lower, lowering.function, owner, extension)
            if lowering.after:
                self._following.setdefault(getattr(owner, "alias", None), []).append(lower)
            else:
                lower()

    def _lower(
        self, function: Callable[..., Iterable[Issue] | None], owner: Element, extension: Element
    ) -> None:
        issues = list(function(self.domain, owner, extension, self) or ())
        if issues:
            raise ValidationFailed(issues)

    def build(self) -> QemuPlan:
        """Return the finished plan."""
        for name, fill in _filling():
            self._current = self.plan.section(name)
            fill(self)
        self._current = self.plan.section("machine")
        self.registry.manager.hook.hv_amend_plan(
            driver="qemu", domain=self.domain, plan=self.plan, ctx=self
        )
        self.plan.folders = self.resources.folders
        self.plan.numbers = self.resources.numbers
        return self.plan


def present(props: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``props`` without the entries that are None."""
    return {name: value for name, value in props.items() if value is not None}


def flat(props: Mapping[str, Any]) -> str:
    """Return ``props`` in the form ``driver,key=value,key=value``."""
    rest = ",".join(_pairs({name: value for name, value in props.items() if name != "driver"}))
    return f"{props['driver']},{rest}"


def _pairs(props: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in props.items():
        if isinstance(value, Mapping):
            yield from _pairs(value, f"{prefix}{name}.")
        elif isinstance(value, bool):
            yield f"{prefix}{name}={'on' if value else 'off'}"
        else:
            yield f"{prefix}{name}={escape_comma(str(value))}"


def escape_comma(value: str) -> str:
    """Return ``value`` for an option of the form ``key=value,key=value``."""
    return value.replace(",", ",,")


_FILLING: list[tuple[str, Callable[[Command], None]]] = []


def _filling() -> list[tuple[str, Callable[[Command], None]]]:
    """Return section names and functions; modules are imported at the first command built."""
    if not _FILLING:
        for name, target in SECTIONS:
            module, _, function = target.partition(":")
            _FILLING.append((name, getattr(import_module(f"hvcore_qemu.{module}"), function)))
    return _FILLING


def build(
    domain: Domain,
    caps: QemuCapabilities,
    config: QemuConfig,
    resources: Resources,
    registry: Registry,
) -> QemuPlan:
    """Return the plan that starts ``domain``.

    :param domain: the live definition after :func:`hvcore_qemu.prepare.prepare`.
    :raises ValidationFailed: when the definition cannot be expressed for this QEMU.
    """
    return Command(domain, caps, config, resources, registry).build()
