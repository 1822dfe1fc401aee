"""The parts of QEMU's command line that every guest has."""

from __future__ import annotations

import attrs
import pytest

from hvcore.errors import ValidationFailed
from hvcore.model.blkiotune import BlkioTune
from hvcore.model.cputune import CpuTune
from hvcore.model.devices import Devices
from hvcore.model.domain import Domain
from hvcore.model.memory import MemoryTuning
from hvcore.registry import Registry
from hvcore_qemu.capabilities import QemuCapabilities
from hvcore_qemu.command import Command
from hvcore_qemu.config import QemuConfig
from hvcore_qemu.extensions import Argument
from hvcore_qemu.extensions import CommandLine
from hvcore_qemu.extensions import Deprecation
from hvcore_qemu.extensions import EnvVariable
from hvcore_qemu.launch import short_name
from hvcore_qemu.prepare import Preparation
from hvcore_qemu.pretend import PretendHost
from hvcore_qemu.resources import Resources
from hvcore_qemu.sections import base

UUID = "00010203-0405-4607-8809-0a0b0c0d0e0f"


class Host(PretendHost):
    """A host with an environment of its own."""

    def env(self, name: str) -> str | None:
        return {"PATH": "/bin", "USER": "me", "HOME": "/root", "LC_ALL": "de_DE"}.get(name)


@pytest.fixture
def work() -> Preparation:
    return Preparation(
        domain=Domain(type="kvm", name="a,b", uuid=UUID, devices=Devices(emulator="/q")),
        caps=QemuCapabilities(
            arch="x86_64", names=frozenset({"seccomp-sandbox", "device.json+hotplug"})
        ),
        config=QemuConfig(),
        host=Host(),
        registry=Registry(),
        resources=Resources(domain_dir="/d"),
    )


def command(work: Preparation, *fill) -> Command:
    base.prepare(work)
    cmd = Command(work.domain, work.caps, work.config, work.resources, work.registry)
    for function in fill:
        function(cmd)
    return cmd


def test_the_environment_is_the_manager_s_with_a_home_of_its_own(work):
    assert list(command(work, base.environment).plan.env.items()) == [
        ("LC_ALL", "C"),
        ("PATH", "/bin"),
        ("HOME", "/d"),
        ("USER", "me"),
        ("XDG_DATA_HOME", "/d/.local/share"),
        ("XDG_CACHE_HOME", "/d/.cache"),
        ("XDG_CONFIG_HOME", "/d/.config"),
    ]


def test_a_session_keeps_its_home(work):
    work.config = attrs.evolve(work.config, privileged=False)
    environment = command(work, base.environment).plan.env
    assert environment["HOME"] == "/root"
    assert environment["XDG_CACHE_HOME"] == "/d/.cache"
    assert "XDG_DATA_HOME" not in environment


def test_identity_and_monitor(work):
    cmd = command(work, base.name, base.uuid, base.genid, base.monitor, base.incoming)
    assert cmd.plan.argv == [
        "/q", "-name", "guest=a,,b,debug-threads=on", "-uuid", UUID,
        "-chardev", "socket,id=charmonitor,fd=3,server=on,wait=off",
        "-mon", "chardev=charmonitor,id=monitor,mode=control",
    ]  # fmt: skip


def test_generation_and_migration(work):
    work.domain.genid = UUID
    work.resources.incoming = "defer"
    assert command(work, base.genid, base.incoming).plan.argv[1:] == [
        "-device", f'{{"driver":"vmgenid","guid":"{UUID}","id":"vmgenid0"}}', "-incoming", "defer",
    ]  # fmt: skip


def test_the_master_key_is_a_file_of_random_bytes(work):
    plan = command(work, base.master_key).plan
    assert '"file":"/d/master-key.aes"' in plan.argv[-1]
    assert plan.files == {"/d/master-key.aes": work.resources.master_key}
    assert len(work.resources.master_key) == 32


@pytest.mark.parametrize(
    ("configured", "own", "argument"),
    [
        ("none", None, []),
        ("omit", None, ["-compat", '{"deprecated-output":"hide"}']),
        ("omit", "none", []),
        ("none", "reject", ["-compat", '{"deprecated-output":"hide","deprecated-input":"reject"}']),
    ],
)
def test_deprecations(work, configured, own, argument):
    work.config = attrs.evolve(work.config, deprecation_behavior=configured)
    if own:
        Deprecation(behavior=own).attach(work.domain)
    assert command(work, base.compat).plan.argv[1:] == argument


def test_raw_arguments(work):
    CommandLine(
        args=[Argument(value="-x"), Argument(value="y")], env=[EnvVariable(name="E")]
    ).attach(work.domain)
    plan = command(work, base.passthrough).plan
    assert plan.argv[1:] == ["-x", "y"]
    assert plan.env == {"E": ""}


@pytest.mark.parametrize(
    ("setting", "value"), [(-1, base._SANDBOX), (1, base._SANDBOX), (0, "off")]
)
def test_the_sandbox(work, setting, value):
    work.config = attrs.evolve(work.config, seccomp_sandbox=setting)
    assert command(work, base.sandbox).plan.argv[1:] == ["-sandbox", value]
    work.caps = work.caps.replace(remove=["seccomp-sandbox"])
    assert command(work, base.sandbox).plan.argv[1:] == []


def test_paths_have_the_start_of_the_name(work):
    work.domain.name = "ä" * 30
    assert short_name(work.domain) == "-1-" + "ä" * 20


@pytest.mark.parametrize(
    ("tuning", "what"),
    [
        ({"memtune": MemoryTuning(hard_limit=1024)}, "Memory tuning is"),
        ({"blkiotune": BlkioTune(weight=500)}, "Block I/O tuning is"),
        ({"cputune": CpuTune(emulator_quota=-1)}, "CPU tuning is"),
    ],
)
def test_a_session_has_no_control_groups(work, tuning, what):
    for name, value in tuning.items():
        setattr(work.domain, name, value)
    base.check(work)
    work.config = attrs.evolve(work.config, privileged=False)
    with pytest.raises(ValidationFailed, match=f"{what} not available in session mode"):
        base.check(work)
