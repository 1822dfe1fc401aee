"""Files that plan faults, for whoever drives a test host from outside its process.

A file is YAML, which needs the extra ``hvcore[scenarios]``, or JSON, which needs nothing. It has
one list, ``faults``. What a fault is about is its first key:

``before: OPERATION`` or ``after: OPERATION``
    with ``fail: ERROR`` (a class of :mod:`hvcore.errors`) and perhaps ``message: TEXT``, or
    ``delay: SECONDS``, or ``do: crash``, ``do: hang`` or ``do: reboot-host``; ``before`` also with
    ``do: out-of-memory``
``event: CLASS``
    with ``do: lose``, ``do: duplicate`` or ``delay: SECONDS``
``unplug: refuse``, ``unplug: ignore`` or ``unplug: SECONDS``
    perhaps with ``device: ALIAS``
``at: SECONDS``
    from now, with ``do: crash`` or ``do: lose-monitor`` and ``domain: NAME``, with ``do: let-go``
    and ``device: ALIAS`` as well, or with ``do: reboot-host``

All but the last may have ``domain: NAME``, ``nth: NUMBER`` and ``times: NUMBER``; ``times: always``
is for all from then on.
"""

from __future__ import annotations

import functools
import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import Final

from hvcore import errors
from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.testing.injection import Crash
from hvcore.testing.injection import Delay
from hvcore.testing.injection import Hang
from hvcore.testing.injection import RebootHost

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping

    from hvcore.testing.faults import Faults
    from hvcore.testing.injection import Deed
    from hvcore.testing.injection import Injector

_COUNTED: Final = {"domain", "nth", "times"}
_KEYS: Final[Mapping[str, set[str]]] = {
    "before": {"fail", "message", "delay", "do", *_COUNTED},
    "after": {"fail", "message", "delay", "do", *_COUNTED},
    "event": {"delay", "do", *_COUNTED},
    "unplug": {"device", *_COUNTED},
    "at": {"do", "domain", "device"},
}
_DEEDS: Final[Mapping[str, Deed]] = {
    "crash": Crash(),
    "hang": Hang(),
    "reboot-host": RebootHost(),
}

_ERRORS: Final = {
    name: each
    for name, each in vars(errors).items()
    if isinstance(each, type) and issubclass(each, HvError)
}


def load(path: str, faults: Faults, injector: Injector) -> None:
    """Plan what a file says.

    :raises HvError: the file cannot be read or understood; nothing of it is planned then.
    """
    try:
        text = Path(path).read_text("utf-8")
    except OSError as error:
        raise HvError(f"cannot read '{path}': {error.strerror}", kind=ErrorClass.SYSTEM) from error
    document = _parsed(path, text)
    rows = document.get("faults") if isinstance(document, dict) else None
    if not isinstance(rows, list) or set(document) != {"faults"}:
        raise _wrong(path, "there must be one list, called 'faults'")
    planned = [_understood(path, number, row) for number, row in enumerate(rows, 1)]
    for number, plan in enumerate(planned, 1):
        try:
            plan(faults, injector)
        except (TypeError, ValueError) as error:
            faults.clear()
            raise _wrong(path, f"fault {number}: {error}") from error


def _wrong(path: str, message: str) -> HvError:
    return HvError(f"{path}: {message}", kind=ErrorClass.CONF_SYNTAX)


def _parsed(path: str, text: str) -> Any:
    if path.endswith(".json"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise _wrong(path, str(error)) from error
    try:
        yaml: Any = importlib.import_module("yaml")
    except ImportError as error:
        raise HvError(
            f"reading '{path}' needs PyYAML",
            kind=ErrorClass.OPERATION_UNSUPPORTED,
            hint="install hvcore[scenarios], or write the same as JSON in a file called *.json",
        ) from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _wrong(path, str(error)) from error


def _understood(path: str, number: int, row: Any) -> Callable[[Faults, Injector], None]:
    """Return what plans one fault."""
    if not isinstance(row, dict):
        raise _wrong(path, f"fault {number} must have keys and values")
    about = [name for name in _KEYS if name in row]
    if len(about) != 1:
        raise _wrong(path, f"fault {number} must have one of {', '.join(_KEYS)}")
    [kind] = about
    unknown = sorted(set(row) - _KEYS[kind] - {kind})
    if unknown:
        raise _wrong(path, f"fault {number}: '{kind}' knows no '{unknown[0]}'")
    plan = {"event": _event, "unplug": _unplug, "at": _at}.get(kind, _call)
    return functools.partial(plan, kind, row)


def _counted(row: Mapping[str, Any]) -> dict[str, Any]:
    times = row.get("times", 1)
    return {
        "domain": row.get("domain"),
        "nth": row.get("nth", 1),
        "times": None if times == "always" else times,
    }


def _call(kind: str, row: Mapping[str, Any], faults: Faults, injector: Injector) -> None:
    del injector
    if row.get("do") == "out-of-memory" and kind == "before":
        if set(row) - _COUNTED != {kind, "do"}:
            raise ValueError("nothing else can be done when memory is out")
        faults.out_of_memory(row[kind], **_counted(row))
        return
    what: list[Deed] = []
    if "delay" in row:
        what.append(Delay(float(row["delay"])))
    if "do" in row:
        what.append(_one_of(_DEEDS, row["do"]))
    if "fail" in row:
        what.append(_error(row["fail"], row.get("message")))
    plan = faults.before if kind == "before" else faults.after
    plan(row[kind], *what, **_counted(row))


def _error(name: str, message: str | None) -> Deed:
    found = _ERRORS.get(name)
    if found is None:
        raise ValueError(f"no error is called '{name}'")
    return found if message is None else found(message)


def _event(kind: str, row: Mapping[str, Any], faults: Faults, injector: Injector) -> None:
    del injector
    if ("do" in row) == ("delay" in row):
        raise ValueError("an event needs either 'do' or 'delay'")
    if "delay" in row:
        faults.delay_event(row[kind], float(row["delay"]), **_counted(row))
        return
    plans = {"lose": faults.lose_event, "duplicate": faults.duplicate_event}
    _one_of(plans, row["do"])(row[kind], **_counted(row))


def _unplug(kind: str, row: Mapping[str, Any], faults: Faults, injector: Injector) -> None:
    del injector
    faults.unplug(row[kind], device=row.get("device"), **_counted(row))


def _at(kind: str, row: Mapping[str, Any], faults: Faults, injector: Injector) -> None:
    domain, device = row.get("domain"), row.get("device")
    deeds: dict[str, Callable[[], None]] = {
        "crash": lambda: faults.crash(domain or ""),
        "lose-monitor": lambda: faults.lose_monitor(domain or ""),
        "let-go": lambda: faults.let_go(domain or "", device or ""),
        "reboot-host": faults.reboot_host,
    }
    deed = _one_of(deeds, row.get("do"))
    if row["do"] != "reboot-host" and domain is None:
        raise ValueError(f"'{row['do']}' needs a domain")

    def act() -> None:
        try:
            deed()
        except KeyError as error:
            injector.note(f"at {row[kind]}", None, f"nothing: {error.args[0]}")

    injector.clock.call_later(float(row[kind]), act)


def _one_of(table: Mapping[str, Any], name: Any) -> Any:
    if name not in table:
        raise ValueError(f"'{name}' is none of {', '.join(table)}")
    return table[name]
