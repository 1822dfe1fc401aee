"""libvirt's side of the benchmarks, run by whichever Python has its binding.

Answers requests one by one, each a line of JSON on standard input, with a line of JSON on standard
output, so that the other side can alternate with it. ``{"do": NAME, ...}`` is answered by what
the function ``do_NAME`` returns for the other entries, or by ``{"error": TEXT}``. Times are in
seconds: of CPU, but for starts, which are mostly QEMU's. Ends with its input.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import libvirt

connections = {}


def _loop():
    while True:
        libvirt.virEventRunDefaultImpl()


def do_open(name, uri):
    """Open a connection under a name, with libvirt's event loop running beside it."""
    connections[name] = libvirt.open(uri)
    return {"version": libvirt.getVersion()}


def do_show(name, xml, rounds):
    """Define a document and ask for it back, ``rounds`` times."""
    conn, samples = connections[name], []
    for _ in range(rounds):
        before = time.process_time()
        domain = conn.defineXML(xml)
        domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        samples.append(time.process_time() - before)
        domain.undefine()
    return {"samples": samples}


def do_lower(name, xml, rounds):
    """Convert a document to a command line, ``rounds`` times."""
    conn, samples = connections[name], []
    for _ in range(rounds):
        before = time.process_time()
        conn.domainXMLToNative("qemu-argv", xml, 0)
        samples.append(time.process_time() - before)
    return {"samples": samples}


def do_start(name, xml):
    """Define, start, destroy and undefine a guest."""
    before = time.perf_counter()
    domain = connections[name].defineXML(xml)
    domain.create()
    started = time.perf_counter()
    domain.destroy()
    stopped = time.perf_counter()
    domain.undefine()
    return {"start": started - before, "destroy": stopped - started}


def do_fleet(name, xml, count):
    """Do each thing with ``count`` domains, one after the other; times are those of one.

    ``list`` is for all of them; ``memory`` is in bytes for one that runs.
    """
    conn, found, domains = connections[name], {}, []

    def timed(verb, work, over):
        before = time.process_time()
        work()
        found[verb] = (time.process_time() - before) / over

    def lookup():
        for domain in domains:
            conn.lookupByID(domain.ID())
            conn.lookupByName(domain.name())

    before = _resident()
    timed(
        "define", lambda: domains.extend(conn.defineXML(xml.format(n)) for n in range(count)), count
    )
    timed("start", lambda: [domain.create() for domain in domains], count)
    found["memory"] = (_resident() - before) / count
    timed("list", conn.listAllDomains, 1)
    timed("lookup", lookup, count)
    timed("stop", lambda: [domain.destroy() for domain in domains], count)
    timed("undefine", lambda: [domain.undefine() for domain in domains], count)
    return found


def _resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main():
    libvirt.registerErrorHandler(lambda *_: None, None)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_loop, daemon=True).start()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = globals()[f"do_{request.pop('do')}"](**request)
        except libvirt.libvirtError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


main()
