"""The driver's settings, named as in libvirt's qemu.conf, with its defaults."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs

from hvcore_qemu import conffile

if TYPE_CHECKING:
    from hvcore.state import StateDirectory
    from hvcore_qemu.conffile import Settings
    from hvcore_qemu.firmware import Firmware

_log = logging.getLogger(__name__)


def installed_firmware() -> tuple[Firmware, ...]:
    """Return the firmware of this host; a package that is installed later counts as well."""
    from hvcore_qemu import firmware  # noqa: PLC0415 - settings alone never need it

    return firmware.load(Path("/"))


@attrs.frozen(kw_only=True)
class QemuConfig:
    """Settings of one connection.

    :ivar nvram: firmware without a descriptor, each with the template of its variables.
    :ivar find_firmware: the descriptors of the host, in order of preference.
    :ivar seccomp_sandbox: 1 always, 0 never, -1 where QEMU can.
    :ivar config_base_dir: where versions before 9.7 of libvirt put sockets of channels.
    :ivar swtpm_versions: versions that the installed emulator of TPMs has; none without one.
    :ivar qemu_rdp: path of the RDP server for QEMU; None where there is none, as always so far
        where guests really start.
    :ivar vnc_tls_x509_verify: whether clients of VNC must show certificates.
    :ivar chardev_tls_x509_verify: whether clients of character devices must; libvirt's defaults
        differ.
    :ivar security_model: security driver of labels that name none.
    :ivar set_process_name: show the guest's name in the list of processes.
    :ivar vnc_allow_host_audio: guests with VNC play on the host, as QEMU_AUDIO_DRV says.
    :ivar allow_emulatorpin_with_auto_placement: accept, as libvirt does, that a new definition
        pins the emulator and leaves its CPUs to numad; the pin then counts for the emulator.
    :ivar mdev_display_auto_egl_headless: give a guest whose mediated device draws for VNC or Spice
        the OpenGL of the host, if its document does not.
    :ivar nographics_allow_host_audio: so do guests without any display.
    """

    lib_dir: str = "/var/lib/hvcore/qemu"
    channel_target_dir: str = "/run/hvcore/qemu/channel"
    memory_backing_dir: str = "/var/lib/hvcore/qemu/ram"
    nvram_dir: str = "/var/lib/hvcore/qemu/nvram"
    passt_state_dir: str = "/run/hvcore/qemu/passt"
    dbus_state_dir: str = "/run/hvcore/qemu/dbus"
    nvram: tuple[tuple[str, str], ...] = (
        ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
        ("/usr/share/OVMF/OVMF_CODE.secboot.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
        ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
        ("/usr/share/AAVMF/AAVMF32_CODE.fd", "/usr/share/AAVMF/AAVMF32_VARS.fd"),
    )
    find_firmware: Callable[[], tuple[Firmware, ...]] = installed_firmware
    hugetlbfs: tuple[tuple[str, int], ...] = ()
    privileged: bool = True
    security_model: str | None = "none"
    set_process_name: bool = False
    allow_emulatorpin_with_auto_placement: bool = False
    mdev_display_auto_egl_headless: bool = False

    vnc_listen: str = "127.0.0.1"
    vnc_tls: bool = False
    vnc_tls_x509_cert_dir: str = "/etc/pki/libvirt-vnc"
    vnc_tls_x509_verify: bool = False
    vnc_tls_x509_secret_uuid: str | None = None
    vnc_password: str | None = None
    vnc_sasl: bool = False
    vnc_sasl_dir: str | None = None
    vnc_allow_host_audio: bool = False
    vnc_auto_unix_socket: bool = False
    nographics_allow_host_audio: bool = False
    spice_listen: str = "127.0.0.1"
    spice_tls: bool = False
    spice_tls_x509_cert_dir: str = "/etc/pki/libvirt-spice"
    spice_password: str | None = None
    spice_sasl: bool = False
    spice_sasl_dir: str | None = None
    spice_auto_unix_socket: bool = False
    config_base_dir: str = "/etc/hvcore"
    swtpm_state_dir: str = "/run/hvcore/qemu/swtpm"
    swtpm_versions: tuple[str, ...] = ("1.2", "2.0")
    rdp_listen: str = "127.0.0.1"
    qemu_rdp: str | None = None
    chardev_tls: bool = False
    chardev_tls_x509_cert_dir: str = "/etc/pki/libvirt-chardev"
    chardev_tls_x509_verify: bool = True
    chardev_tls_x509_secret_uuid: str | None = None
    vxhs_tls: bool = False
    vxhs_tls_x509_cert_dir: str = "/etc/pki/libvirt-vxhs"
    vxhs_tls_x509_secret_uuid: str | None = None
    nbd_tls: bool = False
    nbd_tls_x509_cert_dir: str = "/etc/pki/libvirt-nbd"
    nbd_tls_x509_secret_uuid: str | None = None
    dump_guest_core: bool = False
    seccomp_sandbox: int = -1
    log_timestamp: bool = True
    deprecation_behavior: str = "none"
    gluster_debug_level: int = 4
    storage_use_nbdkit: bool = False


SETTINGS: Final[dict[str, Callable[[Settings, str], Any]]] = {
    **dict.fromkeys(
        (
            "allow_emulatorpin_with_auto_placement",
            "chardev_tls",
            "chardev_tls_x509_verify",
            "dump_guest_core",
            "log_timestamp",
            "mdev_display_auto_egl_headless",
            "nbd_tls",
            "nographics_allow_host_audio",
            "set_process_name",
            "spice_auto_unix_socket",
            "spice_sasl",
            "spice_tls",
            "storage_use_nbdkit",
            "vnc_allow_host_audio",
            "vnc_auto_unix_socket",
            "vnc_sasl",
            "vnc_tls",
            "vnc_tls_x509_verify",
            "vxhs_tls",
        ),
        conffile.Settings.boolean,
    ),
    **dict.fromkeys(
        (
            "chardev_tls_x509_cert_dir",
            "chardev_tls_x509_secret_uuid",
            "deprecation_behavior",
            "nbd_tls_x509_cert_dir",
            "nbd_tls_x509_secret_uuid",
            "qemu_rdp",
            "rdp_listen",
            "spice_listen",
            "spice_password",
            "spice_sasl_dir",
            "spice_tls_x509_cert_dir",
            "vnc_listen",
            "vnc_password",
            "vnc_sasl_dir",
            "vnc_tls_x509_cert_dir",
            "vnc_tls_x509_secret_uuid",
            "vxhs_tls_x509_cert_dir",
            "vxhs_tls_x509_secret_uuid",
        ),
        conffile.Settings.string,
    ),
    "gluster_debug_level": conffile.Settings.unsigned,
    "seccomp_sandbox": conffile.Settings.signed,
}
"""The settings that a file may have, and how each is read; the others are the driver's own."""


def configured(defaults: QemuConfig, settings: Settings | None) -> QemuConfig:
    """Return ``defaults`` with what ``settings`` say in place.

    A setting that is not known is passed over with a warning, since a file may be libvirt's.

    :raises HvError: when a value is of the wrong kind or out of range.
    """
    if settings is None:
        return defaults
    for name in sorted(settings.values.keys() - SETTINGS.keys()):
        _log.warning("%s: setting '%s' is not known", settings.file, name)
    given = {
        name: kind(settings, name) for name, kind in SETTINGS.items() if name in settings.values
    }
    return attrs.evolve(defaults, **given)


def of_root(directory: StateDirectory) -> QemuConfig:
    """Return the settings in ``qemu.conf`` or ``qemu.toml`` of the state root.

    What they leave out is as in libvirt, with every path below the state root.

    :raises HvError: when the file cannot be read or understood.
    """
    defaults = QemuConfig(
        lib_dir=str(directory.config),
        channel_target_dir=str(directory.sockets / "channel"),
        memory_backing_dir=str(directory.config / "ram"),
        nvram_dir=str(directory.config / "nvram"),
        passt_state_dir=str(directory.run / "passt"),
        dbus_state_dir=str(directory.run / "dbus"),
        privileged=os.geteuid() == 0,
    )
    return configured(defaults, conffile.read(directory.config, "qemu"))
