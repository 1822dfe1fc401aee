"""Many domains of the test driver, beside libvirt's: what each verb takes, and what each one holds.

libvirt's driver works in the process that asks (:mod:`tests.perf.libvirt_worker`), with no daemon.
An operation is done with every domain, one after the other, and the CPU time of one is printed.
Both sides take turns, each time in a new process, so that memory is not what was free before.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.domain import Domain
from hvcore.host import connect

if TYPE_CHECKING:
    from tests.perf.__main__ import Libvirt

COUNT: Final = 10_000
FEW: Final = 500
"""How many there are when it is measured whether more of them take longer each."""
TURNS: Final = 3
VERBS: Final = ("define", "start", "list", "lookup", "stop", "undefine")

DOCUMENT: Final = """<domain type='test'><name>fleet-{0}</name>
<uuid>6d0b1ffe-0000-4000-8000-{0:012x}</uuid><memory>65536</memory><vcpu>1</vcpu>
<os><type>hvm</type></os><devices>
<disk type='file' device='disk'><source file='/images/{0}'/><target dev='vda' bus='virtio'/></disk>
<interface type='network'><source network='default'/></interface></devices></domain>"""
"""One of them."""

Figures = dict[str, float]
"""CPU seconds by verb, of one domain; but ``list`` is of all, and ``memory`` bytes of one."""


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def measure(count: int) -> Figures:
    """Return what ``count`` domains take."""
    found: Figures = {}
    domains: list[Domain] = []

    async def timed(verb: str, work: Callable[[], Coroutine[Any, Any, Any]], over: int) -> None:
        before = time.process_time()
        await work()
        found[verb] = (time.process_time() - before) / over

    async with await connect("test:///default") as host:

        async def define() -> None:
            for number in range(count):
                domains.append(await host.define(DOCUMENT.format(number)))  # noqa: PERF401

        async def start() -> None:
            for domain in domains:
                await domain.start()

        async def lookup() -> None:
            for domain in domains:
                await host.lookup_id(domain.id or 0)
                await host.lookup(domain.name)

        async def stop() -> None:
            for domain in domains:
                await domain.destroy()

        async def undefine() -> None:
            for domain in domains:
                await domain.undefine()

        await (await host.define(DOCUMENT.format(count))).undefine()  # compiles parsers
        before = resident()
        await timed("define", define, count)
        await timed("start", start, count)
        found["memory"] = (resident() - before) / count
        await timed("list", host.domains, 1)
        await timed("lookup", lookup, count)
        await timed("stop", stop, count)
        await timed("undefine", undefine, count)
        assert len(await host.domains()) == 1
    return found


def _apart(count: int) -> Figures:
    """Return what is measured in a process of its own."""
    command = [sys.executable, "-m", __name__, str(count)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: Figures = json.loads(told)
    return found


def compare(libvirt: Callable[[], Libvirt], count: int = COUNT) -> dict[str, Figures]:
    """Return what few and many domains take, and what many take with libvirt.

    :param libvirt: makes a new process that asks libvirt.
    """
    samples: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(TURNS):
        with libvirt() as worker:
            worker.open("test", "test:///default")
            theirs = worker.fleet("test", DOCUMENT, count)
        for side, figures in ("few", _apart(FEW)), ("many", _apart(count)), ("libvirt", theirs):
            for name, value in figures.items():
                samples[side][name].append(value)
    sides = ("few", "many", "libvirt")
    return {
        side: {name: statistics.median(values) for name, values in samples[side].items()}
        for side in sides
    }


def report(found: dict[str, Figures], count: int = COUNT) -> None:
    """Print a table; the column between says how much more one takes than among few."""
    few, many, theirs = found["few"], found["many"], found["libvirt"]
    print(f"\n{f'{count:,} domains':<16}{'hvcore':>14}{f'to {FEW}':>10}{'libvirt':>14}{'ratio':>8}")
    for verb in (*VERBS, "memory"):
        ours, their = many[verb], theirs.get(verb)
        grown = ours / (few[verb] * (count / FEW if verb == "list" else 1))
        ratio = "-" if not their else f"{ours / their:.2f}x"
        print(f"{verb:<16}{_cell(verb, ours):>14}{grown:>9.2f}x{_cell(verb, their):>14}{ratio:>8}")


def _cell(verb: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / 1024:,.1f} KiB" if verb == "memory" else f"{value * 1e6:,.1f} us"


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(int(sys.argv[1])))))
