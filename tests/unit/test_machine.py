"""<os>, <features>, <clock>, power management: defaults and checks without a driver."""

from __future__ import annotations

import pytest

from hvcore.errors import ValidationFailed
from hvcore.model.domain import Domain
from hvcore.pipeline import Context
from hvcore.pipeline import Definition
from hvcore.pipeline import Pipeline
from hvcore.registry import Registry


@pytest.fixture(scope="module")
def registry() -> Registry:
    registry = Registry()
    registry.freeze()
    return registry


def load(registry: Registry, body: str, *, os: str = "<type arch='x86_64'>hvm</type>") -> Domain:
    xml = f"<domain type='test'><name>n</name><memory>1024</memory><os>{os}</os>{body}</domain>"
    return Pipeline(registry).load(xml, Context(registry=registry))


def refusal(registry: Registry, body: str, **where: str) -> str:
    with pytest.raises(ValidationFailed) as failed:
        load(registry, body, **where)
    return str(failed.value)


def test_defaults(registry: Registry) -> None:
    xml = Definition(load(registry, ""), registry).xml()
    for line in (
        "<boot dev='hd'/>",
        "<clock offset='utc'/>",
        "<on_poweroff>destroy</on_poweroff>",
        "<on_reboot>restart</on_reboot>",
        "<on_crash>destroy</on_crash>",
    ):
        assert line in xml


def test_adjusted_clock_becomes_variable(registry: Registry) -> None:
    domain = load(registry, "<clock offset='localtime' adjustment='+3600'/>")
    assert (
        "<clock offset='variable' adjustment='3600' basis='localtime'/>"
        in Definition(domain, registry).xml()
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "<features><hyperv><spinlocks state='on' retries='9'/></hyperv></features>",
            "XML error: HyperV spinlock retry count must be at least 4095",
        ),
        (
            "<features><warp/></features>",
            "unsupported configuration: unexpected feature 'warp'",
        ),
        (
            "<clock offset='utc'><timer name='pit' frequency='1'/></clock>",
            "unsupported configuration: timer pit doesn't support setting of timer frequency",
        ),
        (
            "<on_reboot>coredump-destroy</on_reboot>",
            (
                "unsupported configuration: Lifecycle event 'reboot' doesn't support "
                "'coredump-destroy' action"
            ),
        ),
        (
            "<on_crash>explode</on_crash>",
            "unsupported configuration: unknown on_crash action: explode",
        ),
        (
            (
                "<idmap><uid start='1' target='0' count='1'/><gid start='0' target='0' count='1'/>"
                "</idmap>"
            ),
            "unsupported configuration: You must map the root user of container",
        ),
        (
            "<sysinfo type='smbios'><bios><entry name='date'>13/01/2020</entry></bios></sysinfo>",
            "Invalid BIOS 'date' format",
        ),
    ],
)
def test_refusals(registry: Registry, body: str, message: str) -> None:
    assert refusal(registry, body) == message


@pytest.mark.parametrize(
    ("os", "message"),
    [
        ("<type>nope</type>", "unsupported configuration: unknown OS type 'nope'"),
        ("", "XML error: an os <type> must be specified"),
        (
            "<type>hvm</type><bootmenu enable='yes' timeout='65536'/>",
            ("unsupported configuration: invalid value for boot menu timeout, "
            "must be in range [0,65535]"),
        ),
        ("<type>exe</type>", "XML error: init binary must be specified"),
        ("<type>hvm</type><nvram>/a</nvram>",
         "no loader path specified and firmware auto selection disabled"),
    ],
)  # fmt: skip
def test_refused_ways_to_boot(registry: Registry, os: str, message: str) -> None:
    assert refusal(registry, "", os=os) == message


def test_uuid_of_smbios_becomes_the_domains(registry: Registry) -> None:
    uuid = "c7a5fdbd-edaf-9455-926a-d65c16db1809"
    table = f"<sysinfo type='smbios'><system><entry name='uuid'>{uuid}</entry></system></sysinfo>"
    assert load(registry, table).uuid == uuid


@pytest.mark.parametrize(("size", "unit"), [("48", "MiB"), ("3", "GiB"), ("1025", "KiB")])
def test_tseg_is_written_in_its_largest_unit(registry: Registry, size: str, unit: str) -> None:
    domain = load(registry, f"<features><smm><tseg unit='{unit}'>{size}</tseg></smm></features>")
    assert f"<tseg unit='{unit}'>{size}</tseg>" in Definition(domain, registry).xml()


def test_numbers_of_any_length_are_refused_or_ignored(registry: Registry) -> None:
    long = "9" * 5000
    assert refusal(registry, f"<clock offset='utc' adjustment='{long}'/>").startswith(
        "XML error: unknown clock adjustment"
    )
    assert refusal(registry, f"<features><smm><tseg>{long}</tseg></smm></features>").startswith(
        "XML error: Invalid value"
    )
