"""One row for each thing that guests see: two documents, and what is said of the second."""

from __future__ import annotations

from typing import Any
from typing import Final

import attrs

_DOCUMENT: Final = """<domain type='{type}'>
<name>{name}</name>
<uuid>{uuid}</uuid>
{head}
<memory>{memory}</memory>
{vcpu}
<os><type arch='{arch}' machine='{machine}'>{ostype}</type>{os}</os>
{body}
<devices>
{devices}
</devices>
</domain>
"""
_USUAL: Final = {
    "type": "qemu",
    "name": "vm",
    "uuid": "c7a5fdbd-edaf-9455-926a-d65c16db1809",
    "memory": "1048576",
    "vcpu": "<vcpu>4</vcpu>",
    "arch": "x86_64",
    "machine": "pc",
    "ostype": "hvm",
    "head": "",
    "os": "",
    "body": "",
    "devices": "",
}


@attrs.frozen
class Row:
    """Two documents by what they have beside the usual, and every difference in order."""

    name: str
    before: dict[str, str]
    after: dict[str, str]
    words: tuple[str, ...]


def document(**parts: str) -> str:
    """Return a document that has ``parts`` beside the usual."""
    return _DOCUMENT.format(**(_USUAL | parts))


def _in(part: str) -> Any:
    def row(name: str, before: str, after: str, *words: str, **both: str) -> Row:
        return Row(name, {part: before, **both}, {part: after, **both}, words)

    return row


_device, _body, _head, _os = _in("devices"), _in("body"), _in("head"), _in("os")


def _feature(name: str, before: str, after: str, *words: str, **both: str) -> Row:
    return Row(
        f"feature {name}",
        {"body": f"<features>{before}</features>", **both},
        {"body": f"<features>{after}</features>", **both},
        words,
    )


def _state(name: str, was: str, now: str, what: str = "feature") -> str:
    return f"State of {what} '{name}' differs: source: '{was}', destination: '{now}'"


def _disk(driver: str = "name='qemu' type='raw'", more: str = "", **given: str) -> str:
    target = given.get("target", "dev='vda' bus='virtio'")
    return (
        f"<disk type='file' device='{given.get('device', 'disk')}'{given.get('attributes', '')}>"
        f"<driver {driver}/><source file='/a'/><target {target}/>{more}</disk>"
    )


def _nic(more: str = "<model type='virtio'/>", mac: str = "52:54:00:00:00:01") -> str:
    return f"<interface type='user'><mac address='{mac}'/>{more}</interface>"


_PORTS: Final = "<controller type='virtio-serial' index='0'/>"
_MDEV: Final = (
    "<hostdev mode='subsystem' type='mdev' model='vfio-pci'{}><source>"
    "<address uuid='53764d0e-85a0-42b4-af5c-2046b460b1dc'/></source>{}</hostdev>"
)
_HOST_PCI: Final = (
    "<hostdev mode='subsystem' type='pci'><source>"
    "<address domain='0' bus='6' slot='2' function='0'/></source>{}</hostdev>"
)
_HOST_USB: Final = (
    "<hostdev mode='subsystem' type='usb'><source><vendor id='0x1234'/><product id='0xbeef'/>"
    "</source></hostdev>"
)


def _pci(slot: int, function: int = 0) -> str:
    return f"<address type='pci' domain='0' bus='0' slot='{slot}' function='{function}'/>"


_MODULES: Final = {
    "head": "<maxMemory slots='4' unit='KiB'>4194304</maxMemory><currentMemory>1048576"
    "</currentMemory>",
    "memory": "1310720",
    "body": (
        "<cpu mode='custom' match='exact'><model>qemu64</model>"
        "<numa><cell id='0' cpus='0-1' memory='524288'/><cell id='1' cpus='2-3' memory='524288'/>"
        "</numa></cpu>"
    ),
}


def _module(
    model: str = "dimm", source: str = "", target: str = "", more: str = "", node: str = "0",
    size: str = "262144", end: str = "",
) -> str:  # fmt: skip
    return (
        f"<memory model='{model}'>{source}<target{more}><size unit='KiB'>{size}</size>"
        f"<node>{node}</node>{target}</target>{end}</memory>"
    )


def _memory(name: str, before: str, after: str, *words: str, **both: str) -> Row:
    parts = _MODULES | both
    return Row(name, {"devices": before, **parts}, {"devices": after, **parts}, words)


def _nvdimm(source: str = "", target: str = "") -> str:
    return _module("nvdimm", f"<source><path>/n</path>{source}</source>", target)


def _pmem(base: str) -> str:
    return (
        "<memory model='virtio-pmem'><source><path>/n</path></source><target>"
        f"<size unit='KiB'>262144</size><address base='{base}'/></target></memory>"
    )


def _vmem(block: str = "2048", requested: str = "0", more: str = "", base: str = "") -> str:
    target = f"<block unit='KiB'>{block}</block><requested unit='KiB'>{requested}</requested>{base}"
    return _module("virtio-mem", "", target, more)


def _cpu(content: str, attributes: str = "mode='custom' match='exact' check='none'") -> str:
    return f"<cpu {attributes}>{content}</cpu>"


def _numa(*cells: str) -> str:
    rows = "".join(f"<cell id='{i}' {cell}/>" for i, cell in enumerate(cells))
    return _cpu(f"<model>qemu64</model><numa>{rows}</numa>")


def _far(value: int) -> str:
    return _cpu(
        "<model>qemu64</model><numa><cell id='0' cpus='0-1' memory='524288'><distances>"
        f"<sibling id='1' value='{value}'/></distances></cell>"
        "<cell id='1' cpus='2-3' memory='524288'/></numa>"
    )


def _sysinfo(content: str) -> str:
    return f"<sysinfo type='smbios'>{content}</sysinfo>"


def _entry(table: str, name: str, value: str) -> str:
    return f"<{table}><entry name='{name}'>{value}</entry></{table}>"


def _vcpus(*states: str) -> str:
    online = sum("enabled='yes'" in state for state in states)
    rows = "".join(f"<vcpu id='{i}' {state}/>" for i, state in enumerate(states))
    return f"<vcpu current='{online}'>{len(states)}</vcpu><vcpus>{rows}</vcpus>"


_FIXED: Final = "enabled='yes' hotpluggable='no'"
_PLUGGED: Final = "enabled='yes' hotpluggable='yes'"
_UNPLUGGED: Final = "enabled='no' hotpluggable='yes'"

_IDENTITY: Final = (
    Row("type", {}, {"type": "kvm"}, ("Target domain virt type kvm does not match source qemu",)),
    Row(
        "uuid",
        {},
        {"uuid": "c7a5fdbd-edaf-9455-926a-d65c16db1800"},
        (
            (
                "Target domain uuid c7a5fdbd-edaf-9455-926a-d65c16db1800 does not match source"
                " c7a5fdbd-edaf-9455-926a-d65c16db1809"
            ),
        ),
    ),
    _head(
        "genid requested",
        "",
        "<genid>e9392370-2917-565e-692b-d057f46512d6</genid>",
        "Target domain requested genid does not match source",
    ),
    _head(
        "genid",
        "<genid>e9392370-2917-565e-692b-d057f46512d6</genid>",
        "<genid>e9392370-2917-565e-692b-d057f46512d7</genid>",
        "Target domain genid e9392370-2917-565e-692b-d057f46512d7 does not match source"
        " e9392370-2917-565e-692b-d057f46512d6",
    ),
    Row("name", {}, {"name": "x"}, ("Target domain name 'x' does not match source 'vm'",)),
)

_SIZES: Final = (
    Row(
        "memory",
        {"head": "<currentMemory>1048576</currentMemory>"},
        {"memory": "2097152", "head": "<currentMemory>1048576</currentMemory>"},
        ("Target domain max memory 2097152 does not match source 1048576",),
    ),
    Row(
        "current memory",
        {},
        {"head": "<currentMemory>524288</currentMemory>"},
        ("Target domain current memory 524288 does not match source 1048576",),
    ),
    Row(
        "max memory",
        _MODULES | {"memory": "1048576"},
        _MODULES | {"memory": "1048576", "head": _MODULES["head"].replace("4194304", "8388608")},
        ("Target maximum memory size '8388608' doesn't match source '4194304'",),
    ),
    Row(
        "memory slots",
        _MODULES | {"memory": "1048576"},
        _MODULES
        | {"memory": "1048576", "head": _MODULES["head"].replace("slots='4'", "slots='5'")},
        ("Target domain memory slots count '5' doesn't match source '4'",),
    ),
    _body(
        "node count",
        _numa("cpus='0-3' memory='1048576'"),
        _numa("cpus='0-1' memory='524288'", "cpus='2-3' memory='524288'"),
        "Target NUMA node count '2' doesn't match source '1'",
    ),
    _body(
        "node sizes",
        _numa("cpus='0-1' memory='524288'", "cpus='2-3' memory='524288'"),
        _numa("cpus='0-1' memory='262144'", "cpus='2-3' memory='786432'"),
        "Size of target NUMA node 0 (262144) doesn't match source (524288)",
        "Size of target NUMA node 1 (786432) doesn't match source (524288)",
    ),
    _body(
        "node CPUs",
        _numa("cpus='0-1' memory='524288'", "cpus='2-3' memory='524288'"),
        _numa("cpus='0' memory='524288'", "cpus='1-3' memory='524288'"),
        "Processor mask of target NUMA node 0 doesn't match source",
        "Processor mask of target NUMA node 1 doesn't match source",
    ),
    _body(
        "node distances",
        _far(20),
        _far(21),
        "Target NUMA distance from 0 to 1 doesn't match source",
        "Target NUMA distance from 1 to 0 doesn't match source",
    ),
    Row(
        "vcpu count",
        {},
        {"vcpu": "<vcpu>5</vcpu>"},
        ("Target domain vCPU max 5 does not match source 4",),
    ),
    Row(
        "vcpu state",
        {"vcpu": _vcpus(_FIXED, _PLUGGED, _UNPLUGGED)},
        {"vcpu": _vcpus(_FIXED, _UNPLUGGED, _PLUGGED)},
        (
            "State of vCPU '1' differs between source and destination definitions",
            "State of vCPU '2' differs between source and destination definitions",
        ),
    ),
    Row(
        "vcpu listed twice",
        {"vcpu": _vcpus(_FIXED, _PLUGGED, _UNPLUGGED)},
        {"vcpu": _vcpus(_FIXED, _PLUGGED, _UNPLUGGED).replace("<vcpu id='2'", "<vcpu id='1'")},
        ("State of vCPU '1' differs between source and destination definitions",),
    ),
    Row(
        "vcpu order",
        {"vcpu": _vcpus(_FIXED + " order='1'", _PLUGGED + " order='2'")},
        {"vcpu": _vcpus(_FIXED + " order='1'", _PLUGGED + " order='3'")},
        ("vcpu enable order of vCPU '1' differs between source and destination definitions",),
    ),
)

_MACHINE: Final = (
    Row(
        "machine",
        {"machine": "pc-i440fx-9.0"},
        {"machine": "pc-i440fx-9.1"},
        ("Target domain machine type pc-i440fx-9.1 does not match source pc-i440fx-9.0",),
    ),
    _os(
        "SMBIOS mode",
        "",
        "<smbios mode='host'/>",
        "Target domain SMBIOS mode host does not match source none",
    ),
    _body(
        "timer count",
        "<clock offset='utc'/>",
        "<clock offset='utc'><timer name='hpet' present='no'/></clock>",
        "Target domain timers do not match source",
    ),
    _body(
        "timer",
        "<clock offset='utc'><timer name='hpet' present='no'/></clock>",
        "<clock offset='utc'><timer name='pit'/></clock>",
        "Target timer pit does not match source hpet",
    ),
    _body(
        "timer presence",
        "<clock offset='utc'><timer name='hpet' present='no'/></clock>",
        "<clock offset='utc'><timer name='hpet'/></clock>",
        "Target timer presence 'default' does not match source 'no'",
    ),
    _body(
        "TSC",
        "<clock offset='utc'><timer name='tsc' frequency='1000' mode='native'/></clock>",
        "<clock offset='utc'><timer name='tsc' mode='emulate'/></clock>",
        "Target TSC frequency 0 does not match source 1000",
        "Target TSC mode emulate does not match source native",
    ),
)

_FEATURES: Final = (
    _feature("acpi", "<acpi/>", "", _state("acpi", "on", "default")),
    _feature("apic", "<apic/>", "<apic eoi='on'/>", _state("apic", "on,eoi=default", "on,eoi=on")),
    _feature("pae", "", "<pae/>", _state("pae", "default", "on")),
    _feature("hap", "<hap/>", "<hap state='off'/>", _state("hap", "on", "off")),
    _feature("viridian", "", "<viridian/>", _state("viridian", "default", "on")),
    _feature("privnet", "", "<privnet/>", _state("privnet", "default", "on")),
    _feature(
        "hyperv",
        "",
        "<hyperv mode='passthrough'/>",
        _state("hyperv", "default", "off"),
    ),
    _feature("kvm", "", "<kvm/>", _state("kvm", "default", "on")),
    _feature("pvspinlock", "", "<pvspinlock state='off'/>", _state("pvspinlock", "default", "off")),
    _feature(
        "capabilities",
        "",
        "<capabilities policy='deny'/>",
        _state("capabilities", "policy=default", "policy=deny"),
    ),
    _feature("pmu", "<pmu state='on'/>", "<pmu state='off'/>", _state("pmu", "on", "off")),
    _feature("vmport", "", "<vmport state='off'/>", _state("vmport", "default", "off")),
    _feature(
        "gic",
        "<gic version='2'/>",
        "<gic version='3'/>",
        _state("gic", "on,version=2", "on,version=3"),
        arch="aarch64",
        machine="virt",
    ),
    _feature("smm", "", "<smm state='off'/>", _state("smm", "default", "off")),
    _feature(
        "ioapic", "", "<ioapic driver='qemu'/>", _state("ioapic", "driver=none", "driver=qemu")
    ),
    _feature(
        "hpt",
        "<hpt resizing='enabled'/>",
        "<hpt resizing='required'><maxpagesize unit='MiB'>16</maxpagesize></hpt>",
        _state(
            "hpt",
            "on,resizing=enabled,maxpagesize=0",
            "on,resizing=required,maxpagesize=16384",
        ),
    ),
    _feature("vmcoreinfo", "", "<vmcoreinfo/>", _state("vmcoreinfo", "default", "on")),
    _feature("htm", "<htm state='on'/>", "<htm state='off'/>", _state("htm", "on", "off")),
    _feature("nested", "", "<nested-hv state='on'/>", _state("nested-hv", "default", "on")),
    _feature("ccf", "", "<ccf-assist state='on'/>", _state("ccf-assist", "default", "on")),
    _feature("xen", "", "<xen/>", _state("xen", "default", "on")),
    _feature("cfpc", "", "<cfpc value='fixed'/>", _state("cfpc", "value=none", "value=fixed")),
    _feature("sbbc", "", "<sbbc value='fixed'/>", _state("sbbc", "value=none", "value=fixed")),
    _feature("ibs", "", "<ibs value='fixed-na'/>", _state("ibs", "value=none", "value=fixed-na")),
    _feature(
        "ras",
        "",
        "<ras state='on'/>",
        _state("ras", "default", "on"),
        arch="aarch64",
        machine="virt",
    ),
    _feature("ps2", "", "<ps2 state='off'/>", _state("ps2", "default", "off")),
    _feature("aia", "", "<aia value='none'/>", _state("aia", "value=default", "value=none")),
    _feature(
        "enlightenments",
        "<hyperv><relaxed state='on'/><spinlocks state='on' retries='4096'/>"
        "<vendor_id state='on' value='x'/></hyperv>",
        "<hyperv><vapic state='off'/><spinlocks state='on' retries='8191'/></hyperv>",
        _state("relaxed", "on", "default", "HyperV enlightenment feature"),
        _state("vapic", "default", "off", "HyperV enlightenment feature"),
        "HyperV spinlock retry count differs: source: '4096', destination: '8191'",
        "HyperV vendor_id differs: source: 'x', destination: '(null)'",
    ),
    _feature(
        "stimer",
        "<hyperv><stimer state='on'><direct state='on'/></stimer></hyperv>",
        "<hyperv><stimer state='on'/></hyperv>",
        "State of HyperV stimer direct feature differs: source: 'on', destination: 'default'",
    ),
    _feature(
        "xen features",
        "<xen><e820_host state='on'/><passthrough state='on' mode='sync_pt'/></xen>",
        "<xen><e820_host state='off'/><passthrough state='on'/></xen>",
        _state("e820_host", "on", "off", "Xen feature"),
        "'mode' of Xen passthrough feature differs: source: 'sync_pt', destination: 'default'",
    ),
    _feature(
        "kvm features",
        "<kvm><hidden state='on'/><dirty-ring state='on' size='1024'/></kvm>",
        "<kvm><poll-control state='on'/><dirty-ring state='on' size='2048'/></kvm>",
        _state("hidden", "on", "default", "KVM feature"),
        _state("poll-control", "default", "on", "KVM feature"),
        "dirty ring size of KVM feature '(null)' differs: source: '1024', destination: '2048'",
    ),
    _feature(
        "kvm ring size",
        "<kvm><dirty-ring state='on' size='1024'/></kvm>",
        "<kvm><dirty-ring state='on' size='2048'/></kvm>",
        "dirty ring size of KVM feature '(null)' differs: source: '1024', destination: '2048'",
    ),
    _feature(
        "tseg",
        "<smm state='on'/>",
        "<smm state='on'><tseg>48</tseg></smm>",
        "SMM TSEG differs: source: not specified, destination: 'specified'",
        machine="q35",
    ),
    _feature(
        "tseg size",
        "<smm state='on'><tseg unit='KiB'>1</tseg></smm>",
        "<smm state='on'><tseg>48</tseg></smm>",
        "Size of SMM TSEG size differs: source: '1 KiB', destination: '48 MiB'",
        machine="q35",
    ),
)

_CPU: Final = (
    _body(
        "CPU",
        "",
        _cpu("<model>qemu64</model>"),
        "Target CPU does not match source",
    ),
    _body(
        "CPU mode",
        _cpu("<model>qemu64</model>"),
        "<cpu mode='maximum' check='none'/>",
        "Target CPU mode maximum does not match source custom",
        "Target CPU model <null> does not match source qemu64",
    ),
    _body(
        "CPU check",
        _cpu("<model>qemu64</model>"),
        _cpu("<model>qemu64</model>", "mode='custom' match='exact' check='full'"),
        "Target CPU check full does not match source none",
    ),
    _body(
        "CPU model",
        _cpu("<model vendor_id='KVMKVMKVMKVM'>qemu64</model>"),
        _cpu("<model>Haswell</model><vendor>Intel</vendor>"),
        "Target CPU model Haswell does not match source qemu64",
        "Target CPU vendor Intel does not match source <null>",
        "Target CPU vendor id <null> does not match source KVMKVMKVMKVM",
    ),
    _body(
        "CPU topology",
        _cpu("<model>qemu64</model><topology sockets='1' cores='32' threads='1'/>"),
        _cpu(
            "<model>qemu64</model>"
            "<topology sockets='2' dies='2' clusters='2' cores='2' threads='2'/>"
        ),
        "Target CPU sockets 2 does not match source 1",
        "Target CPU dies 2 does not match source 1",
        "Target CPU clusters 2 does not match source 1",
        "Target CPU cores 2 does not match source 32",
        "Target CPU threads 2 does not match source 1",
        vcpu="<vcpu>32</vcpu>",
    ),
    _body(
        "CPU address",
        _cpu("<model>qemu64</model><maxphysaddr mode='emulate' bits='42'/>"),
        _cpu("<model>qemu64</model><maxphysaddr mode='emulate' bits='43'/>"),
        "Target CPU maxphysaddr does not match source",
    ),
    _body(
        "CPU feature count",
        _cpu("<model>qemu64</model>"),
        _cpu("<model>qemu64</model><feature policy='require' name='lm'/>"),
        "Target CPU feature count 1 does not match source 0",
    ),
    _body(
        "CPU features",
        _cpu("<model>qemu64</model><feature name='aes'/><feature name='lm'/>"),
        _cpu("<model>qemu64</model><feature name='avx'/><feature policy='disable' name='lm'/>"),
        "Target CPU feature avx does not match source aes",
        "Target CPU feature policy disable does not match source require",
    ),
    _body(
        "CPU cache",
        _cpu("<model>qemu64</model><cache level='3' mode='emulate'/>"),
        _cpu("<model>qemu64</model><cache mode='disable'/>"),
        "Target CPU cache does not match source",
    ),
)

_SYSINFO: Final = (
    _body(
        "sysinfo count",
        "",
        _sysinfo(_entry("bios", "vendor", "a")),
        "Target domain count of sysinfo does not match source",
    ),
    _body(
        "sysinfo type",
        _sysinfo(_entry("bios", "vendor", "a")),
        "<sysinfo type='fwcfg'><entry name='opt/a'>b</entry></sysinfo>",
        "Target sysinfo fwcfg does not match source smbios",
    ),
    _body(
        "sysinfo tables",
        _sysinfo(_entry("bios", "vendor", "a") + _entry("system", "manufacturer", "b")),
        _sysinfo(_entry("bios", "vendor", "x") + _entry("system", "family", "c")),
        "Target sysinfo BIOS vendor x does not match source a",
        "Target sysinfo system vendor <null> does not match source b",
        "Target sysinfo system family c does not match source <null>",
    ),
    _body(
        "sysinfo table",
        _sysinfo(_entry("bios", "vendor", "a")),
        _sysinfo(_entry("chassis", "vendor", "a") + _entry("chassis", "asset", "d")),
        "Target sysinfo does not match source",
        "Target chassis does not match source",
    ),
    _body(
        "sysinfo boards",
        _sysinfo(_entry("baseBoard", "product", "a")),
        _sysinfo(_entry("baseBoard", "product", "a") * 2),
        "Target sysinfo base board count '2' does not match source '1'",
    ),
    _body(
        "sysinfo board",
        _sysinfo(_entry("baseBoard", "product", "a")),
        _sysinfo(_entry("baseBoard", "manufacturer", "c")),
        "Target sysinfo base board vendor c does not match source <null>",
        "Target sysinfo base board product <null> does not match source a",
    ),
    _body(
        "sysinfo chassis",
        _sysinfo(_entry("chassis", "sku", "1")),
        _sysinfo(_entry("chassis", "sku", "2")),
        "Target sysinfo chassis sku 2 does not match source 1",
    ),
)

_DISKS: Final = (
    _device("disk count", "", _disk(), "Target domain disk count 1 does not match source 0"),
    _device(
        "disk device",
        _disk(target="dev='sda' bus='sata'"),
        _disk(target="dev='sda' bus='sata'", device="cdrom"),
        "Target disk device cdrom does not match source disk",
        "Target disk access mode does not match source",
    ),
    _device(
        "disk target",
        _disk(more=_pci(5)),
        _disk(target="dev='vdb' bus='virtio'", more=_pci(5)),
        "Target disk vdb does not match source vda",
    ),
    _device(
        "disk identity",
        _disk(more="<serial>a</serial>", target="dev='sda' bus='sata'"),
        _disk(
            more="<readonly/><wwn>5000c50015ea71ad</wwn>",
            target="dev='sda' bus='sata' rotation_rate='7200'",
        ),
        "Target disk serial <null> does not match source a",
        "Target disk wwn '5000c50015ea71ad' does not match source '<null>'",
        "Target disk access mode does not match source",
        "Target disk rotation rate 7200 RPM does not match source 0 RPM",
    ),
    _device(
        "disk queues",
        _disk("name='qemu' type='raw' queues='2'"),
        _disk("name='qemu' type='raw' queue_size='256' ats='on' iommu='off' packed='on'"),
        "Target disk queue count 0 does not match source 2",
        "Target disk queue size 0 does not match source 2",
        "Target device iommu option 'off' does not match source 'default'",
        "Target device ats option 'on' does not match source 'default'",
        "Target device packed option 'on' does not match source 'default'",
    ),
    _device(
        "disk queue size",
        _disk("name='qemu' type='raw' queue_size='128'"),
        _disk("name='qemu' type='raw' queue_size='256' page_per_vq='on'"),
        "Target disk queue size 0 does not match source 0",
        "Target device page_per_vq option 'on' does not match source 'default'",
    ),
    _device(
        "disk model",
        _disk(more=_pci(5)),
        _disk(attributes=" model='virtio-transitional'", more=_pci(5)),
        "Target disk model virtio-transitional does not match source default",
    ),
    _device(
        "disk blocks",
        _disk(more="<blockio logical_block_size='512'/>"),
        _disk(more="<blockio physical_block_size='4096' discard_granularity='4096'/>"),
        "Target disk logical_block_size 0 does not match source 512",
        "Target disk physical_block_size 4096 does not match source 0",
        "Target disk discard_granularity 4096 does not match source 0",
    ),
    _device(
        "address type",
        _disk(target="dev='sda' bus='sata'"),
        _disk(target="dev='sda' bus='usb'"),
        "Target disk bus usb does not match source sata",
        "Target device address type none does not match source drive",
        "Target domain controller count 0 does not match source 1",
    ),
    _device(
        "PCI address",
        _disk(more=_pci(5)),
        _disk(more=_pci(31, 7)),
        "Target device PCI address 0000:00:1f.7 does not match source 0000:00:05.0",
    ),
    _device(
        "CCW address",
        _disk(more="<address type='ccw' cssid='0xfe' ssid='0x0' devno='0x0001'/>"),
        _disk(more="<address type='ccw' cssid='0xfe' ssid='0x1' devno='0x000a'/>"),
        "Target device CCW address fe.1.000a does not match source fe.0.0001",
        arch="s390x",
        machine="s390-ccw-virtio",
    ),
    _device(
        "drive address",
        _disk(target="dev='sda' bus='scsi'", more="<address type='drive' unit='0'/>")
        + "<controller type='scsi' index='0' model='lsilogic'/>",
        _disk(target="dev='sda' bus='scsi'", more="<address type='drive' unit='3'/>")
        + "<controller type='scsi' index='0' model='lsilogic'/>",
        "Target device drive address 0:0:3 does not match source 0:0:0",
    ),
    _device(
        "ACPI index",
        _nic("<model type='virtio'/><acpi index='4'/>"),
        _nic("<model type='virtio'/><acpi index='5'/>"),
        "Target ACPI index '5' does not match source '4'",
    ),
)

_IO: Final = (
    _device(
        "controller count",
        "",
        "<controller type='scsi' index='0' model='lsilogic'/>",
        "Target domain controller count 1 does not match source 0",
    ),
    _device(
        "controller type",
        f"<controller type='scsi' index='0' model='lsilogic'>{_pci(5)}</controller>",
        f"<controller type='sata' index='0'>{_pci(5)}</controller>",
        "Target controller type sata does not match source scsi",
    ),
    _device(
        "controller index",
        f"<controller type='sata' index='1'>{_pci(5)}</controller><controller type='sata'/>",
        f"<controller type='sata' index='2'>{_pci(5)}</controller><controller type='sata'/>",
        "Target controller index 2 does not match source 1",
    ),
    _device(
        "controller model",
        f"<controller type='scsi' index='0' model='lsilogic'>{_pci(5)}</controller>",
        f"<controller type='scsi' index='0' model='virtio-scsi'>{_pci(5)}</controller>",
        "Target controller model 6 does not match source 2",
    ),
    _device(
        "controller ports",
        "<controller type='virtio-serial' index='0' ports='8'/>",
        "<controller type='virtio-serial' index='0' vectors='4'/>",
        "Target controller ports -1 does not match source 8",
        "Target controller vectors 4 does not match source -1",
    ),
    _device(
        "USB ports",
        f"<controller type='usb' index='0' model='qemu-xhci' ports='8'>{_pci(5)}</controller>",
        f"<controller type='usb' index='0' model='qemu-xhci' ports='9'>{_pci(5)}</controller>",
        "Target controller ports 9 does not match source 8",
    ),
    _device(
        "virtio options",
        "<controller type='virtio-serial' index='0'/>",
        "<controller type='virtio-serial' index='0'><driver iommu='on'/></controller>",
        "Target device virtio options don't match the source",
    ),
    _device(
        "filesystem count",
        "",
        "<filesystem><source dir='/a'/><target dir='t'/></filesystem>",
        "Target domain filesystem count 1 does not match source 0",
    ),
    _device(
        "filesystem",
        f"<filesystem><source dir='/a'/><target dir='t'/>{_pci(5)}</filesystem>",
        "<filesystem model='virtio-transitional'><source dir='/a'/><target dir='u'/><readonly/>"
        f"{_pci(5)}</filesystem>",
        "Target filesystem guest target u does not match source t",
        "Target filesystem access mode does not match source",
        "Target filesystem model does not match source",
    ),
    _device(
        "interface count",
        "",
        _nic(),
        "Target domain net card count 1 does not match source 0",
    ),
    _device(
        "interface",
        _nic("<model type='virtio'/>"),
        _nic("<model type='e1000'/><mtu size='1400'/>", "52:54:00:00:00:02"),
        "Target network card mac 52:54:00:00:00:02 does not match source 52:54:00:00:00:01",
        "Target network card model e1000 does not match source virtio",
        "Target network card MTU 1400 does not match source 0",
    ),
    _device(
        "interface of an unknown model",
        _nic("<model type='virtio'/>"),
        _nic("<model type='ne2k_pci'/>"),
        "Target network card model ne2k_pci does not match source <null>",
    ),
    _device(
        "interface driver",
        _nic("<model type='virtio'/>"),
        _nic("<model type='virtio'/><driver queues='4'/>"),
        "Target device virtio options don't match the source",
    ),
)

_SEEN: Final = (
    _device(
        "input count",
        "",
        "<input type='tablet' bus='usb'/>",
        "Target domain input device count 1 does not match source 0",
    ),
    _device(
        "input",
        "<input type='keyboard' bus='usb'/>",
        "<input type='tablet' bus='virtio' model='virtio-transitional'/>",
        "Target input device type tablet does not match source keyboard",
        "Target input device bus virtio does not match source usb",
        "Target input model usb does not match source default",
    ),
    _device(
        "sound count",
        "",
        "<sound model='ac97'/>",
        "Target domain sound card count 1 does not match source 0",
    ),
    _device(
        "sound",
        f"<sound model='ac97'>{_pci(5)}</sound>",
        f"<sound model='ich6'>{_pci(5)}</sound>",
        "Target sound card model ich6 does not match source ac97",
    ),
    _device(
        "sound channels",
        "<sound model='usb' multichannel='yes'/>",
        "<sound model='usb'/>",
        "Target sound card multichannel setting 'default' does not match source 'yes'",
    ),
    _device(
        "video count",
        "<video><model type='none'/></video>",
        "",
        "Target domain video card count 0 does not match source 1",
    ),
    _device(
        "video",
        f"<video><model type='qxl' ram='65536' vram='65536' heads='1'/>{_pci(5)}</video>",
        f"<video><model type='virtio' heads='2'/>{_pci(5)}</video>",
        "Target video card model virtio does not match source qxl",
        "Target video card ram 0 does not match source 65536",
        "Target video card vram 0 does not match source 65536",
        "Target video card heads 2 does not match source 1",
    ),
    _device(
        "video memory",
        f"<video><model type='qxl' vram64='65536' vgamem='16384'/>{_pci(5)}</video>",
        f"<video><model type='qxl' vram64='131072' vgamem='32768'/>{_pci(5)}</video>",
        "Target video card vram64 131072 does not match source 65536",
        "Target video card vgamem 32768 does not match source 16384",
    ),
    _device(
        "video acceleration",
        f"<video><model type='virtio'/>{_pci(5)}</video>",
        f"<video><model type='virtio'><acceleration accel3d='yes'/></model>{_pci(5)}</video>",
        "Target video card acceleration does not match source",
    ),
    _device(
        "video accelerations",
        "<video><model type='virtio'><acceleration accel3d='yes'/></model></video>",
        "<video><model type='virtio'><acceleration accel2d='yes' accel3d='no'/></model></video>",
        "Target video card 2d accel 1 does not match source 0",
        "Target video card 3d accel 2 does not match source 1",
    ),
)

_HOST: Final = (
    _device(
        "host device count",
        "",
        _HOST_USB,
        "Target domain host device count 1 does not match source 0",
    ),
    _device(
        "host device type",
        _HOST_PCI.format(_pci(5)),
        _HOST_USB,
        "Target host device subsystem type usb is not compatible with source subsystem type pci",
        "Target device address type none does not match source pci",
    ),
    _device("host device exchange", _HOST_PCI.format(_pci(5)), _MDEV.format("", _pci(5))),
    _device(
        "display of a mediated device",
        _MDEV.format(" display='off'", _pci(5)) + "<graphics type='vnc'/>",
        _MDEV.format(" display='on' ramfb='on'", _pci(5)) + "<graphics type='vnc'/>",
    ),
    _device(
        "host device address",
        _MDEV.format("", _pci(5)),
        _MDEV.format("", _pci(6)),
        "Target device PCI address 0000:00:06.0 does not match source 0000:00:05.0",
    ),
    _device(
        "host device and interface",
        _nic(f"<model type='virtio'/>{_pci(5)}"),
        "<interface type='hostdev'><mac address='52:54:00:00:00:01'/><source>"
        "<address type='pci' domain='0' bus='6' slot='2' function='0'/></source>"
        f"<model type='virtio'/>{_pci(5)}</interface>",
        "Target domain host device count 1 does not match source 0",
    ),
    _device(
        "smartcard count",
        "",
        "<smartcard mode='host'/>",
        "Target domain controller count 1 does not match source 0",
        "Target domain smartcard count 1 does not match source 0",
    ),
    _device(
        "ccid address",
        "<smartcard mode='host'><address type='ccid' controller='0' slot='0'/></smartcard>",
        "<smartcard mode='host'><address type='ccid' controller='0' slot='1'/></smartcard>",
        "Target device ccid address 0:1 does not match source 0:0",
    ),
)

_CHARACTERS: Final = (
    _device(
        "serial count",
        "",
        "<serial type='pty'/>",
        "Target domain serial port count 1 does not match source 0",
        "Target domain console count 1 does not match source 0",
    ),
    _device(
        "serial",
        "<serial type='pty'><target type='isa-serial' port='0'><model name='isa-serial'/></target>"
        "</serial>",
        "<serial type='pty'><target type='pci-serial' port='1'><model name='pci-serial'/></target>"
        f"{_pci(5)}</serial>",
        "Target serial type pci-serial does not match source isa-serial",
        "Target serial model pci-serial does not match source isa-serial",
        "Target serial port 1 does not match source 0",
        "Target device address type pci does not match source none",
        "Target domain console count 0 does not match source 1",
    ),
    _device(
        "isa address",
        "<serial type='pty'><target port='0'/><address type='isa' iobase='0x3f8' irq='0x4'/>"
        "</serial>",
        "<serial type='pty'><target port='0'/><address type='isa' iobase='0x3f8' irq='0x5'/>"
        "</serial>",
        "Target device isa address 1016:5 does not match source 1016:4",
    ),
    _device(
        "parallel count",
        "",
        "<parallel type='pty'/>",
        "Target domain parallel port count 1 does not match source 0",
    ),
    _device(
        "parallel",
        "<parallel type='pty'><target port='0'/></parallel>",
        "<parallel type='pty'><target port='1'/></parallel>",
        "Target parallel port 1 does not match source 0",
    ),
    _device(
        "channel count",
        _PORTS + "<channel type='pty'><target type='virtio' name='a'/></channel>",
        _PORTS + "<channel type='pty'><target type='virtio' name='a'/></channel>"
        "<channel type='pty'><target type='virtio' name='b'/></channel>",
        "Target domain channel count 2 does not match source 1",
    ),
    _device(
        "channel type",
        "<controller type='virtio-serial' index='0'/>"
        "<channel type='pty'><target type='virtio' name='a'/></channel>",
        "<controller type='virtio-serial' index='0'/>"
        "<channel type='pty'><target type='guestfwd' address='10.0.2.1' port='4600'/></channel>",
        "Target channel type guestfwd does not match source virtio",
    ),
    _device(
        "channel name",
        _PORTS + "<channel type='pty'><target type='virtio' name='a'/></channel>",
        _PORTS + "<channel type='pty'><target type='virtio'/></channel>",
        "Target channel name <null> does not match source a",
    ),
    _device(
        "channel default name",
        "<graphics type='spice'/><channel type='pty'><target type='virtio'/></channel>",
        "<graphics type='spice'/><channel type='spicevmc'><target type='virtio'/></channel>",
        "Changing device type to/from spicevmc would change default target channel name",
    ),
    _device(
        "channel addr",
        "<channel type='pty'><target type='guestfwd' address='10.0.2.1' port='4600'/></channel>",
        "<channel type='pty'><target type='guestfwd' address='10.0.2.2' port='4600'/></channel>",
        "Target channel addr 10.0.2.2:4600 does not match source 10.0.2.1:4600",
    ),
    _device(
        "virtio serial address",
        _PORTS + "<channel type='pty'><target type='virtio' name='a'/>"
        "<address type='virtio-serial' controller='0' bus='0' port='1'/></channel>",
        _PORTS + "<channel type='pty'><target type='virtio' name='a'/>"
        "<address type='virtio-serial' controller='0' bus='0' port='2'/></channel>",
        "Target device virtio serial address 0:0:2 does not match source 0:0:1",
    ),
    _device(
        "console count",
        _PORTS + "<console type='pty'><target type='virtio'/></console>",
        _PORTS + "<console type='pty'><target type='virtio'/></console>"
        "<console type='pty'><target type='virtio'/></console>",
        "Target domain console count 2 does not match source 1",
    ),
    _device(
        "console type",
        "<controller type='virtio-serial' index='0'/>"
        "<console type='pty'><target type='virtio'/></console>",
        "<controller type='virtio-serial' index='0'/>"
        "<console type='pty'><target type='serial'/></console>",
        "Target domain serial port count 1 does not match source 0",
        "Target console type serial does not match source virtio",
    ),
    _device(
        "redirdev count",
        "",
        "<redirdev bus='usb' type='spicevmc'/>",
        "Target domain redirected devices count 1 does not match source 0",
    ),
    _device(
        "redirdev",
        "<redirdev bus='usb' type='pty'/>",
        "<redirdev bus='usb' type='spicevmc'/>",
        "Target redirected device source type spicevmc does not match source device source type"
        " pty",
    ),
    _device(
        "redirfilter count",
        "",
        "<redirfilter><usbdev allow='no'/></redirfilter>",
        "Target domain USB redirection filter count 1 does not match source 0",
    ),
    _device(
        "redirfilter rules",
        "<redirfilter><usbdev allow='no'/></redirfilter>",
        "<redirfilter><usbdev allow='yes'/><usbdev allow='no'/></redirfilter>",
        "Target USB redirection filter rule count 2 does not match source 1",
    ),
    _device(
        "redirfilter",
        "<redirfilter><usbdev class='0x08' allow='no'/></redirfilter>",
        "<redirfilter><usbdev vendor='0x1234' product='0xBEEF' version='2.56' allow='yes'/>"
        "</redirfilter>",
        "Target USB Class code does not match source",
        "Target USB vendor ID does not match source",
        "Target USB product ID does not match source",
        "Target USB version does not match source",
        "Target USB allow 'yes' does not match source 'no'",
    ),
)

_OTHERS: Final = (
    _device(
        "hub count",
        "",
        "<hub type='usb'/>",
        "Target domain hub device count 1 does not match source 0",
    ),
    _device(
        "watchdog count",
        "",
        "<watchdog model='ib700'/>",
        "Target domain watchdog device count 1 does not match source 0",
    ),
    _device(
        "watchdog",
        "<watchdog model='ib700'/>",
        f"<watchdog model='i6300esb'>{_pci(5)}</watchdog>",
        "Target watchdog model i6300esb does not match source ib700",
        "Target device address type pci does not match source none",
    ),
    _device(
        "balloon count",
        "<memballoon model='virtio'/>",
        "",
        "Target domain memory balloon count 0 does not match source 1",
    ),
    _device(
        "balloon",
        f"<memballoon model='virtio' autodeflate='on'>{_pci(5)}</memballoon>",
        f"<memballoon model='virtio-transitional' freePageReporting='on'>{_pci(5)}</memballoon>",
        "Target balloon model virtio-transitional does not match source virtio",
        "Target balloon autodeflate attribute value 'default' does not match source 'on'",
        "Target balloon freePageReporting attribute value 'on' does not match source 'default'",
    ),
    _device(
        "RNG count",
        "",
        "<rng model='virtio'><backend model='random'/></rng>",
        "Target domain RNG device count 1 does not match source 0",
    ),
    _device(
        "RNG",
        f"<rng model='virtio'><backend model='random'/>{_pci(5)}</rng>",
        f"<rng model='virtio-transitional'><backend model='builtin'/>{_pci(5)}</rng>",
        "Target RNG model 'virtio-transitional' does not match source 'virtio'",
    ),
    _device(
        "panic count",
        "",
        "<panic model='isa'/>",
        "Target domain panic device count 1 does not match source 0",
    ),
    _device(
        "panic",
        "<panic model='isa'/>",
        "<panic model='hyperv'/>",
        "Target panic model 'hyperv' does not match source 'isa'",
    ),
    _device(
        "shmem count",
        "",
        "<shmem name='a'/>",
        "Target domain shared memory device count 1 does not match source 0",
    ),
    _device(
        "shmem",
        "<shmem name='a' role='peer'><model type='ivshmem-plain'/><size unit='M'>4</size>"
        f"{_pci(5)}</shmem>",
        "<shmem name='a' role='master'><model type='ivshmem-doorbell'/><size unit='M'>8</size>"
        f"<server path='/s'/><msi vectors='4'/>{_pci(5)}</shmem>",
        "Target shared memory role 'master' does not match source role 'peer'",
        "Target shared memory model 'ivshmem-doorbell' does not match source model 'ivshmem-plain'",
        "Target shared memory size '8388608' does not match source size '4194304'",
        "Target shared memory server usage doesn't match source",
        "Target shared memory MSI configuration doesn't match source",
    ),
    _device(
        "TPM count",
        "",
        "<tpm><backend type='emulator'/></tpm>",
        "Target domain TPM device count 1 does not match source 0",
    ),
    _device(
        "TPM",
        "<tpm model='tpm-tis'><backend type='emulator' version='2.0'/></tpm>",
        "<tpm model='tpm-crb'><backend type='passthrough'/></tpm>",
        "Target TPM device type doesn't match source",
        "Target TPM device model doesn't match source",
    ),
    _device(
        "TPM emulator",
        "<tpm model='tpm-tis'><backend type='emulator' version='1.2'/></tpm>",
        "<tpm model='tpm-tis'><backend type='emulator' version='2.0'><active_pcr_banks><sha1/>"
        "</active_pcr_banks></backend></tpm>",
        "Target TPM version doesn't match source",
        "Target active PCR banks doesn't match source",
    ),
    _device(
        "IOMMU count",
        "",
        "<iommu model='intel'/>",
        "Target domain IOMMU device count does not match source",
        machine="q35",
    ),
    _device(
        "IOMMU",
        "<iommu model='intel'><driver intremap='on' eim='on' iotlb='on'/></iommu>",
        "<iommu model='intel'><driver caching_mode='on' aw_bits='48' dma_translation='off'/>"
        "</iommu>",
        "Target domain IOMMU device intremap value 'default' does not match source 'on'",
        "Target domain IOMMU device caching mode 'on' does not match source 'default'",
        "Target domain IOMMU device eim value 'default' does not match source 'on'",
        "Target domain IOMMU device iotlb value 'default' does not match source 'on'",
        "Target domain IOMMU device aw_bits value '48' does not match source '0'",
        "Target domain IOMMU device dma translation 'off' does not match source 'default'",
        machine="q35",
    ),
    _device(
        "vsock count",
        "",
        "<vsock model='virtio'><cid auto='yes'/></vsock>",
        "Target domain vsock device count does not match source",
    ),
    _device(
        "vsock",
        f"<vsock model='virtio'><cid auto='yes'/>{_pci(5)}</vsock>",
        f"<vsock model='virtio-transitional'><cid auto='no' address='4'/>{_pci(5)}</vsock>",
        "Target domain vsock device model 'virtio-transitional' does not match source 'virtio'",
    ),
    _device(
        "pstore count",
        "",
        "<pstore backend='acpi-erst'><path>/p</path><size>64</size></pstore>",
        "Target domain pstore device count does not match source",
    ),
    _device(
        "pstore",
        "<pstore backend='acpi-erst'><path>/p</path><size>64</size></pstore>",
        "<pstore backend='acpi-erst'><path>/q</path><size>128</size></pstore>",
        "Target pstore size '128' does not match source '64'",
    ),
)

_MEMORIES: Final = (
    Row(
        "memory device count",
        _MODULES | {"memory": "1048576"},
        _MODULES | {"devices": _module()},
        ("Target domain memory device count 1 does not match source 0",),
    ),
    _memory(
        "memory device model",
        _module(),
        _nvdimm(),
        "Target memory device model 'nvdimm' doesn't match source model 'dimm'",
    ),
    _memory(
        "memory device node",
        _module(node="0"),
        _module(node="1"),
        "Target memory device targetNode '1' doesn't match source targetNode '0'",
    ),
    Row(
        "memory device size",
        _MODULES | {"devices": _module(size="262144")},
        _MODULES | {"devices": _module(size="524288"), "memory": "1572864"},
        ("Target memory device size '524288' doesn't match source memory device size '262144'",),
    ),
    _memory(
        "dimm address",
        _module(end="<address type='dimm' slot='0' base='0x100000000'/>"),
        _module(end="<address type='dimm' slot='1' base='0x110000000'/>"),
        "Target device dimm slot 1 does not match source 0",
        "Target device dimm base address '110000000' does not match source '100000000'",
    ),
    _memory(
        "nvdimm",
        _nvdimm(target="<label><size unit='KiB'>128</size></label>"),
        _nvdimm(
            "<alignsize unit='KiB'>2048</alignsize><pmem/>",
            "<label><size unit='KiB'>256</size></label><readonly/>",
        ),
        "Target NVDIMM label size '128' doesn't match source NVDIMM label size '256'",
        "Target NVDIMM alignment '0' doesn't match source NVDIMM alignment '2048'",
        "Target NVDIMM pmem flag doesn't match source NVDIMM pmem flag",
        "Target NVDIMM readonly flag doesn't match source NVDIMM readonly flag",
    ),
    _memory(
        "nvdimm of POWER",
        _nvdimm(),
        _nvdimm().replace(">", "><uuid>49545eb3-75e1-2d0a-acdd-f0294406c99e</uuid>", 1),
        "Target NVDIMM UUID doesn't match source NVDIMM",
    ),
    _memory(
        "virtio-pmem",
        _pmem("0x140000000"),
        _pmem("0x150000000"),
        "Target memory device address '0x150000000' doesn't match source memory device address"
        " '0x140000000'",
    ),
    _memory(
        "virtio-mem",
        _vmem(more=" dynamicMemslots='no'", base="<address base='0x140000000'/>"),
        _vmem("4096", "131072", " dynamicMemslots='yes'", "<address base='0x150000000'/>"),
        "Target memory device block size '4096' doesn't match source memory device block size"
        " '2048'",
        "Target memory device requested size '131072' doesn't match source memory device"
        " requested size '0'",
        "Target memory device address '0x150000000' doesn't match source memory device address"
        " '0x140000000'",
        "Target memory device 'dynamicMemslots' property doesn't match source memory device",
    ),
)

ROWS: Final = (
    *_IDENTITY, *_SIZES, *_MACHINE, *_FEATURES, *_CPU, *_SYSINFO, *_DISKS, *_IO, *_SEEN, *_HOST,
    *_CHARACTERS, *_OTHERS, *_MEMORIES,
)  # fmt: skip
