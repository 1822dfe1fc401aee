"""The host's time stamp counter, as KVM tells of it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import Final

import attrs

_DEVICE: Final = "/dev/kvm"
_CREATE_VM: Final = 0xAE01
_CHECK_EXTENSION: Final = 0xAE03
_CREATE_VCPU: Final = 0xAE41
_GET_TSC_KHZ: Final = 0xAEA3
_CAP_TSC_CONTROL: Final = 60

_TOLERANCE: Final = 250
"""How far a guest's frequency may be off without scaling, in parts per million (KVM's default)."""


@attrs.frozen
class Tsc:
    """A counter.

    :ivar frequency: in Hz.
    :ivar scaling: whether guests can have another frequency.
    """

    frequency: int
    scaling: bool

    def refusal(self, wanted: int) -> str | None:
        """Return why a guest cannot have a counter of ``wanted`` Hz, or None."""
        tolerance = self.frequency * _TOLERANCE // 1_000_000
        low, high = self.frequency - tolerance, self.frequency + tolerance
        if self.scaling or low <= wanted <= high:
            return None
        return (
            f"Requested TSC frequency {wanted} Hz is outside tolerance range "
            f"([{low}, {high}] Hz) around host frequency {self.frequency} Hz "
            "and TSC scaling is not supported by the host CPU"
        )


def probe(device: str = _DEVICE) -> Tsc | None:
    """Return the host's counter, or None where KVM cannot tell."""
    with contextlib.ExitStack() as stack:

        def closing(descriptor: int) -> int:
            stack.callback(os.close, descriptor)
            return descriptor

        try:
            kvm = closing(os.open(device, os.O_RDONLY | os.O_CLOEXEC))
            machine = closing(fcntl.ioctl(kvm, _CREATE_VM, 0))
            cpu = closing(fcntl.ioctl(machine, _CREATE_VCPU, 0))
            frequency = fcntl.ioctl(cpu, _GET_TSC_KHZ, 0) * 1000
            scaling = fcntl.ioctl(kvm, _CHECK_EXTENSION, _CAP_TSC_CONTROL) > 0
        except OSError:
            return None
        return Tsc(frequency, scaling)
