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
from typing import Final

import attrs

from hvcore.errors import ErrorClass
from hvcore.errors import ProbeError
from hvcore.hostinfo import circumstances
from hvcore.probecache import ProbeCache
from hvcore_qemu.capabilities import QemuCapabilities
from hvcore_qemu.version import PROBE_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Iterator

    from hvcore.capabilities import ProbeSession

#: seconds within which a binary has to answer everything; what remains until thirty is for
#: ending it and waiting for its last words
TIMEOUT: Final = 25.0

#: variables that decide which libraries and modules a QEMU loads
_VARIABLES: Final = ("LD_LIBRARY_PATH", "LD_PRELOAD", "QEMU_MODULE_DIR")


def cache_at(directory: str | os.PathLike[str], *, participants: Iterable[str] = ()) -> ProbeCache:
    """Return the cache of QEMU's answers in a directory.

    :param participants: see `hvcore.probecache.ProbeCache`.
    """
    return ProbeCache(directory, version=PROBE_VERSION, participants=participants)


def cached(binary: str | os.PathLike[str], cache: ProbeCache) -> QemuCapabilities | None:
    """Return what a binary answered earlier; None when it has to be asked."""
    sections = cache.load(binary, circumstances=_circumstances(binary))
    return None if sections is None else QemuCapabilities.from_sections(sections)


async def probe_binary(
    binary: str | os.PathLike[str],
    *,
    cache: ProbeCache | None = None,
    extend: Callable[[ProbeSession], Iterable[str]] | None = None,
    timeout: float = TIMEOUT,  # noqa: ASYNC109 - it becomes part of the error's text
) -> QemuCapabilities:
    """Return the capabilities of a binary, asking it when the cache cannot tell.

    Of several processes that want to know the same at once, one asks.

    :param cache: where answers are kept; without one the binary is asked every time.
    :param extend: returns further capability names of a binary that was asked; they are kept
        together with the answers, so ``cache`` has to know whose they are.
    :param timeout: seconds for all that is asked.
    :raises ProbeError: when the binary cannot be started, hangs, ends, or answers nonsense.
    """
    path = os.path.abspath(binary)  # noqa: PTH100, ASYNC240 - no I/O; Path.absolute keeps '..'
    if cache is None:
        return await _ask(path, check_executable(path), _circumstances(path), extend, timeout)
    found = cached(path, cache)
    if found is not None:
        return found
    check_executable(path)
    # Who holds the lock needs no longer than its own timeout; who still does then is stuck.
    async with cache.lock(path, seconds=2 * timeout):
        found = cached(path, cache)  # by whoever had the lock before
        if found is not None:
            return found
        status = check_executable(path)
        facts = _circumstances(path)
        try:
            key = cache.key(path, circumstances=facts)
        except OSError as error:
            raise _unreachable(path, error) from error
        caps = await _ask(path, status, facts, extend, timeout)
        # What cannot be kept is asked again; that is slow, not wrong.
        with contextlib.suppress(OSError):
            cache.store(key, caps.to_sections())
        return caps


async def _ask(
    path: str,
    status: os.stat_result,
    facts: dict[str, Any],
    extend: Callable[[ProbeSession], Iterable[str]] | None,
    seconds: float,
) -> QemuCapabilities:
    from hvcore_qemu import probe_qmp  # noqa: PLC0415 - imports asyncio and QMP

    session = await probe_qmp.interrogate(path, facts, seconds)
    assert isinstance(session.capabilities, QemuCapabilities)
    caps = attrs.evolve(session.capabilities, binary_ctime=int(status.st_ctime))
    return (
        caps
        if extend is None
        else caps.replace(add=extend(attrs.evolve(session, capabilities=caps)))
    )


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
    return {
        **circumstances(),
        "modules": max(_module_times(Path(binary)), default=0),
        "environment": [os.environ.get(name) for name in _VARIABLES],
    }


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
    folders = [folder / "qemu" for folder in folders]
    if chosen := os.environ.get("QEMU_MODULE_DIR"):
        folders.append(Path(chosen))
    for folder in folders:
        try:
            yield folder.stat().st_mtime_ns
        except OSError:
            continue
