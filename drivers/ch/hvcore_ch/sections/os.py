"""What is booted: a kernel, or firmware that finds one on a disk; of protected guests an IGVM."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.errors import ValidationFailed
from hvcore.model.domain import Domain
from hvcore.model.launchsecurity import SevSnp
from hvcore.model.os import BootDevice
from hvcore.model.os import Loader
from hvcore.model.os import Os
from hvcore.rules.base import Rules
from hvcore_ch.accepts import ANY
from hvcore_ch.accepts import one_of
from hvcore_ch.command import present

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.pipeline import Context
    from hvcore_ch.accepts import Accepts
    from hvcore_ch.command import Command

rules = Rules()

_HOST_DATA: Final = 32

ACCEPTS: Accepts = {
    Domain: {"os": ANY, "launch_security": one_of("sev-snp")},
    Os: {
        "type": one_of("hvm"),
        "arch": one_of("x86_64", "aarch64", "riscv64"),
        "loader": ANY,
        "kernel": ANY,
        "initrd": ANY,
        "cmdline": ANY,
        "boot": ANY,
        "smbios_mode": one_of("sysinfo"),
    },
    # What is booted is in the order of the disks, so only the default means what it says.
    BootDevice: {"dev": one_of("hd")},
    Loader: {
        "path": ANY,
        "type": one_of("rom"),
        "readonly": one_of(True),
        "stateless": one_of(True),
        "format": one_of("raw"),
    },
    # The policy is a part of the IGVM file; the attribute cannot be left out.
    SevSnp: {"policy": ANY, "host_data": ANY},
}


@rules.check_domain
def _something_to_boot(domain: Domain, ctx: Context) -> Iterator[Issue]:
    os, security = domain.os, domain.launch_security
    assert os is not None  # every domain has one after the first rule
    firmware = os.loader.path if os.loader is not None else None
    if security is not None and ctx.caps is not None and "sev-snp" not in ctx.caps:
        yield Issue.unsupported("SEV-SNP is not supported by this Cloud-Hypervisor binary")
    if security is not None and firmware:
        yield Issue.unsupported("Cloud-Hypervisor boots SEV-SNP guests from an IGVM file alone")
    if os.kernel is None and firmware is None:
        yield Issue.unsupported(
            "Kernel image path is not defined. With sev_snp=on, pass an igvm path", path="os"
        )
    if os.kernel is not None and firmware is not None:
        yield Issue.unsupported(
            "Cloud-Hypervisor boots either a kernel or firmware", path="os/kernel"
        )
    for name in ("initrd", "cmdline"):
        if os.kernel is None and getattr(os, name) is not None:
            yield Issue.unsupported(f"Cloud-Hypervisor uses {name} with a kernel only")
        elif security is not None and getattr(os, name) is not None:
            yield Issue.unsupported(f"Cloud-Hypervisor takes the {name} from the IGVM file")
    if isinstance(security, SevSnp) and security.host_data is not None:
        yield from _host_data(security.host_data)[1]


def _host_data(text: str) -> tuple[str, list[Issue]]:
    """Return the hexadecimal form that the API wants of what a document has in base64."""
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        data = b""
    if len(data) != _HOST_DATA:
        message = f"Invalid host_data provided. Expected '{_HOST_DATA}' bytes"
        return "", [Issue.unsupported(message, path="launchSecurity/hostData")]
    return data.hex(), []


def command(vm: Command) -> None:
    """Say what is booted.

    :raises ValidationFailed: there is nothing.
    """
    os, security = vm.domain.os, vm.domain.launch_security
    assert os is not None  # validated
    if isinstance(security, SevSnp):
        host_data, issues = _host_data(security.host_data) if security.host_data else (None, [])
        if issues:
            raise ValidationFailed(issues)
        vm.set("payload", present({"igvm": os.kernel, "host_data": host_data}))
        vm.set("platform", {"sev_snp": True})
        return
    firmware = os.loader.path if os.loader is not None else None
    payload = {
        "firmware": firmware,
        "kernel": os.kernel,
        "cmdline": os.cmdline,
        "initramfs": os.initrd,
    }
    vm.set("payload", present(payload))
