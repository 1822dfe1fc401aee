from __future__ import annotations

import os

import attrs
import pytest

from hvcore.hostinfo import GuestArch
from hvcore.hostinfo import GuestFeature
from hvcore.hostinfo import GuestMachine
from hvcore.hostinfo import HostInfo
from hvcore.hostinfo import HostThread
from hvcore.hostinfo import HugePageMount
from hvcore.hostinfo import NumaCell
from hvcore.hostinfo import Pages
from hvcore.hostinfo import circumstances

CPUINFO = """processor\t: {0}
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: A CPU
stepping\t: 8
microcode\t: 0x2b
cpu MHz\t\t: 2000.125
flags\t\t: fpu sse sse2
address sizes\t: 46 bits physical, 57 bits virtual

"""


@pytest.fixture
def root(tmp_path):
    """A host with two nodes of two cores of two threads, one thread offline."""

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    write("proc/meminfo", "MemTotal:  9000000 kB\nHugepagesize:   2048 kB\nHugePages_Total: 0\n")
    write("proc/cpuinfo", "".join(CPUINFO.format(n) for n in range(8)))
    write(
        "proc/mounts",
        "proc /proc proc rw 0 0\n"
        "hugetlbfs /dev/huge\\040pages hugetlbfs rw,relatime 0 0\n"
        "none /dev/hugepages1G hugetlbfs rw,pagesize=1G 0 0\n",
    )
    write("etc/machine-id", "00112233445566778899AABBCCDDEEFF\n")
    write("dev/kvm", "")
    write("sys/module/kvm_intel/parameters/nested", "N\n")
    write("sys/module/kvm/parameters/nested", "1\n")
    write("sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "2097152\n")
    write("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "100\n")
    devices = "sys/devices/system"
    write(f"{devices}/cpu/online", "0-6\n")
    write(f"{devices}/cpu/present", "0-7\n")
    for cpu in range(8):
        topology = f"{devices}/cpu/cpu{cpu}/topology"
        write(f"{topology}/physical_package_id", str(cpu // 4))
        write(f"{topology}/core_id", str(cpu // 2 % 2))
        write(f"{topology}/die_id", "-1")
        siblings = (cpu // 2 * 2, cpu // 2 * 2 + 1)
        online = [str(number) for number in siblings if number != 7]
        write(f"{topology}/thread_siblings_list", ",".join(online))
    for node in range(2):
        folder = f"{devices}/node/node{node}"
        write(
            f"{folder}/meminfo", f"Node {node} MemTotal:  4194304 kB\nNode {node} MemFree: 1 kB\n"
        )
        write(f"{folder}/cpulist", f"{node * 4}-{node * 4 + 3}\n")
        write(f"{folder}/distance", ["10 21", "21 10"][node])
        write(f"{folder}/hugepages/hugepages-2048kB/nr_hugepages", str(node * 512))
    return tmp_path


def test_cells_of_a_numa_host(root):
    host = HostInfo.from_system(root)
    assert [cell.id for cell in host.cells] == [0, 1]
    cell = host.cell(1)
    assert cell is not None
    assert cell.memory == 4_194_304
    assert cell.distances == ((0, 21), (1, 10))
    assert [cpu.id for cpu in cell.cpus] == [4, 5, 6]
    assert cell.cpus[1] == HostThread(5, socket=1, die=0, cluster=0, core=0, siblings=(4, 5))
    assert cell.pages[1] == Pages(2048, 512)
    page = host.page_size
    assert cell.pages[0] == Pages(page, (4_194_304 - 512 * 2048) // page)
    assert host.cell(7) is None


def test_memory_and_pages(root):
    host = HostInfo.from_system(root)
    assert host.memory == 2 * 4_194_304
    assert host.page_sizes == (host.page_size, 2048)
    assert host.thp_size == 2048
    assert host.hugepage_mounts == (
        HugePageMount("/dev/huge pages", 2048, default=True),
        HugePageMount("/dev/hugepages1G", 1_048_576),
    )


def test_choice_of_a_mount(root):
    host = HostInfo.from_system(root)
    default, big = host.hugepage_mounts
    assert host.hugepage_mount() == default
    assert host.hugepage_mount(1_048_576) == big
    assert host.hugepage_mount(64) is None
    assert attrs.evolve(host, hugepage_mounts=(big,)).hugepage_mount() == big
    assert attrs.evolve(host, hugepage_mounts=()).hugepage_mount() is None


def test_virtualization_and_identity(root):
    host = HostInfo.from_system(root)
    assert host.kvm
    assert host.kvm_nesting
    assert host.kvm_max_vcpus == 0  # what stands for it answers no questions
    assert not host.iommu
    assert not host.vfio
    assert host.cpu_address_bits == 46
    assert host.uuid == "00112233-4455-6677-8899-aabbccddeeff"
    assert host.microcode == 0x2B
    assert host.cpu_signature == "GenuineIntel, A CPU, family: 6, model: 143, stepping: 8"
    assert host.processor is not None
    assert host.processor.signature == (6, 143, 8)
    assert host.processor.flags == "fpu sse sse2"


def test_firmware_uuid_comes_first(root):
    path = root / "sys/class/dmi/id/product_uuid"
    path.parent.mkdir(parents=True)
    path.write_text("C0FFEE00-0000-4000-8000-000000000001\n")
    assert HostInfo.from_system(root).uuid == "c0ffee00-0000-4000-8000-000000000001"


def test_kvm_that_cannot_be_opened_is_not_there(root):
    (root / "dev/kvm").unlink()
    assert not HostInfo.from_system(root).kvm
    assert HostInfo.from_system(root).kvm_max_vcpus == 0


def test_guests_that_sev_can_protect(root):
    assert HostInfo.from_system(root).sev_guests == 0
    path = root / "sys/fs/cgroup/misc.capacity"
    path.parent.mkdir(parents=True)
    path.write_text("sev 59\nsev_es 450\ntdx max\n")
    host = HostInfo.from_system(root)
    assert (host.sev_guests, host.sev_es_guests) == (59, 450)


def test_devices_are_passed_through_an_iommu(root):
    (root / "dev/vfio").mkdir()
    (root / "dev/vfio/vfio").touch()
    assert not HostInfo.from_system(root).vfio
    (root / "sys/kernel/iommu_groups/0").mkdir(parents=True)
    assert HostInfo.from_system(root).vfio


@pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="no KVM here")
def test_kvm_says_how_many_cpus_it_can_do():
    assert HostInfo.from_system().kvm_max_vcpus > 0


def test_nodeinfo_counts_offline_threads_into_the_topology(root):
    info = HostInfo.from_system(root).nodeinfo
    assert (info.cpus, info.mhz) == (7, 2000)
    assert (info.cells, info.sockets, info.cores, info.threads) == (2, 1, 2, 2)


def test_nodeinfo_of_an_uneven_host_is_flat():
    cell = NumaCell(id=0, cpus=(HostThread(0, core=0), HostThread(1, core=1, siblings=(1, 2))))
    info = HostInfo(arch="x86_64", cells=(cell,)).nodeinfo
    assert (info.cells, info.sockets, info.cores, info.threads) == (1, 1, 2, 1)


def test_host_without_numa_has_one_cell(root):
    for path in sorted((root / "sys/devices/system/node").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    host = HostInfo.from_system(root)
    assert [cell.id for cell in host.cells] == [0]
    assert len(host.cpus) == 7
    assert host.memory == 9_000_000
    assert "<pages" not in host.to_xml()


def test_empty_root_gives_defaults(tmp_path):
    host = HostInfo.from_system(tmp_path)
    assert host.cpus == ()
    assert not host.kvm
    assert host.uuid is None
    assert host.cpu_signature is None
    assert host.nodeinfo.cpus == 0


def test_this_host_can_be_read():
    host = HostInfo.from_system()
    assert host.cpus
    assert host.memory > 0
    assert host.nodeinfo.cpus == len(host.cpus)


def test_capabilities_document():
    cells = (
        NumaCell(
            id=3,
            memory=2048,
            cpus=(HostThread(0, siblings=(0, 1, 2, 8)),),
            pages=(Pages(4, 512),),
            distances=((3, 10),),
        ),
    )
    host = HostInfo(arch="x86_64", cells=cells, uuid="u", page_sizes=(4, 2048), iommu=True)
    guest = GuestArch(
        arch="i686",
        word_size=32,
        emulator="/bin/a&b",
        machines=(
            GuestMachine(name="pc-1", max_cpus=8, deprecated=True),
            GuestMachine(name="pc", canonical="pc-1", max_cpus=8),
        ),
        virt_types=("qemu", "kvm"),
        features=(GuestFeature("pae"), GuestFeature("acpi", default=True, toggle=False)),
    )
    assert (
        host.to_xml([guest], migration="live", transports=["tcp"])
        == """<capabilities>

  <host>
    <uuid>u</uuid>
    <cpu>
      <arch>x86_64</arch>
      <pages unit='KiB' size='4'/>
      <pages unit='KiB' size='2048'/>
    </cpu>
    <power_management/>
    <iommu support='yes'/>
    <migration_features>
      <live/>
      <uri_transports>
        <uri_transport>tcp</uri_transport>
      </uri_transports>
    </migration_features>
    <topology>
      <cells num='1'>
        <cell id='3'>
          <memory unit='KiB'>2048</memory>
          <pages unit='KiB' size='4'>512</pages>
          <distances>
            <sibling id='3' value='10'/>
          </distances>
          <cpus num='1'>
            <cpu id='0' socket_id='0' die_id='0' cluster_id='0' core_id='0' siblings='0-2,8'/>
          </cpus>
        </cell>
      </cells>
    </topology>
  </host>

  <guest>
    <os_type>hvm</os_type>
    <arch name='i686'>
      <wordsize>32</wordsize>
      <emulator>/bin/a&amp;b</emulator>
      <machine maxCpus='8' deprecated='yes'>pc-1</machine>
      <machine canonical='pc-1' maxCpus='8'>pc</machine>
      <domain type='qemu'/>
      <domain type='kvm'/>
    </arch>
    <features>
      <pae/>
      <acpi default='on' toggle='no'/>
    </features>
  </guest>

</capabilities>
"""
    )


def test_offline_migration_has_an_empty_list():
    text = HostInfo(arch="aarch64").to_xml(migration="offline")
    assert "<migration_features>\n    </migration_features>" in text


def test_circumstances_change_with_kvm_and_microcode(root):
    before = circumstances(root)
    assert before["kvm"] is True
    assert before["microcode"] == 0x2B
    (root / "dev/kvm").unlink()
    assert circumstances(root) == {**before, "kvm": False}
    (root / "proc/cpuinfo").write_text(CPUINFO.format(0).replace("0x2b", "0x2c"))
    assert circumstances(root) == {**before, "kvm": False, "microcode": 0x2C}
