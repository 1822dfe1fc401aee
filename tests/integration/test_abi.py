"""Documents of a real guest keep its ABI, whichever of them somebody took to change."""

from __future__ import annotations

import pytest

from hvcore import connect
from hvcore.errors import AbiChanged

pytestmark = pytest.mark.qemu
XML = """<domain type='qemu'><name>vm</name><memory>131072</memory><vcpu>2</vcpu>
<os><type arch='x86_64' machine='{machine}'>hvm</type></os>
<cpu mode='{cpu}'/>
<devices>
<interface type='user'>
<model type='virtio'/>
</interface>
<serial type='pty'/>
<channel type='unix'><target type='virtio' name='org.example.a'/></channel>
<input type='tablet' bus='usb'/>
</devices></domain>"""


@pytest.fixture
async def host(qemu, tmp_path):
    async with await connect(f"qemu:///embed?root={tmp_path}") as found:
        yield found


@pytest.mark.parametrize("machine", ["pc", "q35"])
async def test_a_running_guest_keeps_the_abi_of_all_its_documents(host, machine):
    domain = await host.define(XML.format(machine=machine, cpu="maximum"))
    await domain.start(paused=True)
    try:
        for inactive in (False, True):
            for migratable in (False, True):
                given = await domain.xml(inactive=inactive, migratable=migratable)
                await domain.check_abi(given)
        changed = (await domain.xml()).replace("'virtio'/>", "'e1000'/>", 1)
        with pytest.raises(AbiChanged) as caught:
            await domain.check_abi(changed)
    finally:
        await domain.destroy()
    (issue,) = caught.value.issues
    assert issue.message == "Target network card model e1000 does not match source virtio"
    assert issue.line is not None
    assert "'e1000'" in changed.splitlines()[issue.line - 1]


async def test_a_cpu_like_the_hosts_is_compared_as_it_was_asked_for(host):
    domain = await host.define(XML.format(machine="q35", cpu="host-model"))
    await domain.start(paused=True)
    try:
        assert "<cpu mode='custom'" in await domain.xml()
        assert "<cpu mode='host-model'" in await domain.xml(migratable=True)
        await domain.check_abi(await domain.xml(migratable=True))
        await domain.check_abi(await domain.xml(inactive=True))
        # libvirt refuses it in the same words.
        with pytest.raises(AbiChanged, match="CPU mode custom does not match source host-model"):
            await domain.check_abi(await domain.xml())
    finally:
        await domain.destroy()
