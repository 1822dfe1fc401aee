"""Generic initiators as a guest sees them: what firmware hands over, and what Linux makes of it."""

from __future__ import annotations

import asyncio
import base64
import re
import struct
from typing import TYPE_CHECKING
from typing import NamedTuple

import pytest
from lxml import etree

from hvcore import connect
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import State
from tests.guest.build import MARKER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from collections.abc import Iterator
    from pathlib import Path

    from hvcore.domain import Domain
    from hvcore.host import Host
    from tests.guest.build import Guest

pytestmark = [pytest.mark.qemu, pytest.mark.guest]
BOOT = 150
"""Seconds a boot may take; sixteen emulated CPUs on two real ones need about ten."""

HEADER = 48
"""Bytes of a System Resource Affinity Table before its entries."""
GENERIC_INITIATOR = 5
"""The type of an entry (ACPI 6.3, section 5.2.16.6)."""
PCI_HANDLE = 1
ENABLED = 1


class Initiator(NamedTuple):
    """An entry for a generic initiator."""

    node: int
    handle: int
    address: str
    """DOMAIN:BUS:SLOT.FUNCTION, as Linux writes it."""
    flags: int


def entries(table: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and bytes of the entries of a System Resource Affinity Table."""
    signature, length = struct.unpack_from("<4sI", table)
    assert (signature, length, sum(table) % 256) == (b"SRAT", len(table), 0)
    at = HEADER
    while at < length:
        kind, size = struct.unpack_from("<BB", table, at)
        yield kind, table[at : at + size]
        at += size


def initiators(table: bytes) -> list[Initiator]:
    """Return the generic initiators of a System Resource Affinity Table."""
    found = []
    for kind, entry in entries(table):
        if kind == GENERIC_INITIATOR:
            # The rest of the handle and of the entry is reserved.
            handle, node, segment, bus, place, flags = struct.unpack("<3xBIHBB12xI4x", entry)
            address = f"{segment:04x}:{bus:02x}:{place >> 3:02x}.{place & 7}"
            found.append(Initiator(node, handle, address, flags))
    return sorted(found)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    """Return a host whose guests end with the test."""
    async with await connect(f"qemu:///embed?root={tmp_path}/root") as found:
        yield found
        for domain in await found.domains(active=True):
            await domain.destroy()


def text_of(console: Path) -> str:
    return console.read_text(errors="replace") if console.exists() else ""


async def said(console: Path) -> dict[str, str]:
    """Wait until the guest is up and return what it said of itself."""
    async with asyncio.timeout(BOOT):
        # A file says nothing when it grows, hence the looking again.
        while MARKER not in text_of(console):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return dict(re.findall(r"HVCORE-GUEST (\w+)=(\S*)", text_of(console)))


def addresses_of_random_sources(found: dict[str, str]) -> set[str]:
    """Return where the guest has found virtio devices that are sources of random numbers."""
    return set(re.findall(r"([0-9a-f:.]+)=0x1af4:(?:0x1005|0x1044),", found["pci"]))


async def address_of(domain: Domain, alias: str) -> str:
    """Return where the definition puts a device, as Linux writes it."""
    tree = etree.fromstring(await domain.xml())
    address = tree.find(f"devices/*/alias[@name='{alias}']/../address[@type='pci']")
    assert address is not None
    where = [int(address.attrib[name], 0) for name in ("domain", "bus", "slot", "function")]
    return "{:04x}:{:02x}:{:02x}.{:x}".format(*where)


def device(alias: str, address: str = "") -> str:
    return (
        "<rng model='virtio'><backend model='random'>/dev/urandom</backend>"
        f"<alias name='{alias}'/>{address}</rng>"
    )


def initiator(alias: str, node: int) -> str:
    return (
        f"<acpi-generic-initiator><pci-dev>{alias}</pci-dev><numa-node>{node}</numa-node>"
        "</acpi-generic-initiator>"
    )


def cells(cpus: str, memory: int, empty: int) -> str:
    """Return a cell with all there is, in KiB, and cells without anything."""
    first = f"<cell id='0' cpus='{cpus}' memory='{memory}' unit='KiB'/>"
    others = (f"<cell id='{number}' memory='0' unit='KiB'/>" for number in range(1, empty + 1))
    return f"<numa>{first}{''.join(others)}</numa>"


def boot(guest: Guest, console: str) -> str:
    return (
        f"<kernel>{guest.kernel}</kernel><initrd>{guest.initrd}</initrd>"
        # Nothing of the kernel's own may stand between what the guest says.
        f"<cmdline>console={console} quiet loglevel=0 hvcore.table=SRAT</cmdline>"
    )


def serial(tmp_path: Path) -> str:
    return f"<serial type='file'><source path='{tmp_path}/console'/></serial>"


@pytest.mark.timeout(BOOT + 30)
@pytest.mark.usefixtures("qemu")
async def test_two_devices_on_q35(host: Host, guest: Guest, tmp_path: Path) -> None:
    """One device behind a port and one on the root bus; a node may belong to both."""
    beside = "<address type='pci' domain='0' bus='0' slot='0x14' function='0'/>"
    domain = await host.create(
        f"""<domain type='qemu'>
          <name>q35</name>
          <memory unit='KiB'>262144</memory>
          <vcpu>2</vcpu>
          <os><type arch='x86_64' machine='q35'>hvm</type>{boot(guest, "ttyS0")}</os>
          <features><acpi/></features>
          <cpu>{cells("0-1", 262144, 3)}</cpu>
          <devices>
            {device("ua-behind")}{device("ua-beside", beside)}{serial(tmp_path)}
            {initiator("ua-behind", 1)}{initiator("ua-behind", 2)}{initiator("ua-beside", 2)}
          </devices>
        </domain>"""
    )
    found = await said(tmp_path / "console")
    behind = await address_of(domain, "ua-behind")
    assert behind.split(":")[1] != "00"
    assert initiators(base64.b64decode(found["SRAT"])) == sorted(
        [
            Initiator(1, PCI_HANDLE, behind, ENABLED),
            Initiator(2, PCI_HANDLE, behind, ENABLED),
            Initiator(2, PCI_HANDLE, "0000:00:14.0", ENABLED),
        ]
    )
    assert {behind, "0000:00:14.0"} <= addresses_of_random_sources(found)
    # No initiator tells the guest of the third empty cell.
    assert (found["initiators"], found["nodes"]) == ("1-2", "0,1,2,")


@pytest.mark.timeout(BOOT + 30)
async def test_eight_nodes_of_one_device_on_aarch64(
    host: Host, qemu_aarch64: Path, guest_aarch64: Guest, tmp_path: Path
) -> None:
    """A GPU with eight instances, as on a machine that shares its memory with it."""
    firmware = guest_aarch64.firmware
    assert firmware is not None
    place = "<address type='pci' domain='0x0000' bus='0x03' slot='0x00' function='0x0'/>"
    ports = "".join(
        f"<controller type='pci' index='{number}' model='pcie-root-port'/>" for number in (1, 2, 3)
    )
    # Sixteen CPUs are more than the default interrupt controller serves, and Linux wants a CPU of
    # 64 bits, which the default is not.
    domain = await host.create(
        f"""<domain type='qemu'>
          <name>nine-cells</name>
          <memory unit='KiB'>1048576</memory>
          <vcpu>16</vcpu>
          <os>
            <type arch='aarch64' machine='virt'>hvm</type>
            <loader readonly='yes' type='pflash'>{firmware.code}</loader>
            <nvram template='{firmware.variables}'/>
            {boot(guest_aarch64, "ttyAMA0")}
          </os>
          <features><acpi/><gic version='3'/></features>
          <cpu><model>cortex-a57</model>{cells("0-15", 1048576, 8)}</cpu>
          <devices>
            <emulator>{qemu_aarch64}</emulator>
            <controller type='pci' index='0' model='pcie-root'/>
            {ports}{device("ua-gpu", place)}{serial(tmp_path)}
            <memballoon model='none'/>
            {"".join(initiator("ua-gpu", node) for node in range(1, 9))}
          </devices>
        </domain>"""
    )
    assert await domain.state() == (State.RUNNING, RunningReason.BOOTED)
    found = await said(tmp_path / "console")
    assert await domain.state() == (State.RUNNING, RunningReason.BOOTED)
    assert initiators(base64.b64decode(found["SRAT"])) == [
        Initiator(node, PCI_HANDLE, "0000:03:00.0", ENABLED) for node in range(1, 9)
    ]
    assert addresses_of_random_sources(found) == {"0000:03:00.0"}
    assert found["cpus"] == "16"
    assert found["initiators"] == "1-8"
    assert found["nodes"] == "0,1,2,3,4,5,6,7,8,"
