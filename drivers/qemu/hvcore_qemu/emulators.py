"""The QEMUs of the host: which there are, and what they can do."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import shutil
import time
from typing import TYPE_CHECKING
from typing import Final

import attrs

from hvcore.driver import Driver
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import ProbeError

if TYPE_CHECKING:
    from hvcore.domaincaps import DomainCapabilities
    from hvcore.driver import Setup
    from hvcore.model.domain import Domain
    from hvcore_qemu.capabilities import QemuCapabilities
    from hvcore_qemu.config import QemuConfig

_log = logging.getLogger(__name__)

_FRESH: Final = 1.0
"""Seconds for which an emulator is not looked at again: a definition and its start are one look."""


class Emulators(Driver):
    """The part of the QEMU driver that knows which QEMUs there are."""

    config: QemuConfig

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._caps: dict[str, tuple[float, QemuCapabilities]] = {}
        self._programs: dict[str, tuple[float, str | None]] = {}

    async def qemu_capabilities(self, domain: Domain) -> QemuCapabilities:
        """Return what the emulator of a document can do.

        :raises ProbeError: it cannot be asked.
        :raises HvError: the document names none, and the host has none that would do.
        """
        binary = domain.devices.emulator
        if not binary:
            from hvcore_qemu.guests import default_emulator  # noqa: PLC0415 - only to look for one

            host = self.host().arch
            arch = (domain.os.arch if domain.os is not None else None) or host
            binary = default_emulator(host, arch, self.find_program)
            if binary is None:
                raise HvError(
                    f"could not find capabilities for arch={arch} ", kind=ErrorClass.INVALID_ARG
                )
        return await self.probed(binary)

    def find_program(self, name: str) -> str | None:
        """Return the path of a program; asked several times for each document."""
        now = time.monotonic()
        checked, path = self._programs.get(name, (0.0, None))
        if path is None or now - checked > _FRESH:
            path = shutil.which(name)
            self._programs[name] = (now, path)
        return path

    async def probed(self, binary: str) -> QemuCapabilities:
        """Return what a binary can do, from the cache if it is still the same one.

        :raises ProbeError: it cannot be asked.
        """
        from hvcore_qemu import probe  # noqa: PLC0415 - imports nothing heavy unless it must ask

        now = asyncio.get_running_loop().time()
        checked, caps = self._caps.get(binary, (0.0, None))
        if caps is None or now - checked > _FRESH:
            assert self.directory is not None  # keeps_state
            cache = probe.cache_at(self.directory.cache, participants=self.registry.probers())
            extend = functools.partial(self.registry.probed, self.name, binary)
            caps = await probe.probe_binary(binary, cache=cache, extend=extend)
            self._caps[binary] = (now, caps)
        return caps

    async def version(self) -> int:
        """Return the version of the QEMU for guests of the host's own architecture.

        :raises ProbeError: there is none.
        """
        from hvcore_qemu.guests import default_emulator  # noqa: PLC0415 - see qemu_capabilities

        arch = self.host().arch
        binary = default_emulator(arch, arch, shutil.which)
        if binary is None:
            raise ProbeError(f"Cannot find suitable emulator for {arch}")
        return (await self.probed(binary)).version

    async def capabilities(self) -> str:
        """Return the host and the guests that its QEMUs can run."""
        from hvcore_qemu.guests import ARCHES  # noqa: PLC0415 - see qemu_capabilities
        from hvcore_qemu.guests import default_emulator  # noqa: PLC0415
        from hvcore_qemu.guests import guest_archs  # noqa: PLC0415

        host = self.host()
        known: dict[str, QemuCapabilities] = {}
        for arch in ARCHES:
            binary = default_emulator(host.arch, arch, shutil.which)
            if binary is not None and binary not in known:
                try:
                    known[binary] = await self.probed(binary)
                except ProbeError as error:
                    # One broken emulator must not hide the others.
                    _log.warning("%s", error)
        return host.to_xml(
            guest_archs(host.arch, shutil.which, known.get),
            migration="live",
            transports=("tcp", "rdma"),
        )

    async def domain_capabilities(
        self,
        *,
        emulator: str | None,
        arch: str | None,
        machine: str | None,
        virt_type: str | None,
        disable_deprecated: bool,
    ) -> DomainCapabilities:
        """Return what guests of one kind can have.

        :raises HvError: no emulator has such guests.
        :raises ProbeError: the emulator cannot be asked.
        """
        from hvcore_qemu import domaincaps  # noqa: PLC0415 - see pipeline
        from hvcore_qemu.guests import default_emulator  # noqa: PLC0415 - see qemu_capabilities

        domaincaps.check_names(virt_type=virt_type, arch=arch)
        host = self.host()
        wanted = arch or host.arch
        binary = emulator or default_emulator(host.arch, wanted, shutil.which)
        if binary is None:
            raise HvError(
                f"unable to find any emulator to serve '{wanted}' architecture",
                kind=ErrorClass.CONFIG_UNSUPPORTED,
            )
        caps = await self.probed(binary)
        guest = domaincaps.choose(caps, arch=wanted, virt_type=virt_type, machine=machine)
        # Nobody would start an emulator of TPMs.
        config = attrs.evolve(self.config, swtpm_versions=())
        found = domaincaps.describe(caps, guest, host=host, config=config, exists=os.path.exists)
        return domaincaps.without_deprecated(found, caps) if disable_deprecated else found
