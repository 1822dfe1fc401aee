"""What integration tests share: libvirt, where it is installed, as the measure."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess

import pytest

from hvcore.state import process_start
from hvcore_qemu.capsxml import read

MEASURE = "11.3."  # the release whose behaviour is the measure


@pytest.fixture
def uri(qemu, tmp_path):
    """Return a connection with a state directory of its own; what runs there ends with the test."""
    found = f"qemu:///embed?root={tmp_path}/root"
    yield found
    for status in tmp_path.glob("root/run/*/status.json"):
        pid = json.loads(status.read_text())["pid"]
        if pid is not None and process_start(pid) is not None:
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def libvirt(tmp_path_factory):
    """Return a virsh with a state directory of its own, and that directory."""
    found = shutil.which("virsh")
    if found is None:
        pytest.skip("libvirt is not installed")
    root = tmp_path_factory.mktemp("libvirt")

    def virsh(*commands):
        argv = [found, "-c", f"qemu:///embed?root={root}", "; ".join(commands)]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=200)

    if f"Using library: libvirt {MEASURE}" not in virsh("version").stdout:
        pytest.skip(f"libvirt is not {MEASURE}x")
    return virsh, root


@pytest.fixture
def probed():
    """Return a function that reads what libvirt found out about QEMU, from its directory."""

    def read_probed(root):
        found = [read(path.read_bytes()) for path in (root / "cache/qemu/capabilities").glob("*")]
        return max((e for e in found if e.arch == "x86_64"), key=lambda each: len(each.names))

    return read_probed
