"""The PCI allocator: what fits where, growth, isolation, and that nothing is given twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvcore.addresses.pci import BUS_MODELS
from hvcore.addresses.pci import Connect
from hvcore.addresses.pci import PciAddressSet
from hvcore.addresses.pci import PciBus
from hvcore.addresses.pci import PciSlot
from hvcore.addresses.pci import PciTopology
from hvcore.addresses.pci import ZpciIds
from hvcore.errors import ValidationFailed


def address_set(*models, growable=False, **topology):
    addresses = PciAddressSet(PciTopology(**topology), growable=growable)
    for model in models:
        addresses.add(PciBus(model))
    return addresses


def models(addresses):
    return [bus.model for bus in addresses.buses]


def test_pci_root_begins_at_slot_1():
    addresses = address_set("pci-root")
    assert addresses.reserve_next(Connect.PCI) == (0, 1, 0)
    assert addresses.reserve_next(Connect.PCI) == (0, 2, 0)


def test_reserved_slot_is_skipped():
    addresses = address_set("pci-root")
    addresses.reserve(PciSlot(0, 1, 0), Connect.PCI)
    assert addresses.reserve_next(Connect.PCI) == (0, 2, 0)


def test_full_bus_without_growth_is_an_error():
    addresses = address_set("pci-root")
    for _ in range(31):
        addresses.reserve_next(Connect.PCI)
    assert addresses.buses[0].full
    with pytest.raises(ValidationFailed, match="internal error: No more available PCI slots"):
        addresses.reserve_next(Connect.PCI)


def test_conventional_guest_grows_by_pci_bridge():
    addresses = address_set("pci-root", growable=True)
    places = [addresses.reserve_next(Connect.PCI) for _ in range(32)]
    assert places[-1] == (1, 1, 0)
    assert models(addresses) == ["pci-root", "pci-bridge"]


def test_express_guest_grows_by_root_ports():
    addresses = address_set("pcie-root", growable=True)
    assert [addresses.reserve_next(Connect.PCIE) for _ in range(2)] == [(1, 0, 0), (2, 0, 0)]
    assert models(addresses) == ["pcie-root", "pcie-root-port", "pcie-root-port"]


@pytest.mark.parametrize(
    ("supported", "added"),
    [
        (True, ["pcie-root-port", "pcie-to-pci-bridge"]),
        (False, ["dmi-to-pci-bridge", "pci-bridge"]),
    ],
)
def test_first_conventional_device_of_express_guest(supported, added):
    addresses = address_set("pcie-root", growable=True, pcie_to_pci_bridge=supported)
    assert addresses.reserve_next(Connect.PCI) == (2, 1, 0)
    assert models(addresses)[1:] == added
    assert addresses.reserve_next(Connect.PCI) == (2, 2, 0)


def test_port_made_for_the_bridge_is_not_given_to_devices():
    addresses = address_set("pcie-root", growable=True, pcie_to_pci_bridge=True)
    addresses.reserve_next(Connect.PCI)
    assert addresses.reserve_next(Connect.PCIE) == (3, 0, 0)


def test_explicit_conventional_bus_of_express_guest_moves_behind_the_bridge():
    addresses = address_set("pcie-root", growable=True, pcie_to_pci_bridge=True)
    assert addresses.reserve(PciSlot(1, 4, 0), Connect.PCI) == (2, 4, 0)


def test_multiple_roots_grow_by_pci_root():
    addresses = address_set("pci-root", growable=True, multiple_roots=True)
    for _ in range(32):
        addresses.reserve_next(Connect.PCI)
    assert models(addresses) == ["pci-root", "pci-root"]


def test_root_ports_share_a_slot_function_by_function():
    addresses = address_set("pcie-root")
    flags = BUS_MODELS["pcie-root-port"].plugs_as
    places = [addresses.reserve_next(flags) for _ in range(9)]
    assert places == [*((0, 1, function) for function in range(8)), (0, 2, 0)]


def test_aggregation_fills_the_lower_slot_first():
    addresses = address_set("pcie-root")
    flags = BUS_MODELS["pcie-root-port"].plugs_as
    addresses.reserve(PciSlot(0, 3, 0), flags)
    assert addresses.reserve_next(flags) == (0, 1, 0)
    addresses.reserve(PciSlot(0, 2, 0), Connect.PCIE)
    assert addresses.reserve_next(flags) == (0, 1, 1)


def test_slot_of_another_kind_is_not_shared():
    addresses = address_set("pcie-root")
    addresses.reserve(PciSlot(0, 1, 0), Connect.PCIE)
    assert addresses.reserve_next(BUS_MODELS["pcie-root-port"].plugs_as) == (0, 2, 0)


def test_function_can_be_chosen():
    addresses = address_set("pci-root")
    assert addresses.reserve_next(Connect.PCI, function=7) == (0, 1, 7)
    addresses.reserve(PciSlot(0, 1, 0), Connect.PCI)
    with pytest.raises(ValidationFailed, match=r"XML error: Attempted double use of PCI Address"):
        addresses.reserve(PciSlot(0, 1, 7), Connect.PCI)


def test_integrated_device_goes_to_bus_0_of_an_express_guest():
    addresses = address_set("pcie-root", "pcie-root-port")
    assert addresses.reserve_next(Connect.PCIE | Connect.INTEGRATED) == (0, 1, 0)


def test_released_function_is_free_again():
    addresses = address_set("pci-root")
    first = addresses.reserve_next(Connect.PCI)
    addresses.reserve_next(Connect.PCI)
    addresses.release(first)
    assert addresses.reserve_next(Connect.PCI) == first


@pytest.mark.parametrize(
    ("bus_models", "address", "flags", "message"),
    [
        ([], (0, 1, 0), Connect.PCI, "No PCI buses available"),
        (
            ["pci-root"],
            (3, 1, 0),
            Connect.PCI,
            "Invalid PCI address 0000:03:01.0. Only PCI buses up to 0 are available",
        ),
        (
            ["pci-root"],
            (0, 0, 0),
            Connect.PCI,
            "Invalid PCI address 0000:00:00.0. slot must be >= 1",
        ),
        (
            ["pcie-root", "pcie-root-port"],
            (1, 1, 0),
            Connect.PCIE,
            "Invalid PCI address 0000:01:01.0. slot must be <= 0",
        ),
        (
            ["pci-root"],
            (0, 31, 8),
            Connect.PCI,
            "Invalid PCI address 0000:00:1f.8. function must be <= 7",
        ),
        (
            ["pci-root"],
            (0, 2, 0),
            Connect.PCIE_ROOT_PORT,
            (
                "The device at PCI address 0000:00:02.0 cannot be plugged into the PCI controller"
                " with index='0'. It requires a controller that accepts a pcie-root-port."
            ),
        ),
        (
            ["pcie-root", "dmi-to-pci-bridge"],
            (1, 2, 0),
            Connect.PCI | Connect.HOTPLUGGABLE,
            (
                "The device at PCI address 0000:01:02.0 requires hotplug capability, but the PCI"
                " controller with index='1' doesn't support hotplug"
            ),
        ),
        (
            ["pci-root", "pci-bridge"],
            (1, 2, 0),
            Connect.PCI | Connect.INTEGRATED,
            "The device at PCI address 0000:01:02.0 needs to be an integrated device (bus=0)",
        ),
        (
            ["pci-root"],
            (0, 2, 0),
            0,
            "The device at PCI address 0000:00:02.0 has unrecognized connection type flags 0x00",
        ),
    ],
)
def test_unsuitable_address_has_libvirts_words(bus_models, address, flags, message):
    with pytest.raises(ValidationFailed) as caught:
        address_set(*bus_models).reserve(PciSlot(*address), flags)
    assert str(caught.value) == f"XML error: {message}"


def test_only_domain_0_exists():
    with pytest.raises(ValidationFailed, match="Only PCI domain 0 is available"):
        address_set("pci-root").reserve(PciSlot(0, 2, 0), Connect.PCI, domain=1)


def test_chosen_address_on_a_bus_without_autoassign_is_our_error():
    with pytest.raises(ValidationFailed) as caught:
        address_set("pcie-root").check(PciSlot(0, 1, 0), Connect.PCIE, explicit=False)
    assert str(caught.value) == (
        "internal error: The device at PCI address 0000:00:01.0 was auto-assigned this address,"
        " but the PCI controller with index='0' doesn't allow auto-assignment"
    )


@pytest.mark.parametrize("flags", [Connect.PCI, Connect.PCIE])
def test_author_may_mix_pci_and_express(flags):
    addresses = address_set("pcie-root", "pcie-to-pci-bridge")
    addresses.reserve(PciSlot(0, 2, 0), flags)
    addresses.reserve(PciSlot(1, 2, 0), flags)


@pytest.mark.parametrize(
    "model", ["pcie-root-port", "dmi-to-pci-bridge", "pci-expander-bus", "pcie-expander-bus"]
)
def test_controller_that_cannot_be_placed(model):
    addresses = address_set("pcie-root-port", growable=True)
    with pytest.raises(ValidationFailed) as caught:
        addresses.reserve_next(BUS_MODELS[model].plugs_as)
    assert caught.value.message == (
        f"a PCI slot is needed to connect a PCI controller model='{model}', but none is"
        " available, and it cannot be automatically added"
    )


def test_device_without_connection_type_cannot_be_placed():
    with pytest.raises(ValidationFailed) as caught:
        address_set("pci-root", growable=True).reserve_next(Connect.AUTOASSIGN)
    assert caught.value.message == (
        "Cannot automatically add a new PCI bus for a device with connect flags 01"
    )


def test_isolation_groups_do_not_share_a_bus():
    addresses = PciAddressSet(PciTopology(multiple_roots=True), growable=True)
    addresses.add(PciBus("pci-root", isolation_locked=True))
    emulated = addresses.reserve_next(Connect.PCI)
    first = addresses.reserve_next(Connect.PCI, isolation_group=5)
    second = addresses.reserve_next(Connect.PCI, isolation_group=6)
    third = addresses.reserve_next(Connect.PCI, isolation_group=5)
    assert [emulated.bus, first.bus, second.bus, third.bus] == [0, 1, 2, 1]


def test_mixing_groups_by_hand_ends_isolation():
    addresses = PciAddressSet()
    addresses.add(PciBus("pci-root"))
    addresses.reserve(PciSlot(0, 1, 0), Connect.PCI, isolation_group=3)
    assert addresses.buses[0].isolation_group == 3
    addresses.reserve(PciSlot(0, 2, 0), Connect.PCI, isolation_group=4)
    assert addresses.buses[0].isolation_group == 0


FLAGS = st.sampled_from(
    [
        Connect.PCI,
        Connect.PCIE,
        Connect.PCIE | Connect.HOTPLUGGABLE,
        BUS_MODELS["pcie-root-port"].plugs_as,
        BUS_MODELS["pcie-switch-upstream-port"].plugs_as,
    ]
)


@given(
    root=st.sampled_from(["pci-root", "pcie-root"]),
    bridge=st.booleans(),
    explicit=st.lists(st.tuples(st.integers(1, 31), st.integers(0, 7)), unique=True, max_size=40),
    wanted=st.lists(st.tuples(FLAGS, st.integers(0, 2)), max_size=80),
)
def test_no_address_is_given_twice_and_growth_is_bounded(root, bridge, explicit, wanted):
    addresses = address_set(root, growable=True, pcie_to_pci_bridge=bridge)
    endpoint = Connect.PCI if root == "pci-root" else Connect.PCIE
    taken = {addresses.reserve(PciSlot(0, *place), endpoint) for place in explicit}
    slots = {place[:2] for place in taken}
    for flags, group in wanted:
        try:
            place = addresses.reserve_next(flags, isolation_group=group)
        except ValidationFailed:
            assert flags & Connect.PCIE_ROOT_PORT
            continue
        assert place not in taken
        if not flags & Connect.AGGREGATE_SLOT:
            assert place[:2] not in slots
        bus = addresses.buses[place.bus]
        assert bus.flags & flags & Connect.TYPES
        assert bus.first_slot <= place.slot <= bus.last_slot
        taken.add(place)
        slots.add(place[:2])
    assert len(addresses.buses) <= 1 + 2 * len(wanted)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("next"), FLAGS),
            st.tuples(st.just("release"), st.integers(0, 1000)),
        ),
        max_size=60,
    )
)
def test_the_first_free_place_is_found_whatever_went_before(steps):
    addresses = address_set("pcie-root", "pcie-root-port", "pcie-to-pci-bridge", growable=True)
    held = []
    for step, value in steps:
        if step == "release":
            if held:
                addresses.release(held.pop(value % len(held)))
            continue
        fresh = PciAddressSet(addresses.topology, growable=True)
        fresh.buses = addresses.buses
        expected = fresh._search(0, value, -1, 0)  # without what was remembered
        if expected is None and value & Connect.PCIE_ROOT_PORT:
            continue
        place = addresses.reserve_next(value)
        assert expected in (None, place)
        held.append(place)


def test_zpci_ids_begin_with_uid_1_and_fid_0():
    ids = ZpciIds()
    assert ids.ensure(None, None) == (1, 0)
    assert ids.ensure(2, None) == (2, 1)
    assert ids.ensure(None, 9) == (3, 9)


def test_zpci_ids_are_unique():
    ids = ZpciIds()
    ids.ensure(8, 8)
    with pytest.raises(ValidationFailed) as caught:
        ids.ensure(8, None)
    assert caught.value.message == "zPCI uid 10 is already reserved"
    with pytest.raises(ValidationFailed, match="zPCI fid 10 is already reserved"):
        ids.ensure(None, 8)
    ids.release(8, 8)
    assert ids.ensure(8, 8) == (8, 8)


@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(1, 12),
            st.none() | st.integers(0, 12),
        ),
        max_size=30,
    )
)
def test_zpci_ids_are_never_shared(requests):
    ids = ZpciIds()
    seen = []
    for uid, fid in requests:
        try:
            seen.append(ids.ensure(uid, fid))
        except ValidationFailed:
            assert uid in {u for u, _ in seen} or fid in {f for _, f in seen}
    assert len({u for u, _ in seen}) == len({f for _, f in seen}) == len(seen)
