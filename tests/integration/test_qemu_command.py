"""A document that somebody wrote for libvirt becomes a running QEMU."""

from __future__ import annotations

import json

import pytest

from hvcore import connect
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import State

pytestmark = pytest.mark.qemu

XML = """
<domain type='qemu'>
  <name>vm, with 'words'</name>
  <memory unit='MiB'>64</memory>
  <vcpu>2</vcpu>
  <os><type arch='x86_64' machine='{machine}'>hvm</type></os>
  <devices><serial type='pty'/></devices>
</domain>
"""


@pytest.mark.parametrize("machine", ["pc", "q35"])
async def test_it_runs_and_says_what_it_runs(qemu, tmp_path, machine):
    async with await connect(f"qemu:///embed?root={tmp_path}/root") as host:
        domain = await host.define(XML.format(machine=machine))
        await domain.start()
        assert await domain.state() == (State.RUNNING, RunningReason.BOOTED)
        live = await domain.xml()
        assert f" id='{domain.id}'" in live
        assert "<alias name=" in live
        assert "<alias name=" not in await domain.xml(inactive=True)
        terminal = await domain.console()
        assert terminal.startswith("/dev/pts/")
        assert f"<source path='{terminal}'/>" in live
        info = await domain.info()
        assert (info.max_memory, info.vcpus) == (65536, 2)
        [status] = (tmp_path / "root/run").glob("*/status.json")
        key = host._engine.directory.runtime(domain.uuid) / "master-key.aes"
        assert (key.stat().st_mode & 0o777, key.stat().st_size) == (0o600, 32)
        log = (tmp_path / "root/log" / f"{domain.uuid}.log").read_text()
        assert "-chardev socket,id=charmonitor,fd=" in log
    # Another manager reads back the definition that QEMU was started with.
    async with await connect(f"qemu:///embed?root={tmp_path}/root") as host:
        domain = await host.lookup(domain.uuid)
        assert await domain.xml() == live
        assert json.loads(status.read_text())["name"] == "vm, with 'words'"
        await domain.destroy()
    assert not key.exists()


async def test_showing_a_command_line_starts_and_writes_nothing(qemu, tmp_path):
    async with await connect(f"qemu:///embed?root={tmp_path}/root") as host:
        line = await host.lower(XML.format(machine="q35"))
    assert "-chardev socket,id=charmonitor,fd=3,server=on,wait=off" in line
    assert line.count("\n") == 1
    assert list((tmp_path / "root/run").iterdir()) == []
