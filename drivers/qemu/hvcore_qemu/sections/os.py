"""The <os> section in QEMU: validation, firmware, kernel and boot order."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.model.devices.storage import BlockSource
from hvcore.model.devices.storage import FileSource
from hvcore.model.os import Loader
from hvcore.rules.base import Rules
from hvcore.rules.os import is_pflash
from hvcore.rules.os import os_of
from hvcore_qemu import firmware
from hvcore_qemu.blockdev import Image
from hvcore_qemu.blockdev import add_chain
from hvcore_qemu.command import escape_comma
from hvcore_qemu.images import open_image
from hvcore_qemu.machines import machine_of
from hvcore_qemu.nvram import VariableStore
from hvcore_qemu.props import refuse
from hvcore_qemu.sections.machine import FIRMWARE_FLASH
from hvcore_qemu.sections.machine import FLASH
from hvcore_qemu.sections.machine import VARIABLES_FLASH
from hvcore_qemu.sections.machine import features_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.devices.disk import Disk
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues
    from hvcore_qemu.command import Command
    from hvcore_qemu.prepare import Preparation

rules = Rules()

ACPI_SIGNATURES: Final = {"raw": "", "slic": "SLIC", "msdm": "MSDM"}
"""Table types that QEMU takes, and the signature it is to put into them."""

NVRAM_TYPES: Final = frozenset({"file", "block", "network"})


@rules.post_parse_early
def _choose_firmware(domain: Domain, ctx: Context) -> Issues:
    """Choose the firmware now, so that it stays the same from start to start."""
    if ctx.caps is None or ctx.config is None:
        return ()
    os = os_of(domain)
    if os.firmware is not None and not ctx.abi_update:
        # What existing guests could have been given before there was a choice of formats.
        os.loader = os.loader or Loader()
        os.loader.format = os.loader.format or "raw"
    issue = firmware.fill(domain, ctx.config, abi_update=ctx.abi_update)
    # An existing guest must not vanish with its firmware; its start will tell.
    return [issue] if issue is not None and ctx.abi_update else ()


@rules.check_domain
def _check_boot(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Refuse ways of booting that QEMU does not have."""
    os = os_of(domain)
    if domain.bootloader or domain.bootloader_args:
        yield Issue.unsupported("bootloader is not supported by QEMU")
    if os.loader is not None and os.loader.secure:
        yield from _check_secure(domain)
    if os.nvram is not None and os.nvram.type not in (None, *NVRAM_TYPES):
        yield Issue.unsupported(f"unsupported nvram disk type '{os.nvram.type}'")
    for table in os.acpi_tables:
        if table.type not in ACPI_SIGNATURES:
            yield Issue.unsupported(f"ACPI table type '{table.type}' is not supported")
    if os.shim and ctx.caps is not None and "shim" not in ctx.caps:
        yield Issue.unsupported("shim is not supported by this QEMU binary")


def _check_secure(domain: Domain) -> Iterator[Issue]:
    """Secure boot needs a machine whose flash only SMM can write."""
    os = os_of(domain)
    if not machine_of(domain).q35:
        yield Issue.unsupported("Secure boot is supported with q35 machine types only")
    elif os.arch != "x86_64":
        yield Issue.unsupported("Secure boot is supported for x86_64 architecture only")
    elif os.firmware is None and features_of(domain).smm is not True:
        # Where firmware is selected, SMM is turned on if the selected one needs it.
        yield Issue.unsupported("Secure boot requires SMM feature enabled")


# -- preparation ------------------------------------------------------------------------------


def prepare_firmware(work: Preparation) -> None:
    """Choose the firmware, unless that was possible before.

    :raises ValidationFailed: when there is none that fits.
    """
    issue = firmware.fill(work.domain, work.config, abi_update=False)
    if issue is not None:
        refuse(issue)
    if is_pflash(work.domain):
        _prepare_flash(work)


def _prepare_flash(work: Preparation) -> None:
    """Open the image of the firmware and that of its variables."""
    os = os_of(work.domain)
    image, nvram = os.loader, os.nvram
    assert image is not None
    work.resources.by_alias[FIRMWARE_FLASH] = Image(
        source=FileSource(path=image.path),
        format=image.format or "raw",
        storage="libvirt-pflash0-storage",
        layer="libvirt-pflash0-format",
        readonly=bool(image.readonly),
    )
    if nvram is not None:
        variables = Image(
            source=nvram.source or FileSource(path=nvram.path),
            format=nvram.format or "raw",
            auth=nvram.source.auth if nvram.source is not None else None,
            storage="libvirt-pflash1-storage",
            layer="libvirt-pflash1-format",
        )
        open_image(work, variables)
        work.resources.by_alias[VARIABLES_FLASH] = variables


def prepare_variables(work: Preparation) -> None:
    """Make sure that the firmware's variables are somewhere.

    :raises HvError: when they are not and cannot be made.
    """
    os = os_of(work.domain)
    if os.nvram is None or not is_pflash(work.domain):
        return
    source = os.nvram.source
    if os.nvram.type is None:
        kind, path = "file", os.nvram.path
    elif isinstance(source, FileSource | BlockSource):
        kind, path = os.nvram.type, source.path
    else:
        return
    work.host.variable_store(
        VariableStore(
            path=path or "",
            kind=kind,
            format=os.nvram.format,
            template=os.nvram.template,
            template_format=os.nvram.template_format,
            loader=os.loader.path if os.loader is not None else None,
        )
    )


def prepare_boot_order(work: Preparation) -> None:
    """Give the first device of each kind in <boot dev=...> its place."""
    domain = work.domain
    order: dict[str, int] = {b.dev: n for n, b in enumerate(os_of(domain).boot, start=1)}
    if not order:
        return
    for disk in domain.devices.disks:
        disk.effective_boot_order = order.pop(_kind(disk), None)
    network = order.get("network")
    if network is not None and domain.devices.interfaces:
        domain.devices.interfaces[0].effective_boot_order = network


def _kind(disk: Disk) -> str:
    """Return the kind of boot device a disk is."""
    return {"cdrom": "cdrom", "floppy": "fd"}.get(disk.device, "hd")


# -- command line -----------------------------------------------------------------------------


def pflash(cmd: Command) -> None:
    """Add the flash images of UEFI: the firmware, then its variables."""
    for name in FLASH:
        image = cmd.resources.by_alias.get(name)
        if image is not None:
            add_chain(cmd, [image], ends=True)


def loader(cmd: Command) -> None:
    """Add firmware in ROM, and the protection of that in flash."""
    image = os_of(cmd.domain).loader
    if image is None:
        return
    if image.type == "rom":
        cmd.option("-bios", image.path)
    elif image.type == "pflash" and image.secure:
        cmd.option("-global", "driver=cfi.pflash01,property=secure,value=on")


def boot(cmd: Command) -> None:
    """Add the boot menu, the kernel and its companions, and ACPI tables."""
    os = os_of(cmd.domain)
    options = (
        ("menu", None if os.bootmenu is None else "on" if os.bootmenu else "off"),
        ("reboot-timeout", os.bios_reboot_timeout),
        ("splash-time", os.bootmenu_timeout),
        # Without it, firmware goes on with devices that have no place in the order.
        ("strict", "on"),
    )
    text = ",".join(f"{name}={value}" for name, value in options if value is not None)
    cmd.option("-boot", text)
    for option, value in (
        ("-kernel", os.kernel),
        ("-initrd", os.initrd),
        ("-append", os.cmdline),
        ("-shim", os.shim),
        ("-dtb", os.dtb),
    ):
        if value is not None:
            cmd.option(option, value)
    for table in os.acpi_tables:
        signature = ACPI_SIGNATURES[table.type]
        prefix = f"sig={signature}," if signature else ""
        cmd.option("-acpitable", f"{prefix}file={escape_comma(table.path)}")
