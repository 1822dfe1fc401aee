"""Connection URIs: which driver, whose domains, and where their state lives.

Sans-IO: the environment and the user are parameters. Words of the refusals are libvirt's.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from typing import Final
from urllib.parse import parse_qsl
from urllib.parse import urlsplit

import attrs

from hvcore.errors import ErrorClass
from hvcore.errors import UnknownUri
from hvcore.errors import Unsupported

if TYPE_CHECKING:
    from collections.abc import Mapping

_UUID_AND_FILE: Final = 1 + 36 + 1 + 28
"""Room below a runtime directory for ``/<uuid>/<socket>``; 28 holds every socket name we bind."""

SUN_PATH: Final = 107
"""Longest path a unix socket can be bound to (108 bytes with the terminator)."""


@attrs.frozen
class Uri:
    """A parsed connection URI.

    :param scheme: picks the driver, for instance ``qemu``.
    :param path: ``/system``, ``/session``, ``/embed``, ``/default`` ...
    :param root: absolute directory of ``?root=``, for an isolated state.
    :param parameters: the other parameters by name; what they mean is the driver's affair.
    """

    text: str
    scheme: str
    path: str
    root: str | None = None
    parameters: Mapping[str, str] = attrs.field(factory=dict)

    def __str__(self) -> str:
        return self.text


@attrs.frozen
class Roots:
    """Where one driver's state lives.

    :param config: persistent definitions and the lock.
    :param run: status of running domains; gone after a reboot of the host.
    :param log: log files of the virtual machine processes.
    :param cache: what can be found out again.
    :param sockets: like ``run``, but never too long for a unix socket below it.
    """

    config: PurePosixPath
    run: PurePosixPath
    log: PurePosixPath
    cache: PurePosixPath
    sockets: PurePosixPath


def default_uri(environ: Mapping[str, str], uid: int) -> str:
    """Return the URI used when none is given, as libvirt chooses it for QEMU."""
    return environ.get("HVCORE_DEFAULT_URI") or (
        "qemu:///system" if uid == 0 else "qemu:///session"
    )


def parse(text: str) -> Uri:
    """Parse a connection URI.

    :raises UnknownUri: no driver can be behind it (no scheme, or a remote host).
    :raises Unsupported: ``root`` is relative or missing for ``/embed``.
    """
    parts = urlsplit(text)
    if not parts.scheme:
        raise UnknownUri(
            f"no connection driver available for URI '{text}' does not include a driver name"
        )
    if parts.netloc or "+" in parts.scheme:
        raise UnknownUri(
            f"no connection driver available for {text}",
            hint="only local URIs such as qemu:///session are served",
        )
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    root = query.pop("root", None)
    if root is None and parts.path == "/embed":
        raise Unsupported("root path must be absolute", hint="use qemu:///embed?root=/DIR")
    if root is not None and not root.startswith("/"):
        raise Unsupported("root path must be absolute")
    return Uri(text, parts.scheme, parts.path, root, query)


def unknown_parameter(uri: Uri, name: str) -> Unsupported:
    """Return the refusal of a parameter that a driver does not know."""
    return Unsupported(
        f"Unexpected URI parameter '{name}'", kind=ErrorClass.INVALID_ARG, path=uri.text
    )


def state_roots(uri: Uri, *, environ: Mapping[str, str], uid: int, home: str) -> Roots:
    """Return where the state behind ``uri`` lives.

    ``?root=DIR`` wins; ``/system`` is the host's (FHS), everything else the user's (XDG).

    :param home: the user's home directory, for the defaults of the XDG specification.
    """
    name = uri.scheme
    if uri.root is not None:
        base = PurePosixPath(uri.root)
        config, run, log, cache = (base / part for part in ("config", "run", "log", "cache"))
    elif uri.path == "/system":
        config = PurePosixPath("/var/lib/hvcore") / name
        run = PurePosixPath("/run/hvcore") / name
        log = PurePosixPath("/var/log/hvcore") / name
        cache = PurePosixPath("/var/cache/hvcore") / name
    else:
        config = _xdg(environ, "XDG_CONFIG_HOME", f"{home}/.config") / name
        # Without a runtime directory of the session libvirt, too, falls back to the cache.
        run = _xdg(environ, "XDG_RUNTIME_DIR", f"{home}/.cache") / name / "run"
        log = _xdg(environ, "XDG_STATE_HOME", f"{home}/.local/state") / name / "log"
        cache = _xdg(environ, "XDG_CACHE_HOME", f"{home}/.cache") / name
    return Roots(config, run, log, cache, _short(run, environ=environ, uid=uid))


def _xdg(environ: Mapping[str, str], variable: str, default: str) -> PurePosixPath:
    # The specification: a relative path is to be ignored.
    value = environ.get(variable, "")
    return PurePosixPath(value if value.startswith("/") else default) / "hvcore"


def _short(run: PurePosixPath, *, environ: Mapping[str, str], uid: int) -> PurePosixPath:
    if len(str(run).encode()) + _UUID_AND_FILE <= SUN_PATH:
        return run
    import hashlib  # noqa: PLC0415 - needed only for long paths; costs as much as this module

    key = hashlib.sha256(str(run).encode()).hexdigest()[:12]
    base = environ.get("XDG_RUNTIME_DIR", "")
    if base.startswith("/") and len(base) <= len("/run/user/4294967295"):
        return PurePosixPath(base) / "hvcore" / key
    # Whoever uses it makes it 0700 and checks its owner.
    return PurePosixPath("/tmp") / f"hvcore-{uid}-{key}"  # noqa: S108
