#!/usr/bin/env python3
"""Make ``hvcore/cpu/data/*.json`` from libvirt's CPU map (``src/cpu_map`` of its source).

Usage: convert_cpu_map.py FOLDER. Run it when the map of a newer libvirt is taken over; the files it
writes are committed. Order is kept: newer models stand later, and decoding prefers them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from typing import Final

from lxml import etree

DATA: Final = Path(__file__).parents[1] / "hvcore" / "cpu" / "data"
REGISTERS: Final = ("eax", "ebx", "ecx", "edx")


def number(node: Any, name: str) -> int:
    """Return an attribute as a number, 0 where it is absent."""
    return int(node.get(name, "0"), 0)


def entries(folder: Path, arch: str) -> Iterator[Any]:
    """Yield the vendors, features and models of an architecture in the order of the index."""
    index = etree.parse(folder / "index.xml")
    for include in index.xpath(f"/cpus/arch[@name='{arch}']//include"):
        yield from etree.parse(folder / include.get("filename")).getroot().iterchildren("*")


def feature(node: Any) -> list[Any]:
    """Return ``[name, migratable, [[leaf, subleaf, eax, ebx, ecx, edx] or [msr, eax, edx]]]``."""
    bits = []
    for item in node.iterchildren("*"):
        if item.tag == "cpuid":
            leaf = [number(item, "eax_in"), number(item, "ecx_in")]
            bits.append([*leaf, *(number(item, register) for register in REGISTERS)])
        elif item.tag == "msr":
            bits.append([number(item, "index"), number(item, "eax"), number(item, "edx")])
    return [node.get("name"), node.get("migratable") != "no", bits]


def model(node: Any) -> dict[str, Any]:
    """Return an x86 model; what is absent is left out."""
    features = [(f.get("name"), f.get("removed"), f.get("added")) for f in node.findall("feature")]
    decode, ancestor, vendor = node.find("decode"), node.find("model"), node.find("vendor")
    made = {
        "name": node.get("name"),
        "host": decode.get("host") == "on",
        "guest": decode.get("guest") == "on",
        "compat": node.find("check") is not None,
        "ancestor": None if ancestor is None else ancestor.get("name"),
        "vendor": None if vendor is None else vendor.get("name"),
        "signatures": [
            [number(s, "family"), number(s, "model"), s.get("stepping")]
            for s in node.findall("signature")
        ],
        "features": [name for name, removed, added in features if not (removed or added)],
        "removed": [name for name, removed, _ in features if removed == "yes"],
        "added": [name for name, _, added in features if added == "yes"],
    }
    return {key: value for key, value in made.items() if value}


def write(name: str, rows: dict[str, Any]) -> None:
    """Write one file, an entry a line, so that changes can be read."""
    lines = []
    for key, value in rows.items():
        body = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in value)
        lines.append(f'"{key}":[\n{body}\n]')
    (DATA / name).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main(folder: Path) -> None:
    """Write all files."""
    x86 = list(entries(folder, "x86"))
    write(
        "x86.json",
        {
            "vendors": [[n.get("name"), n.get("string")] for n in x86 if n.tag == "vendor"],
            "features": [feature(n) for n in x86 if n.tag == "feature"],
            "models": [model(n) for n in x86 if n.tag == "model"],
        },
    )
    ppc64 = [n for n in entries(folder, "ppc64") if n.tag == "model"]
    write(
        "ppc64.json",
        {
            "models": [
                [
                    n.get("name"),
                    n.find("vendor").get("name"),
                    [[number(p, "value"), number(p, "mask")] for p in n.findall("pvr")],
                ]
                for n in ppc64
            ]
        },
    )
    arm = [n for n in entries(folder, "arm") if n.tag == "feature"]
    write("arm.json", {"features": [n.get("name") for n in arm]})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
