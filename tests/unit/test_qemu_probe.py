from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import attrs
import pytest

from hvcore.errors import ErrorClass
from hvcore.errors import ProbeError
from hvcore_qemu.capabilities import QemuCapabilities
from hvcore_qemu.detect import ask
from hvcore_qemu.detect import ask_tcg
from hvcore_qemu.probe import TIMEOUT
from hvcore_qemu.probe import cache_at
from hvcore_qemu.probe import cached
from hvcore_qemu.probe import check_executable
from hvcore_qemu.probe import probe_binary

QEMU = shutil.which("qemu-system-x86_64")

# -- recorded conversations ---------------------------------------------------------------------


def recorded():
    """Find libvirt's recorded probes: beside the project, or where the environment says."""
    folder = os.environ.get("HVCORE_CONFORMANCE_DATA")
    roots = [Path(folder)] if folder else []
    roots += [p / "shared" / "libvirt-11.3.0" for p in Path(__file__).resolve().parents]
    for root in roots:
        found = root / "qemucapabilities"
        if (found / "manifest.json").is_file():
            return found
    return None


RECORDED = recorded()
CASES = json.loads((RECORDED / "manifest.json").read_text()) if RECORDED else []


def halves(path):
    """Return the exchanges of each process that was asked, without the negotiation."""
    documents = [json.loads(text) for text in path.read_text().split("\n\n")]
    found = []
    for command, reply in zip(documents[::2], documents[1::2], strict=True):
        if command["execute"] == "qmp_capabilities":
            found.append([])
        else:
            found[-1].append((command, reply))
    return found


def replay(conversation, exchanges):
    """Lead a conversation whose every command has to be the recorded one."""
    rest = iter(exchanges)
    try:
        batch = next(conversation)
        while True:
            replies = []
            for command in batch:
                expected, reply = next(rest)
                assert command == {k: v for k, v in expected.items() if k != "id"}
                replies.append(reply)
            batch = conversation.send(replies)
    except StopIteration as stop:
        assert list(rest) == []
        return stop.value


@pytest.mark.skipif(not CASES, reason="libvirt's recorded probes are not there")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_recorded_probe_gives_libvirts_capabilities(case):
    assert RECORDED is not None
    first, *second = halves(RECORDED / case["replies"])
    caps = replay(ask(case["emulator"], hvf="hvf" in case["variant"]), first)
    if second:
        caps = replay(ask_tcg(caps), second[0])
        # the recording was made with a microcode version that nobody asks QEMU for
        caps = attrs.evolve(caps, microcode_version=case["microcodeVersion"])
    assert caps.to_xml() == (RECORDED / case["xml"]).read_text()


# -- conversations with an imagined binary ------------------------------------------------------

SCHEMA = [{"name": "query-cpu-definitions", "meta-type": "command", "arg-type": "0"}]
ANSWERS = {
    "query-version": {"qemu": {"major": 9, "minor": 1, "micro": 3}, "package": "x"},
    "query-target": {"arch": "i386"},
    "query-qmp-schema": SCHEMA,
    "query-kvm": {"present": True, "enabled": False},
    "qom-list-types": [{"name": "usb-hub"}],
    "device-list-properties": [],
    "qom-list-properties": [],
    "query-machines": [
        {"name": "none", "cpu-max": 1},
        {"name": "pc-q35", "alias": "q35", "cpu-max": 8, "is-default": True},
        {"name": "pc-i440fx", "alias": "pc", "cpu-max": 4, "numa-mem-supported": False},
    ],
    "query-cpu-definitions": [
        {"name": "max", "typename": "", "unavailable-features": []},
        {"name": "n", "unavailable-features": ["lahf-lm"], "deprecated": True},
        {"name": "unknown"},
    ],
    "query-command-line-options": [{"option": "spice", "parameters": [{"name": "gl"}]}],
    "query-migrate-capabilities": [{"capability": "rdma-pin-all", "state": False}],
}


def talk(**changes):
    """Lead the conversation with answers by command; an exception class name is an error."""
    answers = {**ANSWERS, **{name.replace("_", "-"): value for name, value in changes.items()}}
    conversation = ask("/bin/qemu")
    batch = next(conversation)
    try:
        while True:
            replies = []
            for command in batch:
                value = answers.get(command["execute"], "CommandNotFound")
                if isinstance(value, str):
                    replies.append({"error": {"class": value, "desc": f"it said {value}"}})
                else:
                    replies.append({"return": value})
            batch = conversation.send(replies)
    except StopIteration as stop:
        return stop.value


def test_conclusions():
    caps = talk()
    assert (caps.arch, caps.version_text, caps.package) == ("i686", "9.1.3", "x")
    assert caps.has("usb-hub", "spice", "spice-gl", "migrate-rdma", "cpu-max")
    assert caps.missing(["kvm", "spice-rendernode"]) == {"kvm", "spice-rendernode"}


def test_machines_come_preferred_first_and_without_none():
    machines = talk().accelerator("qemu").machines
    assert [machine.name for machine in machines] == ["pc-i440fx", "pc-q35"]
    assert [machine.numa_mem_supported for machine in machines] == [False, True]


def test_cpu_models_tell_usable_from_unknown():
    cpus = talk().accelerator("qemu").cpus
    assert [(cpu.name, cpu.usable, cpu.blockers) for cpu in cpus] == [
        ("max", True, ()),
        ("n", False, ("lahf_lm",)),
        ("unknown", None, ()),
    ]
    assert cpus[0].typename is None


def test_targets_without_cpu_models_have_none():
    assert talk(query_cpu_definitions="GenericError").accelerator("qemu").cpus is None


def test_old_binaries_are_refused():
    with pytest.raises(ProbeError) as caught:
        talk(query_version={"qemu": {"major": 6, "minor": 1, "micro": 9}})
    assert caught.value.kind is ErrorClass.CONFIG_UNSUPPORTED
    assert caught.value.message == "QEMU version >= 6.2.0 is required, but 6.1.9 found"


def test_unforeseen_errors_name_the_command():
    with pytest.raises(ProbeError) as caught:
        talk(query_machines="GenericError")
    assert caught.value.message == (
        "unable to execute QEMU command 'query-machines': it said GenericError"
    )


@pytest.mark.parametrize(
    ("command", "value"),
    [
        ("query-version", {"qemu": 3}),
        ("query-target", []),
        ("query-qmp-schema", [{}]),
        ("query-kvm", {}),
        ("qom-list-types", None),
        ("query-machines", [{"alias": "pc"}]),
        ("query-cpu-definitions", [{}]),
        ("query-command-line-options", [{"option": "spice"}]),
        ("query-migrate-capabilities", {"a": 1}),
    ],
)
def test_malformed_replies_name_the_command(command, value):
    with pytest.raises(ProbeError, match=f"{command} reply data was malformed"):
        talk(**{command.replace("-", "_"): value})


# -- live binaries ------------------------------------------------------------------------------


def script(tmp_path, body):
    """Return an executable that runs Python with the monitor's descriptor in FD."""
    path = tmp_path / "qemu"
    path.write_text(
        f"#!{sys.executable}\n"
        "import os, sys, time\n"
        "FD = int([a for a in sys.argv if a.startswith('socket,')][0].rpartition('=')[2])\n" + body
    )
    path.chmod(0o755)
    return path


GREETING = """os.write(FD, b'{"QMP": {"version": {"qemu": {"major": 9, "minor": 0, "micro": 0},'
    b'"package": ""}, "capabilities": []}}\\n')
"""
NEGOTIATED = (
    GREETING
    + """os.read(FD, 4096)
os.write(FD, b'{"return": {}, "id": "__qmp#00000"}\\n')
"""
)


async def failure(path, seconds=5.0):
    with pytest.raises(ProbeError) as caught:
        await probe_binary(path, timeout=seconds)
    assert caught.value.message.startswith(f"Failed to start QEMU binary {path} for probing: ")
    return caught.value.message


async def test_binary_that_ends_is_reported_with_its_words(tmp_path):
    path = script(tmp_path, "sys.stderr.write('no such accelerator'); sys.exit(3)")
    message = await failure(path)
    assert "it ended with 3 while waiting for the greeting" in message
    assert message.endswith("it wrote: no such accelerator")


async def test_binary_that_crashes_is_reported_with_its_signal(tmp_path):
    path = script(tmp_path, NEGOTIATED + "os.read(FD, 64)\nos.kill(os.getpid(), 11)")
    message = await failure(path)
    assert "it ended by signal 11" in message
    assert "query-version, query-target, query-qmp-schema" in message


async def test_binary_that_hangs_is_killed(tmp_path):
    path = script(tmp_path, f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
                            "time.sleep(60)")  # fmt: skip
    started = time.monotonic()
    message = await failure(path, seconds=1.0)
    assert time.monotonic() - started < 10
    assert "no answer within 1 s while waiting for the greeting" in message
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_garbage_is_shown(tmp_path):
    path = script(tmp_path, "os.write(FD, b'Hello, World\\n')\ntime.sleep(60)")
    assert "Hello, World" in await failure(path)


async def test_garbage_after_the_greeting_is_shown(tmp_path):
    path = script(
        tmp_path, NEGOTIATED + "os.read(FD, 64)\nos.write(FD, b'[1, 2]\\n')\ntime.sleep(60)"
    )
    message = await failure(path)
    assert "while waiting for query-version" in message
    assert "[ 1, 2 ]" in message


async def test_garbage_at_once_after_the_negotiation_is_shown(tmp_path):
    path = script(tmp_path, NEGOTIATED + "os.write(FD, b'[1, 2]\\n')\ntime.sleep(60)")
    assert "[ 1, 2 ]" in await failure(path)


#: a reply of which the end never comes
HALF = 'os.read(FD, 64)\nos.write(FD, b\'{"return": {"qemu": {"maj\')\n'

BROKEN = {
    "hangs": (NEGOTIATED + "time.sleep(60)", ["no answer within 2 s", "query-version", "__qmp"]),
    "stops in a reply": (
        NEGOTIATED + HALF + "time.sleep(60)",
        ["no answer within 2 s", "query-version", '{"return": {"qemu": {"maj'],
    ),
    "closes in a reply": (
        NEGOTIATED + HALF + "time.sleep(0.2)\nos.close(FD)\ntime.sleep(60)",
        ["a reply that breaks off", "query-version", '{"return": {"qemu": {"maj'],
    ),
    "crashes": (NEGOTIATED + "os.read(FD, 64)\nos.abort()", ["signal 6", "query-version"]),
    "prints garbage": (
        "os.write(FD, b'\\xff\\x00garbage\\n')\ntime.sleep(60)",
        ["the greeting", "garbage"],
    ),
    "sends 100 MB": (
        NEGOTIATED
        + 'os.read(FD, 64)\nos.write(FD, b\'{"return": "\')\n'
        + "for _ in range(100): os.write(FD, b'y' * 1000000)\n",
        ["a reply of more than 32 MiB", "query-version", "yyyy"],
    ),
    "is no program": (None, ["Exec format error"]),
}


@pytest.mark.parametrize(("body", "words"), BROKEN.values(), ids=BROKEN)
async def test_broken_binaries_are_reported_and_not_remembered(tmp_path, body, words):
    path = script(tmp_path, body or "")
    if body is None:
        path.write_text("text")
    cache = cache_at(tmp_path / "cache")
    started = time.monotonic()
    with pytest.raises(ProbeError) as caught:
        # The machine may be slow, the megabytes many; those that hang have less time.
        await probe_binary(path, cache=cache, timeout=2 if "2 s" in words[0] else TIMEOUT)
    assert time.monotonic() - started < 30
    for word in (str(path), *words):
        assert word in caught.value.message
    assert len(caught.value.message) < 1500
    assert cached(path, cache) is None
    assert list(cache.directory.glob("*.probe")) == []


async def test_no_descriptors_left_is_a_reason_too(tmp_path, monkeypatch):
    def exhausted():
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(socket, "socketpair", exhausted)
    assert "Too many open files" in await failure(script(tmp_path, ""))


def test_all_of_it_ends_within_thirty_seconds():
    assert TIMEOUT <= 25  # and a few for ending the processes


async def test_endless_output_is_cut(tmp_path):
    path = script(tmp_path, "for _ in range(2000): sys.stdout.write('y' * 1000)\nsys.exit(1)")
    assert len(await failure(path)) < 5000


async def test_text_file_is_not_a_binary(tmp_path):
    path = tmp_path / "qemu"
    path.write_text("")
    path.chmod(0o755)
    assert "Exec format error" in await failure(path)


async def test_binary_must_be_there_and_executable(tmp_path):
    absent = tmp_path / "absent"
    with pytest.raises(ProbeError) as caught:
        await probe_binary(absent)
    assert str(caught.value) == f"Cannot check QEMU binary {absent}: No such file or directory"
    plain = tmp_path / "plain"
    plain.write_text("")
    for path in (plain, tmp_path):
        with pytest.raises(ProbeError) as caught:
            check_executable(str(path))
        assert str(caught.value) == f"QEMU binary {path} is not executable"


async def test_cancelling_leaves_no_process(tmp_path):
    path = script(tmp_path, f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
                            "time.sleep(60)")  # fmt: skip
    task = asyncio.create_task(probe_binary(path))
    for _ in range(500):
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            break
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


#: why a build of a QEMU may differ from the recorded one of its version, and in what
DIFFERENCES = {
    # Modules of their own in distributions, with libraries that need not be installed.
    "built without SPICE": {"spice", "spice-gl", "spice-rendernode", "chardev.qemu-vdagent"},
    "built without QXL, which is SPICE's": {"qxl", "qxl.vgamem_mb", "qxl.vram64_size_mb"},
    "module for OpenGL": {
        "virtio-gpu-gl-pci",
        "virtio-vga-gl",
        "egl-headless",
        "egl-headless.rendernode",
    },
    "other user interfaces": {"sdl", "display-dbus"},
    "built without libblkio": {"virtio-blk-vhost-vdpa"},
    "built without libkeyutils": {"cryptodev-backend-lkcf"},
    "built with another librbd": {"rbd-encryption", "rbd-encryption-layering"},
    # What the binary answers about the host.
    "no KVM here, or KVM without these": {"kvm", "sev-guest", "sev-snp-guest", "sgx-epc"},
    "recorded on another operating system": {"hvf"},
}
EXPLAINED = frozenset().union(*DIFFERENCES.values())


@pytest.mark.qemu
@pytest.mark.skipif(QEMU is None, reason="no qemu-system-x86_64 is installed")
async def test_installed_qemu(tmp_path):
    assert QEMU is not None
    cache = cache_at(tmp_path / "cache")
    assert cached(QEMU, cache) is None
    caps = await probe_binary(QEMU, cache=cache)
    assert caps.arch == "x86_64"
    assert caps.has("tcg", "usb-hub", "memory-backend-memfd", "pcie-root-port")
    for virt_type in ("qemu", "kvm") if "kvm" in caps else ("qemu",):
        assert caps.canonical_machine(virt_type, "pc") == caps.default_machine(virt_type)
    again = cached(QEMU, cache)
    assert again == caps
    assert await probe_binary(QEMU, cache=cache) == caps
    assert QemuCapabilities.load(caps.to_xml().encode()) == caps


def counted(tmp_path, started):
    """Return a QEMU that notes each start of the kind of which every probe has one."""
    path = tmp_path / "qemu"
    path.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *kvm:tcg*) echo >> {started};; esac\n'
        f'exec {QEMU} "$@"\n'
    )  # fmt: skip
    path.chmod(0o755)
    return path


@pytest.mark.qemu
@pytest.mark.skipif(QEMU is None, reason="no qemu-system-x86_64 is installed")
async def test_tasks_that_want_the_same_ask_once(tmp_path):
    path = counted(tmp_path, tmp_path / "started")
    cache = cache_at(tmp_path / "cache")
    found = await asyncio.gather(*(probe_binary(path, cache=cache) for _ in range(3)))
    assert found[0] == found[1] == found[2]
    assert (tmp_path / "started").read_text() == "\n"


@pytest.mark.qemu
@pytest.mark.skipif(QEMU is None, reason="no qemu-system-x86_64 is installed")
async def test_processes_that_want_the_same_ask_once(tmp_path):
    path = counted(tmp_path, tmp_path / "started")
    program = (
        "import asyncio, sys\n"
        "from hvcore_qemu.probe import cache_at, probe_binary\n"
        "print(asyncio.run(probe_binary(sys.argv[1], cache=cache_at(sys.argv[2]))).version)\n"
    )
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, path, tmp_path / "cache", stdout=asyncio.subprocess.PIPE
        )
        for _ in range(2)
    ]
    said = [(await process.communicate())[0] for process in processes]
    assert said[0] == said[1] != b""
    assert (tmp_path / "started").read_text() == "\n"


@pytest.mark.qemu
@pytest.mark.skipif(QEMU is None, reason="no qemu-system-x86_64 is installed")
@pytest.mark.parametrize("name", ["LD_LIBRARY_PATH", "QEMU_MODULE_DIR"])
async def test_another_environment_is_asked_again(tmp_path, monkeypatch, name):
    assert QEMU is not None
    cache = cache_at(tmp_path / "cache")
    await probe_binary(QEMU, cache=cache)
    monkeypatch.setenv(name, str(tmp_path))
    assert cached(QEMU, cache) is None


def other_qemu(name, variable):
    """Return a QEMU beside the installed one; the environment may say where it was unpacked."""
    return os.environ.get(variable) or shutil.which(name)


#: binaries that need not be installed: a package of another release, unpacked with its modules
#: (``qemu-system-common``) into one folder, is found through the environment
LIVE = {
    "10.0 x86_64": (QEMU, (10, 0), "caps_10.0.0_x86_64.xml"),
    "7.2 x86_64": (
        os.environ.get("HVCORE_TEST_QEMU_7_2"),
        (7, 2),
        "caps_7.2.0_x86_64.xml",
    ),
    "10.0 aarch64": (
        other_qemu("qemu-system-aarch64", "HVCORE_TEST_QEMU_AARCH64"),
        (10, 0),
        "caps_9.2.0_aarch64+hvf.xml",
    ),
}


@pytest.mark.qemu
@pytest.mark.skipif(not CASES, reason="libvirt's recorded probes are not there")
@pytest.mark.parametrize("name", LIVE)
async def test_live_binaries_have_the_flags_of_the_recorded_ones(name):
    assert RECORDED is not None
    binary, version, recording = LIVE[name]
    if binary is None:
        pytest.skip("there is no such QEMU")
    caps = await probe_binary(binary)
    if (caps.version // 1_000_000, caps.version // 1000 % 1000) != version:
        pytest.skip(f"it is QEMU {caps.version_text}")
    known = QemuCapabilities.load(RECORDED / "data" / recording)
    assert caps.arch == known.arch
    assert known.names - caps.names - EXPLAINED == set()
    added = caps.names - known.names - EXPLAINED
    if "hvf" in known:
        # Recorded on macOS and one version earlier: what only Linux has, and what is new, is
        # what the recorded 10.0 has on Linux.
        added -= QemuCapabilities.load(RECORDED / "data" / "caps_10.0.0_x86_64.xml").names
    assert added == set()
    for virt_type in ("qemu", "kvm") if "kvm" in caps else ("qemu",):
        assert caps.default_machine(virt_type)
        assert caps.accelerator(virt_type).cpus


@pytest.mark.qemu
@pytest.mark.skipif(QEMU is None, reason="no qemu-system-x86_64 is installed")
async def test_an_answer_that_cannot_be_kept_is_still_an_answer(tmp_path):
    assert QEMU is not None
    (tmp_path / "file").write_text("")
    cache = cache_at(tmp_path / "file" / "cache")
    assert (await probe_binary(QEMU, cache=cache)).arch == "x86_64"
    assert cached(QEMU, cache) is None


@pytest.mark.qemu
@pytest.mark.skipif(QEMU is None, reason="no qemu-system-x86_64 is installed")
async def test_a_known_binary_is_not_started_again(tmp_path, monkeypatch):
    assert QEMU is not None
    cache = cache_at(tmp_path)
    asked = await probe_binary(QEMU, cache=cache)

    def start(*args, **kwargs):
        raise AssertionError(f"started {args}")

    monkeypatch.setattr(subprocess, "Popen", start)
    assert cached(QEMU, cache) == asked
    assert await probe_binary(QEMU, cache=cache) == asked
