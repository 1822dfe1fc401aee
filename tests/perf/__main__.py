"""Measure, and print medians with their ratios: ``python -m tests.perf [--json FILE]``."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hvcore.host import connect
from hvcore.pipeline import Context
from hvcore.pipeline import Pipeline
from hvcore.registry import Registry
from hvcore.xml.context import FormatContext
from tests.perf import documents
from tests.perf import floor

DOCUMENTS = {
    "minimal": documents.minimal,
    "typical": documents.typical,
    "big": documents.big,
}


def median(rounds: int, work: Callable[[], Any]) -> float:
    """Return the median time of ``work`` in seconds, after a tenth of the rounds as warm-up."""
    for _ in range(max(3, rounds // 10)):
        work()
    samples = []
    for _ in range(rounds):
        before = time.perf_counter()
        work()
        samples.append(time.perf_counter() - before)
    return statistics.median(samples)


def in_process(rounds: int) -> dict[str, dict[str, float]]:
    """Return the times of each stage for each document, without a hypervisor's rules."""
    registry = Registry.default()
    pipeline = Pipeline(registry)
    out: dict[str, dict[str, float]] = {}
    for name, make in DOCUMENTS.items():
        xml = make(type_="test")
        domain = pipeline.parse(xml)

        def complete(domain: Any = domain) -> None:
            copy = registry.binding.clone(domain)
            ctx = Context(registry=registry)
            pipeline.post_parse(copy, ctx)
            pipeline.validate(copy, ctx)

        def whole(xml: str = xml) -> None:
            pipeline.define(xml, Context(registry=registry)).xml()

        copying = median(rounds, lambda d=domain: registry.binding.clone(d))
        out[name] = {
            "parse": median(rounds, lambda x=xml: pipeline.parse(x)),
            "post-parse+validate": median(rounds, complete) - copying,
            "format": median(rounds, lambda d=domain: registry.binding.format(d, FormatContext())),
            "all": median(rounds, whole),
        }
    return out


async def _lowered(host: Any, rounds: int) -> dict[str, float]:
    out = {}
    for name, xml in _native_documents().items():
        samples = []
        await host.lower(xml)
        for _ in range(min(rounds, 100)):
            before = time.perf_counter()
            await host.lower(xml)
            samples.append(time.perf_counter() - before)
        out[name] = statistics.median(samples)
    return out


def _native_documents() -> dict[str, str]:
    """Return what libvirt can lower without creating taps, which would be no fair comparison."""
    return {"minimal": documents.minimal(), "typical without NICs": documents.typical(nics=0)}


def _accelerator() -> str:
    try:
        with Path("/dev/kvm").open("rb+", buffering=0):
            return "kvm"
    except OSError:
        return "qemu"


async def with_qemu(rounds: int, starts: int, root: Path) -> dict[str, Any]:
    """Return lowering times, and start and destroy beside QEMU's own floor."""
    xml = documents.minimal(type_=_accelerator())
    samples: dict[str, list[float]] = {"start": [], "destroy": []}
    floors: dict[str, list[float]] = {"start": [], "destroy": []}
    async with await connect(f"qemu:///embed?root={root / 'hv'}") as host:
        lowered = await _lowered(host, rounds)
        for _ in range(starts):
            before = time.perf_counter()
            domain = await host.define(xml)
            await domain.start()
            samples["start"].append(time.perf_counter() - before)
            argv, key = _running(root)
            before = time.perf_counter()
            await domain.destroy()
            samples["destroy"].append(time.perf_counter() - before)
            await domain.undefine()
            # Alternating, so that both see the same moods of the machine.
            started, stopped = floor.measure(argv, root, key)
            floors["start"].append(started)
            floors["destroy"].append(stopped)
    return {
        "lowered": lowered,
        "hvcore": {name: statistics.median(found) for name, found in samples.items()},
        "floor": {name: statistics.median(found) for name, found in floors.items()},
    }


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


def libvirt(rounds: int, starts: int, root: Path, *, qemu: bool) -> dict[str, Any] | None:
    """Return libvirt's times, or None where no Python here has its binding."""
    request = {
        "rounds": rounds,
        "starts": starts,
        "root": str(root / "libvirt"),
        "test": {name: make(type_="test") for name, make in DOCUMENTS.items()},
        "native": _native_documents() if qemu else {},
        "start": documents.minimal(type_=_accelerator(), name="bench-libvirt"),
    }
    for python in (sys.executable, "/usr/bin/python3"):
        probe = subprocess.run([python, "-c", "import libvirt"], capture_output=True, check=False)
        if probe.returncode == 0:
            worker = Path(__file__).with_name("libvirt_worker.py")
            done = subprocess.run(
                [python, str(worker)],
                input=json.dumps(request),
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == 0:
                answer: dict[str, Any] = json.loads(done.stdout)
                return answer
            print(f"libvirt could not be measured: {done.stderr.strip()[-300:]}", file=sys.stderr)
            return None
    return None


def _us(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e6:,.0f} us"


def _ratio(ours: float, theirs: float | None) -> str:
    return "-" if not theirs else f"{ours / theirs:.2f}x"


def report(
    stages: dict[str, Any], qemu: dict[str, Any] | None, other: dict[str, Any] | None
) -> None:
    """Print everything as tables."""
    theirs = (other or {}).get("test", {})
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
    native = (other or {}).get("native", {})
    print("\nXML to argv                     hvcore     libvirt   ratio")
    for name, seconds in qemu["lowered"].items():
        cells = f"{_us(seconds):>12}{_us(native.get(name)):>12}"
        print(f"{name:<26}{cells}{_ratio(seconds, native.get(name)):>8}")
    print("\n                  hvcore        floor   ratio      libvirt   ratio")
    for name in ("start", "destroy"):
        ours, bottom = qemu["hvcore"][name], qemu["floor"][name]
        their = (other or {}).get(name)
        print(
            f"{name:<10}{_us(ours):>14}{_us(bottom):>13}{_ratio(ours, bottom):>8}"
            f"{_us(their):>13}{_ratio(ours, their):>8}"
        )
    if other and "error" in other:
        print(f"libvirt's QEMU driver could not be measured: {other['error']}")


def main() -> None:
    """Run all benchmarks."""
    parser = argparse.ArgumentParser(prog="python -m tests.perf", description=__doc__)
    parser.add_argument("--rounds", type=int, default=300, help="repetitions of in-process work")
    parser.add_argument("--starts", type=int, default=15, help="guests to start and destroy")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    options = parser.parse_args()
    has_qemu = shutil.which("qemu-system-x86_64") is not None
    with tempfile.TemporaryDirectory(prefix="hvb") as scratch:
        root = Path(scratch)
        stages = in_process(options.rounds)
        qemu = asyncio.run(with_qemu(options.rounds, options.starts, root)) if has_qemu else None
        other = libvirt(options.rounds, options.starts, root, qemu=has_qemu)
    report(stages, qemu, other)
    if options.json is not None:
        figures = {"stages": stages, "qemu": qemu, "libvirt": other}
        options.json.write_text(json.dumps(figures, indent=2))


main()
