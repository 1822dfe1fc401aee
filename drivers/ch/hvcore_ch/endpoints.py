"""The endpoints of the API, v53: what each is used for, or why it is not.

Tests hold the table against the description of the API and against what the driver says.
"""

from __future__ import annotations

from typing import Final

USED: Final = {
    "vmm.ping": "probing, and the first answer of a process",
    "vmm.shutdown": "destroy",
    "vm.info": "info, memory_stats, terminals, addresses, whether a device is gone",
    "vm.counters": "block_stats, interface_stats, whether a guest is back that was not sent",
    "vm.create": "start",
    "vm.boot": "start, resume of what was started paused, on_poweroff='restart'",
    "vm.pause": "suspend, save, dump",
    "vm.resume": "resume",
    "vm.reboot": "reboot, reset, on_crash='restart'",
    "vm.power-button": "shutdown",
    "vm.nmi": "inject_nmi",
    "vm.resize": "set_vcpus, set_memory, attach_device of memory modules",
    "vm.resize-disk": "resize_disk",
    "vm.add-device": "attach_device of PCI and mediated devices",
    "vm.add-disk": "attach_device of disks",
    "vm.add-fs": "attach_device of virtiofs",
    "vm.add-net": "start with taps, attach_device of interfaces",
    "vm.add-pmem": "attach_device of persistent memory",
    "vm.add-vdpa": "attach_device of vDPA disks and interfaces",
    "vm.add-vsock": "attach_device of vsock",
    "vm.remove-device": "detach_device",
    "vm.snapshot": "save, managed_save",
    "vm.restore": "restore, start of what was saved",
    "vm.coredump": "dump",
    "vm.send-migration": "migrate, on the source",
    "vm.receive-migration": "migrate, on the destination",
}
"""Endpoints that the driver uses, and for what."""

UNUSED: Final = {
    "vm.delete": "vmm.shutdown ends VM and process together; a process has one VM in its life",
    "vm.shutdown": "vmm.shutdown does it too; a guest's own power-off needs no request",
    "vm.resize-zone": "zones are NUMA cells, whose memory stays as it is",
    "vm.add-user-device": "no device of libvirt's is one; ch:user-device is there at the start",
    "vm.add-generic-vhost-user": "no device of libvirt's is one; ch:vhost-user-device is there "
    "at the start",
}
"""Endpoints that it does not use, and why."""
