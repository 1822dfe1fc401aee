"""Channel subsystem addresses of s390x guests."""

from __future__ import annotations

from typing import Final

from hvcore.errors import Issue
from hvcore.errors import ValidationFailed

# virtio-ccw devices must be in channel subsystem image 254.
VIRTIO_CSSID: Final = 254
MAX_DEVNO: Final = 0xFFFF


def format_address(cssid: int, ssid: int, devno: int) -> str:
    """Return an address the way libvirt's messages print it, as in ``fe.0.0001``."""
    return f"{cssid:x}.{ssid:x}.{devno:04x}"


class CcwAddressSet:
    """The subchannels in use by one guest."""

    __slots__ = ("_next", "_used")

    def __init__(self) -> None:
        self._used: set[tuple[int, int, int]] = set()
        self._next = 0

    def reserve(self, cssid: int, ssid: int, devno: int) -> None:
        """Reserve an address of the document.

        :raises ValidationFailed: when another device has it.
        """
        address = (cssid, ssid, devno)
        if address in self._used:
            raise ValidationFailed(
                [Issue.xml(f"The CCW devno '{format_address(*address)}' is in use already")]
            )
        self._used.add(address)

    def reserve_next(self) -> tuple[int, int, int]:
        """Reserve the lowest free device number of the virtio subsystem; cssid, ssid, devno.

        :raises ValidationFailed: when all 65536 are in use.
        """
        for devno in range(self._next, MAX_DEVNO + 1):
            address = (VIRTIO_CSSID, 0, devno)
            if address not in self._used:
                self._used.add(address)
                self._next = devno + 1
                return address
        raise ValidationFailed([Issue.internal("There are no more free CCW devnos.")])

    def release(self, cssid: int, ssid: int, devno: int) -> None:
        """Give an address back."""
        self._used.discard((cssid, ssid, devno))
        if (cssid, ssid) == (VIRTIO_CSSID, 0):
            self._next = min(self._next, devno)
