"""Starts a guest where the control groups are files of a private mount namespace.

Run as ``unshare -m python cgroup_guest.py VERSION DIRECTORY``; prints what was written where, in
order, with threads by name. Such files take everything, so what is shown is what hvcore does, not
what a kernel would say to it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from hvcore import cgroup
from hvcore import connect

MOUNT = Path("/sys/fs/cgroup")
XML = """<domain type='qemu'><name>placed</name><memory>131072</memory>
<vcpu cpuset='0' current='2'>3</vcpu><iothreads>1</iothreads>
<cputune><shares>512</shares><period>100000</period><quota>50000</quota>
<vcpupin vcpu='1' cpuset='1'/><emulatorpin cpuset='0-1'/></cputune>
<numatune><memory mode='restrictive' nodeset='0'/></numatune>
<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"""

TREES = {
    1: (("cgroup", "cpu", "rw,cpu"), ("cgroup", "cpuset", "rw,cpuset")),
    2: (("cgroup2", "", "rw"),),
}
FILES = {
    1: (
        "cgroup.procs", "tasks", "cpuset.cpus", "cpuset.mems", "cpuset.memory_migrate",
        "cpu.shares", "cpu.cfs_period_us", "cpu.cfs_quota_us",
    ),
    2: (
        "cgroup.procs", "cgroup.threads", "cgroup.type", "cgroup.subtree_control", "cpuset.cpus",
        "cpuset.mems", "cpu.weight", "cpu.max",
    ),
}  # fmt: skip
BEGINNING = {"cpuset.cpus": "0-1", "cpuset.mems": "0", "cpuset.memory_migrate": "0"}

journal: list[str] = []


def populate(directory: Path, version: int) -> None:
    """Give a group its files, as the kernel does."""
    for name in FILES[version]:
        (directory / name).write_text(BEGINNING.get(name, ""))


def isolate(version: int, directory: Path) -> None:
    """Hide the control groups of the host behind those of this process."""
    subprocess.run(["mount", "-t", "tmpfs", "none", MOUNT], check=True)
    lines = []
    for kind, name, options in TREES[version]:
        mount = MOUNT / name
        mount.mkdir(exist_ok=True)
        populate(mount, version)
        lines.append(f"{kind} {mount} {kind} {options} 0 0\n")
    if version == 2:
        (MOUNT / "cgroup.controllers").write_text("cpuset cpu io memory\n")
    mounts = directory / "mounts"
    mounts.write_text("".join(lines))
    subprocess.run(["mount", "--bind", mounts, f"/proc/{os.getpid()}/mounts"], check=True)


def record(version: int) -> None:
    """Note what is done, and play the kernel's part of it."""
    make, write = cgroup._make, cgroup._write

    def noted_make(path: Path) -> bool:
        made = make(path)
        if made:
            populate(path, version)
            journal.append(f"mkdir {shown(path)}")
        return made

    def noted_write(path: Path, value: str) -> None:
        write(path, value)
        journal.append(f"{shown(path)} = {thread(path, value)}")

    cgroup._make, cgroup._write = noted_make, noted_write
    # The kernel lets a group go with the files in it.
    cgroup._remove = shutil.rmtree


def shown(path: Path) -> str:
    """Return a path without what changes from run to run."""
    parts = [
        "DOMAIN" if part.startswith("qemu-") else part for part in path.relative_to(MOUNT).parts
    ]
    return "/".join(parts)


def thread(path: Path, value: str) -> str:
    """Return the name of a thread in the place of its number."""
    if path.name not in ("tasks", "cgroup.threads", "cgroup.procs"):
        return value
    return Path(f"/proc/{value}/comm").read_text().strip()


async def main(directory: Path) -> dict[str, list[str]]:
    """Take a guest through its life and return what each step wrote."""
    found = {}

    def done(step: str) -> None:
        found[step] = list(journal)
        journal.clear()

    async with await connect(f"qemu:///embed?root={directory}/root") as host:
        domain = await host.create(XML)
        done("start")
        await domain.set_vcpus(3)
        done("plug")
        await domain.pin_vcpu(2, "1")
        await domain.pin_emulator("1")
        await domain.pin_iothread(1, "0-1")
        done("pin")
        await domain.set_numa_parameters(nodeset="0")
        done("memory")
        await domain.destroy()
    return found


if __name__ == "__main__":
    kind, where = int(sys.argv[1]), Path(sys.argv[2])
    isolate(kind, where)
    record(kind)
    print(json.dumps(asyncio.run(main(where))))
