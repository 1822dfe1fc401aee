"""Capabilities of the cloud-hypervisor binaries of this host: from the cache, or by asking.

A binary is asked by starting it without a guest: vmm.ping tells version and features.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.capabilities import Exchange
from hvcore.capabilities import ProbeSession
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import ProbeError
from hvcore.hostinfo import circumstances
from hvcore.probecache import ProbeCache
from hvcore_ch.capabilities import ChCapabilities
from hvcore_ch.capabilities import conclude
from hvcore_ch.version import PROBE_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable

TIMEOUT: Final = 20.0
"""Seconds within which a binary has to answer."""

_LANDLOCK_CREATE_RULESET: Final = 444
_RULESET_VERSION: Final = 1
_LANDLOCK_ABI: Final = 3
"""The first version that confines truncation, which cloud-hypervisor insists on."""


def cache_at(directory: str | os.PathLike[str], *, participants: Iterable[str] = ()) -> ProbeCache:
    """Return the cache of answers in a directory.

    :param participants: see `hvcore.probecache.ProbeCache`.
    """
    return ProbeCache(directory, version=PROBE_VERSION, participants=participants)


def landlock_abi() -> int:
    """Return the version of Landlock that the kernel has; below 1 it has none."""
    library = ctypes.CDLL(None, use_errno=True)
    found: int = library.syscall(_LANDLOCK_CREATE_RULESET, None, 0, _RULESET_VERSION)
    return found


def has_landlock() -> bool:
    """Return whether the kernel can confine a process as cloud-hypervisor wants it."""
    return landlock_abi() >= _LANDLOCK_ABI


async def probe_binary(
    binary: str | os.PathLike[str],
    *,
    arch: str,
    cache: ProbeCache | None = None,
    extend: Callable[[ProbeSession], Iterable[str]] | None = None,
    timeout: float = TIMEOUT,  # noqa: ASYNC109 - it becomes part of the error's text
) -> ChCapabilities:
    """Return the capabilities of a binary, asking it when the cache cannot tell.

    :param arch: of the host, which is that of its guests.
    :param cache: where answers are kept; without one the binary is asked every time.
    :param extend: returns further capability names of a binary that was asked.
    :param timeout: seconds for all that is asked.
    :raises ProbeError: when the binary cannot be started, hangs, ends, or answers nonsense.
    """
    path = os.path.abspath(binary)  # noqa: PTH100, ASYNC240 - no I/O; Path.absolute keeps '..'
    landlock = has_landlock()
    if cache is None:
        return await _ask(path, arch, extend, timeout, landlock=landlock)
    facts = {**circumstances(), "landlock": landlock}
    if (sections := cache.load(path, circumstances=facts)) is not None:
        return ChCapabilities.from_sections(sections)
    check_executable(path)
    async with cache.lock(path, seconds=2 * timeout):
        if (sections := cache.load(path, circumstances=facts)) is not None:
            return ChCapabilities.from_sections(sections)
        key = cache.key(path, circumstances=facts)
        caps = await _ask(path, arch, extend, timeout, landlock=landlock)
        # What cannot be kept is asked again; that is slow, not wrong.
        with contextlib.suppress(OSError):
            cache.store(key, caps.to_sections())
        return caps


async def _ask(
    path: str,
    arch: str,
    extend: Callable[[ProbeSession], Iterable[str]] | None,
    seconds: float,
    *,
    landlock: bool,
) -> ChCapabilities:
    check_executable(path)
    ping = await _ping(path, seconds)
    caps = conclude(ping, arch=arch, landlock=landlock)
    if extend is None:
        return caps
    said = Exchange({"execute": "vmm.ping"}, {"return": ping})
    return caps.replace(add=extend(ProbeSession(caps, (said,))))


async def _ping(path: str, seconds: float) -> dict[str, Any]:
    """Start a binary without a guest and return what it says of itself."""
    from hvcore_ch.process import Vmm  # noqa: PLC0415 - asyncio and processes, only to ask

    with tempfile.TemporaryDirectory(prefix="hvcore-ch-") as folder:
        try:
            vmm = await Vmm.start(path, Path(folder), name="probe")
        except HvError as error:
            raise ProbeError(f"Failed to probe Cloud-Hypervisor {path}: {error}") from error
        try:
            found = await vmm.monitor.call("vmm.ping", deadline=seconds)
        except HvError as error:
            tail = vmm.log.tail()
            raise ProbeError(
                f"Failed to probe Cloud-Hypervisor {path}: {error}" + (f": {tail}" if tail else "")
            ) from error
        finally:
            await vmm.kill()
    if not isinstance(found, dict):
        raise ProbeError(f"cloud-hypervisor answered vmm.ping in another schema: {found}")
    return found


def check_executable(binary: str) -> None:
    """Refuse a binary that cannot be started.

    :raises ProbeError: it is not there, or is not executable.
    """
    try:
        status = Path(binary).stat()
    except OSError as error:
        raise ProbeError(
            f"Cannot check Cloud-Hypervisor binary {binary}: {error.strerror}",
            kind=ErrorClass.SYSTEM,
        ) from error
    if not stat.S_ISREG(status.st_mode) or not os.access(binary, os.X_OK):
        raise ProbeError(
            f"Cloud-Hypervisor binary {binary} is not executable", kind=ErrorClass.SYSTEM
        )
