from __future__ import annotations

import os
import stat

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
