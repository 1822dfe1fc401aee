"""<launchSecurity> in QEMU: validation, and the object that protects the guest's memory."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

from hvcore.errors import Issue
from hvcore.model.launchsecurity import S390Pv
from hvcore.model.launchsecurity import Sev
from hvcore.model.launchsecurity import SevSnp
from hvcore.rules.base import Rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore_qemu.command import Command
    from hvcore_qemu.prepare import Preparation

rules = Rules()

OBJECT: Final = "lsec0"

REQUIRED: Final = {
    "sev": ("sev-guest",),
    "sev-snp": ("sev-snp-guest",),
    "s390-pv": ("s390-pv-guest", "confidential-guest-support"),
}


@rules.check_domain
def _check(domain: Domain, ctx: Context) -> Iterator[Issue]:
    """Refuse protection that the binary or the host does not have."""
    security = domain.launch_security
    if security is None or ctx.caps is None:
        return
    if any(name not in ctx.caps for name in REQUIRED[security.type]):
        yield Issue.unsupported(
            f"'{security.type}' launch security is not supported with this QEMU binary",
            line=security.line,
        )
        return
    if isinstance(security, Sev) and security.kernel_hashes is not None:
        if "sev-guest-kernel-hashes" not in ctx.caps:
            yield Issue.unsupported(
                "SEV measured direct kernel boot is not supported with this QEMU binary"
            )
    elif isinstance(security, S390Pv) and not ctx.caps.kvm_supports_secure_guest:
        yield Issue.unsupported("S390 PV launch security is not supported by this host or kernel")


def prepare(work: Preparation) -> None:
    """Fill in what depends on the host's CPU: where the encryption bit is, and what it costs."""
    security, sev = work.domain.launch_security, work.caps.sev
    if sev is None or not isinstance(security, Sev | SevSnp):
        return
    if security.cbitpos is None:
        security.cbitpos = sev.cbitpos
    if security.reduced_phys_bits is None:
        security.reduced_phys_bits = sev.reduced_phys_bits


def _owners_file(cmd: Command, name: str, content: str | None) -> str | None:
    """Write what the guest's owner gave where QEMU can read it; return the path."""
    if content is None:
        return None
    path = f"{cmd.resources.domain_dir}/{name}.base64"
    cmd.plan.files[path] = content.encode()
    return path


def command(cmd: Command) -> None:
    """Add the object."""
    security = cmd.domain.launch_security
    if isinstance(security, Sev):
        cmd.object(
            {
                "qom-type": "sev-guest",
                "id": OBJECT,
                "cbitpos": security.cbitpos,
                "reduced-phys-bits": security.reduced_phys_bits,
                "policy": security.policy,
                "dh-cert-file": _owners_file(cmd, "dh_cert", security.dh_cert),
                "session-file": _owners_file(cmd, "session", security.session),
                "kernel-hashes": security.kernel_hashes,
            }
        )
    elif isinstance(security, SevSnp):
        cmd.object(
            {
                "qom-type": "sev-snp-guest",
                "id": OBJECT,
                "cbitpos": security.cbitpos,
                "reduced-phys-bits": security.reduced_phys_bits,
                "kernel-hashes": security.kernel_hashes,
                "policy": security.policy,
                "guest-visible-workarounds": security.guest_visible_workarounds,
                "id-block": security.id_block,
                "id-auth": security.id_auth,
                "host-data": security.host_data,
                "author-key-enabled": security.author_key,
                "vcek-disabled": None if security.vcek is None else not security.vcek,
            }
        )
    elif isinstance(security, S390Pv):
        cmd.object({"qom-type": "s390-pv-guest", "id": OBJECT})
