from __future__ import annotations

import asyncio
import os
import stat
import sys
import time

import pytest

from hvcore.probecache import ProbeCache

SECTIONS = {"facts": {"names": ["kvm"]}, "tcg.cpus": [["qemu64", None]], "nothing": None}


@pytest.fixture
def binary(tmp_path):
    path = tmp_path / "qemu"
    path.write_text("#!/bin/sh\n")
    return path


@pytest.fixture
def cache(tmp_path):
    return ProbeCache(tmp_path / "state" / "cache", version="1")


def test_what_was_stored_comes_back(cache, binary):
    cache.store(cache.key(binary), SECTIONS)
    found = cache.load(binary)
    assert found is not None
    assert {name: found[name] for name in found} == SECTIONS
    assert len(found) == 3


def test_unknown_and_vanished_binaries_are_misses(cache, binary, tmp_path):
    assert cache.load(binary) is None
    assert cache.load(tmp_path / "absent") is None
    cache.store(cache.key(binary), SECTIONS)
    binary.unlink()
    assert cache.load(binary) is None


def test_an_absent_binary_has_no_key(cache, tmp_path):
    with pytest.raises(FileNotFoundError):
        cache.key(tmp_path / "absent")
    assert not cache.directory.exists()


def test_a_binary_replaced_while_it_was_asked_is_a_miss(cache, binary):
    key = cache.key(binary)
    binary.write_text("#!/bin/sh\nexit 1\n")
    cache.store(key, SECTIONS)
    assert cache.load(binary) is None


def test_only_the_owner_can_read(cache, binary):
    cache.store(cache.key(binary), SECTIONS)
    assert stat.S_IMODE(cache.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(cache.file_of(binary).stat().st_mode) == 0o600


def test_a_changed_binary_is_a_miss(cache, binary):
    cache.store(cache.key(binary), SECTIONS)
    os.utime(binary, ns=(1, 1))
    assert cache.load(binary) is None


def test_a_replaced_binary_of_same_size_and_mtime_is_a_miss(cache, binary, tmp_path):
    cache.store(cache.key(binary), SECTIONS)
    before = binary.stat()
    other = tmp_path / "other"
    other.write_bytes(binary.read_bytes())
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(binary)
    assert cache.load(binary) is None


def test_another_prober_version_or_circumstance_is_a_miss(cache, binary):
    cache.store(cache.key(binary, circumstances={"kvm": True}), SECTIONS)
    assert cache.load(binary, circumstances={"kvm": False}) is None
    assert cache.load(binary) is None
    assert ProbeCache(cache.directory, version="2").load(binary) is None
    assert cache.load(binary, circumstances={"kvm": True}) is not None


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content.replace(b"kvm", b"xvm"),
        lambda content: b"garbage\n" + content,
        lambda content: b"[" * 100_000 + content,
        lambda content: b"{}\n",
        lambda content: b'"text"\n',
        lambda content: content.replace(b"\n", b" "),
        lambda content: b"\xff\xfe" + content,
    ],
)
def test_a_damaged_file_is_a_miss_and_can_be_replaced(cache, binary, damage):
    cache.store(cache.key(binary), SECTIONS)
    path = cache.file_of(binary)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.load(binary) is None
    cache.store(cache.key(binary), SECTIONS)
    assert cache.load(binary) is not None


def test_a_failed_store_leaves_the_old_answer_and_no_rubbish(cache, binary, monkeypatch):
    cache.store(cache.key(binary), SECTIONS)

    def refuse(*args):
        raise OSError("no space")

    monkeypatch.setattr("pathlib.Path.replace", refuse)
    with pytest.raises(OSError, match="no space"):
        cache.store(cache.key(binary), {"facts": {}})
    assert [path.name for path in cache.directory.iterdir()] == [cache.file_of(binary).name]
    found = cache.load(binary)
    assert found is not None
    assert found["facts"] == SECTIONS["facts"]


def test_relative_and_absolute_paths_are_one_binary(cache, binary, monkeypatch):
    monkeypatch.chdir(binary.parent)
    cache.store(cache.key("qemu"), SECTIONS)
    assert cache.load(binary) is not None
    cache.forget(binary)
    assert cache.load("qemu") is None
    cache.forget(binary)


# -- participants and the lock --------------------------------------------------------------------


def test_programs_with_other_participants_keep_their_own(tmp_path, binary):
    one, two, again = (
        ProbeCache(tmp_path, version="1", participants=names)
        for names in (["a", "b"], ["a"], ["b", "a"])
    )
    one.store(one.key(binary), SECTIONS)
    assert two.load(binary) is None
    assert again.load(binary) is not None


async def test_the_lock_keeps_others_waiting(cache, binary):
    order = []

    async def use(name, pause):
        async with cache.lock(binary, seconds=20):
            order.append(f"{name} in")
            await asyncio.sleep(pause)
            order.append(f"{name} out")

    first = asyncio.create_task(use("first", 0.2))
    await asyncio.sleep(0.05)
    await asyncio.gather(first, use("second", 0))
    assert order == ["first in", "first out", "second in", "second out"]


async def test_a_lock_held_for_too_long_is_no_obstacle(cache, binary):
    async with cache.lock(binary, seconds=20):
        async with cache.lock(binary, seconds=0.1):
            pass
        waiting = asyncio.create_task(cache.lock(binary, seconds=20).__aenter__())
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    # Whoever gave up waiting lets go of it as soon as it comes.
    before = time.monotonic()
    async with cache.lock(binary, seconds=20):
        assert time.monotonic() - before < 10


async def test_the_lock_ends_with_its_holder(cache, binary):
    program = (
        "import asyncio, os, sys\n"
        "from hvcore.probecache import ProbeCache\n"
        "async def main():\n"
        "    async with ProbeCache(sys.argv[1], version='1').lock(sys.argv[2], seconds=9):\n"
        "        os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(cache.directory), str(binary)
    )
    assert await process.wait() == -9
    before = time.monotonic()
    async with cache.lock(binary, seconds=20):
        assert time.monotonic() - before < 10


async def test_a_lock_without_a_place_is_no_obstacle(tmp_path, binary):
    (tmp_path / "file").write_text("")
    async with ProbeCache(tmp_path / "file" / "cache", version="1").lock(binary, seconds=20):
        pass
