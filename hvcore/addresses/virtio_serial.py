"""Ports of virtio-serial controllers."""

from __future__ import annotations

from typing import Final

from hvcore.errors import Issue
from hvcore.errors import ValidationFailed

# QEMU's default of max_ports.
DEFAULT_PORTS: Final = 31


class VirtioSerialAddressSet:
    """The ports in use on the virtio-serial controllers of one guest.

    Port 0 of a controller is kept for virtconsoles.
    """

    __slots__ = ("_busy", "_ports")

    def __init__(self) -> None:
        self._ports: dict[int, int] = {}
        self._busy: dict[int, int] = {}

    @property
    def controllers(self) -> tuple[int, ...]:
        """Indexes of the controllers, ascending."""
        return tuple(sorted(self._ports))

    def add_controller(self, index: int, ports: int | None = None) -> None:
        """Register a controller.

        :param ports: how many ports it has; None means QEMU's default of 31.
        :raises ValidationFailed: when there is a controller with this index.
        """
        if index in self._ports:
            raise ValidationFailed(
                [
                    Issue.internal(
                        f"virtio serial controller with index {index} already exists in the"
                        " address set"
                    )
                ]
            )
        self._ports[index] = DEFAULT_PORTS if ports is None else ports
        self._busy[index] = 0

    def reserve(self, controller: int, port: int) -> None:
        """Reserve a port of the document.

        :raises ValidationFailed: when there is no such controller or port, or it is in use.
        """
        if controller not in self._ports:
            raise ValidationFailed([Issue.xml(f"virtio serial controller {controller} is missing")])
        if port >= self._ports[controller]:
            raise ValidationFailed(
                [Issue.xml(f"virtio serial controller {controller} does not have port {port}")]
            )
        if self._busy[controller] >> port & 1:
            raise ValidationFailed(
                [
                    Issue.xml(
                        f"virtio serial port {port} on controller {controller} is already occupied"
                    )
                ]
            )
        self._busy[controller] |= 1 << port

    def reserve_next(self) -> tuple[int, int] | None:
        """Reserve the lowest free port but 0 of the first controller that has one.

        :returns: controller and port; None when all are full, so that the caller can add a
            controller and ask again.
        :raises ValidationFailed: when there is no controller at all.
        """
        if not self._ports:
            raise ValidationFailed([Issue.internal("no virtio-serial controllers are available")])
        for controller in sorted(self._ports):
            port = self._free(controller)
            if port is not None:
                self._busy[controller] |= 1 << port
                return controller, port
        return None

    def reserve_on(self, controller: int) -> int:
        """Reserve the lowest free port but 0 of one controller.

        :raises ValidationFailed: when there is no such controller or it is full.
        """
        if controller not in self._ports:
            raise ValidationFailed(
                [Issue.internal(f"virtio-serial controller {controller} not available")]
            )
        port = self._free(controller)
        if port is None:
            raise ValidationFailed(
                [Issue.xml(f"Unable to find a free port on virtio-serial controller {controller}")]
            )
        self._busy[controller] |= 1 << port
        return port

    def release(self, controller: int, port: int) -> None:
        """Give a port back."""
        self._busy[controller] &= ~(1 << port)

    def _free(self, controller: int) -> int | None:
        free = ~self._busy[controller] & (1 << self._ports[controller]) - 1 & -1 << 1
        return (free & -free).bit_length() - 1 if free else None
