"""<tpm> in QEMU: defaults, preparation, validation and command line."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final

import attrs

from hvcore.errors import Issue
from hvcore.model.devices.tpm import EmulatorTpm
from hvcore.model.devices.tpm import ExternalTpm
from hvcore.model.devices.tpm import PassthroughTpm
from hvcore.model.devices.tpm import Tpm
from hvcore.rules.base import Rules
from hvcore_qemu.chardev import option_text
from hvcore_qemu.machines import PPC64
from hvcore_qemu.machines import X86
from hvcore_qemu.machines import machine_of
from hvcore_qemu.props import add_device
from hvcore_qemu.props import address_props

if TYPE_CHECKING:
    from hvcore.model.domain import Domain
    from hvcore.pipeline import Context
    from hvcore.rules.base import Issues
    from hvcore_qemu.command import Command
    from hvcore_qemu.prepare import Preparation
    from hvcore_qemu.resources import FdSet

rules = Rules()

_PROXY: Final = "spapr-tpm-proxy"
_CHARDEV: Final = "chrtpm"


@attrs.frozen
class Passed:
    """Descriptors of the host's TPM and of the file that cancels its commands."""

    device: FdSet
    cancel: FdSet


@rules.post_parse(Tpm)
def _defaults(domain: Domain, device: Tpm, ctx: Context) -> None:
    """Choose model and version.

    On x86 the default is TPM 1.2 as it has always been; the two are not compatible.
    """
    del ctx
    arch = machine_of(domain).arch
    if device.model is None:
        device.model = "tpm-spapr" if arch in PPC64 else "tpm-tis"
    backend = device.backend
    if isinstance(backend, EmulatorTpm) and backend.version is None:
        backend.version = "1.2" if device.model == "tpm-tis" and arch in X86 else "2.0"


@rules.check_domain
def _one_of_a_kind(domain: Domain, ctx: Context) -> Issues:
    del ctx
    models = [device.model for device in domain.devices.tpms]
    proxies = models.count(_PROXY)
    if proxies > 1:
        yield Issue.unsupported("only a single TPM Proxy device is supported")
    if len(models) - proxies > 1:
        yield Issue.unsupported("only a single TPM non-proxy device is supported")


@rules.check(Tpm)
def _supported(domain: Domain, device: Tpm, ctx: Context) -> Issues:
    """Refuse what QEMU, the emulator of TPMs or the machine lacks."""
    arch, emulator = machine_of(domain).arch, domain.devices.emulator
    backend, versions = device.backend, ctx.config.swtpm_versions
    if isinstance(backend, EmulatorTpm):
        if backend.version not in versions:
            yield Issue.unsupported(f"TPM version '{backend.version}' is not supported")
            return
        if backend.version == "1.2" and device.model != "tpm-tis":
            yield Issue.unsupported(f"TPM 1.2 is not supported for model '{device.model}'")
            return
        if backend.version == "1.2" and arch not in X86:
            yield Issue.unsupported(f"TPM 1.2 is not supported on architecture '{arch}'")
            return
    passthrough = isinstance(backend, PassthroughTpm)
    need = "tpm-passthrough" if passthrough else "tpm-emulator"
    if need not in ctx.caps or not (passthrough or versions):
        yield Issue.unsupported(
            f"The QEMU executable {emulator} does not support TPM backend type {backend.type}"
        )
    elif arch in PPC64 and device.model == _PROXY and not passthrough:
        yield Issue.unsupported(f"TPM Proxy model {device.model} requires 'Passthrough' backend")
    elif device.model not in ctx.caps:
        yield Issue.unsupported(
            f"The QEMU executable {emulator} does not support TPM model {device.model}"
        )


def prepare(work: Preparation) -> None:
    """Open the host's TPM, or choose the socket of one in software.

    :raises HvError: when the host has no such TPM.
    """
    for device in work.domain.devices.tpms:
        alias, backend = device.alias or "", device.backend
        if isinstance(backend, PassthroughTpm) and device.model != _PROXY:
            cancel_path = work.host.tpm_cancel_path(backend.device)
            fd, cancel = work.host.tpm_passthrough(backend.device, cancel_path)
            work.resources.by_alias[alias] = Passed(
                work.resources.new_fd_set([(fd, f"{alias}-tpm")]),
                work.resources.new_fd_set([(cancel, f"{alias}-cancel")]),
            )
        elif isinstance(backend, EmulatorTpm):
            proposed = f"{work.config.swtpm_state_dir}/{work.resources.short_name}-swtpm.sock"
            work.resources.by_alias[alias] = work.host.tpm_emulator_socket(proposed)


def command(cmd: Command) -> None:
    """Append the TPMs."""
    for device in cmd.domain.devices.tpms:
        backend = device.backend
        if device.model == _PROXY:
            assert isinstance(backend, PassthroughTpm)  # validation requires it
            props = {"driver": _PROXY, "id": device.alias, "host-path": backend.device}
            add_device(cmd, device, props)
            continue
        _backend(cmd, device)
        driver = device.model
        if driver == "tpm-tis" and machine_of(cmd.domain).arch not in X86:
            driver = "tpm-tis-device"  # type: ignore[assignment] # QEMU's name of it
        props = {"driver": driver, "tpmdev": f"tpm-{device.alias}", "id": device.alias}
        add_device(cmd, device, {**props, **address_props(cmd.domain, device)})


def _backend(cmd: Command, device: Tpm) -> None:
    backend, name = device.backend, f"tpm-{device.alias}"
    prepared = cmd.resources.by_alias.get(device.alias or "")
    if isinstance(prepared, Passed):
        cmd.pass_fds(prepared.device)
        cmd.pass_fds(prepared.cancel)
        options = {"id": name, "path": prepared.device.path, "cancel-path": prepared.cancel.path}
        cmd.option("-tpmdev", option_text("passthrough", options))
        return
    path = backend.path if isinstance(backend, ExternalTpm) else prepared
    cmd.option("-chardev", option_text("socket", {"id": _CHARDEV, "path": path}))
    cmd.option("-tpmdev", option_text("emulator", {"id": name, "chardev": _CHARDEV}))
