"""A host whose cloud-hypervisor guests are played by the fake."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import hvcore
from hvcore.state import process_start
from hvcore.testing import fake_ch

DOCUMENT = """\
<domain type='kvm'>
  <name>guest</name>
  <uuid>11111111-2222-3333-4444-555555555555</uuid>
  <memory unit='MiB'>128</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64'>hvm</type><kernel>{folder}/kernel</kernel></os>
  {more}
  <devices>
    <emulator>{folder}/cloud-hypervisor</emulator>
    <disk type='file'>
      <source file='{folder}/disk.raw'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <console type='pty'><target type='virtio'/></console>
    {devices}
  </devices>
</domain>
"""


class Lab:
    """A host whose guests are played by the fake."""

    def __init__(self, folder):
        self.folder = folder
        fake_ch.install(folder)
        for name in ("kernel", "disk.raw"):
            (folder / name).write_bytes(bytes(4096))

    def document(self, more="", devices=""):
        return DOCUMENT.format(folder=self.folder, more=more, devices=devices)

    def host(self, root="root"):
        return hvcore.connect(f"ch:///embed?root={self.folder}/{root}")

    def faults(self, **settings):
        fake_ch.set_faults(self.folder, settings)

    def guest_does(self, domain, what):
        """Let the guest power off, reset or panic."""
        self.faults(guest=what)
        os.kill(self.pid(domain), signal.SIGUSR1)

    @staticmethod
    def pid(domain):
        return domain._record.process[0]


class Taps:
    """Pipes that stand for taps, which need privileges."""

    def __init__(self, monkeypatch):
        self.opened = []
        monkeypatch.setattr("hvcore_ch.resources.Taps.open", self._open)

    @property
    def _open(self):
        lab = self

        def open_(self, wanted):
            for request in wanted:
                ends = os.pipe()
                lab.opened += [(end, os.fstat(end).st_ino) for end in ends]
                self._opened.extend(ends)
                self.fds[request.alias] = ends[: request.queues]
                self.names[request.alias] = "vnet7"

        return open_

    def left(self):
        """Return those that this process still has open."""
        found = []
        for descriptor, number in self.opened:
            with contextlib.suppress(OSError):
                if os.fstat(descriptor).st_ino == number:
                    found.append(descriptor)
        return found


def leftovers(domain):
    """Return the folders of running domains that are left."""
    directory = domain._engine.directory
    folders = (directory.run / domain.uuid, directory.sockets / domain.uuid)
    return [path for path in folders if path.exists()]


async def eventually(check, seconds=10.0):
    async with asyncio.timeout(seconds):
        while not await check():  # noqa: ASYNC110 - other processes have no events of ours
            await asyncio.sleep(0.01)


async def until(domain, reason):
    async def reached():
        return (await domain.state())[1] is reason

    await eventually(reached)


async def gone(pid):
    async def ended():
        return process_start(pid) is None

    await eventually(ended)


def processes(lab):
    """Return the processes that were started from the lab's folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(lab.folder).encode() in (process / "cmdline").read_bytes():
                found.append(process.name)
    return found
