"""Controllers: there is a PCI Express root, and nothing to choose about it.

libvirt adds a virtio-serial controller to every document with a virtio console; it is kept, and
means the console alone.
"""

from __future__ import annotations

from hvcore.model.devices.controller import Controller
from hvcore_ch.accepts import Accepts
from hvcore_ch.accepts import one_of

ACCEPTS: Accepts = {
    Controller: {
        "type": one_of("pci", "virtio-serial"),
        "index": one_of(0),
        "model": one_of("pcie-root"),
        "address": frozenset(),
    },
}
