"""Choosing firmware: descriptors of what is installed, and which of them fits a guest.

Descriptors are those of QEMU's docs/interop/firmware.json. A choice is written into the domain in
full, so that a second look at it changes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import get_args

import attrs

from hvcore.errors import ErrorClass
from hvcore.errors import Issue
from hvcore.model.devices.storage import FileSource
from hvcore.model.features import Features
from hvcore.model.launchsecurity import Sev
from hvcore.model.launchsecurity import SevSnp
from hvcore.model.os import FIRMWARE_FORMATS
from hvcore.model.os import Arch
from hvcore.model.os import FirmwareFeature
from hvcore.model.os import Loader
from hvcore.model.os import Nvram
from hvcore.rules.os import firmware_issue
from hvcore.rules.os import os_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hvcore.model.domain import Domain
    from hvcore.model.os import Os
    from hvcore_qemu.config import QemuConfig

SIZE_MAX: Final = 2**20
"""Larger descriptors are not read, in bytes."""

_DIRECTORIES: Final = ("usr/share/qemu/firmware", "etc/qemu/firmware")
_USER_DIRECTORY: Final = "qemu/firmware"

_QEMU_ARCHES: Final = {"i386": "i686", "arm": "armv7l", "or32": "openrisc"}
_INTERFACE_OF: Final = {"bios": "bios", "efi": "uefi"}
_FIRMWARE_OF: Final = {interface: name for name, interface in _INTERFACE_OF.items()}
_INTERFACE_OF_LOADER: Final = {"rom": "bios", "pflash": "uefi"}
_INTERFACES: Final = frozenset({"bios", "openfirmware", "uboot", "uefi"})
_MODES: Final = frozenset({"split", "combined", "stateless"})

_SEV_ES: Final = 1 << 2
"""Bit of SEV's policy: registers are encrypted as well."""

_LOCAL: Final = frozenset({None, "file", "block", "dir", "vhostuser"})


@attrs.frozen(kw_only=True)
class Firmware:
    """What one descriptor says.

    :ivar path: of the descriptor.
    :ivar device: ``flash``, ``kernel`` or ``memory``: how the guest gets the image.
    :ivar mode: of flash: ``split`` has its variables in another image.
    :ivar template: what a new variable store is copied from.
    :ivar targets: architectures and patterns of machine types.
    """

    path: str
    interfaces: tuple[str, ...]
    device: str
    image: str
    image_format: str = "raw"
    mode: str = "split"
    template: str | None = None
    template_format: str | None = None
    targets: tuple[tuple[str, tuple[re.Pattern[str], ...]], ...]
    features: frozenset[str]

    def serves(self, arch: str | None, machine: str) -> bool:
        """Return whether it is for guests of an architecture and machine type."""
        return any(
            name == arch and any(pattern.match(machine) for pattern in patterns)
            for name, patterns in self.targets
        )

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of firmware, as in ``<os firmware=...>``, that it is."""
        return tuple(_FIRMWARE_OF[name] for name in self.interfaces if name in _FIRMWARE_OF)


# -- reading ----------------------------------------------------------------------------------


def load(root: Path, user: Path | None = None) -> tuple[Firmware, ...]:
    """Read the descriptors of a host, in order of preference.

    A file hides those of the same name in directories that count less, an empty one altogether.

    :param root: the host's file system.
    :param user: the user's own configuration (``$XDG_CONFIG_HOME``), where it counts.
    """
    folders = [root / name for name in _DIRECTORIES]
    if user is not None:
        folders.append(user / _USER_DIRECTORY)
    files: dict[str, Path] = {}
    for folder in folders:
        if folder.is_dir():
            files.update((f.name, f) for f in folder.iterdir() if not f.name.startswith("."))
    found = []
    for name in sorted(files):
        file = files[name]
        if file.is_file() and 0 < file.stat().st_size <= SIZE_MAX:
            firmware = parse(file.read_text("utf-8", "replace"), str(file))
            if firmware is not None:
                found.append(firmware)
    return tuple(found)


def parse(text: str, path: str) -> Firmware | None:
    """Return what a descriptor says, or None where it does not follow the specification."""
    try:
        document = json.loads(text)
        interfaces = tuple(document["interface-types"])
        if not _INTERFACES.issuperset(interfaces):
            return None
        return Firmware(
            path=path,
            interfaces=interfaces,
            targets=tuple(_targets(document["targets"])),
            features=frozenset(document["features"]),
            **_mapping(document["mapping"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _mapping(mapping: Any) -> dict[str, Any]:
    device = mapping["device"]
    if device in ("kernel", "memory"):
        return {"device": device, "image": str(mapping["filename"])}
    if device != "flash":
        raise ValueError(device)
    mode = mapping.get("mode", "split")  # descriptors older than the field are all split
    if mode not in _MODES:
        raise ValueError(mode)
    image = mapping["executable"]
    found = {
        "device": device,
        "mode": mode,
        "image": str(image["filename"]),
        "image_format": str(image["format"]),
    }
    if mode == "split":
        template = mapping["nvram-template"]
        found["template"] = str(template["filename"])
        found["template_format"] = str(template["format"])
    return found


def _targets(targets: Any) -> Iterator[tuple[str, tuple[re.Pattern[str], ...]]]:
    for target in targets:
        name = target["architecture"]
        arch = _QEMU_ARCHES.get(name, name)
        if arch not in get_args(Arch):
            raise ValueError(name)
        yield arch, tuple(_glob(str(machine)) for machine in target["machines"])


def _glob(pattern: str) -> re.Pattern[str]:
    """Return a pattern with ``*`` and ``?`` as the only special characters, as GLib's."""
    text = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.compile(text + r"\Z", re.DOTALL)


# -- matching ---------------------------------------------------------------------------------


def _fits_interface(domain: Domain, firmware: Firmware) -> bool:
    os = os_of(domain)
    want = _INTERFACE_OF.get(os.firmware or "")
    if want is None and os.loader is not None:
        want = _INTERFACE_OF_LOADER.get(os.loader.type or "")
    return want in firmware.interfaces


def _fits_paths(domain: Domain, firmware: Firmware) -> bool:
    """Tell whether the paths that the document gives are those of the firmware."""
    os = os_of(domain)
    if firmware.device == "kernel":
        return os.kernel in (None, firmware.image)
    if os.loader is not None and os.loader.path not in (None, firmware.image):
        return False
    template = os.nvram.template if os.nvram is not None else None
    return firmware.device != "flash" or template in (None, firmware.template)


def _fits_target(domain: Domain, firmware: Firmware) -> bool:
    os = os_of(domain)
    return firmware.serves(os.arch, os.machine or "")


def _fits_sleep_states(domain: Domain, firmware: Firmware) -> bool:
    pm = domain.pm
    if pm is None:
        return True
    return not (
        (pm.suspend_to_mem and "acpi-s3" not in firmware.features)
        or (pm.suspend_to_disk and "acpi-s4" not in firmware.features)
    )


def _fits_features(domain: Domain, firmware: Firmware) -> bool:
    return all(
        wanted.enabled == (wanted.name in firmware.features)
        for wanted in os_of(domain).firmware_features
    )


def _fits_smm(domain: Domain, firmware: Firmware) -> bool:
    """Tell whether the guest can have what protects the variables."""
    loader = os_of(domain).loader
    secure = loader.secure if loader is not None else None
    if "requires-smm" not in firmware.features:
        return secure is not True
    smm = domain.features.smm if domain.features is not None else None
    return smm is not False and secure is not False


def _fits_device(domain: Domain, firmware: Firmware) -> bool:
    """Tell whether the image reaches the guest in the way that the document asks for."""
    loader = os_of(domain).loader or Loader()
    if firmware.device == "memory":
        return loader.type in (None, "rom") and loader.readonly is not False
    if firmware.device != "flash":
        return True
    mode = "stateless" if loader.stateless else "split"
    return (
        loader.type in (None, "pflash")
        and firmware.mode == mode
        and loader.readonly is not False
        and firmware.image_format in FIRMWARE_FORMATS
        and loader.format in (None, firmware.image_format)
        and (mode == "stateless" or firmware.template_format in FIRMWARE_FORMATS)
    )


def _fits_launch_security(domain: Domain, firmware: Firmware) -> bool:
    security = domain.launch_security
    if isinstance(security, SevSnp):
        return "amd-sev-snp" in firmware.features
    if not isinstance(security, Sev):
        return True
    return "amd-sev" in firmware.features and (
        not security.policy & _SEV_ES or "amd-sev-es" in firmware.features
    )


TESTS: Final[tuple[Callable[[Domain, Firmware], bool], ...]] = (
    _fits_interface,
    _fits_paths,
    _fits_target,
    _fits_sleep_states,
    _fits_features,
    _fits_smm,
    _fits_device,
    _fits_launch_security,
)


def fits(domain: Domain, firmware: Firmware) -> bool:
    """Return whether a guest can have this firmware, and the document does not exclude it."""
    return all(test(domain, firmware) for test in TESTS)


# -- choosing ---------------------------------------------------------------------------------


def fill(domain: Domain, config: QemuConfig, *, abi_update: bool) -> Issue | None:
    """Choose the firmware of a guest, and write the choice into the domain.

    Firmware that the document names by its path is completed: format, template, variables.

    :param abi_update: the guest is new.
    :returns: why no firmware could be chosen, or None.
    """
    os = os_of(domain)
    issue = firmware_issue(os)
    if issue is not None:
        return issue
    if os.firmware is None and (os.loader is None or os.loader.type == "rom"):
        return None
    chosen = next((f for f in config.find_firmware() if fits(domain, f)), None)
    if chosen is not None:
        _apply(domain, chosen)
    elif os.firmware is not None:
        return Issue(
            f"Unable to find '{os.firmware}' firmware that is compatible with the "
            "current configuration",
            ErrorClass.OPERATION_FAILED,
        )
    elif not _apply_legacy(os, config) and os.loader is not None:
        # Somebody's own build: it was raw when there was nothing else.
        os.loader.format = os.loader.format or "raw"
    _ensure_nvram(domain, config, abi_update=abi_update)
    return None


def _apply(domain: Domain, firmware: Firmware) -> None:
    """Write everything that follows from the choice into the domain."""
    os = os_of(domain)
    if firmware.device == "kernel":
        os.kernel = firmware.image
    else:
        os.loader = os.loader or Loader()
        os.loader.path = firmware.image
        os.loader.type = "rom"
    if firmware.device == "flash":
        _apply_flash(os, firmware)
    if "requires-smm" in firmware.features:
        domain.features = domain.features or Features()
        domain.features.smm = True
        os.loader = os.loader or Loader()
        os.loader.secure = True
    if os.firmware is None:
        names = [_FIRMWARE_OF[i] for i in firmware.interfaces if i in _FIRMWARE_OF]
        os.firmware = names[0] if names else None  # type: ignore[assignment] # a value of Firmware
    if os.firmware is not None:
        _apply_features(os, firmware)


def _apply_flash(os: Os, firmware: Firmware) -> None:
    loader = os.loader
    assert loader is not None
    loader.type = "pflash"
    loader.readonly = True
    loader.format = firmware.image_format  # type: ignore[assignment] # checked when it matched
    if firmware.mode != "split":
        return
    if os.nvram is None or os.nvram.type in _LOCAL:
        os.nvram = os.nvram or Nvram()
        os.nvram.template = firmware.template
        os.nvram.template_format = firmware.template_format  # type: ignore[assignment] # the same
    else:
        # Nobody could copy a template to another host.
        os.nvram.template = os.nvram.template_format = None


def _apply_features(os: Os, firmware: Firmware) -> None:
    """Show the features of the chosen firmware."""
    loader = os.loader
    remote = (
        loader is not None
        and loader.type == "pflash"
        and not loader.stateless
        and (os.nvram is None or os.nvram.template is None)
    )
    names = ["secure-boot"] if remote else ["enrolled-keys", "secure-boot"]
    # Which keys are in a variable store that is not made from the template is not known.
    os.firmware_features = [
        FirmwareFeature(name=name, enabled=name in firmware.features)  # type: ignore[arg-type] # above
        for name in names
    ]


def _apply_legacy(os: Os, config: QemuConfig) -> bool:
    """Complete firmware from the list of pairs that was there before descriptors.

    :returns: whether the firmware is in the list.
    """
    loader = os.loader
    if (
        loader is None
        or loader.type != "pflash"
        or loader.readonly is False
        or loader.stateless
        or loader.format not in (None, "raw")
    ):
        return False
    template = dict(reversed(config.nvram)).get(loader.path or "")
    if template is None:
        return False
    loader.readonly = True
    loader.format = "raw"
    os.nvram = os.nvram or Nvram()
    os.nvram.template = os.nvram.template or template
    os.nvram.template_format = os.nvram.template_format or "raw"
    return True


def _ensure_nvram(domain: Domain, config: QemuConfig, *, abi_update: bool) -> None:
    """Give a guest with flash a variable store of its own."""
    os = os_of(domain)
    loader = os.loader
    if loader is None or loader.type != "pflash" or not loader.readonly or loader.stateless:
        return
    os.nvram = nvram = os.nvram or Nvram()
    if not _is_empty(nvram):
        nvram.format = nvram.format or loader.format
        return
    nvram.format = nvram.template_format or loader.format
    extension = {"raw": ".fd", "qcow2": ".qcow2"}.get(nvram.format or "", "")
    if nvram.format == "raw" and abi_update and (nvram.template or "").endswith(".raw"):
        extension = ".raw"  # newer builds of edk2 are called so; existing guests keep theirs
    path = f"{config.nvram_dir}/{domain.name}_VARS{extension}"
    if nvram.type is None:
        nvram.path = path
    else:
        nvram.type, nvram.source = "file", FileSource(path=path)


def _is_empty(nvram: Nvram) -> bool:
    """Return whether it is not yet known where the variables are."""
    if nvram.type is None:
        return nvram.path is None
    if nvram.type in _LOCAL:
        return getattr(nvram.source, "path", None) is None
    return nvram.source is None
