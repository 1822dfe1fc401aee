"""Whoever only looks at domains pays neither for QMP nor for the rules of documents."""

from __future__ import annotations

import subprocess
import sys
import textwrap

LOOK = """
    import sys
    import hvcore
    assert not [name for name in sys.modules if name.startswith(("asyncio", "qemu", "lxml"))]
    import asyncio

    async def look():
        async with await hvcore.connect("qemu:///embed?root=" + sys.argv[1]) as host:
            return [domain.name for domain in await host.domains()]

    print(asyncio.run(look()))
    print([name for name in ("qemu.qmp", "hvcore_qemu.rules", "hvcore_test", "click", "rich")
           if name in sys.modules])
"""


def test_looking_at_defined_domains(tmp_path):
    root = tmp_path / "root"
    uuid = "00000000-1111-2222-3333-444444444444"
    stored = root / "config" / "domains" / uuid
    stored.mkdir(parents=True)
    (stored / "domain.xml").write_text(
        f"<domain type='qemu'><name>vm</name><uuid>{uuid}</uuid><memory>1024</memory>"
        "<os><type>hvm</type></os></domain>"
    )
    command = [sys.executable, "-c", textwrap.dedent(LOOK), str(root)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout == "['vm']\n[]\n"
