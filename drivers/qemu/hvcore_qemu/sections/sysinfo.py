"""The <sysinfo> section in QEMU: ``-smbios``, ``-fw_cfg``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.errors import Issue
from hvcore.model.sysinfo import FwCfgInfo
from hvcore.model.sysinfo import SmbiosInfo
from hvcore.rules.base import Rules
from hvcore.rules.os import os_of
from hvcore.xml.codecs import escape
from hvcore_qemu.command import escape_comma
from hvcore_qemu.props import refuse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.model.sysinfo import Table
    from hvcore.pipeline import Context
    from hvcore_qemu.command import Command

rules = Rules()


@rules.check_domain
def _check_names(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Files of users live below ``opt/``; two places there are taken (QEMU's fw_cfg.rst)."""
    del ctx
    for info in domain.sysinfo:
        if not isinstance(info, FwCfgInfo):
            continue
        for entry in info.entries:
            if not entry.name.startswith("opt/"):
                yield Issue.unsupported("Invalid firmware name", line=entry.line)
            elif entry.name.startswith(("opt/ovmf/", "opt/org.qemu/")):
                yield Issue.unsupported("That firmware name is reserved", line=entry.line)


def _table(cmd: Command, number: int, table: Table | None) -> None:
    """Add one table of SMBIOS."""
    if table is None or not table.entries:
        return
    # libvirt writes the manufacturer of boards and cases even where there is none.
    given = ({"manufacturer": ""} if number in (2, 3) else {}) | table.values()
    if number == 1 and set(given) == {"sku"}:
        return  # nor does libvirt write it alone
    values = "".join(f",{name}={escape_comma(text)}" for name, text in given.items())
    cmd.option("-smbios", f"type={number}{values}")


def smbios(cmd: Command) -> None:
    """Add the tables that the document gives, or the host's own."""
    mode = os_of(cmd.domain).smbios_mode
    if mode not in ("host", "sysinfo"):
        return
    found = [info for info in cmd.domain.sysinfo if isinstance(info, SmbiosInfo)]
    if mode == "host":
        refuse(Issue.unsupported("Host SMBIOS information is not available"))
    if not found:
        message = f"Domain '{cmd.domain.name}' sysinfo are not available"
        refuse(Issue.xml(message))
    info = found[0]
    boards = [board for board in info.base_boards if board.entries]
    if len(boards) > 1:
        message = "qemu does not support more than one entry to Type 2 in SMBIOS table"
        refuse(Issue.unsupported(message))
    _table(cmd, 0, info.bios)
    _table(cmd, 1, info.system)
    for board in boards:
        _table(cmd, 2, board)
    _table(cmd, 3, info.chassis)
    if info.oem_strings:
        values = "".join(f",value={escape_comma(text)}" for text in info.oem_strings)
        cmd.option("-smbios", f"type=11{values}")


def fw_cfg(cmd: Command) -> None:
    """Add the files of the firmware configuration device.

    The text in them is escaped as in XML: the guests of libvirt expect it that way. Commas, which
    libvirt lets end the value, are not lost.
    """
    for info in cmd.domain.sysinfo:
        if not isinstance(info, FwCfgInfo):
            continue
        for entry in info.entries:
            content = (
                f"string={escape(entry.value)}"
                if entry.value is not None
                else f"file={escape(entry.file or '')}"
            )
            cmd.option("-fw_cfg", f"name={escape_comma(entry.name)},{escape_comma(content)}")
