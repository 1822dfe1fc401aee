"""The allocators of USB, CCW, virtio-serial and spapr-vio, and the places of drives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvcore.addresses import CcwAddressSet
from hvcore.addresses import SpaprVioAddressSet
from hvcore.addresses import UsbAddressSet
from hvcore.addresses import VirtioSerialAddressSet
from hvcore.addresses.drive import disk_index
from hvcore.addresses.drive import drive_place
from hvcore.addresses.drive import scsi_unit_exists
from hvcore.addresses.usb import controller_ports
from hvcore.addresses.usb import format_port
from hvcore.addresses.usb import parse_port
from hvcore.errors import ValidationFailed


def usb(*ports):
    addresses = UsbAddressSet()
    for index, count in enumerate(ports):
        addresses.add_controller(index, count)
    return addresses


def test_usb_ports_are_taken_in_order_then_the_next_bus():
    addresses = usb(2, 2)
    addresses.reserve(0, (1,))
    assert [addresses.reserve_next() for _ in range(3)] == [(0, (2,)), (1, (1,)), (1, (2,))]
    with pytest.raises(ValidationFailed, match="internal error: No free USB ports"):
        addresses.reserve_next()


def test_usb_hub_gives_eight_ports_after_the_root_ports():
    addresses = usb(2)
    addresses.add_hub(0, (1,))
    places = [addresses.reserve_next()[1] for _ in range(9)]
    assert places == [(2,), *((1, port) for port in range(1, 9))]


def test_usb_hubs_nest_four_deep_at_most():
    addresses = usb(1)
    for depth in range(1, 6):
        addresses.add_hub(0, (1,) * depth)
    for _ in range(7 * 3):
        addresses.reserve_next()
    with pytest.raises(ValidationFailed, match="No free USB ports"):
        addresses.reserve_next()


@pytest.mark.parametrize(
    ("bus", "path", "message"),
    [
        (1, (1,), "Missing USB bus 1"),
        (0, (3,), "requested USB port 3 not present on USB bus 0"),
        (0, (3, 1), "port 3 out of range in USB address bus: 0 port: 3.1"),
        (0, (2, 1), "there is no hub at port 2 in USB address bus: 0 port: 2.1"),
        (0, (1,), "Duplicate USB address bus 0 port 1"),
    ],
)
def test_unsuitable_usb_port_has_libvirts_words(bus, path, message):
    addresses = usb(2)
    addresses.reserve(0, (1,))
    with pytest.raises(ValidationFailed) as caught:
        addresses.reserve(bus, path)
    assert str(caught.value) == f"XML error: {message}"


def test_usb_controllers_and_hubs_are_unique():
    addresses = usb(2)
    with pytest.raises(ValidationFailed, match="Duplicate USB controllers with index 0"):
        addresses.add_controller(0, 6)
    addresses.add_hub(0, (1,))
    with pytest.raises(ValidationFailed, match="Duplicate USB hub on bus 0 port 1"):
        addresses.add_hub(0, (1,))


def test_companion_controller_adds_no_ports():
    addresses = usb(6)
    addresses.add_controller(0, controller_ports("ich9-uhci1"))
    assert addresses.reserve_next() == (0, (1,))


def test_usb_bus_can_be_chosen():
    addresses = usb(2, 2)
    assert addresses.reserve_next(1) == (1, (1,))
    with pytest.raises(ValidationFailed, match="USB bus 5 requested but no controller"):
        addresses.reserve_next(5)


def test_released_usb_port_is_free_again():
    addresses = usb(1)
    addresses.reserve_next()
    addresses.release(0, (1,))
    assert addresses.reserve_next() == (0, (1,))


@pytest.mark.parametrize(
    ("model", "ports", "expected"),
    [(None, None, 2), ("qemu-xhci", None, 4), ("qemu-xhci", 15, 15), ("pci-ohci", 15, 3)],
)
def test_controller_ports(model, ports, expected):
    assert controller_ports(model, ports) == expected


@pytest.mark.parametrize("text", [None, "", "0", "0.1"])
def test_missing_usb_port(text):
    assert parse_port(text) == ()


@given(st.lists(st.integers(1, 255), min_size=1, max_size=4))
def test_usb_port_round_trip(path):
    assert parse_port(format_port(tuple(path))) == tuple(path)


@given(
    hubs=st.lists(st.integers(1, 4), max_size=3, unique=True),
    explicit=st.lists(st.integers(1, 4), max_size=3, unique=True),
    count=st.integers(0, 30),
)
def test_no_usb_port_is_given_twice(hubs, explicit, count):
    addresses = usb(4)
    for port in hubs:
        addresses.add_hub(0, (port,))
    taken = {(0, (port,)) for port in hubs}
    for port in explicit:
        if port not in hubs:
            addresses.reserve(0, (port,))
            taken.add((0, (port,)))
    room = 4 - len(taken) + 8 * len(hubs)
    for _ in range(min(count, room)):
        place = addresses.reserve_next()
        assert place not in taken
        taken.add(place)


def test_ccw_numbers_skip_those_of_the_document():
    addresses = CcwAddressSet()
    addresses.reserve(254, 0, 1)
    assert [addresses.reserve_next() for _ in range(2)] == [(254, 0, 0), (254, 0, 2)]


def test_ccw_conflict():
    addresses = CcwAddressSet()
    addresses.reserve(0xFE, 0, 0x2A)
    with pytest.raises(ValidationFailed) as caught:
        addresses.reserve(0xFE, 0, 0x2A)
    assert str(caught.value) == "XML error: The CCW devno 'fe.0.002a' is in use already"
    addresses.release(0xFE, 0, 0x2A)
    addresses.reserve(0xFE, 0, 0x2A)


def test_ccw_numbers_end():
    addresses = CcwAddressSet()
    for _ in range(0x10000):
        addresses.reserve_next()
    with pytest.raises(ValidationFailed, match="There are no more free CCW devnos"):
        addresses.reserve_next()
    addresses.release(254, 0, 77)
    assert addresses.reserve_next() == (254, 0, 77)


def test_virtio_serial_port_0_is_for_consoles():
    addresses = VirtioSerialAddressSet()
    addresses.add_controller(0)
    assert [addresses.reserve_next() for _ in range(2)] == [(0, 1), (0, 2)]


def test_virtio_serial_goes_on_to_the_next_controller():
    addresses = VirtioSerialAddressSet()
    addresses.add_controller(1, 2)
    addresses.add_controller(0, 2)
    assert addresses.controllers == (0, 1)
    assert [addresses.reserve_next() for _ in range(3)] == [(0, 1), (1, 1), None]
    addresses.release(0, 1)
    assert addresses.reserve_on(0) == 1
    with pytest.raises(ValidationFailed, match="Unable to find a free port on virtio-serial"):
        addresses.reserve_on(0)


@pytest.mark.parametrize(
    ("controller", "port", "message"),
    [
        (1, 1, "virtio serial controller 1 is missing"),
        (0, 31, "virtio serial controller 0 does not have port 31"),
        (0, 4, "virtio serial port 4 on controller 0 is already occupied"),
    ],
)
def test_unsuitable_virtio_serial_port(controller, port, message):
    addresses = VirtioSerialAddressSet()
    addresses.add_controller(0)
    addresses.reserve(0, 4)
    with pytest.raises(ValidationFailed) as caught:
        addresses.reserve(controller, port)
    assert str(caught.value) == f"XML error: {message}"


def test_virtio_serial_without_controllers():
    addresses = VirtioSerialAddressSet()
    with pytest.raises(ValidationFailed, match="no virtio-serial controllers are available"):
        addresses.reserve_next()
    with pytest.raises(ValidationFailed, match="virtio-serial controller 2 not available"):
        addresses.reserve_on(2)
    addresses.add_controller(2)
    with pytest.raises(ValidationFailed, match="index 2 already exists in the address set"):
        addresses.add_controller(2)


def test_spapr_vio_registers_keep_their_distance():
    addresses = SpaprVioAddressSet([0x1000, 0x3000])
    assert addresses.reserve_next(0x1000) == 0x2000
    assert addresses.reserve_next(0x1000) == 0x4000
    addresses.check(0x1000)


def test_spapr_vio_conflict():
    addresses = SpaprVioAddressSet([0x30000000, 0x30000000])
    with pytest.raises(ValidationFailed) as caught:
        addresses.check(0x30000000)
    assert str(caught.value) == "XML error: spapr-vio address 0x30000000 already in use"


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("sda", 0),
        ("vdz", 25),
        ("vdaa", 26),
        ("hdaab", 703),
        ("sda1", 0),
        ("xvdc", 2),
        ("fdb", 1),
        ("sd", None),
        ("sdA", None),
        ("sda-1", None),
        ("nvme0n1", None),
        ("sdzzzzzzzzz", None),
    ],
)
def test_disk_index(name, index):
    assert disk_index(name) == index


@pytest.mark.parametrize(
    ("bus", "index", "place"),
    [
        ("ide", 3, (0, 1, 0, 1)),
        ("ide", 5, (1, 0, 0, 1)),
        ("sata", 7, (1, 0, 0, 1)),
        ("fdc", 1, (0, 0, 0, 1)),
        ("scsi", 8, (1, 0, 0, 1)),
        ("virtio", 8, None),
    ],
)
def test_drive_place(bus, index, place):
    assert drive_place(bus, index) == place


@given(bus=st.sampled_from(["ide", "sata", "fdc", "scsi"]), indexes=st.sets(st.integers(0, 500)))
def test_drives_never_share_a_place(bus, indexes):
    assert len({drive_place(bus, index) for index in indexes}) == len(indexes)


@pytest.mark.parametrize(
    ("model", "unit", "exists"),
    [
        (None, 7, True),
        ("lsilogic", 7, False),
        ("virtio-scsi", 7, True),
        ("virtio-scsi", 16384, False),
        ("lsisas1068", 2, False),
        ("ibmvscsi", 31, True),
    ],
)
def test_scsi_unit_exists(model, unit, exists):
    assert scsi_unit_exists(model, unit) is exists
