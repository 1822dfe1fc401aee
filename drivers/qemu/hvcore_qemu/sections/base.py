"""What every QEMU has: identity, monitor, secrets' key, sandbox, and raw arguments at the end."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore.errors import Issue
from hvcore.errors import ValidationFailed
from hvcore.model.memory import UNLIMITED
from hvcore.rules.base import Rules
from hvcore_qemu.command import escape_comma
from hvcore_qemu.extensions import CommandLine
from hvcore_qemu.extensions import Deprecation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.model.domain import Domain
    from hvcore_qemu.command import Command
    from hvcore_qemu.prepare import Preparation

MASTER_KEY: Final = "masterKey0"
MASTER_KEY_FILE: Final = "master-key.aes"
MASTER_KEY_BYTES: Final = 32
MONITOR: Final = "charmonitor"
MONITOR_SOCKET: Final = "monitor.sock"

_PASSED: Final = ("LC_ALL", "LD_PRELOAD", "LD_LIBRARY_PATH", "PATH", "HOME", "USER", "LOGNAME",
                  "TMPDIR")  # fmt: skip
"""Variables that QEMU gets from the manager; LC_ALL always as C, for messages that are known."""
_NOTED: Final = (*_PASSED, "PIPEWIRE_CORE", "PIPEWIRE_REMOTE", "PIPEWIRE_RUNTIME_DIR",
                 "XDG_RUNTIME_DIR", "USERPROFILE")  # fmt: skip
"""Variables that a part of the command line may pass on."""
_DEPRECATIONS: Final[dict[str, dict[str, Any]]] = {
    "omit": {"deprecated-output": "hide"},
    "reject": {"deprecated-output": "hide", "deprecated-input": "reject"},
    "crash": {"deprecated-output": "hide", "deprecated-input": "crash"},
}
_SANDBOX: Final = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

_SINGLE_GRAPHICS: Final = frozenset({"sdl", "vnc", "spice", "egl-headless", "dbus", "rdp"})
_BANDWIDTH: Final = tuple(
    f"{scope}{value}"
    for scope in ("", "global_", "emulator_", "iothread_")
    for value in ("period", "quota")
)

rules = Rules()


def prepare(work: Preparation) -> None:
    """Draw the master key, open the monitor, and note the manager's environment."""
    resources = work.resources
    resources.master_key = work.host.random_bytes(MASTER_KEY_BYTES)
    resources.monitor_fd = work.host.monitor(f"{resources.domain_dir}/{MONITOR_SOCKET}")
    for name in _NOTED:
        value = work.host.env(name)
        if value is not None:
            resources.variables[name] = value


def check(work: Preparation) -> None:
    """Refuse what only the command line as a whole shows to be impossible.

    :raises ValidationFailed: when something of it is there.
    """
    issues = [] if work.config.privileged else list(_session_issues(work.domain))
    servers = Counter(graphics.type for graphics in work.domain.devices.graphics)
    if any(count > 1 and kind in _SINGLE_GRAPHICS for kind, count in servers.items()):
        issues.append(
            Issue.unsupported(
                "only 1 graphics device of each type (sdl, vnc, spice, headless, dbus, rdp) "
                "is supported"
            )
        )
    if issues:
        raise ValidationFailed(issues)


def _session_issues(domain: Domain) -> Iterator[Issue]:
    """Yield what needs control groups, which an unprivileged manager has none of."""
    memory, block, cpu = domain.memtune, domain.blkiotune, domain.cputune
    limits = memory and (memory.hard_limit, memory.soft_limit, memory.swap_hard_limit)
    if limits and any(limit not in (None, UNLIMITED) for limit in limits):
        yield Issue.unsupported("Memory tuning is not available in session mode")
    if block and block.weight:
        yield Issue.unsupported("Block I/O tuning is not available in session mode")
    if cpu and (cpu.shares is not None or any(getattr(cpu, name) for name in _BANDWIDTH)):
        yield Issue.unsupported("CPU tuning is not available in session mode")


def environment(cmd: Command) -> None:
    """Pass what programs expect, with a home of QEMU's own."""
    home = cmd.resources.domain_dir
    variables = {**cmd.resources.variables, "LC_ALL": "C"}
    xdg = {"XDG_CACHE_HOME": f"{home}/.cache"}
    if cmd.config.privileged:
        variables["HOME"] = home
        xdg = {
            "XDG_DATA_HOME": f"{home}/.local/share",
            **xdg,
            "XDG_CONFIG_HOME": f"{home}/.config",
        }
    for name in _PASSED:
        if name in variables:
            cmd.env(name, variables[name])
    for name, value in xdg.items():
        cmd.env(name, value)


def name(cmd: Command) -> None:
    """Name the guest, and its threads."""
    process = f",process=qemu:{cmd.domain.name}" if cmd.config.set_process_name else ""
    cmd.option("-name", f"guest={escape_comma(cmd.domain.name)}{process},debug-threads=on")


def compat(cmd: Command) -> None:
    """Say what to do about deprecated input and output."""
    own: Deprecation | None = Deprecation.of(cmd.domain)
    behavior = cmd.config.deprecation_behavior if own is None else own.behavior
    if behavior in _DEPRECATIONS:
        cmd.option("-compat", _DEPRECATIONS[behavior])


def stopped(cmd: Command) -> None:
    """Keep the CPUs stopped until everything is in place."""
    cmd.option("-S")


def master_key(cmd: Command) -> None:
    """Hand over the key that decrypts all other secrets."""
    path = f"{cmd.resources.domain_dir}/{MASTER_KEY_FILE}"
    cmd.plan.files[path] = cmd.resources.master_key
    cmd.object({"qom-type": "secret", "id": MASTER_KEY, "format": "raw", "file": path})


def uuid(cmd: Command) -> None:
    """Identify the guest."""
    cmd.option("-uuid", cmd.domain.uuid)


def genid(cmd: Command) -> None:
    """Identify the guest's state, which changes when a snapshot is resumed."""
    if cmd.domain.genid is not None:
        cmd.device({"driver": "vmgenid", "guid": cmd.domain.genid, "id": "vmgenid0"})


def no_defaults(cmd: Command) -> None:
    """Leave out what QEMU would add by itself."""
    cmd.option("-no-user-config")
    cmd.option("-nodefaults")


def monitor(cmd: Command) -> None:
    """Connect the monitor to a socket that listens already."""
    fd = cmd.resources.monitor_fd
    cmd.option("-chardev", f"socket,id={MONITOR},fd={fd},server=on,wait=off")
    cmd.option("-mon", f"chardev={MONITOR},id=monitor,mode=control")


def incoming(cmd: Command) -> None:
    """Receive the guest's state from elsewhere."""
    if cmd.resources.incoming is not None:
        cmd.option("-incoming", cmd.resources.incoming)


def passthrough(cmd: Command) -> None:
    """Append what the document gives word by word."""
    own: CommandLine | None = CommandLine.of(cmd.domain)
    if own is None:
        return
    for argument in own.args:
        cmd.option(argument.value)
    for variable in own.env:
        cmd.env(variable.name, variable.value or "")


def features(cmd: Command) -> None:
    """Append what plugins added to the domain or to its list of devices."""
    cmd.features(cmd.domain)
    cmd.features(cmd.domain.devices)


def sandbox(cmd: Command) -> None:
    """Forbid system calls that a guest never needs."""
    if "seccomp-sandbox" in cmd.caps:
        cmd.option("-sandbox", _SANDBOX if cmd.config.seccomp_sandbox else "off")


def messages(cmd: Command) -> None:
    """Put the time before each line of the log."""
    if cmd.config.log_timestamp:
        cmd.option("-msg", "timestamp=on")
