"""Measure, and print medians with their ratios: ``python -m tests.perf [--json FILE]``.

A machine has moods, and what is measured in one must not be compared with what was measured in
another. So hvcore, libvirt and QEMU's own floor take turns, in batches of rounds, and the
medians are over all batches. What happens inside one process is measured in its CPU time, which
other processes disturb least; starts are measured by the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from typing import Final
from typing import Self

from hvcore.host import connect
from hvcore.pipeline import Context
from hvcore.pipeline import Pipeline
from hvcore.registry import Registry
from hvcore.xml.context import FormatContext
from tests.perf import documents
from tests.perf import fleet
from tests.perf import floor
from tests.perf import probing

DOCUMENTS: Final[dict[str, Callable[..., str]]] = {
    "minimal": documents.minimal,
    "typical": documents.typical,
    "big": documents.big,
}
NATIVE: Final = {
    # What libvirt can lower without creating taps, which would be no fair comparison.
    "minimal": documents.minimal(),
    "typical without NICs": documents.typical(nics=0),
}
WARM_UP: Final = 5
"""Rounds before the first batch; they compile parsers, probe QEMU and fill caches."""

Samples = dict[str, list[float]]


def medians(samples: Samples) -> dict[str, float]:
    """Return the median of each list, leaving out those without a sample."""
    return {name: statistics.median(found) for name, found in samples.items() if found}


def timed(rounds: int, work: Callable[[], Any]) -> list[float]:
    """Return how many seconds of CPU time ``work`` took in each round."""
    samples = []
    for _ in range(rounds):
        before = time.process_time()
        work()
        samples.append(time.process_time() - before)
    return samples


class Libvirt:
    """libvirt's answers, one by one; none where no Python here has its binding.

    :ivar error: the first thing it refused, after which nothing of that connection is measured.
    """

    def __init__(self) -> None:
        self.version: int | None = None
        self.errors: dict[str, str] = {}
        self._worker: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        worker = Path(__file__).with_name("libvirt_worker.py")
        for python in (sys.executable, "/usr/bin/python3"):
            probe = [python, "-c", "import libvirt"]
            if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
                self._worker = subprocess.Popen(
                    [python, str(worker)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env={**os.environ, "LIBVIRT_DEBUG": "4"},  # its errors, not its warnings
                )
                break
        return self

    def __exit__(self, *_: object) -> None:
        if self._worker is not None:
            self._worker.communicate()  # its input ends, and with it the worker

    def open(self, name: str, uri: str) -> None:
        """Connect; what is asked of ``name`` later goes there."""
        self.version = self._ask(name, do="open", uri=uri).get("version", self.version)

    def show(self, name: str, xml: str, rounds: int) -> list[float]:
        """Return the times of defining a document and asking for it back."""
        return list(self._ask(name, do="show", xml=xml, rounds=rounds).get("samples", ()))

    def lower(self, name: str, xml: str, rounds: int) -> list[float]:
        """Return the times of converting a document to a command line."""
        return list(self._ask(name, do="lower", xml=xml, rounds=rounds).get("samples", ()))

    def start(self, name: str, xml: str) -> dict[str, float]:
        """Return the times of a start and of the destroy after it."""
        return self._ask(name, do="start", xml=xml)

    def fleet(self, name: str, xml: str, count: int) -> dict[str, float]:
        """Return the times of verbs on many domains; ``xml`` has room for their numbers."""
        return self._ask(name, do="fleet", xml=xml, count=count)

    def _ask(self, name: str, **request: Any) -> dict[str, Any]:
        """Return the answer; nothing once the connection has failed."""
        worker = self._worker
        if worker is None or name in self.errors:
            return {}
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(json.dumps({"name": name, **request}) + "\n")
        worker.stdin.flush()
        line = worker.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the worker ended"}
        if "error" in answer:
            self.errors[name] = answer["error"]
            return {}
        return answer


def in_process(
    rounds: int, batches: int, libvirt: Libvirt
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Return the times of each stage for each document, without a hypervisor's rules.

    Also libvirt's times of the whole, by document.
    """
    registry = Registry.default()
    pipeline = Pipeline(registry)
    libvirt.open("test", "test:///default")
    out: dict[str, dict[str, float]] = {}
    theirs: Samples = defaultdict(list)
    for name, make in DOCUMENTS.items():
        xml = make(type_="test")
        stages = _stages(registry, pipeline, xml)
        samples: Samples = defaultdict(list)
        for work in stages.values():
            timed(WARM_UP, work)
        libvirt.show("test", xml, WARM_UP)
        for _ in range(batches):
            for stage, work in stages.items():
                samples[stage] += timed(rounds, work)
            theirs[name] += libvirt.show("test", xml, rounds)
        found = medians(samples)
        found["post-parse+validate"] -= found.pop("clone")
        out[name] = found
    return out, medians(theirs)


def _stages(registry: Registry, pipeline: Pipeline, xml: str) -> dict[str, Callable[[], Any]]:
    """Return what is measured of a document; ``clone`` is a part of the stage before it."""
    domain = pipeline.parse(xml)

    def complete() -> None:
        copy = registry.binding.clone(domain)
        ctx = Context(registry=registry)
        pipeline.post_parse(copy, ctx)
        pipeline.validate(copy, ctx)

    return {
        "parse": lambda: pipeline.parse(xml),
        "post-parse+validate": complete,
        "clone": lambda: registry.binding.clone(domain),
        "format": lambda: registry.binding.format(domain, FormatContext()),
        "all": lambda: pipeline.define(xml, Context(registry=registry)).xml(),
    }


async def _lowered(
    host: Any, rounds: int, batches: int, libvirt: Libvirt
) -> tuple[dict[str, float], dict[str, float]]:
    """Return hvcore's and libvirt's times from XML to a command line."""
    ours: Samples = defaultdict(list)
    theirs: Samples = defaultdict(list)
    for name, xml in NATIVE.items():
        for _ in range(WARM_UP):
            await host.lower(xml)
        libvirt.lower("qemu", xml, WARM_UP)
        for _ in range(batches):
            for _ in range(rounds):
                before = time.process_time()
                await host.lower(xml)
                ours[name].append(time.process_time() - before)
            theirs[name] += libvirt.lower("qemu", xml, rounds)
    return medians(ours), medians(theirs)


def _accelerator() -> str:
    try:
        with Path("/dev/kvm").open("rb+", buffering=0):
            return "kvm"
    except OSError:
        return "qemu"


async def with_qemu(
    rounds: int, batches: int, starts: int, root: Path, libvirt: Libvirt
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return lowering times, and start and destroy beside QEMU's own floor; and libvirt's."""
    xml = documents.minimal(type_=_accelerator())
    their_xml = documents.minimal(type_=_accelerator(), name="bench-libvirt")
    ours: Samples = defaultdict(list)
    bottom: Samples = defaultdict(list)
    theirs: Samples = defaultdict(list)
    # As hvcore does it: as the user who runs this, and without virtlogd, which may not be there.
    settings = root / "libvirt" / "etc" / "qemu.conf"
    settings.parent.mkdir(parents=True)
    owner = f'user = "+{os.geteuid()}"\ngroup = "+{os.getegid()}"\n'
    settings.write_text(f'stdio_handler = "file"\n{owner}')
    libvirt.open("qemu", f"qemu:///embed?root={root / 'libvirt'}")
    async with await connect(f"qemu:///embed?root={root / 'hv'}") as host:
        lowered, native = await _lowered(host, rounds, batches, libvirt)
        for _ in range(starts):
            before = time.perf_counter()
            domain = await host.define(xml)
            await domain.start()
            ours["start"].append(time.perf_counter() - before)
            argv, key = _running(root)
            before = time.perf_counter()
            await domain.destroy()
            ours["destroy"].append(time.perf_counter() - before)
            await domain.undefine()
            started, stopped = floor.measure(argv, root, key)
            bottom["start"].append(started)
            bottom["destroy"].append(stopped)
            for verb, seconds in libvirt.start("qemu", their_xml).items():
                theirs[verb].append(seconds)
    return (
        {"lowered": lowered, "hvcore": medians(ours), "floor": medians(bottom)},
        {"native": native, **medians(theirs)},
    )


def _running(root: Path) -> tuple[list[str], bytes]:
    """Return argv and master key of the guest that runs below ``root``."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                argv = floor.argv_of(int(entry.name))
            except OSError:
                continue
            if argv and "qemu-system" in argv[0] and any(str(root) in part for part in argv):
                keys = [part for part in argv if "master-key" in part]
                file = json.loads(keys[0])["file"] if keys else None
                return argv, Path(file).read_bytes() if file else b""
    raise RuntimeError("the guest that was just started is not there")


def _us(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e6:,.0f} us"


def _ratio(ours: float, theirs: float | None) -> str:
    return "-" if not theirs else f"{ours / theirs:.2f}x"


def report(stages: dict[str, Any], qemu: dict[str, Any] | None, other: dict[str, Any]) -> None:
    """Print everything as tables."""
    theirs = other["test"]
    print("document          parse   post-parse+validate     format        all    libvirt   ratio")
    for name, t in stages.items():
        cells = [_us(t[k]) for k in ("parse", "post-parse+validate", "format", "all")]
        print(
            f"{name:<12}{cells[0]:>11}{cells[1]:>22}{cells[2]:>11}{cells[3]:>11}"
            f"{_us(theirs.get(name)):>11}{_ratio(t['all'], theirs.get(name)):>8}"
        )
    if qemu is None:
        print("no QEMU here: command lines and starts are not measured")
        return
    native = other["native"]
    print("\nXML to argv                     hvcore     libvirt   ratio")
    for name, seconds in qemu["lowered"].items():
        times = f"{_us(seconds):>12}{_us(native.get(name)):>12}"
        print(f"{name:<26}{times}{_ratio(seconds, native.get(name)):>8}")
    print("\n                  hvcore        floor   ratio      libvirt   ratio")
    for name in ("start", "destroy"):
        ours, bottom = qemu["hvcore"][name], qemu["floor"][name]
        their = other.get(name)
        print(
            f"{name:<10}{_us(ours):>14}{_us(bottom):>13}{_ratio(ours, bottom):>8}"
            f"{_us(their):>13}{_ratio(ours, their):>8}"
        )
    probe = qemu["probe"]
    times = f"{_us(probe['cold']):>14}{_us(probe['floor']):>13}"
    print(f"{'probe':<10}{times}{_ratio(probe['cold'], probe['floor']):>8}")
    print(f"{'  cached':<10}{_us(probe['warm']):>14}")
    for name, error in other["errors"].items():
        print(f"libvirt's {name} driver could not be measured: {error}")


def single(options: argparse.Namespace) -> dict[str, Any]:
    """Measure and print what documents take, and starts of one domain after the other."""
    binary = shutil.which("qemu-system-x86_64")
    qemu: dict[str, Any] | None = None
    other: dict[str, Any] = {"native": {}}
    with tempfile.TemporaryDirectory(prefix="hvb") as scratch, Libvirt() as libvirt:
        stages, shown = in_process(options.rounds, options.batches, libvirt)
        if binary is not None:
            root = Path(scratch)
            qemu, other = asyncio.run(
                with_qemu(options.rounds, options.batches, options.starts, root, libvirt)
            )
            qemu["probe"] = probing.measure(binary, options.starts, root)
        other |= {"version": libvirt.version, "errors": libvirt.errors, "test": shown}
    report(stages, qemu, other)
    return {"stages": stages, "qemu": qemu, "libvirt": other}


def main() -> None:
    """Run all benchmarks, or those that were chosen."""
    parser = argparse.ArgumentParser(prog="python -m tests.perf", description=__doc__)
    parser.add_argument("--batches", type=int, default=10, help="turns that each side takes")
    parser.add_argument("--rounds", type=int, default=30, help="repetitions in each turn")
    parser.add_argument("--starts", type=int, default=15, help="guests to start and destroy")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--domains", type=int, default=fleet.COUNT, help="how many are a fleet")
    parser.add_argument("--only", choices=("single", "fleet"), help="what to measure")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    if options.only != "fleet":
        figures |= single(options)
    if options.only != "single":
        figures["fleet"] = fleet.compare(Libvirt, options.domains)
        fleet.report(figures["fleet"], options.domains)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2))


main()
