"""The test guest itself: the archive format, the module order, and that it boots and powers off."""

from __future__ import annotations

import json
import lzma
import socket
import subprocess
from typing import IO
from typing import TYPE_CHECKING

import pytest

from tests.guest.build import MARKER
from tests.guest.build import Archive
from tests.guest.build import Guest
from tests.guest.build import GuestUnavailableError
from tests.guest.build import find_busybox
from tests.guest.build import find_kernel
from tests.guest.build import load_order

if TYPE_CHECKING:
    from pathlib import Path


def _modules(folder: Path, **depends: str) -> Path:
    (folder / "modules.builtin").write_text("kernel/drivers/core-part.ko\n")
    for name, needed in depends.items():
        content = b"\x7fELF\0depends=" + needed.encode() + b"\0"
        (folder / f"{name.replace('_', '-')}.ko.xz").write_bytes(lzma.compress(content))
    return folder


def test_modules_come_after_what_they_depend_on(tmp_path):
    folder = _modules(tmp_path, virtio_net="failover,virtio", virtio="core_part", failover="")
    assert list(load_order(folder, ("virtio_net", "virtio"))) == [
        "failover",
        "virtio",
        "virtio_net",
    ]


def test_missing_module_is_named(tmp_path):
    folder = _modules(tmp_path, virtio_net="virtio")
    with pytest.raises(GuestUnavailableError, match=r"has no module virtio$"):
        load_order(folder, ("virtio_net",))


def test_archive_is_read_back_by_its_format():
    archive = Archive()
    archive.folder("bin")
    archive.file("bin/x", b"hello")
    raw = archive.finish()
    names, at = [], 0
    while at < len(raw):
        assert raw[at : at + 6] == b"070701"
        fields = [int(raw[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        size, name_size = fields[6], fields[11]
        start = at + 110
        names.append(raw[start : start + name_size - 1].decode())
        at = start + name_size + (-(start + name_size) % 4)
        if names[-1] == "bin/x":
            assert raw[at : at + size] == b"hello"
            assert fields[1] == 0o100755
        at += size + (-size % 4)
    assert names == ["bin", "bin/x", "TRAILER!!!"]


def test_kernel_named_by_the_environment_must_exist(monkeypatch, tmp_path):
    monkeypatch.setenv("HVCORE_TEST_KERNEL", str(tmp_path / "vmlinuz-1"))
    with pytest.raises(GuestUnavailableError, match="missing or not readable"):
        find_kernel()


def test_busybox_of_another_machine_is_refused(monkeypatch, tmp_path):
    program = tmp_path / "busybox"
    program.write_bytes(b"\x7fELF".ljust(0x12, b"\0") + (62).to_bytes(2, "little"))
    monkeypatch.setenv("HVCORE_TEST_BUSYBOX_AARCH64", str(program))
    with pytest.raises(GuestUnavailableError, match="is not for aarch64"):
        find_busybox("aarch64")


def _start(qemu: Path, guest: Guest, append: str, *arguments: str) -> subprocess.Popen[bytes]:
    command = [str(qemu), "-accel", "tcg", "-m", "256", "-nodefaults", "-display", "none"]
    command += ["-serial", "stdio", "-kernel", str(guest.kernel)]
    command += ["-initrd", str(guest.initrd)]
    command += ["-append", f"console=ttyS0 quiet {append}", *arguments]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)


def _until_marker(console: IO[bytes] | None) -> list[str]:
    assert console is not None
    lines: list[str] = []
    for line in console:
        lines.append(line.decode(errors="replace").strip())
        if lines[-1] == MARKER:
            return lines
    pytest.fail("no marker on the console: " + "\n".join(lines[-20:]))


@pytest.mark.qemu
@pytest.mark.guest
@pytest.mark.timeout(120)
def test_guest_reports_itself_and_powers_off(qemu, guest):
    with _start(qemu, guest, "hvcore.poweroff=0", "-smp", "2") as process:
        lines = _until_marker(process.stdout)
        assert "HVCORE-GUEST cpus=2" in lines
        assert not [line for line in lines if "refused=" in line]
        assert process.wait(60) == 0


@pytest.mark.qemu
@pytest.mark.guest
@pytest.mark.timeout(120)
def test_guest_answers_the_power_button(qemu, guest, tmp_path):
    path = tmp_path / "qmp"
    monitor = f"unix:{path},server=on,wait=off"
    with _start(qemu, guest, "", "-machine", "q35", "-qmp", monitor) as process:
        _until_marker(process.stdout)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            for command in ("qmp_capabilities", "system_powerdown"):
                client.sendall(json.dumps({"execute": command}).encode())
            assert process.wait(60) == 0
