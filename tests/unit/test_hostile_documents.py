"""Documents made to hurt: each is refused clearly, with a line, quickly, and leaves no trace."""

from __future__ import annotations

import time

import pytest

from hvcore.errors import ConfigError
from hvcore.errors import DomainExists
from hvcore.errors import ValidationFailed
from hvcore.host import connect
from hvcore.pipeline import Context
from hvcore.pipeline import Pipeline
from hvcore.registry import Registry

LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))


def guest(body="", *, name="g", devices="", head="", os="<os><type>hvm</type></os>"):
    return (
        f"{head}<domain type='test'>\n<name>{name}</name>\n<memory>1024</memory>\n<vcpu>1</vcpu>\n"
        f"{os}\n{body}\n<devices>\n{devices}\n</devices>\n</domain>"
    )


HOSTILE = {
    "empty": ("", "Document is empty"),
    "not XML": ("virsh define me", "Start tag expected"),
    "another document": ("<network><name>x</name></network>", "unexpected root element <network>"),
    "entity bomb": (
        guest(name="&l11;", head=f'<!DOCTYPE d [<!ENTITY l0 "lol">{LAUGHS}]>'),
        "",
    ),
    "external entity": (
        guest(name="&x;", head='<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
        "document type declaration",
    ),
    "parameter entity": (
        guest(head='<!DOCTYPE d [<!ENTITY % x SYSTEM "http://127.0.0.1:9/x"> %x;]>'),
        "document type declaration",
    ),
    "plain DOCTYPE": (guest(head="<!DOCTYPE domain>"), "document type declaration"),
    "1,000 levels deep": (guest("<a>" * 1000 + "</a>" * 1000), "depth"),
    "20 MB": (guest(f"<description>{'x' * 20_000_000}</description>"), "larger than the limit"),
    "200,000 elements": (guest("<y/>" * 1_200_000), "larger than the limit"),
    "wrong encoding": (guest(name="\xe9").encode("latin-1"), "Invalid bytes in character encoding"),
    "unknown encoding": (
        guest(head='<?xml version="1.0" encoding="klingon"?>').encode(),
        "encoding",
    ),
    "NUL": (guest(name="a\0b"), "Char 0x0"),
    "NUL by reference": (guest(name="a&#0;b"), "invalid xmlChar value 0"),
    "control character": (guest(name="a\x08b"), "Char value 8"),
    "unclosed": ("<domain type='test'>\n<name>x</name>\n", "Premature end of data"),
    "crossed tags": ("<domain type='test'>\n<name>x</domain></name>", "mismatch"),
    "attribute twice": ("<domain type='test' type='kvm'><name>x</name></domain>", "redefined"),
    "name twice": (guest("<name>other</name>"), "element 'name' appears twice"),
    "path as a name": (guest(name="../../etc/passwd"), "cannot contain '/'"),
    "newline in a name": (guest(name="a\nb"), "invalid line break in element 'name'"),
    "newline in a path": (
        guest(devices="<emulator>/bin/x\n-daemonize</emulator>"),
        "invalid line break in element 'emulator'",
    ),
    "newline in a disk's path": (
        guest(
            devices="<disk type='file'><source file='/a&#10;-object x'/><target dev='vda'/></disk>"
        ),
        "invalid line break in attribute 'file' of element 'source'",
    ),
    "newline in a kernel": (
        guest(os="<os><type>hvm</type><kernel>/k\n-S</kernel></os>"),
        "invalid line break in element 'kernel'",
    ),
    "huge number": (
        guest("<maxMemory slots='2'>99999999999999999999999999</maxMemory>"),
        "Invalid value",
    ),
    "negative number": (guest("<iothreads>-1</iothreads>"), "-1"),
    "no name": ("<domain type='test'>\n<memory>1</memory>\n</domain>", "name"),
    "bad UUID": (guest("<uuid>'; DROP TABLE domains; --</uuid>"), "malformed uuid element"),
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_refused_with_a_line_quickly_and_without_a_trace(what, tmp_path, monkeypatch):
    document, words = HOSTILE[what]
    monkeypatch.setenv("HOME", str(tmp_path))
    async with await connect("test:///default") as host:
        before = time.perf_counter()
        with pytest.raises(ConfigError) as caught:
            await host.define(document)
        assert time.perf_counter() - before < 5
        assert words in str(caught.value)
        assert "Traceback" not in str(caught.value)
        assert caught.value.line is not None
        assert caught.value.line >= 1
        if isinstance(caught.value, ValidationFailed):
            assert all(issue.line for issue in caught.value.issues)
        assert [domain.name for domain in await host.domains()] == ["test"]
    assert list(tmp_path.iterdir()) == []


async def test_a_name_in_use_is_refused():
    async with await connect("test:///default") as host:
        with pytest.raises(DomainExists, match="already exists with uuid"):
            await host.define(guest(name="test"))


def test_issues_of_rules_get_the_line_of_their_element():
    pipeline = Pipeline(Registry.default())
    document = guest(devices="<audio id='1' type='none'/>\n<audio\n id='1' type='alsa'/>")
    with pytest.raises(ValidationFailed) as caught:
        pipeline.define(document, Context(registry=pipeline.registry))
    assert [(i.path, i.line) for i in caught.value.issues] == [
        ("/domain/devices/audio[1]", 8),
        ("/domain/devices/audio[2]", 10),
    ]
