"""The <pm>, <perf> section."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Literal
from typing import get_args

from hvcore.xml.codecs import ENUM
from hvcore.xml.codecs import YESNO
from hvcore.xml.fields import Element
from hvcore.xml.fields import attr
from hvcore.xml.fields import children
from hvcore.xml.fields import element

if TYPE_CHECKING:
    from lxml.etree import _Element as XmlElement

    from hvcore.xml.context import ParseContext

PerfEventName = Literal[
    "cmt", "mbmt", "mbml", "cpu_cycles", "instructions", "cache_references", "cache_misses",
    "branch_instructions", "branch_misses", "bus_cycles", "stalled_cycles_frontend",
    "stalled_cycles_backend", "ref_cpu_cycles", "cpu_clock", "task_clock", "page_faults",
    "context_switches", "cpu_migrations", "page_faults_min", "page_faults_maj",
    "alignment_faults", "emulation_faults",
]  # fmt: skip


@element("pm", omit_empty=True)
class PowerManagement(Element):
    """Suspend states the firmware offers."""

    suspend_to_mem: bool | None = attr("suspend-to-mem/@enabled", YESNO, doc="ACPI S3")
    suspend_to_disk: bool | None = attr("suspend-to-disk/@enabled", YESNO, doc="ACPI S4")


@element("event")
class PerfEvent(Element):
    """A performance event."""

    name: PerfEventName = attr("@name", ENUM(PerfEventName), required=True)
    enabled: bool = attr("@enabled", YESNO, required=True)


@element("perf", omit_empty=True)
class Perf(Element):
    """Performance events to count."""

    events: list[PerfEvent] = children("event", PerfEvent)

    def parsed(self, el: XmlElement, ctx: ParseContext) -> None:
        """Refuse an event given twice, and keep them in libvirt's order."""
        seen: set[str] = set()
        for event in self.events:
            if event.name in seen:
                ctx.issue(el, f"perf event '{event.name}' was already specified")
            seen.add(event.name)
        order = get_args(PerfEventName)
        self.events.sort(key=lambda event: order.index(event.name) if event.name in order else 0)
