"""From a live definition to everything a start asks of cloud-hypervisor: a pure plan.

Nothing is opened here. The families append settings of the ``VmConfig`` that vm.create takes; what
needs descriptors of the host becomes a request of its own, sent before vm.boot.
"""

from __future__ import annotations

import json
from importlib import import_module
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs

from hvcore.errors import Issue
from hvcore.errors import ValidationFailed
from hvcore.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hvcore.model.domain import Domain
    from hvcore.registry import Registry
    from hvcore.xml.fields import Element
    from hvcore_ch.capabilities import ChCapabilities
    from hvcore_ch.config import ChConfig

SECTIONS: Final[tuple[tuple[str, str], ...]] = (
    ("payload", "sections.os"),
    ("cpus", "sections.cpu"),
    ("memory", "sections.memory"),
    ("numa", "sections.numa"),
    ("platform", "sections.platform"),
    ("disks", "devices.disk"),
    ("interfaces", "devices.interface"),
    ("chardevs", "devices.chardev"),
    ("rngs", "devices.rng"),
    ("memballoons", "devices.memballoon"),
    ("vsocks", "devices.vsock"),
    ("filesystems", "devices.filesystem"),
    ("memories", "devices.memory"),
    ("hostdevs", "devices.hostdev"),
    ("tpms", "devices.tpm"),
    ("iommus", "devices.iommu"),
    ("panics", "devices.panic"),
    ("extensions", "extensions"),
    ("features", "sections.base"),
    ("sandbox", "sandbox"),
)
"""Sections of the plan, each with the module whose ``command(vm)`` fills it."""

_ZONES: Final = "memory.zones"
_LISTS: Final = frozenset(
    {
        _ZONES,
        "rate_limit_groups", "disks", "net", "fs", "generic_vhost_user", "pmem", "devices",
        "user_devices", "vdpa", "numa", "pci_segments", "landlock_rules",
    }
)  # fmt: skip


@attrs.frozen
class Setting:
    """One member of the ``VmConfig``, or one item of a member that is a list."""

    key: str
    value: Any

    def lines(self) -> list[str]:
        """Return the setting for people and for comparison."""
        many = "[]" if self.key in _LISTS else ""
        return [f"{self.key}{many} = {_json(self.value)}"]


@attrs.frozen
class TapRequest:
    """The tap that an interface wants of the host, passed to cloud-hypervisor as descriptors.

    :ivar kind: ``ethernet``, ``bridge`` or ``direct``.
    :ivar name: of the tap; None lets the kernel choose one.
    :ivar link: the bridge to plug it into, or the interface below a macvtap.
    :ivar mode: of a macvtap.
    :ivar existing: somebody else made it.
    """

    alias: str
    kind: str
    name: str | None = None
    link: str | None = None
    mode: str | None = None
    queues: int = 1
    mac: str | None = None
    mtu: int | None = None
    existing: bool = False
    isolated: bool = False


@attrs.frozen
class Call:
    """A request before vm.boot that carries the descriptors of a tap."""

    endpoint: str
    body: Any
    tap: TapRequest

    def lines(self) -> list[str]:
        """Return the request for people and for comparison."""
        wanted = {
            name: value
            for name, value in attrs.asdict(self.tap).items()
            if value not in (None, False)
        }
        return [f"{self.endpoint} {_json(self.body)}", f"  with {_json(wanted)}"]


@attrs.define(eq=False)
class NumaNode:
    """A node of the guest under construction; plugins may say which device initiates for it.

    :ivar device_id: alias of the PCI device that the node belongs to.
    """

    id: int
    settings: dict[str, Any]
    device_id: str | None = None

    def lines(self) -> list[str]:
        """Return the node for people and for comparison."""
        return [f"numa[] = {_json(self.value)}"]

    @property
    def value(self) -> dict[str, Any]:
        """The ``NumaConfig``."""
        return present({"guest_numa_id": self.id, **self.settings, "device_id": self.device_id})


class ChPlan(Plan["Setting | NumaNode | Call"]):
    """Everything a start asks of cloud-hypervisor."""

    def __init__(self) -> None:
        super().__init__(tuple(name for name, _ in SECTIONS))

    @property
    def config(self) -> dict[str, Any]:
        """The ``VmConfig`` for vm.create."""
        out: dict[str, Any] = {}
        for step in self.steps():
            if isinstance(step, NumaNode):
                out.setdefault("numa", []).append(step.value)
            elif isinstance(step, Setting) and step.key == _ZONES:
                out["memory"].setdefault("zones", []).append(step.value)
            elif isinstance(step, Setting) and step.key in _LISTS:
                out.setdefault(step.key, []).append(step.value)
            elif isinstance(step, Setting) and isinstance(step.value, dict):
                out.setdefault(step.key, {}).update(step.value)
            elif isinstance(step, Setting):
                out[step.key] = step.value
        return out

    @property
    def allowed(self) -> list[str] | None:
        """What the process may open that its configuration does not name; None for all."""
        if not self.config.get("landlock_enable"):
            return None
        return [str(rule["path"]) for rule in self.config.get("landlock_rules", ())]

    @property
    def calls(self) -> list[Call]:
        """The requests between vm.create and vm.boot."""
        return [step for step in self.steps() if isinstance(step, Call)]


class Command:
    """The plan under construction, and what the ``command`` functions may look at.

    :ivar domain: the live definition, with aliases.
    :ivar folder: the domain's private directory, for sockets.
    :ivar states: the directory for what is saved.
    """

    def __init__(
        self,
        domain: Domain,
        caps: ChCapabilities,
        config: ChConfig,
        registry: Registry,
        folders: tuple[str, str],
    ) -> None:
        self.domain = domain
        self.caps = caps
        self.config = config
        self.registry = registry
        self.folder, self.states = folders
        self.plan = ChPlan()
        self._current = self.plan.section("payload")

    def set(self, key: str, value: Any) -> None:
        """Set a member of the configuration, or add members to it where it is an object."""
        self._current.steps.append(Setting(key, value))

    def add(self, key: str, value: dict[str, Any]) -> None:
        """Append to a list of the configuration; entries that are None are left out."""
        self._current.steps.append(Setting(key, present(value)))

    def memory_zone(self, zone: dict[str, Any]) -> None:
        """Append a part of the memory that has a name of its own."""
        self._current.steps.append(Setting(_ZONES, zone))

    def call(self, endpoint: str, body: dict[str, Any], tap: TapRequest) -> None:
        """Append a request that is sent before vm.boot."""
        self._current.steps.append(Call(endpoint, present(body), tap))

    def numa_node(self, number: int) -> NumaNode:
        """Return a node of the guest, made where it is not there yet."""
        steps = self.plan.section("numa").steps
        for step in steps:
            if isinstance(step, NumaNode) and step.id == number:
                return step
        made = NumaNode(number, {})
        steps.append(made)
        return made

    def features(self, owner: Element) -> None:
        """Lower the features that plugins attached to ``owner``.

        :raises ValidationFailed: when one finds that the guest cannot be started.
        """
        issues: list[Issue] = []
        for extension in owner.extensions():
            lowering = self.registry.lowering("ch", extension)
            if lowering is not None:
                found: Iterable[Issue] | None
                found = lowering.function(self.domain, owner, extension, self)
                issues += found or ()
        if issues:
            raise ValidationFailed(issues)

    def build(self) -> ChPlan:
        """Return the finished plan."""
        for name, module in SECTIONS:
            self._current = self.plan.section(name)
            import_module(f"hvcore_ch.{module}").command(self)
        self.registry.manager.hook.hv_amend_plan(
            driver="ch", domain=self.domain, plan=self.plan, ctx=self
        )
        return self.plan


def present(members: dict[str, Any]) -> dict[str, Any]:
    """Return ``members`` without the entries that are None."""
    return {name: value for name, value in members.items() if value is not None}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def build(
    domain: Domain,
    caps: ChCapabilities,
    config: ChConfig,
    registry: Registry,
    folders: tuple[str, str],
) -> ChPlan:
    """Return the plan that starts ``domain``.

    :param domain: the live definition with aliases.
    :param folders: the domain's private directory, and the one for what is saved.
    :raises ValidationFailed: when the definition cannot be expressed for this binary.
    """
    return Command(domain, caps, config, registry, folders).build()
