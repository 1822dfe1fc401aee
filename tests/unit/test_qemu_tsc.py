"""Which frequencies a guest's time stamp counter can have."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvcore_qemu.tsc import Tsc
from hvcore_qemu.tsc import probe


@pytest.mark.parametrize("wanted", [2_000_000_000, 1_999_500_000, 2_000_500_000])
def test_close_to_the_host_s(wanted: int) -> None:
    assert Tsc(2_000_000_000, scaling=False).refusal(wanted) is None


def test_far_from_the_host_s() -> None:
    assert Tsc(2_000_000_000, scaling=True).refusal(100) is None
    assert Tsc(2_000_000_000, scaling=False).refusal(100) == (
        "Requested TSC frequency 100 Hz is outside tolerance range ([1999500000, 2000500000] Hz) "
        "around host frequency 2000000000 Hz and TSC scaling is not supported by the host CPU"
    )


def test_nothing_is_known_without_kvm(tmp_path: Path) -> None:
    assert probe(str(tmp_path / "kvm")) is None
    (tmp_path / "kvm").touch()
    assert probe(str(tmp_path / "kvm")) is None
