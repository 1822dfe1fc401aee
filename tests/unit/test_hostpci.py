"""Facts about the host's PCI devices from sysfs."""

import pytest

from hvcore.hostpci import SysfsPci

PLACE = (0, 0x3B, 0x1F, 7)


def device(root, config, group=None):
    folder = root / "sys/bus/pci/devices/0000:3b:1f.7"
    folder.mkdir(parents=True)
    (folder / "config").write_bytes(bytes(config))
    if group is not None:
        (folder / "iommu_group").symlink_to(f"../../../../kernel/iommu_groups/{group}")
    return SysfsPci(root)


def config(size, *capabilities, listed=True):
    space = bytearray(size)
    if listed:
        space[6] = 0x10
    at, position = 0x34, 0x40
    for capability in capabilities:
        space[at] = position
        space[position] = capability
        at, position = position + 1, position + 8
    return space


@pytest.mark.parametrize(
    ("space", "express"),
    [
        (config(4096), True),
        (config(256), False),
        (config(256, 0x01, 0x05), False),
        (config(256, 0x01, 0x10), True),
        (config(256, 0x10, listed=False), False),
        (config(64), True),
    ],
)
def test_express(tmp_path, space, express):
    assert device(tmp_path, space).is_express(*PLACE) is express


def test_capabilities_in_a_circle_end(tmp_path):
    space = config(256, 0x01)
    space[0x41] = 0x40
    assert device(tmp_path, space).is_express(*PLACE) is False


def test_absent_device(tmp_path):
    assert SysfsPci(tmp_path).is_express(*PLACE) is None
    assert SysfsPci(tmp_path).iommu_group(*PLACE) is None


def test_unreadable_device_counts_as_express(tmp_path):
    devices = device(tmp_path, config(256))
    folder = tmp_path / "sys/bus/pci/devices/0000:3b:1f.7"
    (folder / "config").unlink()
    (folder / "config").mkdir()
    assert devices.is_express(*PLACE) is True


def test_iommu_group(tmp_path):
    assert device(tmp_path, config(256), group=0).iommu_group(*PLACE) == 0


def test_device_without_iommu_group(tmp_path):
    assert device(tmp_path, config(256)).iommu_group(*PLACE) is None
