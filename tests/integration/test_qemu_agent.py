"""The agent's channel of a real QEMU, whose guest has no system and so no agent."""

from __future__ import annotations

import pytest

from hvcore import connect
from hvcore.errors import HvError
from hvcore.lifecycle import State

pytestmark = pytest.mark.qemu
XML = """<domain type='qemu'><name>vm</name><memory unit='MiB'>32</memory>
<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>
<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
</devices></domain>"""


async def test_a_guest_that_has_not_opened_the_channel(uri):
    async with await connect(uri) as host:
        vm = await host.create(XML)
        with pytest.raises(HvError) as caught:
            await vm.hostname()
        assert str(caught.value) == (
            "Guest agent is not responding: QEMU guest agent is not connected"
        )
        with pytest.raises(HvError, match="is not connected"):
            await vm.shutdown(mode="agent")
        await vm.shutdown()
        assert (await vm.state())[0] is State.RUNNING  # nobody obeys the button either
        # QEMU listens for us all the same.
        channel = vm._now().live.domain.devices.channels[0]
        driver = host._engine.driver
        with pytest.raises(HvError, match=r"didn't respond to synchronization|disappeared"):
            await driver.agent_command(vm._now(), channel, {"execute": "guest-ping"})
        await vm.destroy()


async def test_a_channel_that_the_guest_opens(uri):
    async with await connect(uri) as host:
        vm = await host.create(XML)
        stream = host.events()
        driver, record = host._engine.driver, vm._now()
        for opened in (True, False):
            data = {"id": "channel0", "open": opened}
            driver._on_event(record, record.runtime, {"event": "VSERPORT_CHANGE", "data": data})
            told = await stream.get()
            assert str(told.state) == ("connected" if opened else "disconnected")
            assert f"state='{told.state}'" in await vm.xml()
        await vm.destroy()
