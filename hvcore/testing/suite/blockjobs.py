"""Jobs that work on the images of disks while the guest uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from lxml import etree

from hvcore.errors import HvError
from hvcore.events import BlockJobChanged
from hvcore.events import BlockJobStatus
from hvcore.events import BlockJobType
from hvcore.operations import Op

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hvcore.domain import Domain
    from hvcore.testing.suite.contract import Contract

_COPYING = (Op.BLOCK_COPY, Op.BLOCK_JOB_ABORT, Op.BLOCK_JOB_INFO)


@pytest.mark.asyncio
class TestBlockJobs:
    """Pull and copy, as far as the driver has them and a disk that can be plugged in is known."""

    async def test_a_pull_comes_to_its_end(
        self, contract: Contract, device_xml: str | None
    ) -> None:
        """It is announced, and over then."""
        domain, disk = await _with_disk(contract, device_xml, [Op.BLOCK_PULL, Op.BLOCK_JOB_INFO])
        await domain.block_pull(disk)
        changed = await contract.saw(domain, BlockJobChanged)
        assert isinstance(changed, BlockJobChanged)
        assert (changed.disk, changed.status) == (disk, BlockJobStatus.COMPLETED)
        assert await domain.block_job(disk) is None

    @pytest.mark.parametrize("pivot", [True, False])
    async def test_a_copy_is_concluded(
        self, contract: Contract, device_xml: str | None, tmp_path: Path, *, pivot: bool
    ) -> None:
        """The guest goes on with the copy, or with what it had; the job is over."""
        domain, disk = await _with_disk(contract, device_xml, _COPYING)
        before = await _path(domain, disk)
        await _copy(contract, domain, disk, tmp_path)
        info = await domain.block_job(disk)
        assert info is not None
        assert (info.type, info.ready) == (BlockJobType.COPY, True)
        assert info.cur == info.end
        await domain.abort_block_job(disk, pivot=pivot)
        assert await _path(domain, disk) == (str(tmp_path / "copy") if pivot else before)
        assert await domain.block_job(disk) is None

    async def test_a_copy_can_be_slowed_down(
        self, contract: Contract, device_xml: str | None, tmp_path: Path
    ) -> None:
        """Its limit is known."""
        domain, disk = await _with_disk(contract, device_xml, [*_COPYING, Op.BLOCK_JOB_SPEED])
        await _copy(contract, domain, disk, tmp_path)
        await domain.set_block_job_speed(disk, 1 << 20)
        info = await domain.block_job(disk)
        assert info is not None
        assert info.bandwidth == 1 << 20

    async def test_a_disk_has_one_job(
        self, contract: Contract, device_xml: str | None, tmp_path: Path
    ) -> None:
        """Another is refused, and the first goes on."""
        domain, disk = await _with_disk(contract, device_xml, [*_COPYING, Op.BLOCK_PULL])
        await _copy(contract, domain, disk, tmp_path)
        with pytest.raises(HvError):
            await domain.block_pull(disk)
        assert await domain.block_job(disk) is not None

    async def test_there_is_nothing_to_end(
        self, contract: Contract, device_xml: str | None
    ) -> None:
        """A disk without a job is an error."""
        domain, disk = await _with_disk(contract, device_xml, [Op.BLOCK_JOB_ABORT])
        with pytest.raises(HvError):
            await domain.abort_block_job(disk)


async def _with_disk(
    contract: Contract, device: str | None, operations: Sequence[Op]
) -> tuple[Domain, str]:
    """Return a transient domain that runs, and the target of a disk that was plugged in."""
    contract.need(Op.START, Op.DESTROY, Op.ATTACH_DEVICE, *operations)
    target = None if device is None else etree.fromstring(device).find("target")
    if device is None or target is None:
        pytest.skip("no disk is known that can be plugged in")
    domain = await contract.create()
    await domain.attach_device(device, live=True)
    contract.forget()
    return domain, str(target.get("dev"))


async def _copy(contract: Contract, domain: Domain, disk: str, folder: Path) -> None:
    """Copy a disk until the copy is complete."""
    document = f"<disk type='file'><driver type='raw'/><source file='{folder}/copy'/></disk>"
    await domain.block_copy(disk, document)
    changed = await contract.saw(domain, BlockJobChanged)
    assert isinstance(changed, BlockJobChanged)
    assert (changed.disk, changed.status) == (disk, BlockJobStatus.READY)


async def _path(domain: Domain, disk: str) -> str | None:
    """Return the image of a disk."""
    for found in etree.fromstring(await domain.xml()).findall("devices/disk"):
        target, source = found.find("target"), found.find("source")
        if target is not None and source is not None and target.get("dev") == disk:
            return source.get("file")
    return None
