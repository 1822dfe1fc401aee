"""The three documents that are measured."""

from __future__ import annotations

from typing import Final

_HEAD: Final = """<domain type='{type}'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='KiB'>{memory}</memory>
  <vcpu>{vcpus}</vcpu>
  <os>
    <type arch='x86_64' machine='{machine}'>hvm</type>
  </os>
"""
_UUID: Final = "b3a1f0c2-5d3e-4c57-9d5a-0123456789{:02x}"
_CONTROLLERS: Final = """    <controller type='usb' index='0' model='qemu-xhci'/>
    <controller type='scsi' index='0' model='virtio-scsi'/>
    <controller type='virtio-serial' index='0'/>
"""
_OTHERS: Final = """    <serial type='pty'/>
    <console type='pty'/>
    <channel type='unix'>
      <target type='virtio' name='org.qemu.guest_agent.0'/>
    </channel>
    <channel type='pty'>
      <target type='virtio' name='com.example.port.0'/>
    </channel>
    <input type='tablet' bus='usb'/>
    <input type='keyboard' bus='usb'/>
    <graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'/>
    <sound model='ich9'/>
    <video>
      <model type='vga'/>
    </video>
    <watchdog model='i6300esb' action='reset'/>
    <memballoon model='virtio'/>
    <rng model='virtio'>
      <backend model='random'>/dev/urandom</backend>
    </rng>
    <panic model='isa'/>
"""


def _disk(number: int) -> str:
    bus, name = ("virtio", "vd") if number % 3 else ("scsi", "sd")
    letters = chr(97 + number % 26) if number < 26 else "a" + chr(97 + number - 26)
    return (
        "    <disk type='file' device='disk'>\n"
        "      <driver name='qemu' type='qcow2' cache='none' discard='unmap'/>\n"
        f"      <source file='/var/lib/images/disk{number}.qcow2'/>\n"
        f"      <target dev='{name}{letters}' bus='{bus}'/>\n"
        f"      <serial>serial{number}</serial>\n"
        "    </disk>\n"
    )


def _nic(number: int) -> str:
    return (
        "    <interface type='ethernet'>\n"
        f"      <mac address='52:54:00:00:00:{number:02x}'/>\n"
        "      <model type='virtio'/>\n"
        "    </interface>\n"
    )


def _domain(head: str, middle: str, devices: str) -> str:
    return f"{head}{middle}  <devices>\n{devices}  </devices>\n</domain>\n"


def minimal(*, type_: str = "qemu", name: str = "bench-minimal") -> str:
    """Return a guest without anything that is not implicit."""
    head = _HEAD.format(
        type=type_, name=name, uuid=_UUID.format(0), memory=65536, vcpus=1, machine="q35"
    )
    return _domain(head, "", "    <memballoon model='none'/>\n")


def typical(*, type_: str = "qemu", nics: int = 2) -> str:
    """Return a guest with 25 devices, or 23 without its NICs."""
    head = _HEAD.format(
        type=type_, name="bench-typical", uuid=_UUID.format(1), memory=4 << 20, vcpus=4,
        machine="q35",
    )  # fmt: skip
    features = "  <features>\n    <acpi/>\n    <apic/>\n  </features>\n"
    devices = "".join(_disk(n) for n in range(7)) + _CONTROLLERS
    return _domain(head, features, devices + "".join(_nic(n) for n in range(nics)) + _OTHERS)


def big(*, type_: str = "qemu") -> str:
    """Return a guest with 8 NUMA cells, 64 vCPUs, 30 disks and 8 NICs."""
    head = _HEAD.format(
        type=type_, name="bench-big", uuid=_UUID.format(2), memory=64 << 20, vcpus=64,
        machine="q35",
    )  # fmt: skip
    cells = "".join(
        f"      <cell id='{n}' cpus='{8 * n}-{8 * n + 7}' memory='{8 << 20}' unit='KiB'/>\n"
        for n in range(8)
    )
    middle = f"  <cpu>\n    <numa>\n{cells}    </numa>\n  </cpu>\n"
    devices = "".join(_disk(n) for n in range(30)) + _CONTROLLERS
    return _domain(head, middle, devices + "".join(_nic(n) for n in range(8)) + _OTHERS)
