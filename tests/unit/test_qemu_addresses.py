"""Which addresses devices of QEMU guests get; expectations are what libvirt 11.3 chooses."""

import pytest
from hypothesis import given
from hypothesis import reject
from hypothesis import settings
from hypothesis import strategies as st

from hvcore.addresses.controllers import add_controller
from hvcore.addresses.controllers import add_implicit_controllers
from hvcore.addresses.controllers import add_usb_controller
from hvcore.addresses.controllers import find_controller
from hvcore.addresses.controllers import insert_controller
from hvcore.addresses.controllers import next_scsi_place
from hvcore.capabilities import Capabilities
from hvcore.errors import ValidationFailed
from hvcore.model.devices.base import CcwAddress
from hvcore.model.devices.base import DriveAddress
from hvcore.model.devices.base import PciAddress
from hvcore.model.devices.base import UsbAddress
from hvcore.model.devices.base import VirtioMmioAddress
from hvcore.model.devices.controller import Controller
from hvcore.pipeline import Pipeline
from hvcore.registry import Registry
from hvcore.xml.context import FormatContext
from hvcore_qemu import addresses

QEMU = frozenset(
    {"pcie-root-port", "ioh3420", "pcie-pci-bridge", "virtio-pci-non-transitional", "virtio-mmio"}
)
MACHINES = {
    "q35": ("x86_64", "q35"),
    "pc": ("x86_64", "pc"),
    "isapc": ("x86_64", "isapc"),
    "virt": ("aarch64", "virt"),
    "vexpress": ("armv7l", "vexpress-a9"),
    "pseries": ("ppc64", "pseries"),
    "s390": ("s390x", "s390-ccw-virtio"),
}
ROOTS = {
    "q35": (
        "<controller type='sata' index='0'/><controller type='pci' index='0' model='pcie-root'/>"
    ),
    "pc": "<controller type='pci' index='0' model='pci-root'/>",
    "virt": "<controller type='pci' index='0' model='pcie-root'/>",
    "pseries": "<controller type='pci' index='0' model='pci-root'/>",
}
VIRTIO_DISKS = "".join(
    f"<disk type='file'><target dev='vd{letter}' bus='virtio'/></disk>"
    for letter in "abcdefghijklmnopqrstuvwxyz"
)
ICH9 = "".join(
    f"<controller type='usb' index='0' model='ich9-{model}'/>"
    for model in ("ehci1", "uhci1", "uhci2", "uhci3")
)
REGISTRY = Registry()
REGISTRY.freeze()


def parse(machine, devices):
    arch, name = MACHINES[machine]
    return Pipeline(REGISTRY).parse(
        f"<domain type='kvm'><name>guest</name><os><type arch='{arch}' machine='{name}'>hvm</type>"
        f"</os><devices>{ROOTS.get(machine, '')}{devices}</devices></domain>"
    )


def assign(domain, *, caps=QEMU, new=True, host=None):
    addresses.assign(
        domain,
        Capabilities(names=frozenset(caps), arch=domain.os.arch),
        new_domain=new,
        host=host,
    )
    return domain.devices


def assigned(machine, devices, **how):
    return assign(parse(machine, devices), **how)


def place(device):
    address = device.address
    return f"{address.bus}:{address.slot:x}.{address.function}"


def pci(devices):
    return {
        each.index: (each.model, place(each) if each.address else None)
        for each in devices.controllers
        if each.type == "pci"
    }


def refusal(machine, devices, **how):
    with pytest.raises(ValidationFailed) as caught:
        assigned(machine, devices, **how)
    return str(caught.value)


def test_q35_gives_each_device_a_root_port_and_keeps_one_free():
    devices = assigned("q35", "<memballoon model='virtio'/><vsock model='virtio'/>")
    assert [place(devices.memballoons[0]), place(devices.vsocks[0])] == ["1:0.0", "2:0.0"]
    assert pci(devices) == {
        0: ("pcie-root", None),
        1: ("pcie-root-port", "0:1.0"),
        2: ("pcie-root-port", "0:1.1"),
        3: ("pcie-root-port", "0:1.2"),
    }
    assert place(find_controller(devices.controllers, "sata", 0)) == "0:1f.2"


def test_root_ports_have_numbers_and_a_device_name():
    devices = assigned("q35", "<memballoon model='virtio'/>")
    ports = [each for each in devices.controllers if each.model == "pcie-root-port"]
    assert [(each.chassis, each.port, each.model_name) for each in ports] == [
        (1, 8, "pcie-root-port"),
        (2, 9, "pcie-root-port"),
    ]
    assert [each.address.multifunction for each in ports] == [True, None]


def test_old_qemu_has_intels_root_port():
    devices = assigned("q35", "<memballoon model='virtio'/>", caps=QEMU - {"pcie-root-port"})
    assert find_controller(devices.controllers, "pci", 1).model_name == "ioh3420"


def test_no_port_is_added_where_the_author_manages_controllers():
    devices = assigned(
        "q35",
        "<controller type='pci' index='1' model='pcie-root-port'/><memballoon model='virtio'/>",
    )
    assert set(pci(devices)) == {0, 1}


def test_conventional_device_of_q35_comes_with_a_bridge():
    devices = assigned("q35", "<watchdog model='i6300esb'/>")
    assert pci(devices) == {
        0: ("pcie-root", None),
        1: ("pcie-root-port", "0:1.0"),
        2: ("pcie-to-pci-bridge", "1:0.0"),
        3: ("pcie-root-port", "0:1.1"),
    }
    assert place(devices.watchdogs[0]) == "2:1.0"


def test_conventional_device_of_q35_without_the_new_bridge():
    devices = assigned("q35", "<watchdog model='i6300esb'/>", caps=QEMU - {"pcie-pci-bridge"})
    found = pci(devices)
    assert found[1] == ("dmi-to-pci-bridge", "0:1e.0")
    assert found[2] == ("pci-bridge", "1:0.0")
    assert place(devices.watchdogs[0]) == "2:1.0"
    assert find_controller(devices.controllers, "pci", 2).chassis_nr == 2


def test_usb2_functions_share_the_slot_of_real_hardware():
    devices = assigned("q35", ICH9)
    usb = [each for each in devices.controllers if each.type == "usb"]
    assert [place(each) for each in usb] == ["0:1d.7", "0:1d.0", "0:1d.1", "0:1d.2"]
    assert [each.address.multifunction for each in usb] == [None, True, None, None]


def test_usb2_functions_share_a_slot_on_i440fx():
    devices = assigned("pc", ICH9)
    usb = [each for each in devices.controllers if each.type == "usb"]
    assert [place(each) for each in usb] == ["0:2.7", "0:2.0", "0:2.1", "0:2.2"]


def test_i440fx_has_the_piix3_in_slot_1():
    devices = assigned(
        "pc",
        "<controller type='usb' index='0' model='piix3-uhci'/><controller type='ide' index='0'/>"
        "<memballoon model='virtio'/>",
    )
    assert place(find_controller(devices.controllers, "ide", 0)) == "0:1.1"
    assert place(find_controller(devices.controllers, "usb", 0)) == "0:1.2"
    assert place(devices.memballoons[0]) == "0:2.0"


def test_i440fx_grows_by_a_bridge():
    devices = assigned("pc", VIRTIO_DISKS + VIRTIO_DISKS.replace("dev='vd", "dev='vda"))
    assert pci(devices) == {0: ("pci-root", None), 1: ("pci-bridge", "0:2.0")}
    assert find_controller(devices.controllers, "pci", 1).chassis_nr == 1
    assert place(devices.disks[0]) == "0:3.0"
    assert place(devices.disks[29]) == "1:1.0"


def test_i440fx_keeps_room_for_a_bridge():
    disks = VIRTIO_DISKS + VIRTIO_DISKS[: len(VIRTIO_DISKS) // 26 * 4].replace("vd", "vdx")
    assert set(pci(assigned("pc", disks))) == {0, 1}
    assert set(pci(assigned("pc", VIRTIO_DISKS))) == {0}


def test_transitional_devices_are_conventional():
    devices = assigned("q35", "<memballoon model='virtio-transitional'/>")
    assert pci(devices)[2][0] == "pcie-to-pci-bridge"
    assert place(devices.memballoons[0]) == "2:1.0"


def test_integrated_device_is_on_the_root_bus():
    devices = assigned("virt", "<panic model='pvpanic'/>")
    assert place(devices.panics[0]) == "0:1.0"


def test_zero_address_asks_for_one():
    devices = assigned("pc", "<memballoon model='virtio'><address type='pci'/></memballoon>")
    assert place(devices.memballoons[0]) == "0:2.0"


def test_shared_slot_is_marked_unless_the_document_says_something():
    rng = "<crypto model='virtio' type='qemu'><backend model='builtin'/>{}</crypto>"
    first = "<address type='pci' slot='9' function='0' {}/>"
    second = rng.format("<address type='pci' slot='9' function='3'/>")
    devices = assigned("pc", rng.format(first.format("")) + second)
    assert devices.cryptos[0].address.multifunction is True
    devices = assigned("pc", rng.format(first.format("multifunction='off'")) + second)
    assert devices.cryptos[0].address.multifunction is False


@pytest.mark.parametrize(
    ("machine", "devices", "message"),
    [
        ("isapc", "<memballoon model='virtio'/>", "XML error: No PCI buses available"),
        (
            "pc",
            "<watchdog model='i6300esb'><address type='pci' slot='1'/></watchdog>",
            "XML error: Attempted double use of PCI Address 0000:00:01.0",
        ),
        (
            "pc",
            "<controller type='ide' index='0'><address type='pci' slot='5'/></controller>",
            "internal error: Primary IDE controller must have PCI address 0:0:1.1",
        ),
        (
            "pc",
            (
                "<controller type='usb' index='0' model='piix3-uhci'><address type='pci' slot='5'/>"
                "</controller>"
            ),
            "internal error: PIIX3 USB controller at index 0 must have PCI address 0:0:1.2",
        ),
        (
            "q35",
            (
                "<controller type='ide' index='0'><address type='pci' slot='1' function='1'/>"
                "</controller>"
            ),
            "internal error: Bus 0 must be PCI for integrated PIIX3 USB or IDE controllers",
        ),
        (
            "pc",
            "<disk type='file'><target dev='vda' bus='virtio'/><address type='drive'/></disk>",
            "unsupported configuration: virtio disk cannot have an address of type 'drive'",
        ),
        (
            "pc",
            (
                "<controller type='pci' index='2' model='pci-bridge'><address type='pci' bus='3'"
                " slot='1'/></controller><controller type='pci' index='3' model='pci-bridge'/>"
            ),
            (
                "unsupported configuration: PCI controller at index 2 (0x02) has bus='0x03', but"
                " index must be larger than bus"
            ),
        ),
        (
            "pc",
            (
                "<controller type='pci' index='1' model='pci-expander-bus'><target busNr='2'/>"
                "</controller><controller type='pci' index='2' model='pci-expander-bus'/>"
            ),
            (
                "unsupported configuration: No free busNr lower than current lowest busNr is"
                " available to auto-assign to bus 0. Must be manually assigned"
            ),
        ),
        (
            "pc",
            "<controller type='usb' index='0' model='none'/><input type='tablet' bus='usb'/>",
            (
                "unsupported configuration: USB is disabled for this domain, but USB devices are"
                " present in the domain XML"
            ),
        ),
        (
            "s390",
            (
                "<memballoon model='virtio'><address type='ccw' cssid='0xfe' ssid='0' devno='1'/>"
                "</memballoon><vsock model='virtio'><address type='ccw' cssid='0xfe' ssid='0'"
                " devno='1'/></vsock>"
            ),
            "XML error: The CCW devno 'fe.0.0001' is in use already",
        ),
    ],
)
def test_conflicts_have_libvirts_words(machine, devices, message):
    assert refusal(machine, devices) == message


def test_expander_buses_count_down():
    devices = assigned(
        "pc",
        "<controller type='pci' index='1' model='pci-expander-bus'/>"
        "<controller type='pci' index='2' model='pci-expander-bus'/>",
    )
    found = [find_controller(devices.controllers, "pci", index) for index in (1, 2)]
    assert [(each.bus_nr, each.model_name) for each in found] == [(254, "pxb"), (252, "pxb")]


def test_switch_ports_are_numbered_by_slot():
    devices = assigned(
        "q35",
        "<controller type='pci' index='1' model='pcie-root-port'/>"
        "<controller type='pci' index='2' model='pcie-switch-upstream-port'/>"
        "<controller type='pci' index='3' model='pcie-switch-downstream-port'/>"
        "<controller type='pci' index='4' model='pcie-switch-downstream-port'/>",
    )
    last = find_controller(devices.controllers, "pci", 4)
    assert place(last) == "2:1.0"
    assert (last.chassis, last.port, last.model_name) == (4, 1, "xio3130-downstream")


def test_pseries_grows_by_host_bridges():
    devices = assigned("pseries", VIRTIO_DISKS + VIRTIO_DISKS.replace("dev='vd", "dev='vda"))
    assert pci(devices) == {0: ("pci-root", None), 1: ("pci-root", None)}
    bridges = [each for each in devices.controllers if each.type == "pci"]
    assert [(each.target_index, each.model_name) for each in bridges] == [
        (0, "spapr-pci-host-bridge"),
        (1, "spapr-pci-host-bridge"),
    ]


def test_arm_virt_prefers_pci_unless_the_guest_has_mmio():
    balloon = "<memballoon model='virtio'/>"
    assert isinstance(assigned("virt", balloon).memballoons[0].address, PciAddress)
    crypto = (
        "<crypto model='virtio' type='qemu'><backend model='builtin'/>"
        "<address type='virtio-mmio'/></crypto>"
    )
    devices = assigned("virt", balloon + crypto)
    assert isinstance(devices.memballoons[0].address, VirtioMmioAddress)


def test_machine_without_pci_has_mmio():
    devices = assigned("vexpress", "<disk><target dev='vda' bus='virtio'/></disk>")
    assert isinstance(devices.disks[0].address, VirtioMmioAddress)


def test_s390_uses_channel_addresses_in_visiting_order():
    devices = assigned(
        "s390",
        "<memballoon model='virtio'/><disk><target dev='vda' bus='virtio'/></disk>"
        "<controller type='scsi' index='0' model='virtio-scsi'/><vsock model='virtio'>"
        "<address type='ccw' cssid='0xfe' ssid='0' devno='0'/></vsock>",
    )
    assert devices.disks[0].address == CcwAddress(cssid=254, ssid=0, devno=1)
    assert devices.controllers[0].address.devno == 2
    assert devices.memballoons[0].address.devno == 3


def test_zpci_identifiers():
    devices = assigned(
        "s390",
        "<controller type='pci' index='0' model='pci-root'/>"
        "<watchdog model='i6300esb'><address type='pci'/></watchdog>"
        "<memballoon model='virtio'><address type='pci'><zpci uid='1'/></address></memballoon>",
        caps=QEMU | {"zpci"},
    )
    balloon, watchdog = devices.memballoons[0].address, devices.watchdogs[0].address
    assert (balloon.zpci_uid, balloon.zpci_fid) == (1, 0)
    assert (watchdog.zpci_uid, watchdog.zpci_fid) == (2, 1)


TABLET = "<input type='tablet' bus='usb'/>"
PIIX3 = "<controller type='usb' index='0' model='piix3-uhci'/>"


def ports(devices):
    return [(each.address.bus, each.address.port) for each in (*devices.hubs, *devices.inputs)]


def test_usb_devices_get_ports():
    assert ports(assigned("pc", PIIX3 + 2 * TABLET)) == [(0, "1"), (0, "2")]


def test_usb_hubs_are_added_when_ports_run_out():
    devices = assigned("pc", PIIX3 + 3 * TABLET)
    assert ports(devices) == [(0, "1"), (0, "2"), (0, "1.1"), (0, "1.2")]


def test_usb_of_a_guest_that_ran_before_is_left_to_qemu():
    devices = assigned("pc", PIIX3 + 3 * TABLET, new=False)
    assert devices.hubs == []
    assert [each.address for each in devices.inputs] == [None] * 3


def test_usb_bus_can_be_chosen():
    bus = "<controller type='usb' index='1' model='nec-xhci' ports='8'/>"
    wanted = "<input type='tablet' bus='usb'><address type='usb' bus='1'/></input>"
    assert ports(assigned("pc", PIIX3 + bus + TABLET + wanted)) == [(0, "1"), (1, "1")]


def test_controllers_stay_sorted_by_index():
    controllers = []
    for index in (3, 1, 2):
        add_controller(controllers, "pci", index)
    add_controller(controllers, "usb")
    assert add_controller(controllers, "pci", None).index == 0
    assert [(each.type, each.index) for each in controllers] == [
        ("pci", 0), ("pci", 1), ("pci", 2), ("pci", 3), ("usb", 0),
    ]  # fmt: skip


def test_usb2_controller_brings_its_companions():
    controllers = []
    add_usb_controller(controllers, 0, "ich9-ehci1")
    assert [(each.model, each.master_startport) for each in controllers] == [
        ("ich9-ehci1", None),
        ("ich9-uhci1", 0),
        ("ich9-uhci2", 2),
        ("ich9-uhci3", 4),
    ]


def test_controller_is_put_before_its_companions():
    controllers = [Controller(type="usb", index=0, model="ich9-uhci1", master_startport=0)]
    insert_controller(controllers, Controller(type="usb", index=0, model="ich9-ehci1"))
    assert controllers[0].model == "ich9-ehci1"
    insert_controller(controllers, Controller(type="usb", index=None, model="ehci"))
    assert controllers[-1].model == "ehci"


ANY_DEVICE = st.one_of(
    st.sampled_from(
        [
            "<watchdog model='i6300esb'/>",
            "<crypto model='virtio' type='qemu'><backend model='builtin'/></crypto>",
            "<panic model='pvpanic'/>",
            "<input type='tablet' bus='virtio'/>",
            TABLET,
            "<hub type='usb'/>",
            ICH9,
            "<controller type='usb' index='1' model='qemu-xhci'/>",
            "<controller type='scsi' index='0' model='virtio-scsi'/>",
            "<controller type='scsi' index='1' model='lsilogic'/>",
            "<controller type='virtio-serial' index='0'/>",
        ]
    ),
    st.builds(
        "<disk><target dev='vd{}' bus='virtio'/><address type='pci' slot='{}' function='{}'/>"
        "</disk>".format,
        st.sampled_from("abc"),
        st.integers(3, 30),
        st.integers(0, 7),
    ),
    st.just(VIRTIO_DISKS),
)


@settings(max_examples=60, deadline=None)
@given(
    machine=st.sampled_from(["q35", "pc", "virt", "pseries"]),
    devices=st.lists(ANY_DEVICE, max_size=8, unique=True),
)
def test_addresses_are_unique_and_stay(machine, devices):
    domain = parse(machine, "".join(devices))
    try:
        assign(domain)
    except ValidationFailed:  # two disks in one place, or no room on bus 0 for pvpanic
        reject()
    found = [
        (type(each.address), place(each))
        for each in domain.devices.walk()
        if isinstance(each.address, PciAddress)
    ]
    found += [
        (UsbAddress, each.address.bus, each.address.port)
        for each in (*domain.devices.inputs, *domain.devices.hubs)
        if isinstance(each.address, UsbAddress)
    ]
    assert len(found) == len(set(found))
    before = REGISTRY.binding.clone(domain)
    assign(domain, new=False)
    assert domain == before


def test_implicit_controllers_reach_up_to_the_last_one_in_use():
    domain = parse("pc", "<disk><target dev='sdo' bus='scsi'/></disk>")
    domain.devices.disks[0].address = DriveAddress(controller=2)
    add_implicit_controllers(domain.devices)
    scsi = [each.index for each in domain.devices.controllers if each.type == "scsi"]
    assert scsi == [0, 1, 2]


def test_scsi_host_devices_go_where_no_disk_is():
    domain = parse(
        "pc",
        "<controller type='scsi' index='0' model='lsisas1068'/>"
        "<disk><target dev='sda' bus='scsi'/></disk><disk><target dev='sdb' bus='scsi'/></disk>",
    )
    first, second = domain.devices.disks
    assert next_scsi_place(domain.devices) == (0, 0, 0, 0)
    first.address = DriveAddress(unit=0)
    assert next_scsi_place(domain.devices) == (0, 0, 0, 1)
    second.address = DriveAddress(unit=1)  # the controller's last
    assert next_scsi_place(domain.devices) == (1, 0, 0, 0)


def modules(slots, *addresses):
    domain = Pipeline(REGISTRY).parse(
        "<domain type='kvm'><name>guest</name>"
        f"<maxMemory slots='{slots}'>4194304</maxMemory><memory>1048576</memory><devices>"
        + "".join(
            f"<memory model='dimm'><target><size>524288</size></target>{address}</memory>"
            for address in addresses
        )
        + "</devices></domain>"
    )
    addresses_of(domain)
    return [each.address.slot for each in domain.devices.memories]


def addresses_of(domain):
    addresses.assign(domain, Capabilities(names=QEMU, arch="x86_64"), new_domain=True)


def test_memory_modules_take_the_free_slots():
    assert modules(3, "", "<address type='dimm' slot='0'/>", "") == [1, 0, 2]


def test_more_memory_modules_than_slots():
    with pytest.raises(ValidationFailed) as caught:
        modules(1, "", "")
    assert str(caught.value) == "internal error: failed to find an empty memory slot"


CHANNEL = "<channel type='pty'><target type='virtio' name='a{}'/>{}</channel>".format


def test_virtio_channels_get_ports_and_controllers():
    serial = "<controller type='virtio-serial' index='0' ports='4'/>"
    taken = "<address type='virtio-serial' controller='0' bus='0' port='2'/>"
    devices = assigned("pc", serial + CHANNEL(0, taken) + "".join(CHANNEL(n, "") for n in "123"))
    found = [(each.address.controller, each.address.port) for each in devices.channels]
    assert found == [(0, 2), (0, 1), (0, 3), (1, 1)]
    assert find_controller(devices.controllers, "virtio-serial", 1) is not None


def test_virtio_consoles_without_an_address_keep_no_port():
    devices = assigned(
        "pc",
        "<controller type='virtio-serial' index='0' ports='2'/>"
        "<console type='pty'><target type='virtio'/></console>"
        "<console type='pty'><target type='virtio'/></console>" + CHANNEL(0, ""),
    )
    assert [each.address for each in devices.consoles] == [None, None]
    assert (devices.channels[0].address.controller, devices.channels[0].address.port) == (0, 1)


SPAPR = "<serial type='pty'><target type='spapr-vio-serial'/>{}</serial>".format
VSCSI = "<controller type='scsi' index='{}' model='ibmvscsi'/>".format


def test_spapr_vio_registers():
    devices = assigned(
        "pseries",
        SPAPR("<address type='spapr-vio' reg='0x30000000'/>") + SPAPR("") + VSCSI(0) + VSCSI(1),
    )
    assert [each.address.reg for each in devices.serials] == [0x30000000, 0x30001000]
    scsi = [each.address.reg for each in devices.controllers if each.type == "scsi"]
    assert scsi == [0x2000, 0x3000]


def test_spapr_vio_conflict():
    same = SPAPR("<address type='spapr-vio' reg='0x30000000'/>")
    message = "XML error: spapr-vio address 0x30000000 already in use"
    assert refusal("pseries", same + same) == message


class Functions:
    """A host with a conventional device in slot 1 and Express ones in one IOMMU group each."""

    def is_express(self, domain, bus, slot, function):
        return None if slot == 9 else slot != 1

    def iommu_group(self, domain, bus, slot, function):
        return slot


def host_device(slot):
    return (
        "<hostdev mode='subsystem' type='pci'><source><address domain='0' bus='6'"
        f" slot='{slot}' function='0'/></source></hostdev>"
    )


@pytest.mark.parametrize(("slot", "model"), [(1, "pcie-to-pci-bridge"), (2, None), (9, None)])
def test_host_device_goes_where_its_kind_belongs(slot, model):
    devices = assigned("q35", host_device(slot), host=Functions())
    bus = find_controller(devices.controllers, "pci", devices.hostdevs[0].address.bus)
    assert bus.model == (model or "pcie-root-port")


def test_host_device_of_an_unknown_host_counts_as_express():
    devices = assigned("q35", host_device(1))
    bus = find_controller(devices.controllers, "pci", devices.hostdevs[0].address.bus)
    assert bus.model == "pcie-root-port"


def test_iommu_groups_do_not_share_a_host_bridge():
    devices = assigned(
        "pseries",
        host_device(2) + host_device(3) + host_device(2) + "<memballoon model='virtio'/>",
        host=Functions(),
    )
    assert [each.address.bus for each in devices.hostdevs] == [1, 2, 1]
    assert devices.memballoons[0].address.bus == 0


def test_interface_of_a_host_device_is_placed_among_those():
    interface = (
        "<interface type='hostdev'><source><address type='pci' domain='0' bus='6' slot='4'"
        " function='0'/></source></interface>"
    )
    devices = assigned("pc", host_device(2) + "<memballoon model='virtio'/>" + interface)
    order = (*devices.interfaces, *devices.hostdevs, *devices.memballoons)
    assert [place(each) for each in order] == ["0:2.0", "0:3.0", "0:4.0"]


def test_only_filesystems_over_9p_and_virtio_are_on_pci():
    share = "<filesystem><driver type='{}'/><source dir='/s'/><target dir='t{}'/></filesystem>"
    devices = assigned("pc", share.format("path", 0) + share.format("virtiofs", 1))
    assert [place(each) for each in devices.filesystems] == ["0:2.0", "0:3.0"]


def test_primary_video_is_where_firmware_looks_for_it():
    video = "<video><model type='{}'/></video>".format
    assert place(assigned("pc", video("vga") + "<sound model='ac97'/>").videos[0]) == "0:2.0"
    assert place(assigned("q35", video("vga")).videos[0]) == "0:1.0"
    assert assigned("pc", video("ramfb")).videos[0].address is None


def test_primary_video_does_not_insist():
    taken = "<watchdog model='i6300esb'><address type='pci' slot='2'/></watchdog>"
    devices = assigned("pc", taken + "<video><model type='vga'/></video>")
    assert place(devices.videos[0]) == "0:3.0"


def test_ich9_sound_is_where_real_hardware_has_it():
    devices = assigned("q35", "<sound model='ich9'/><sound model='ich9'/>")
    assert place(devices.sounds[0]) == "0:1b.0"
    assert place(devices.sounds[1]) != "0:1b.0"


@pytest.mark.parametrize("machine", sorted(MACHINES))
def test_a_second_assignment_finds_nothing_to_do(machine):
    # A start relies on it: what was just defined is not assigned again.
    disks = VIRTIO_DISKS if machine in ROOTS else ""
    usb = ICH9 if machine in ("pc", "q35") else ""
    domain = parse(machine, f"{disks}{usb}<input type='tablet' bus='virtio'/>" if disks else "")
    written = [
        REGISTRY.binding.format(assign(domain), FormatContext(inactive=False)) for _ in range(2)
    ]
    assert written[0] == written[1]
    assert ("<address type='pci'" in written[0]) == bool(disks)
