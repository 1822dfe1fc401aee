"""Fixtures of all tests: a home of their own, the QEMU binary, and the test guest."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.guest.build import Guest
from tests.guest.build import GuestUnavailableError
from tests.guest.build import build

QEMU = "qemu-system-x86_64"
OLDEST_QEMU = 9


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests away from the state, configuration and sockets of whoever runs them."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name in ("CONFIG", "STATE", "CACHE", "DATA"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(home / name.lower()))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home))
    for name in [name for name in os.environ if name.startswith(("HV_", "HVCORE_"))]:
        # What only says where test files are does not change what the library does.
        if not name.startswith(("HVCORE_TEST_", "HVCORE_CONFORMANCE_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _api_of_cloud_hypervisor(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hold what tests of that driver ask and are answered against the description of the API."""
    if request.path.stem.startswith("test_ch_"):
        from tests import ch_api  # only they need the driver

        ch_api.hold(monkeypatch)


@pytest.fixture(scope="session")
def qemu() -> Path:
    """Return QEMU's binary; a test that uses it is marked ``qemu``."""
    found = shutil.which(QEMU)
    if found is None:
        pytest.skip(f"{QEMU} is not installed")
    return _new_enough(found)


def _new_enough(found: str) -> Path:
    banner = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"version (\d+)", banner)
    if version is None or int(version[1]) < OLDEST_QEMU:
        pytest.skip(f"{found} is older than QEMU {OLDEST_QEMU}")
    return Path(found)


@pytest.fixture(scope="session")
def qemu_aarch64() -> Path:
    """Return QEMU's binary for aarch64; the environment may say where it was unpacked."""
    found = os.environ.get("HVCORE_TEST_QEMU_AARCH64") or shutil.which("qemu-system-aarch64")
    if found is None:
        pytest.skip("qemu-system-aarch64 is not installed")
    return _new_enough(found)


@pytest.fixture(scope="session")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Guest:
    """Return kernel and initramfs of the test guest; a test that boots it is marked ``guest``."""
    return _built(tmp_path_factory, "x86_64")


@pytest.fixture(scope="session")
def guest_aarch64(tmp_path_factory: pytest.TempPathFactory) -> Guest:
    """Return the test guest for aarch64, which has firmware too."""
    return _built(tmp_path_factory, "aarch64")


def _built(tmp_path_factory: pytest.TempPathFactory, architecture: str) -> Guest:
    try:
        return build(tmp_path_factory.mktemp("guest") / "initramfs.cpio", architecture)
    except GuestUnavailableError as error:
        pytest.skip(str(error))
