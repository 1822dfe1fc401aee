"""Settings of the driver, from ``ch.toml`` in the state root.

All have defaults; a file is only needed to deviate from them::

    landlock = true                       # confine each process to the files of its guest
    landlock_paths = ["/srv/images"]      # what may be plugged into a running guest
    seccomp = "true"                      # or "errno", "log", "false"
"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

import attrs

from hvcore.errors import ErrorClass
from hvcore.errors import HvError

if TYPE_CHECKING:
    from pathlib import Path

    from hvcore.state import StateDirectory

SECCOMP: Final = ("true", "errno", "log", "false")
"""What happens on a system call that the process has no use for: it is killed, the call fails, it
is logged, or nothing."""


@attrs.frozen(kw_only=True)
class ChConfig:
    """The settings.

    :ivar landlock: let the kernel confine each process to the files of its guest, where it can.
    :ivar landlock_paths: files and directories that a running guest may be given later.
    :ivar seccomp: one of :data:`SECCOMP`.
    """

    landlock: bool = True
    landlock_paths: tuple[str, ...] = ()
    seccomp: str = "true"


def _refuse(file: Path, message: str) -> HvError:
    return HvError(f"{file}: {message}", kind=ErrorClass.CONF_SYNTAX)


def read(file: Path) -> ChConfig:
    """Return the settings in ``file``; the defaults where there is none.

    :raises HvError: it cannot be read or understood.
    """
    try:
        found = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return ChConfig()
    except OSError as error:
        raise _refuse(file, error.strerror or str(error)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _refuse(file, str(error)) from error
    kinds = {field.name: type(field.default) for field in attrs.fields(ChConfig)}
    given: dict[str, Any] = {}
    for name, value in found.items():
        if name not in kinds:
            raise _refuse(file, f"there is no setting '{name}'")
        if kinds[name] is tuple and isinstance(value, list):
            value = tuple(value)  # noqa: PLW2901 - the same value, made immutable
        if not isinstance(value, kinds[name]):
            raise _refuse(file, f"setting '{name}' has a value of the wrong kind")
        given[name] = value
    config = ChConfig(**given)
    if config.seccomp not in SECCOMP:
        raise _refuse(file, f"setting 'seccomp' is one of {', '.join(SECCOMP)}")
    if not all(isinstance(path, str) and path.startswith("/") for path in config.landlock_paths):
        raise _refuse(file, "setting 'landlock_paths' is a list of absolute paths")
    return config


def of_root(directory: StateDirectory) -> ChConfig:
    """Return the settings of a state root; raises as :func:`read`."""
    return read(directory.config / "ch.toml")
