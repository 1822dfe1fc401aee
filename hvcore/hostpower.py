"""How the host can be put to sleep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.sysfiles import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Mapping
    from pathlib import Path


def sleep_states(root: Path, meminfo: Mapping[str, int]) -> Iterator[str]:
    """Yield libvirt's names of the ways in which the host can sleep, in libvirt's order.

    libvirt asks systemd's login manager; these are its conditions (``can_sleep`` in systemd's
    ``sleep-config.c``), read where it reads them. Without systemd nobody could put the host to
    sleep for libvirt, and there are none.

    :param root: what stands for ``/``.
    :param meminfo: sizes of ``/proc/meminfo`` in KiB.
    """
    if not (root / "run/systemd/system").is_dir():
        return
    states = set((text_of(root / "sys/power/state") or "").split())
    # The current choice is in brackets.
    ways = set((text_of(root / "sys/power/disk") or "").replace("[", "").replace("]", "").split())
    # Hibernation needs room for the pages in use; two percent may change until then.
    room = meminfo.get("SwapFree", 0)
    enough = room > 0 and meminfo.get("Active(anon)", 0) * 100 <= room * 98
    if not states.isdisjoint({"mem", "standby", "freeze"}):
        yield "suspend_mem"
    if "disk" in states and enough:
        if not ways.isdisjoint({"platform", "shutdown"}):
            yield "suspend_disk"
        if "suspend" in ways:
            yield "suspend_hybrid"
