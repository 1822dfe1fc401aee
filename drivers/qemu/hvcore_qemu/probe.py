"""Capabilities of the QEMU binaries of this host: from the cache, or by asking.

`cached` is for the common case and imports neither asyncio nor QMP; `probe_binary` asks a binary
that is not known yet, or has changed, and keeps what it said.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import attrs

from hvcore.errors import ErrorClass
from hvcore.errors import ProbeError
from hvcore.hostinfo import circumstances
from hvcore.probecache import ProbeCache
from hvcore_qemu.capabilities import QemuCapabilities
from hvcore_qemu.version import PROBE_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

#: seconds within which a binary has to answer everything
TIMEOUT = 30.0


def cache_at(directory: str | os.PathLike[str]) -> ProbeCache:
    """Return the cache of QEMU's answers in a directory."""
    return ProbeCache(directory, version=PROBE_VERSION)


def cached(binary: str | os.PathLike[str], cache: ProbeCache) -> QemuCapabilities | None:
    """Return what a binary answered earlier; None when it has to be asked."""
    sections = cache.load(binary, circumstances=_circumstances(binary))
    return None if sections is None else QemuCapabilities.from_sections(sections)


async def probe_binary(
    binary: str | os.PathLike[str],
    *,
    cache: ProbeCache | None = None,
    timeout: float = TIMEOUT,  # noqa: ASYNC109 - it becomes part of the error's text
) -> QemuCapabilities:
    """Return the capabilities of a binary, asking it when the cache cannot tell.

    :param cache: where answers are kept; without one the binary is asked every time.
    :param timeout: seconds for each of the two processes that may have to be asked.
    :raises ProbeError: when the binary cannot be started, hangs, ends, or answers nonsense.
    """
    path = os.path.abspath(binary)  # noqa: PTH100, ASYNC240 - no I/O; Path.absolute keeps '..'
    found = cached(path, cache) if cache is not None else None
    if found is not None:
        return found
    status = check_executable(path)
    facts = _circumstances(path)
    try:
        key = cache.key(path, circumstances=facts) if cache is not None else None
    except OSError as error:
        raise _unreachable(path, error) from error
    from hvcore_qemu import probe_qmp  # noqa: PLC0415 - imports asyncio and QMP

    caps = await probe_qmp.interrogate(path, facts, timeout)
    caps = attrs.evolve(caps, binary_ctime=int(status.st_ctime))
    if cache is not None and key is not None:
        # What cannot be kept is asked again; that is slow, not wrong.
        with contextlib.suppress(OSError):
            cache.store(key, caps.to_sections())
    return caps


def _unreachable(binary: str, error: OSError) -> ProbeError:
    return ProbeError(
        f"Cannot check QEMU binary {binary}: {error.strerror}", kind=ErrorClass.SYSTEM
    )


def check_executable(binary: str) -> os.stat_result:
    """Return the status of a binary that can be started.

    :raises ProbeError: when it is not there, or is not executable.
    """
    try:
        status = Path(binary).stat()
    except OSError as error:
        raise _unreachable(binary, error) from error
    if not stat.S_ISREG(status.st_mode) or not os.access(binary, os.X_OK):
        raise ProbeError(f"QEMU binary {binary} is not executable", kind=ErrorClass.SYSTEM)
    return status


def _circumstances(binary: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what else than the binary its answers depend on: the host, and QEMU's modules."""
    return {**circumstances(), "modules": max(_module_times(Path(binary)), default=0)}


def _module_times(binary: Path) -> Iterator[int]:
    """Yield the times of the folders in which a QEMU looks for its modules.

    Distributions put them in ``lib/qemu``, ``lib64/qemu`` or ``lib/ARCH-linux-gnu/qemu`` beside
    ``bin``. Installing a module adds capabilities without touching the binary.
    """
    prefix = Path(os.path.abspath(binary)).parent.parent  # noqa: PTH100 - see probe_binary
    folders = [prefix / "lib", prefix / "lib64"]
    try:
        names = os.listdir(folders[0])  # noqa: PTH208 - names are enough
    except OSError:
        names = []
    folders += [folders[0] / name for name in names if "-linux-" in name]
    for folder in folders:
        try:
            yield (folder / "qemu").stat().st_mtime_ns
        except OSError:
            continue
