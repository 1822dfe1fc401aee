"""The demo runs to its end, whatever is installed."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


def run(*arguments):
    done = subprocess.run(
        [sys.executable, str(DEMO), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def in_order(text, *parts):
    at = 0
    for part in parts:
        at = text.find(part, at)
        assert at >= 0, f"{part!r} is missing or out of order in:\n{text}"


def test_on_the_test_driver():
    text = run("--driver", "test")
    in_order(
        text,
        "connected to test:///default",
        "<name>demo</name>",
        "+   <uuid>",
        "nothing: the test driver's machines exist in memory only",
        "started: running (booted)",
        "event",
        "Suspended (Paused)",
        "resumed: running (unpaused)",
        "Stopped (Destroyed)",
        "destroyed: shut off (destroyed)",
    )
    assert "\x1b" not in text


@pytest.mark.qemu
def test_on_qemu(qemu):
    text = run("--driver", "qemu")
    in_order(
        text,
        "connected to qemu:///embed?root=",
        "+ ",
        "<controller type='pci' index='0' model='pcie-root'/>",
        "started: running (booted)",
        "destroyed: shut off (destroyed)",
    )
    shown = text.partition("3. What would be started")[2].partition("4. Its life")[0]
    command = shlex.split("\n".join(shown.splitlines()[1:]))
    assert "-name" in command
    assert any(word.startswith("guest=demo") for word in command)
