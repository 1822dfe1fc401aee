"""Every error hvcore raises, as one tree.

::

    HvError
    +-- ConfigError          the document is wrong
    |   +-- XmlSyntaxError   not well-formed, or refused before parsing
    |   +-- ValidationFailed one or more issues, all of them at once
    |       +-- AbiChanged   a guest would not find the hardware that it left
    +-- Unsupported
    |   +-- UnsupportedFeature    reason: NO_IMPL, NO_CAP or COLD_ONLY
    |   +-- UnsupportedOperation  the driver has no such verb
    |   +-- UnknownUri            no driver serves this connection URI
    +-- StateError
    |   +-- NoSuchDomain, DomainExists, InvalidState, DomainGone
    |   +-- JobTimeout       another job holds the domain
    |   +-- AccessDenied     refused by an authorisation plugin or a read-only view
    |   +-- StateLocked      another process owns the state root
    +-- DriverError
    |   +-- ProbeError       the hypervisor binary could not be asked
    |   +-- LaunchError      the hypervisor did not come up; carries argv and the log's tail
    |   +-- MonitorError     a command was refused; carries what was sent and received
    |   +-- MonitorLost      the connection ended
    |   +-- AgentRefused     the agent in the guest refused a command
    +-- PluginError
    |   +-- PluginConflict, PluginLoadError
    +-- InvalidFlags         what is asked for makes no sense together

Each class knows the libvirt error number that a client of libvirt would have seen, and
``str(error)`` begins with libvirt's own words. Errors carry data and survive pickling.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING
from typing import Any
from typing import ClassVar
from typing import Final
from typing import Literal

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence


class ErrorClass(enum.Enum):
    """libvirt's error classes: the number of ``virErrorNumber`` and the printed prefix."""

    INTERNAL = (1, "internal error: ")
    NO_MEMORY = (2, "out of memory: ")
    NO_CONNECT = (5, "")
    NO_SUPPORT = (3, "this function is not supported by the connection driver: ")
    INVALID_ARG = (8, "invalid argument: ")
    OPERATION_FAILED = (9, "operation failed: ")
    NO_SOURCE = (19, "")
    NO_TARGET = (20, "")
    NO_NAME = (21, "")
    XML = (27, "XML error: ")
    DOM_EXIST = (28, "domain exists already: ")
    OPERATION_DENIED = (29, "operation forbidden: ")
    CONF_SYNTAX = (33, "configuration file syntax error: ")
    XML_DETAIL = (35, "")
    SYSTEM = (38, "")
    NO_DOMAIN = (42, "Domain not found: ")
    NO_NETWORK = (43, "Network not found: ")
    NO_STORAGE_POOL = (49, "Storage pool not found: ")
    NO_STORAGE_VOL = (50, "Storage volume not found: ")
    OVERFLOW = (82, "numerical overflow: ")
    OPERATION_INVALID = (55, "Requested operation is not valid: ")
    NO_SECRET = (66, "Secret not found: ")
    CONFIG_UNSUPPORTED = (67, "unsupported configuration: ")
    OPERATION_TIMEOUT = (68, "Timed out during operation: ")
    HOOK_SCRIPT_FAILED = (70, "Hook script execution failed: ")
    ARGUMENT_UNSUPPORTED = (74, "argument unsupported: ")
    NO_DOMAIN_SNAPSHOT = (72, "Domain snapshot not found: ")
    SNAPSHOT_REVERT_RISKY = (77, "revert requires force: ")
    AGENT_UNRESPONSIVE = (86, "Guest agent is not responding: ")
    OPERATION_ABORTED = (78, "operation aborted: ")
    OPERATION_UNSUPPORTED = (84, "Operation not supported: ")
    BLOCK_COPY_ACTIVE = (83, "block copy still active: ")
    ACCESS_DENIED = (88, "access denied: ")
    AGENT_COMMAND_TIMEOUT = (112, "guest agent command timed out: ")
    AGENT_COMMAND_FAILED = (113, "guest agent command failed: ")
    CPU_INCOMPATIBLE = (91, "")
    DEVICE_MISSING = (99, "device not found: ")
    XML_INVALID_SCHEMA = (92, "XML document failed to validate against schema: ")

    def __init__(self, number: int, prefix: str) -> None:
        self.number: Final = number
        self.prefix: Final = prefix


@attrs.frozen
class Issue:
    """One thing wrong with a document: what, where, and how libvirt would have said it.

    :param message: libvirt's text without the class prefix.
    :param kind: libvirt's error class; decides the prefix and the number.
    :param path: where, as ``/domain/devices/disk[2]/driver/@name``; relative paths are
        completed by the pipeline.
    :param line: line of the source document, 1-based, where known.
    :param hint: what the author could do about it.
    :param severity: ``warning`` issues never make a document fail.
    """

    message: str
    kind: ErrorClass = ErrorClass.CONFIG_UNSUPPORTED
    path: str | None = None
    line: int | None = None
    hint: str | None = None
    severity: Literal["error", "warning"] = "error"

    @classmethod
    def xml(cls, message: str, **where: Any) -> Issue:
        """Return an issue of class XML_ERROR (``XML error: ...``)."""
        return cls(message, ErrorClass.XML, **where)

    @classmethod
    def unsupported(cls, message: str, **where: Any) -> Issue:
        """Return an issue of class CONFIG_UNSUPPORTED (``unsupported configuration: ...``)."""
        return cls(message, ErrorClass.CONFIG_UNSUPPORTED, **where)

    @classmethod
    def internal(cls, message: str, **where: Any) -> Issue:
        """Return an issue that libvirt reports as ``internal error: ...``."""
        return cls(message, ErrorClass.INTERNAL, **where)

    @classmethod
    def invalid_arg(cls, message: str, **where: Any) -> Issue:
        """Return an issue of class INVALID_ARG (``invalid argument: ...``)."""
        return cls(message, ErrorClass.INVALID_ARG, **where)

    def __str__(self) -> str:
        return self.kind.prefix + self.message


class Reason(enum.Enum):
    """Why a feature is not available."""

    NO_IMPL = "the driver does not implement it"
    NO_CAP = "this hypervisor binary does not have it"
    COLD_ONLY = "it can only be set while the domain is not running"


class HvError(Exception):
    """Base of all errors raised by hvcore.

    :param message: libvirt's text without the class prefix.
    """

    code: ClassVar[str] = "HV000"
    kind: ErrorClass = ErrorClass.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        kind: ErrorClass | None = None,
        domain: str | None = None,
        driver: str | None = None,
        path: str | None = None,
        line: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if kind is not None:
            self.kind = kind
        self.domain = domain
        self.driver = driver
        self.path = path
        self.line = line
        self.hint = hint

    def __str__(self) -> str:
        return self.kind.prefix + self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions pickle by args; ours carry keyword data, so state is restored separately.
        return (_rebuild, (type(self), self.args, self.__dict__.copy()))

    @property
    def number(self) -> int:
        """libvirt's ``virErrorNumber`` for this error."""
        return self.kind.number


def _rebuild(cls: type[HvError], args: tuple[Any, ...], state: dict[str, Any]) -> HvError:
    error = cls.__new__(cls)
    Exception.__init__(error, *args)
    error.__dict__.update(state)
    return error


class ConfigError(HvError):
    """The document cannot be accepted."""

    code = "HV100"
    kind = ErrorClass.XML


class XmlSyntaxError(ConfigError):
    """The text is not well-formed XML, or was refused before parsing (size, depth, DOCTYPE)."""

    code = "HV101"
    kind = ErrorClass.XML_DETAIL


class ValidationFailed(ConfigError):
    """The document has one or more issues; ``str()`` is the one libvirt would have reported.

    :param issues: all of them, in libvirt's order.
    """

    code = "HV102"

    def __init__(self, issues: Sequence[Issue], **where: Any) -> None:
        first = issues[0]
        where.setdefault("path", first.path)
        where.setdefault("line", first.line)
        where.setdefault("hint", first.hint)
        super().__init__(first.message, kind=first.kind, **where)
        self.issues = tuple(issues)


class AbiChanged(ValidationFailed):
    """A definition differs from that of a guest in what the guest sees.

    :param issues: every difference, in libvirt's order.
    """

    code = "HV103"


class Unsupported(HvError):
    """Something valid that cannot be had here."""

    code = "HV200"
    kind = ErrorClass.CONFIG_UNSUPPORTED


class UnsupportedFeature(Unsupported):
    """A feature of the document has no lowering in this driver, or no capability for it."""

    code = "HV201"

    def __init__(self, message: str, *, feature: str, reason: Reason, **where: Any) -> None:
        super().__init__(message, **where)
        self.feature = feature
        self.reason = reason


class UnsupportedOperation(Unsupported):
    """The driver does not have this verb."""

    code = "HV202"
    kind = ErrorClass.NO_SUPPORT

    def __init__(self, operation: str, **where: Any) -> None:
        super().__init__(operation, **where)
        self.operation = operation


class UnknownUri(Unsupported):
    """No driver serves this connection URI."""

    code = "HV203"
    kind = ErrorClass.NO_CONNECT


class StateError(HvError):
    """The operation does not fit what the domain or the host is doing."""

    code = "HV300"
    kind = ErrorClass.OPERATION_INVALID


class NoSuchDomain(StateError):
    """No domain has this name, UUID or id."""

    code = "HV301"
    kind = ErrorClass.NO_DOMAIN


class DomainExists(StateError):
    """Another domain has this name or UUID."""

    code = "HV302"
    kind = ErrorClass.OPERATION_FAILED


class InvalidState(StateError):
    """The domain is not in a state that allows this."""

    code = "HV303"


class DomainGone(StateError):
    """The domain stopped, or was undefined, while the operation waited or ran."""

    code = "HV304"


class JobTimeout(StateError):
    """Another job kept the domain for too long.

    :param holder: the operation that holds it.
    """

    code = "HV305"
    kind = ErrorClass.OPERATION_TIMEOUT

    def __init__(self, message: str, *, holder: str, **where: Any) -> None:
        super().__init__(message, **where)
        self.holder = holder


class AccessDenied(StateError):
    """The operation is refused for this subject or on this view."""

    code = "HV306"
    kind = ErrorClass.OPERATION_DENIED


class StateLocked(StateError):
    """Another process owns the state root.

    :param pid: the owner's process id.
    :param program: the owner's program name.
    """

    code = "HV307"
    kind = ErrorClass.OPERATION_FAILED

    def __init__(self, message: str, *, pid: int | None, program: str | None, **where: Any) -> None:
        super().__init__(message, **where)
        self.pid = pid
        self.program = program


class DriverError(HvError):
    """The hypervisor, or the host under it, failed."""

    code = "HV400"
    kind = ErrorClass.OPERATION_FAILED


class ProbeError(DriverError):
    """The hypervisor binary could not be asked what it can do."""

    code = "HV401"
    kind = ErrorClass.INTERNAL


class LaunchError(DriverError):
    """The hypervisor process did not come up.

    :param argv: what was started.
    :param log_tail: the last lines it wrote.
    """

    code = "HV402"
    kind = ErrorClass.INTERNAL

    def __init__(
        self, message: str, *, argv: Sequence[str] = (), log_tail: str = "", **where: Any
    ) -> None:
        super().__init__(message, **where)
        self.argv = tuple(argv)
        self.log_tail = log_tail


class MonitorError(DriverError):
    """The monitor refused a command.

    :param sent: the command.
    :param received: the whole reply.
    :param error_class: QMP's error class, for instance ``DeviceNotFound``.
    """

    code = "HV403"
    kind = ErrorClass.INTERNAL

    def __init__(
        self,
        message: str,
        *,
        sent: Any = None,
        received: Any = None,
        error_class: str | None = None,
        **where: Any,
    ) -> None:
        super().__init__(message, **where)
        self.sent = sent
        self.received = received
        self.error_class = error_class


class MonitorLost(DriverError):
    """The connection to the hypervisor ended before an answer came."""

    code = "HV404"


class AgentRefused(DriverError):
    """The agent in a guest refused a command.

    :param unknown: it has no such command.
    """

    code = "HV405"
    kind = ErrorClass.AGENT_COMMAND_FAILED

    def __init__(self, message: str, *, unknown: bool = False, **where: Any) -> None:
        super().__init__(message, **where)
        self.unknown = unknown


class PluginError(HvError):
    """A plugin is at fault; the message names its distribution."""

    code = "HV500"


class PluginConflict(PluginError):
    """Two plugins claim the same name, element or URI scheme."""

    code = "HV501"


class PluginLoadError(PluginError):
    """A plugin could not be imported or registered."""

    code = "HV502"


class InvalidFlags(HvError):
    """What is asked for makes no sense together; libvirt says so without the name of a class."""

    code = "HV600"
    kind = ErrorClass.INVALID_ARG

    def __str__(self) -> str:
        return self.message

    @classmethod
    def exclusive(cls, one: str, other: str) -> InvalidFlags:
        """Return what libvirt says of two flags that exclude each other."""
        return cls(f"Flags '{one}' and '{other}' are mutually exclusive")

    @classmethod
    def required(cls, other: str, flag: str) -> InvalidFlags:
        """Return what libvirt says of a flag that makes no sense without another."""
        return cls(f"Flag '{other}' is required by flag '{flag}'")
