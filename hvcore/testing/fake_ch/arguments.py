"""The command line of Cloud Hypervisor v53, as far as a management program uses it."""

from __future__ import annotations

from typing import Final
from typing import NamedTuple

#: Options that describe a VM: the fake makes its VMs by the API alone.
VM_OPTIONS: Final = frozenset(
    {
        "balloon", "cmdline", "console", "cpus", "debug-console", "device", "disk", "firmware",
        "fs", "generic-vhost-user", "initramfs", "kernel", "memory", "memory-zone", "net",
        "numa", "pci-segment", "platform", "pmem", "pvpanic", "rate-limit-group", "restore",
        "rng", "rtc", "serial", "tpm", "user-device", "vdpa", "vsock", "watchdog",
        "landlock-rules", "gdb",
    }
)  # fmt: skip
_VALUES: Final = frozenset({"api-socket", "event-monitor", "log-file", "log-format", "seccomp"})
_FLAGS: Final = frozenset({"landlock", "no-shutdown", "version", "help"})
_SECCOMP: Final = ("true", "false", "log", "errno")


class UsageError(Exception):
    """The command line is refused; the exit code is 2."""


class Refused(Exception):
    """An option's value is refused; the arguments are the chain of messages."""


class Arguments(NamedTuple):
    """What the command line asks for."""

    api_path: str | None = None
    api_fd: int | None = None
    event_path: str | None = None
    event_fd: int | None = None
    log_file: str | None = None
    landlock: bool = False
    no_shutdown: bool = False
    version: bool = False
    help: bool = False


def parse(argv: list[str]) -> Arguments:
    """Read a command line.

    :raises UsageError: for one that the program does not know
    :raises Refused: for a value that it does not take
    """
    if not argv:
        raise UsageError("Usage: cloud-hypervisor [OPTIONS]")
    given: dict[str, str] = {}
    words = list(argv)
    while words:
        word = words.pop(0)
        if word in {"-V", "-h"}:
            word = {"-V": "--version", "-h": "--help"}[word]
        if word.startswith("-v") and set(word[1:]) == {"v"}:
            continue
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and name in VM_OPTIONS:
            raise UsageError(f"the fake cloud-hypervisor makes its VMs by the API, not by --{name}")
        if not word.startswith("--") or name not in _VALUES | _FLAGS:
            raise UsageError(f"error: unexpected argument '{word}' found")
        if name in _VALUES and not equals:
            if not words:
                raise UsageError(f"error: a value is required for '--{name} <{name}>'")
            value = words.pop(0)
        if name in given:
            raise UsageError(f"error: the argument '--{name}' cannot be used multiple times")
        given[name] = value
    if given.get("seccomp", "true") not in _SECCOMP:
        possible = ", ".join(_SECCOMP)
        raise UsageError(
            f"error: invalid value '{given['seccomp']}' for '--seccomp <seccomp>'\n"
            f"  [possible values: {possible}]"
        )
    return _interpret(given)


def _interpret(given: dict[str, str]) -> Arguments:
    api_path, api_fd = _target(given.get("api-socket"), "Error parsing --api-socket", bare=True)
    event_path, event_fd = _target(
        given.get("event-monitor"), "Error parsing --event-monitor", bare=False
    )
    return Arguments(
        api_path=api_path,
        api_fd=api_fd,
        event_path=event_path,
        event_fd=event_fd,
        log_file=given.get("log-file"),
        **{name.replace("-", "_"): name in given for name in sorted(_FLAGS)},
    )


def _target(text: str | None, top: str, *, bare: bool) -> tuple[str | None, int | None]:
    """Read `path=PATH` or `fd=N`; `bare` also takes a path alone."""
    if text is None:
        return None, None
    key, equals, value = text.partition("=")
    if equals and key == "fd":
        try:
            return None, int(value)
        except ValueError:
            raise Refused(top, f"conversion from string error: {value}") from None
    if equals and key == "path":
        return value, None
    if bare:
        return text, None
    raise Refused(top, f"unknown option: {key}")
