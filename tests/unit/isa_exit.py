"""A plugin in one file: a child of ``<watchdog>`` that needs a capability of the plugin's own."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

from hvcore.model.devices.watchdog import Watchdog
from hvcore.plugin import UINT
from hvcore.plugin import Element
from hvcore.plugin import Feature
from hvcore.plugin import Hotplug
from hvcore.plugin import ProbeSession
from hvcore.plugin import attr
from hvcore.plugin import element
from hvcore.plugin import hookimpl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.registry import Registry


@element("exit", extends=Watchdog, after="alias")
class IsaExit(Element):
    port: int | None = attr("@port", UINT, doc="where a guest writes its exit status")


feature = Feature("isa-exit", IsaExit)


@feature.lower("qemu", requires={"isa-exit"}, hotplug=Hotplug.COLD("it is on the ISA bus"))
def _qemu(domain: Any, watchdog: Watchdog, exit_: IsaExit, cmd: Any) -> None:
    cmd.option("-device", f"isa-debug-exit,iobase={exit_.port}")


@hookimpl
def hv_register(registry: Registry) -> None:
    registry.add_feature(feature)


@hookimpl
def hv_probe(driver: str, session: ProbeSession) -> Iterator[str]:
    types = session.answer("qom-list-types") or []
    if driver == "qemu" and any(entry["name"] == "isa-debug-exit" for entry in types):
        yield "isa-exit"
