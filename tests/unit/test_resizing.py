"""Memory and disks of other sizes, interrupts and counters: the rules, and hv on the mock."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

import hvcore
from hvcore import sync
from hvcore.cli.main import hv
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.errors import UnsupportedOperation
from hvcore.model.devices import Devices
from hvcore.model.devices.disk import Disk
from hvcore.model.devices.interface import Interface
from hvcore.model.devices.storage import FileSource
from hvcore.model.devices.storage import VhostUserSource
from hvcore.model.domain import Domain
from hvcore.rules import resizing


def domain(*disks, interfaces=()):
    return Domain(
        type="test",
        name="g",
        memory=1024,
        devices=Devices(disks=list(disks), interfaces=list(interfaces)),
    )


def test_a_disk_is_found_by_its_target_or_its_image():
    disk = Disk(target="vda", source=FileSource(path="/a"))
    assert resizing.resizable(domain(disk), "vda") is disk
    assert resizing.resizable(domain(disk), "/a") is disk


@pytest.mark.parametrize(
    ("disk", "words"),
    [
        (Disk(target="vdb"), "invalid argument: disk 'vda' was not found in the domain config"),
        (Disk(target="vda"), "Operation not supported: can't resize empty or readonly disk 'vda'"),
        (
            Disk(target="vda", readonly=True, source=FileSource(path="/a")),
            "Operation not supported: can't resize empty or readonly disk 'vda'",
        ),
        (
            Disk(target="vda", type="vhostuser", source=VhostUserSource(path="/s")),
            "Operation not supported: block resize is not supported for vhostuser disk",
        ),
    ],
)
def test_what_cannot_be_resized_is_refused(disk, words):
    with pytest.raises(HvError) as caught:
        resizing.resizable(domain(disk), "vda")
    assert str(caught.value) == words


@pytest.mark.parametrize("name", ["vnet3", "52:54:00:00:00:01", "net0"])
def test_an_interface_has_three_names(name):
    found = Interface(type="ethernet", mac="52:54:00:00:00:01", target="vnet3", alias="net0")
    assert resizing.interface_of(domain(interfaces=[found]), name) is found
    with pytest.raises(HvError, match="invalid argument: 'eth9' is not a known interface"):
        resizing.interface_of(domain(interfaces=[found]), "eth9")


async def test_memory_changes_live_and_for_the_next_start():
    async with await hvcore.connect("test:///default") as host:
        guest = await host.lookup_name("test")
        await guest.set_memory(1_000_000)
        assert (await guest.info()).memory == 1_000_000
        assert "<currentMemory unit='KiB'>2097152<" in await guest.xml(inactive=True)
        await guest.set_memory(500_000, config=True)
        assert "<currentMemory unit='KiB'>500000<" in await guest.xml(inactive=True)
        with pytest.raises(HvError, match="cannot set memory higher than max memory"):
            await guest.set_memory(8_388_609)
        await guest.inject_nmi()
        with pytest.raises(UnsupportedOperation, match="virDomainOpenConsole"):
            await guest.console()
        await guest.destroy()
        with pytest.raises(InvalidState, match="domain is not running"):
            await guest.inject_nmi()


@pytest.fixture
def run():
    with sync.connect("test:///default"):

        def invoke(*args):
            return CliRunner().invoke(hv, ["-c", "test:///default", *args])

        yield invoke


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("setmem", "test", "1M"), 0, ""),
        (("setmem", "test", "1G", "--config"), 0, ""),
        (("setmem", "test", "100G"), 1, "cannot set memory higher than max memory"),
        (("setmem", "test", "many"), 2, "Scaled numeric value 'many' for <size> option"),
        (("inject-nmi", "test"), 0, ""),
        (("blockresize", "test", "vdz", "1G"), 1, "disk 'vdz' was not found"),
        (("blockresize", "test", "vda", "1G"), 0, "is resized"),
    ],
)
def test_hv_has_virshs_verbs(run, args, code, said):
    result = run(*args)
    assert result.exit_code == code, result.output
    assert said in result.output
