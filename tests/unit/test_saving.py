"""Guests that go into files and come out again, on the mock driver."""

from __future__ import annotations

import stat

import pytest
from click.testing import CliRunner

from hvcore import connect
from hvcore import saveimage
from hvcore.cli.main import hv
from hvcore.errors import ConfigError
from hvcore.errors import DriverError
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.errors import NoSuchDomain
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from hvcore.saveimage import Image
from hvcore_test.driver import TestDriver

XML = """<domain type='test'><name>vm</name><uuid>00000000-1111-2222-3333-444444444444</uuid>
<memory>2048</memory><currentMemory>1024</currentMemory>
<vcpu>1</vcpu><os><type>hvm</type></os></domain>"""


@pytest.fixture
async def host():
    async with await connect("test:///default") as found:
        yield found


@pytest.fixture
async def domain(host):
    found = await host.define(XML)
    await found.start()
    return found


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def drain(stream):
    out = []
    while (item := stream.get_nowait()) is not None:
        out.append((type(item).__name__, str(getattr(item, "reason", ""))))
    return out


async def test_a_saved_guest_comes_back(host, domain, tmp_path):
    path = str(tmp_path / "vm.save")
    stream = host.events()
    await domain.save(path)
    assert await domain.state() == (State.SHUTOFF, ShutoffReason.SAVED)
    assert mode(tmp_path / "vm.save") == 0o600
    found = await host.restore(path)
    assert found == domain
    assert await domain.state() == (State.RUNNING, RunningReason.RESTORED)
    assert (await domain.info()).memory == 1024
    assert drain(stream) == [
        ("Suspended", "Paused"),
        ("Stopped", "Saved"),
        ("Started", "Restored"),
    ]
    with pytest.raises(InvalidState, match="domain 'vm' is already active"):
        await host.restore(path)


@pytest.mark.parametrize(
    ("saved", "restored", "runs", "details"),
    [
        (None, None, True, ["Restored"]),
        (False, None, False, ["Restored", "Restored"]),
        (None, False, False, ["Restored", "Paused"]),
        (False, True, True, ["Restored"]),
    ],
)
async def test_whether_it_runs_is_said_when_saved_or_restored(
    host, domain, tmp_path, saved, restored, runs, details
):
    path = str(tmp_path / "vm.save")
    await domain.save(path, running=saved)
    stream = host.events()
    await host.restore(path, running=restored)
    assert [detail for _, detail in drain(stream)] == details
    expected = (
        (State.RUNNING, RunningReason.RESTORED) if runs else (State.PAUSED, PausedReason.MIGRATION)
    )
    assert await domain.state() == expected


async def test_a_paused_guest_stays_paused(host, domain, tmp_path):
    await domain.suspend()
    stream = host.events()
    await domain.save(str(tmp_path / "x"))
    assert drain(stream) == [("Stopped", "Saved")]
    await host.restore(str(tmp_path / "x"))
    assert (await domain.state())[0] is State.PAUSED


async def test_a_transient_guest_lives_on_in_its_file(host, tmp_path):
    domain = await host.create(XML)
    await domain.save(str(tmp_path / "x"))
    with pytest.raises(NoSuchDomain):
        await host.lookup("vm")
    found = await host.restore(str(tmp_path / "x"))
    assert (found.is_active, found.is_persistent) == (True, False)


async def test_what_fails_lets_the_guest_run_on(host, domain, tmp_path, monkeypatch):
    path = tmp_path / "x"

    async def save(self, record, fd):
        self._stand_still(record, PausedReason.SAVE)
        assert record.reason is PausedReason.SAVE
        raise DriverError("no room")

    monkeypatch.setattr(TestDriver, "save", save)
    with pytest.raises(DriverError, match="no room"):
        await domain.save(str(path))
    assert await domain.state() == (State.RUNNING, RunningReason.SAVE_CANCELED)
    assert not path.exists()
    with pytest.raises(DriverError, match="no room"):
        await domain.managed_save()
    assert not domain.has_managed_save


async def test_words_of_files_that_are_no_saved_guests(host, domain, tmp_path):
    path = tmp_path / "x"
    with pytest.raises(DriverError) as caught:
        await host.restore(str(path))
    assert str(caught.value) == f"Failed to open file '{path}': No such file or directory"
    for content, message in (
        (b"", "failed to read qemu header"),
        (b"x" * 5000, "image magic is incorrect"),
        (saveimage.PARTIAL.ljust(64, b"\0"), "save image is incomplete"),
        (saveimage.MAGIC + b"\2" + b"\0" * 47, "image version is not supported (2 > 1)"),
        (saveimage.MAGIC + b"\1" + b"\0" * 47, "invalid header data length: 0"),
    ):
        path.write_bytes(content)
        with pytest.raises(DriverError) as caught:
            await host.restore(str(path))
        assert str(caught.value) == f"operation failed: {message}"
    with pytest.raises(DriverError, match="Failed to create file '/nowhere/x'"):
        await domain.save("/nowhere/x")
    assert domain.is_active


async def test_a_damaged_state_starts_nothing(host, domain, tmp_path):
    path = tmp_path / "x"
    await domain.save(str(path))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DriverError, match="load of migration failed"):
        await host.restore(str(path))
    assert await domain.state() == (State.SHUTOFF, ShutoffReason.FAILED)


async def test_a_file_of_another_driver_is_refused(host, tmp_path):
    image = Image(document=XML, running=True, driver="other")
    with saveimage.create(str(tmp_path / "x"), image) as file:
        file.finish()
    with pytest.raises(DriverError, match="image was saved by driver 'other'"):
        await host.restore(str(tmp_path / "x"))
    assert [found.name for found in await host.domains()] == ["test"]


async def test_the_document_in_a_file_can_be_changed(host, domain, tmp_path):
    path = str(tmp_path / "x")
    await domain.save(path)
    text = await host.save_image_xml(path)
    assert "<name>vm</name>" in text
    changed = text.replace("<memory", "<title>back</title>\n  <memory", 1)
    await host.save_image_define(path, changed, running=False)
    assert "<title>back</title>" in await host.save_image_xml(path)
    with pytest.raises(ConfigError):
        await host.save_image_define(path, text.replace("2048", "4096"))
    long = text.replace("<memory", f"<title>{'long' * 2000}</title>\n  <memory", 1)
    with pytest.raises(DriverError, match="new xml too large to fit in file"):
        await host.save_image_define(path, long)
    await host.restore(path)
    assert "back" in await domain.xml()
    assert (await domain.state())[0] is State.PAUSED


async def test_the_next_start_begins_with_a_managed_save(host, domain):
    stream = host.events()
    await domain.managed_save()
    assert domain.has_managed_save
    with pytest.raises(InvalidState, match="Refusing to undefine while domain managed save image"):
        await domain.undefine()
    assert "<name>vm</name>" in await domain.managed_save_xml()
    await domain.start()
    assert not domain.has_managed_save
    assert await domain.state() == (State.RUNNING, RunningReason.RESTORED)
    assert drain(stream) == [
        ("Suspended", "Paused"),
        ("Stopped", "Saved"),
        ("Started", "Restored"),
    ]
    await domain.managed_save()
    await domain.start(force_boot=True)
    assert await domain.state() == (State.RUNNING, RunningReason.BOOTED)
    assert not domain.has_managed_save
    await domain.managed_save()
    await domain.managed_save_remove()
    with pytest.raises(DriverError, match="Failed to remove managed save file"):
        await domain.managed_save_remove()
    with pytest.raises(HvError, match="no managed save image"):
        await domain.managed_save_xml()
    await domain.start(paused=True)
    await domain.managed_save(running=True)
    await domain.undefine(managed_save=True)
    with pytest.raises(NoSuchDomain):
        await domain.state()


async def test_autostart_and_pausing_use_the_managed_save(host, domain):
    await domain.set_autostart()
    await domain.managed_save()
    await host.autostart()
    assert await domain.state() == (State.RUNNING, RunningReason.RESTORED)
    await domain.managed_save()
    await domain.start(paused=True)
    assert (await domain.state())[0] is State.PAUSED


async def test_a_transient_domain_has_no_next_start(host):
    domain = await host.create(XML)
    with pytest.raises(InvalidState, match="cannot do managed save for transient domain"):
        await domain.managed_save()
    assert domain.is_active


async def test_dumps(host, domain, tmp_path):
    path = tmp_path / "core"
    stream = host.events()
    await domain.dump(str(path))
    assert path.read_bytes() == b"TestGuestMagic\0"
    assert mode(path) == 0o600
    assert await domain.state() == (State.RUNNING, RunningReason.UNPAUSED)
    await domain.dump(str(path), live=True)
    await domain.dump(str(path), reset=True)
    await domain.dump(str(path), crash=True)
    assert await domain.state() == (State.SHUTOFF, ShutoffReason.CRASHED)
    assert drain(stream) == [
        ("Suspended", "Paused"),
        ("Resumed", "Unpaused"),
        ("Suspended", "Paused"),
        ("Rebooted", ""),
        ("Resumed", "Unpaused"),
        ("Suspended", "Paused"),
        ("Stopped", "Crashed"),
    ]
    with pytest.raises(InvalidState, match="domain is not running"):
        await domain.dump(str(path))


async def test_dumps_that_are_refused(domain, tmp_path):
    path = tmp_path / "core"
    with pytest.raises(HvError, match="kdump-compressed format is not supported here"):
        await domain.dump(str(path), kind="elf")
    assert not path.exists()
    assert (await domain.state())[0] is State.RUNNING
    with pytest.raises(HvError, match="unknown dumpformat 'x'"):
        await domain.dump(str(path), kind="x")
    with pytest.raises(HvError, match="'VIR_DUMP_CRASH' and 'VIR_DUMP_LIVE'"):
        await domain.dump(str(path), crash=True, live=True)


def run(*words):
    return CliRunner().invoke(hv, ["-c", "test:///default", *words])


def test_the_verbs(tmp_path):
    path = str(tmp_path / "x")
    done = run("save", "test", path)
    assert (done.exit_code, done.output) == (0, f"Domain 'test' saved to {path}\n")
    # Another process starts out with the domain running.
    assert "<name>test</name>" in run("save-image-dumpxml", path).output
    failed = run("restore", path)
    assert failed.exit_code == 1
    assert f"error: Failed to restore domain from {path}\n" in failed.output
    assert run("restore", path, "--running", "--paused").exit_code == 2
    document = tmp_path / "x.xml"
    document.write_text(run("save-image-dumpxml", path).output)
    done = run("save-image-define", path, str(document), "--paused")
    assert (done.exit_code, done.output) == (0, f"State file {path} updated.\n")
    done = run("managedsave", "test")
    assert (done.exit_code, done.output) == (0, "Domain 'test' state saved by libvirt\n")
    done = run("managedsave-remove", "test")
    assert done.output == "Domain 'test' has no manage save image; removal skipped\n"
    done = run("dump", "test", path)
    assert (done.exit_code, done.output) == (0, f"Domain 'test' dumped to {path}\n")
    refused = run("dump", "test", path, "--format", "elf")
    assert "error: --format only works with --memory-only\n" in refused.output
    assert "Managed save:  no" in run("dominfo", "test").output
    assert run("managedsave-dumpxml", "test").exit_code == 1
    assert run("managedsave-define", "test", str(document)).exit_code == 1
