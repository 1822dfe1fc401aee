"""Records what a QEMU can do: ``python tools/record_capabilities.py [BINARY]``.

Writes ``drivers/qemu/hvcore_qemu/recordings/qemu-VERSION-ARCH.xml.xz``, for hosts of the test
driver with the parameter ``caps``. What plugins ask of a QEMU is in it as well.
"""

from __future__ import annotations

import asyncio
import functools
import lzma
import sys
import tempfile
from pathlib import Path

from hvcore.registry import Registry
from hvcore_qemu import probe

FOLDER = Path(__file__).parents[1] / "drivers" / "qemu" / "hvcore_qemu" / "recordings"


async def main(binary: str) -> None:
    """Ask ``binary`` and write down what it says."""
    registry = Registry.default()
    registry.driver("qemu")
    with tempfile.TemporaryDirectory() as scratch:
        cache = probe.cache_at(scratch, participants=registry.probers())
        extend = functools.partial(registry.probed, "qemu", binary)
        caps = await probe.probe_binary(binary, cache=cache, extend=extend)
    major, rest = divmod(caps.version, 1_000_000)
    version = f"{major}.{rest // 1000}.{rest % 1000}"
    target = FOLDER / f"qemu-{version}-{caps.arch}.xml.xz"
    target.write_bytes(lzma.compress(caps.to_xml().encode(), preset=9 | lzma.PRESET_EXTREME))
    sys.stdout.write(f"wrote {target.name}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "/usr/bin/qemu-system-x86_64"))
