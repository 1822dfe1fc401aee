"""libvirt's side of the benchmarks, run by whichever Python has its binding.

Reads one JSON request on standard input and prints one JSON answer: medians in seconds.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import libvirt


def _median(rounds, work):
    samples = []
    for _ in range(rounds):
        before = time.perf_counter()
        work()
        samples.append(time.perf_counter() - before)
    return statistics.median(samples)


def _define_and_show(conn, xml):
    domain = conn.defineXML(xml)
    domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    return domain


def _test_driver(request):
    conn = libvirt.open("test:///default")
    out = {}
    for name, xml in request["test"].items():
        samples = []
        for _ in range(request["rounds"]):
            before = time.perf_counter()
            domain = _define_and_show(conn, xml)
            samples.append(time.perf_counter() - before)
            domain.undefine()
        out[name] = statistics.median(samples)
    return out


def _qemu(request):
    libvirt.virEventRegisterDefaultImpl()
    # An embedded driver has no virtlogd beside it unless a daemon runs.
    settings = Path(request["root"], "etc", "qemu.conf")
    settings.parent.mkdir(parents=True)
    settings.write_text('stdio_handler = "file"\nuser = "+0"\ngroup = "+0"\n')
    conn = libvirt.open(f"qemu:///embed?root={request['root']}")
    native = {}
    for name, xml in request["native"].items():
        conn.domainXMLToNative("qemu-argv", xml, 0)  # the first call also probes QEMU
        native[name] = _median(
            min(request["rounds"], 50), lambda xml=xml: conn.domainXMLToNative("qemu-argv", xml, 0)
        )
    starts, stops = [], []
    for _ in range(request["starts"]):
        before = time.perf_counter()
        domain = conn.defineXML(request["start"])
        domain.create()
        starts.append(time.perf_counter() - before)
        before = time.perf_counter()
        domain.destroy()
        stops.append(time.perf_counter() - before)
        domain.undefine()
    return native, statistics.median(starts), statistics.median(stops)


def main():
    request = json.load(sys.stdin)
    libvirt.registerErrorHandler(lambda *_: None, None)
    answer = {"version": libvirt.getVersion(), "test": _test_driver(request)}
    if request["native"]:
        try:
            answer["native"], answer["start"], answer["destroy"] = _qemu(request)
        except libvirt.libvirtError as error:
            answer["error"] = str(error)
    print(json.dumps(answer))


main()
