"""Which firmware a QEMU guest gets, and what is written into its definition."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from hvcore.errors import ErrorClass
from hvcore.model.domain import Domain
from hvcore.registry import Registry
from hvcore.xml.context import FormatContext
from hvcore.xml.context import ParseContext
from hvcore.xml.reader import read
from hvcore_qemu import firmware
from hvcore_qemu.config import QemuConfig


def descriptor(code: str, **changes: Any) -> dict[str, Any]:
    return {
        "interface-types": ["uefi"],
        "mapping": {
            "device": "flash",
            "executable": {"filename": code, "format": "raw"},
            "nvram-template": {"filename": "/VARS.fd", "format": "raw"},
        },
        "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}],
        "features": ["acpi-s3"],
    } | changes


SECURE = {"features": ["requires-smm", "secure-boot", "enrolled-keys"]}


def config(*documents: dict[str, Any]) -> QemuConfig:
    found = tuple(firmware.parse(json.dumps(d), f"{n}.json") for n, d in enumerate(documents))
    assert all(found)
    return attrs.evolve(QemuConfig(nvram_dir="/nvram"), find_firmware=lambda: found)


def domain_of(os: str, more: str = "") -> Domain:
    document = (
        f"<domain type='kvm'><name>n</name><os{os}</os><features><acpi/></features>{more}</domain>"
    )
    binding = Registry().binding
    domain: Domain = binding.parse(Domain, read(document, "domain"), ParseContext())
    return domain


def lines(domain: Domain) -> list[str]:
    binding = Registry().binding
    assert domain.os is not None
    out = binding.format(domain.os, FormatContext(inactive=True))
    return [line.strip() for line in out.splitlines()]


EFI = " firmware='efi'><type arch='x86_64' machine='pc-q35-9.0'>hvm</type>"


def test_choice_is_written_in_full() -> None:
    domain = domain_of(EFI)
    assert firmware.fill(domain, config(descriptor("/CODE.fd", **SECURE)), abi_update=True) is None
    assert lines(domain)[1:] == [
        "<type arch='x86_64' machine='pc-q35-9.0'>hvm</type>",
        "<firmware>",
        "<feature enabled='yes' name='enrolled-keys'/>",
        "<feature enabled='yes' name='secure-boot'/>",
        "</firmware>",
        "<loader readonly='yes' secure='yes' type='pflash' format='raw'>/CODE.fd</loader>",
        "<nvram template='/VARS.fd' templateFormat='raw' format='raw'>/nvram/n_VARS.fd</nvram>",
        "</os>",
    ]
    assert domain.features is not None
    assert domain.features.smm is True


def test_second_look_changes_nothing() -> None:
    domain, settings = domain_of(EFI), config(descriptor("/CODE.fd"))
    firmware.fill(domain, settings, abi_update=True)
    before = lines(domain)
    assert firmware.fill(domain, settings, abi_update=False) is None
    assert lines(domain) == before


@pytest.mark.parametrize(
    ("os", "more", "chosen"),
    [
        (EFI, "", "/SECURE.fd"),
        (f"{EFI}<firmware><feature name='secure-boot' enabled='no'/></firmware>", "", "/CODE.fd"),
        (f"{EFI}<loader secure='no'/>", "", "/CODE.fd"),
        (f"{EFI}<loader stateless='yes'/>", "", "/STATELESS.fd"),
        (EFI, "<pm><suspend-to-mem enabled='yes'/></pm>", "/CODE.fd"),
        (f"{EFI}<loader type='rom'/>", "", "/SNP.fd"),
        (EFI.replace("efi", "bios"), "", None),
        (EFI.replace("q35", "i440fx"), "", None),
        (f"{EFI}<loader format='qcow2'/>", "", "/SNP.fd"),
    ],
)
def test_first_that_fits(os: str, more: str, chosen: str | None) -> None:
    stateless = {"device": "flash", "mode": "stateless"}
    settings = config(
        descriptor("/SECURE.fd", **SECURE),
        descriptor("/CODE.fd"),
        descriptor(
            "", mapping=stateless | {"executable": {"filename": "/STATELESS.fd", "format": "raw"}}
        ),
        descriptor("", mapping={"device": "memory", "filename": "/SNP.fd"}),
    )
    domain = domain_of(os, more)
    issue = firmware.fill(domain, settings, abi_update=True)
    if chosen is None:
        assert issue is not None
        assert issue.kind is ErrorClass.OPERATION_FAILED
    else:
        assert issue is None
        assert domain.os is not None
        assert domain.os.loader is not None
        assert domain.os.loader.path == chosen


def test_remote_variables_have_no_template() -> None:
    source = "<source protocol='nbd' name='a'><host name='h'/></source>"
    domain = domain_of(f"{EFI}<nvram type='network'>{source}</nvram>")
    firmware.fill(domain, config(descriptor("/CODE.fd")), abi_update=True)
    assert "<nvram type='network' format='raw'>" in lines(domain)
    assert "<feature enabled='no' name='secure-boot'/>" in lines(domain)
    assert not any("enrolled-keys" in line for line in lines(domain))


def test_unknown_build_is_raw_and_gets_variables() -> None:
    manual = EFI.replace(" firmware='efi'", "")
    domain = domain_of(f"{manual}<loader readonly='yes' type='pflash'>/mine.fd</loader>")
    assert firmware.fill(domain, config(), abi_update=False) is None
    assert "<nvram format='raw'>/nvram/n_VARS.fd</nvram>" in lines(domain)


def test_files_of_the_administrator_hide_those_of_the_distribution(tmp_path: Path) -> None:
    shared, local = tmp_path / "usr/share/qemu/firmware", tmp_path / "etc/qemu/firmware"
    for folder in (shared, local):
        folder.mkdir(parents=True)
    for name in ("50-b.json", "40-a.json", "60-c.json"):
        (shared / name).write_text(json.dumps(descriptor(f"/usr/{name}")))
    (local / "50-b.json").write_text(json.dumps(descriptor("/etc/b")))
    (local / "60-c.json").write_text("")
    (local / "70-bad.json").write_text("{}")
    assert [f.image for f in firmware.load(tmp_path)] == ["/usr/40-a.json", "/etc/b"]


@pytest.mark.parametrize(
    "changes",
    [
        {"interface-types": ["telnet"]},
        {"targets": [{"architecture": "z80", "machines": []}]},
        {"mapping": {"device": "flash", "executable": {"filename": "/a"}}},
        {"mapping": {"device": "tape"}},
        {"features": 1},
    ],
)
def test_descriptors_that_do_not_follow_the_specification(changes: dict[str, Any]) -> None:
    assert firmware.parse(json.dumps(descriptor("/a", **changes)), "a.json") is None
