"""Machine, firmware, clock, power and SMBIOS on QEMU's command line, and what QEMU refuses."""

from __future__ import annotations

import pytest

from hvcore.capabilities import Deferred
from hvcore.errors import ValidationFailed
from hvcore.hostinfo import HostInfo
from hvcore.model.domain import Domain
from hvcore.pipeline import Context
from hvcore.registry import Registry
from hvcore_qemu import launch
from hvcore_qemu.capabilities import Accelerator
from hvcore_qemu.capabilities import Gic
from hvcore_qemu.capabilities import Machine
from hvcore_qemu.capabilities import QemuCapabilities
from hvcore_qemu.capabilities import Sev
from hvcore_qemu.config import QemuConfig
from hvcore_qemu.pretend import PretendHost

REGISTRY = Registry()
REGISTRY.freeze()
PIPELINE = launch.pipeline(REGISTRY)
NAMES = frozenset(
    {
        "tcg", "kvm", "piix3-usb-uhci", "set-action", "kvm-pit-lost-tick-policy", "machine-hpet",
        "machine-vmport-opt", "i8042", "machine-i8042-opt", "mch.extended-tseg-mbytes",
        "vmcoreinfo", "sev-guest", "confidential-guest-support", "run-with.async-teardown",
        "pcie-root-port",
    }
)  # fmt: skip
NOW = 1234567890


class Host(PretendHost):
    def now(self) -> int:
        return NOW

    def utc_offset(self) -> int:
        return 3600


def capabilities(arch: str = "x86_64") -> QemuCapabilities:
    accelerator = Accelerator(
        deferred_machines=Deferred.of(
            (
                Machine("pc-i440fx-10.0", "pc", 255, default_ram_id="pc.ram", acpi=True),
                Machine("pc-q35-10.0", "q35", 255, default_ram_id="pc.ram", acpi=True),
                Machine("virt-10.0", "virt", 512, default_ram_id="mach-virt.ram", acpi=True),
            )
        )
    )
    return QemuCapabilities(
        arch=arch,
        names=NAMES,
        accelerators={"tcg": accelerator, "kvm": accelerator},
        gic=(Gic(2, kernel=True, emulated=True), Gic(3, kernel=True, emulated=True)),
        sev=Sev(cbitpos=47, reduced_phys_bits=1, pdh="", cert_chain=""),
    )


def context(arch: str = "x86_64") -> Context:
    return Context(
        registry=REGISTRY,
        driver="qemu",
        caps=capabilities(arch),
        config=QemuConfig(find_firmware=lambda: ()),
        host=HostInfo(arch=arch),
        find_program=lambda name: f"/usr/bin/{name}",
        abi_update=True,
    )


def document(
    body: str = "", *, os: str = "", machine: str = "pc", kind: str = "kvm", arch: str = "x86_64"
) -> str:
    return (
        f"<domain type='{kind}'><name>n</name><memory unit='MiB'>512</memory>"
        f"<os><type arch='{arch}' machine='{machine}'>hvm</type>{os}</os>{body}"
        "<devices><memballoon model='none'/></devices></domain>"
    )


def started(xml: str, arch: str = "x86_64") -> list[str]:
    """Return the arguments that a start of the document would have."""
    ctx = context(arch)
    return launch.plan_start(PIPELINE.load(xml, ctx), ctx, Host()).argv


def value(argv: list[str], option: str) -> str:
    """Return the value of the only ``option``."""
    assert argv.count(option) == 1
    return argv[argv.index(option) + 1]


def values(argv: list[str], option: str) -> list[str]:
    return [argv[i + 1] for i, word in enumerate(argv) if word == option]


def refusal(xml: str, arch: str = "x86_64") -> str:
    with pytest.raises(ValidationFailed) as failed:
        started(xml, arch)
    return str(failed.value)


def test_minimal_guest() -> None:
    argv = started(document())
    assert value(argv, "-machine") == (
        "pc-i440fx-10.0,usb=off,dump-guest-core=off,memory-backend=pc.ram,acpi=off"
    )
    assert value(argv, "-accel") == "kvm"
    assert value(argv, "-rtc") == "base=utc"
    assert value(argv, "-boot") == "strict=on"
    assert "-no-shutdown" in argv


def test_emulator_and_machine_are_chosen() -> None:
    ctx = context()
    xml = document().replace(" arch='x86_64' machine='pc'", "")
    domain: Domain = PIPELINE.load(xml, ctx)
    assert domain.devices.emulator == "/usr/bin/qemu-system-x86_64"
    assert domain.os is not None
    assert (domain.os.arch, domain.os.machine) == ("x86_64", "pc-i440fx-10.0")


@pytest.mark.parametrize(
    ("features", "part"),
    [
        ("<acpi/>", "acpi=on"),
        ("<vmport state='off'/>", "vmport=off"),
        ("<ps2 state='off'/>", "i8042=off"),
        ("<smm state='on'/>", "smm=on"),
        ("<ioapic driver='qemu'/>", "kernel_irqchip=split"),
        ("<ioapic driver='kvm'/>", "kernel_irqchip=on"),
    ],
)
def test_features_of_the_machine(features: str, part: str) -> None:
    argv = started(document(f"<features>{features}</features>", machine="q35"))
    assert part in value(argv, "-machine").split(",")


def test_features_that_are_options_of_their_own() -> None:
    features = (
        "<features><smm><tseg unit='MiB'>48</tseg></smm><vmcoreinfo/><async-teardown/></features>"
    )
    argv = started(document(features, machine="q35"))
    assert "mch.extended-tseg-mbytes=48" in values(argv, "-global")
    assert "vmcoreinfo" in values(argv, "-device")[-1]
    assert value(argv, "-run-with") == "async-teardown=on"


@pytest.mark.parametrize(
    ("kind", "features", "accelerator"),
    [
        ("qemu", "<tcg><tb-cache unit='MiB'>64</tb-cache></tcg>", "tcg,tb-size=64"),
        (
            "kvm",
            "<kvm><dirty-ring state='on' size='4096'/></kvm>",
            "kvm,dirty-ring-size=4096",
        ),
    ],
)
def test_accelerator(kind: str, features: str, accelerator: str) -> None:
    argv = started(document(f"<features>{features}</features>", kind=kind))
    assert value(argv, "-accel") == accelerator


@pytest.mark.parametrize(("kind", "version"), [("kvm", "3"), ("qemu", "2")])
def test_arm_guests_have_an_interrupt_controller(kind: str, version: str) -> None:
    ctx = context("aarch64")
    domain = PIPELINE.load(document(machine="virt", kind=kind, arch="aarch64"), ctx)
    assert domain.features is not None
    assert (domain.features.gic, domain.features.gic_version) == (True, version)


@pytest.mark.parametrize(
    ("clock", "rtc"),
    [
        ("<clock offset='localtime'/>", "base=localtime"),
        ("<clock offset='variable' adjustment='10' basis='utc'/>", "base=2009-02-13T23:31:40"),
        ("<clock offset='variable' basis='localtime'/>", "base=2009-02-14T00:31:30"),
        ("<clock offset='absolute' start='0'/>", "base=1970-01-01T00:00:00"),
        (
            "<clock offset='utc'><timer name='rtc' track='guest' tickpolicy='catchup'/></clock>",
            "base=utc,clock=vm,driftfix=slew",
        ),
    ],
)
def test_clock(clock: str, rtc: str) -> None:
    assert value(started(document(clock)), "-rtc") == rtc


def test_time_zone_comes_by_the_environment() -> None:
    ctx = context()
    domain = PIPELINE.load(document("<clock offset='timezone' timezone='Asia/Tokyo'/>"), ctx)
    plan = launch.plan_start(domain, ctx, Host())
    assert plan.env["TZ"] == "Asia/Tokyo"
    assert value(plan.argv, "-rtc") == "base=localtime"


@pytest.mark.parametrize(("policy", "told"), [("", "delay"), (" tickpolicy='discard'", "discard")])
def test_interval_timer(policy: str, told: str) -> None:
    argv = started(document(f"<clock offset='utc'><timer name='pit'{policy}/></clock>"))
    assert f"kvm-pit.lost_tick_policy={told}" in values(argv, "-global")


@pytest.mark.parametrize(("machine", "device"), [("pc", "PIIX4_PM"), ("q35", "ICH9-LPC")])
def test_sleep_states(machine: str, device: str) -> None:
    pm = "<pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='yes'/></pm>"
    told = values(started(document(pm, machine=machine)), "-global")
    assert [f"{device}.disable_s3=1", f"{device}.disable_s4=0"] == [
        word for word in told if "disable_s" in word
    ]


def test_boot_menu_and_kernel() -> None:
    os = (
        "<kernel>/k</kernel><initrd>/i</initrd><cmdline>a=b,c</cmdline><dtb>/d</dtb>"
        "<acpi><table type='slic'>//a,b</table></acpi>"
        "<bootmenu enable='yes' timeout='3000'/><bios rebootTimeout='-1'/>"
    )
    argv = started(document(os=os))
    assert value(argv, "-boot") == "menu=on,reboot-timeout=-1,splash-time=3000,strict=on"
    assert argv[argv.index("-kernel") :][:8] == [
        "-kernel", "/k", "-initrd", "/i", "-append", "a=b,c", "-dtb", "/d",
    ]  # fmt: skip
    assert value(argv, "-acpitable") == "sig=SLIC,file=//a,,b"


def test_firmware_in_rom() -> None:
    assert value(started(document(os="<loader>/bios.bin</loader>")), "-bios") == "/bios.bin"


def test_firmware_in_flash() -> None:
    os = "<loader readonly='yes' type='pflash'>/CODE.fd</loader><nvram>/VARS.fd</nvram>"
    argv = started(document("<features><acpi/></features>", os=os))
    assert "pflash0=libvirt-pflash0-format,pflash1=libvirt-pflash1-format" in value(
        argv, "-machine"
    )
    assert '"filename":"/CODE.fd"' in values(argv, "-blockdev")[0]
    assert '"read-only":true' in values(argv, "-blockdev")[1]
    assert '"filename":"/VARS.fd"' in values(argv, "-blockdev")[2]


def test_smbios_and_firmware_files() -> None:
    info = (
        "<sysinfo type='smbios'><bios><entry name='vendor'>a,b</entry></bios>"
        "<baseBoard><entry name='product'>p</entry></baseBoard>"
        "<oemStrings><entry>x</entry><entry>y,z</entry></oemStrings></sysinfo>"
        "<sysinfo type='fwcfg'><entry name='opt/a'>1,2</entry>"
        "<entry name='opt/b' file='//f/'/></sysinfo>"
    )
    argv = started(document(info, os="<smbios mode='sysinfo'/>"))
    assert values(argv, "-smbios") == [
        "type=0,vendor=a,,b",
        "type=2,manufacturer=,product=p",
        "type=11,value=x,value=y,,z",
    ]
    assert values(argv, "-fw_cfg") == ["name=opt/a,string=1,,2", "name=opt/b,file=//f"]


def test_encrypted_memory_takes_the_host_s_figures() -> None:
    body = "<launchSecurity type='sev'><policy>0x1</policy><session>c2Vz</session></launchSecurity>"
    ctx = context()
    plan = launch.plan_start(PIPELINE.load(document(body), ctx), ctx, Host())
    path = next(path for path in plan.files if path.endswith("session.base64"))
    assert plan.files[path] == b"c2Vz"
    assert values(plan.argv, "-object")[-1] == (
        '{"qom-type":"sev-guest","id":"lsec0","cbitpos":47,"reduced-phys-bits":1,"policy":1,'
        f'"session-file":"{path}"}}'
    )
    assert "confidential-guest-support=lsec0" in value(plan.argv, "-machine")


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (
            document(machine="pc-i440fx-9.9"),
            (
                "Emulator '/usr/bin/qemu-system-x86_64' "
                "does not support machine type 'pc-i440fx-9.9'"
            ),
        ),
        (document("<features><gic/></features>"), (
            "The 'gic' feature is not supported for architecture 'x86_64' "
            "or machine type 'pc-i440fx-10.0'"
        )),
        (
            document("<features><smm><tseg>1</tseg></smm></features>"),
            "SMM TSEG is only supported with q35 machine type",
        ),
        (
            document("<features><vmport state='on'/><ps2 state='off'/></features>"),
            "vmport feature requires the ps2 feature not to be disabled",
        ),
        (
            document("<clock offset='utc'><timer name='rtc' track='boot'/></clock>"),
            "unsupported rtc timer track 'boot'",
        ),
        (
            document("<on_poweroff>restart</on_poweroff><on_reboot>destroy</on_reboot>"),
            (
                "qemu driver doesn't support 'onReboot' set to 'destroy and "
                "'onPoweroff' set to 'reboot'"
            ),
        ),
        (
            document(os="<loader type='pflash'>/CODE.fd</loader>"),
            "UEFI requires ACPI on this architecture",
        ),
        (document("<bootloader>/b</bootloader>"), "bootloader is not supported by QEMU"),
        (
            document("<launchSecurity type='s390-pv'/>"),
            "'s390-pv' launch security is not supported with this QEMU binary",
        ),
        (
            document("<sysinfo type='fwcfg'><entry name='a'>b</entry></sysinfo>"),
            "Invalid firmware name",
        ),
        (
            document(os="<smbios mode='host'/>"),
            "Host SMBIOS information is not available",
        ),
    ],
)  # fmt: skip
def test_refusals(xml: str, message: str) -> None:
    assert refusal(xml) == f"unsupported configuration: {message}"
