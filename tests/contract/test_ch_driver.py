"""The cloud-hypervisor driver keeps the contract of drivers, over a fake that runs nothing."""

from __future__ import annotations

import os

import pytest

from hvcore.testing import fake_ch
from hvcore.testing.suite import *  # noqa: F403 - as driver authors are told to write it


@pytest.fixture
def driver_uri(tmp_path, monkeypatch):
    fake_ch.install(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for name in ("kernel", "image"):
        (tmp_path / name).write_bytes(bytes(4096))
    # A process may only be given files later that it was told of at its start.
    settings = tmp_path / "root" / "config" / "ch.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text(f"landlock_paths = ['{tmp_path}']\n")
    return f"ch:///embed?root={tmp_path}/root"


@pytest.fixture
def target_uri(tmp_path):
    return f"ch:///embed?root={tmp_path}/target"


@pytest.fixture
def guest_xml(tmp_path):
    return f"""<domain type='kvm'>
      <name>vm</name>
      <memory unit='MiB'>64</memory>
      <vcpu>1</vcpu>
      <os><type arch='x86_64'>hvm</type><kernel>{tmp_path}/kernel</kernel></os>
      <devices><emulator>{tmp_path}/cloud-hypervisor</emulator></devices>
    </domain>"""


@pytest.fixture
def broken_xml(guest_xml):
    return guest_xml.replace("/kernel</kernel>", "/nowhere</kernel>")


@pytest.fixture
def device_xml(tmp_path):
    return (
        f"<disk type='file'><source file='{tmp_path}/image'/>"
        "<target dev='vdb' bus='virtio'/></disk>"
    )
