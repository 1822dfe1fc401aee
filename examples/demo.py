"""A domain XML becoming a guest, step by step: ``./dev demo``.

Uses real QEMU where it is installed and the in-memory test driver elsewhere, with state in a
temporary directory. Output is plain when it does not go to a terminal.
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.rule import Rule
from rich.syntax import Syntax
from rich.text import Text

from hvcore import connect
from hvcore.errors import HvError
from hvcore.errors import UnsupportedOperation
from hvcore.events import LifecycleEvent
from hvcore.events import StreamClosed

if TYPE_CHECKING:
    from hvcore import Host
    from hvcore.events import EventStream

DOCUMENT = """\
<domain type='{type}'>
  <name>demo</name>
  <memory unit='MiB'>128</memory>
  <vcpu>2</vcpu>
  <os>
    <type arch='x86_64' machine='{machine}'>hvm</type>
  </os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='{disk}'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <serial type='pty'/>
    <rng model='virtio'>
      <backend model='random'>/dev/urandom</backend>
    </rng>
  </devices>
</domain>
"""
DISK_SIZE = 1 << 20


class Show:
    """Prints headed steps; colours only where there is a terminal."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._step = 0

    def head(self, title: str) -> None:
        """Begin the next step."""
        self._step += 1
        self._console.print()
        self._console.print(Rule(f"{self._step}. {title}", align="left", characters="-"))

    def say(self, text: str, style: str = "") -> None:
        """Print a line, however long."""
        self._console.print(Text(text, style=style), soft_wrap=True)

    def code(self, text: str, language: str) -> None:
        """Print a document or a command line."""
        if self._console.is_terminal:
            self._console.print(
                Syntax(text, language, theme="ansi_dark", background_color="default"),
                soft_wrap=True,
            )
        else:
            self.say(text.rstrip("\n"))

    def added(self, before: str, after: str) -> None:
        """Print what is in ``after`` beside what was in ``before``."""
        for line in difflib.ndiff(before.splitlines(), after.splitlines()):
            if line[0] != "?":
                self.say(line, {"+": "green", "-": "red"}.get(line[0], "dim"))


def folded(line: str) -> str:
    """Return a command line with a line for each option; a shell still understands it."""
    words = [shlex.quote(word) for word in shlex.split(line)]
    return " ".join(f"\\\n  {word}" if word.startswith("-") else word for word in words)


async def watch(stream: EventStream, show: Show) -> None:
    """Print events until the stream ends."""
    async for item in stream:
        if isinstance(item, StreamClosed):
            return
        if isinstance(item, LifecycleEvent):
            why = getattr(item, "reason", None)
            show.say(f"  event {item.seq}: {type(item).__name__} ({why})", "cyan")


async def live(host: Host, xml: str, show: Show) -> None:
    """Define, start, pause, resume, stop and undefine the domain, and watch it."""
    stream = host.events()
    watching = asyncio.create_task(watch(stream, show))

    async def did(what: str) -> None:
        state, reason = await domain.state()
        await asyncio.sleep(0)  # lets the watcher print before the next step
        show.say(f"{what}: {state} ({reason})", "bold")

    domain = await host.define(xml)
    await did("defined")
    await domain.start()
    await did("started")
    await domain.suspend()
    await did("suspended")
    await domain.resume()
    await did("resumed")
    await domain.destroy()
    await did("destroyed")
    await domain.undefine()
    stream.close()
    await watching


async def demo(uri: str, xml: str, show: Show) -> None:
    """Show everything for one document."""
    async with await connect(uri) as host:
        show.say(f"connected to {uri}")
        show.head("A domain XML, as somebody wrote it for libvirt")
        show.code(xml, "xml")

        domain = await host.define(xml)
        show.head("The same after hvcore filled in what it leaves open (+)")
        show.added(xml, await domain.xml(inactive=True))
        await domain.undefine()

        show.head("What would be started")
        try:
            show.code(folded(await host.lower(xml)), "bash")
        except UnsupportedOperation:
            show.say("nothing: the test driver's machines exist in memory only")

        show.head("Its life")
        await live(host, xml, show)


def main() -> int:
    """Run the demo; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--driver", choices=("auto", "qemu", "test"), default="auto")
    chosen = parser.parse_args().driver
    if chosen == "auto":
        chosen = "qemu" if shutil.which("qemu-system-x86_64") else "test"
    with tempfile.TemporaryDirectory(prefix="hvcore-demo-") as root:
        disk = Path(root) / "disk.raw"
        disk.touch()
        os.truncate(disk, DISK_SIZE)
        # Without acceleration the demo needs no rights and runs inside other guests, too.
        kind, machine = ("qemu", "q35") if chosen == "qemu" else ("test", "pc")
        uri = f"qemu:///embed?root={root}" if chosen == "qemu" else "test:///default"
        try:
            asyncio.run(demo(uri, DOCUMENT.format(type=kind, machine=machine, disk=disk), Show()))
        except HvError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
