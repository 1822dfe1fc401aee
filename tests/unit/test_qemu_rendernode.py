"""Which graphics processor QEMU is told of."""

from __future__ import annotations

import pytest

from hvcore.errors import HvError
from hvcore_qemu import rendernode


def test_the_first_render_node_is_taken(tmp_path):
    folder = tmp_path / "dev" / "dri"
    folder.mkdir(parents=True)
    for name in ("card0", "renderD129", "renderD128"):
        (folder / name).touch()
    assert rendernode.first(tmp_path) == "/dev/dri/renderD128"


def test_hosts_without_one_are_refused_as_by_libvirt(tmp_path):
    with pytest.raises(HvError) as caught:
        rendernode.first(tmp_path)
    assert str(caught.value) == "cannot open directory '/dev/dri': No such file or directory"
    (tmp_path / "dev" / "dri").mkdir(parents=True)
    with pytest.raises(HvError, match="internal error: No DRM render nodes available"):
        rendernode.first(tmp_path)
