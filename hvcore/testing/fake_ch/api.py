"""The endpoints: what each takes, answers and calls its failures; the description of them.

`document()` says in OpenAPI what Cloud Hypervisor's own description says of its API, made from
the tables of this package. `validate_request` checks a request against it, more strictly than the
program does: the program ignores a name that it does not know.
"""

from __future__ import annotations

from typing import Any
from typing import Final
from typing import NamedTuple

from hvcore.testing.fake_ch.schemas import ENUMS
from hvcore.testing.fake_ch.schemas import STRUCTS
from hvcore.testing.fake_ch.wire import PYTHON_TYPES
from hvcore.testing.fake_ch.wire import Field
from hvcore.testing.fake_ch.wire import Integer
from hvcore.testing.fake_ch.wire import Kind
from hvcore.testing.fake_ch.wire import ListOf
from hvcore.testing.fake_ch.wire import MapOf
from hvcore.testing.fake_ch.wire import Named
from hvcore.testing.fake_ch.wire import Names
from hvcore.testing.fake_ch.wire import Word

ROOT: Final = "/api/v1"


class Endpoint(NamedTuple):
    """One path: its method, its body, what it answers, and the words of its failure.

    `answers` are the codes of the description; the program answers others too, see `UNDESCRIBED`.
    """

    method: str
    failure: str
    body: str | None = None
    answers: tuple[int, ...] = (204,)
    answer: str | None = None
    feature: str | None = None


_ADDED: Final = (200, 204, 500)

ENDPOINTS: Final = {
    "vmm.ping": Endpoint("GET", "", answers=(200,), answer="VmmPingResponse"),
    "vmm.shutdown": Endpoint("PUT", "The VMM could not shutdown"),
    "vm.info": Endpoint("GET", "The VM info is not available", answers=(200,), answer="VmInfo"),
    "vm.counters": Endpoint(
        "GET", "The VM info is not available", answers=(200,), answer="VmCounters"
    ),
    "vm.create": Endpoint("PUT", "The VM could not be created", "VmConfig"),
    "vm.delete": Endpoint("PUT", "The VM could not be deleted"),
    "vm.boot": Endpoint("PUT", "The VM could not boot", answers=(204, 404)),
    "vm.pause": Endpoint("PUT", "The VM could not be paused", answers=(204, 404, 405)),
    "vm.resume": Endpoint("PUT", "The VM could not resume", answers=(204, 404, 405)),
    "vm.shutdown": Endpoint("PUT", "The VM could not shutdown", answers=(204, 404, 405)),
    "vm.reboot": Endpoint("PUT", "The VM could not reboot", answers=(204, 404, 405)),
    "vm.power-button": Endpoint("PUT", "Error triggering power button", answers=(204, 404, 405)),
    "vm.resize": Endpoint(
        "PUT", "The VM could not be resized", "VmResize", answers=(204, 404, 429)
    ),
    "vm.resize-disk": Endpoint(
        "PUT", "The disk could not be resized", "VmResizeDisk", answers=(204, 500)
    ),
    "vm.resize-zone": Endpoint(
        "PUT", "The memory zone could not be resized", "VmResizeZone", answers=(204, 500)
    ),
    "vm.add-device": Endpoint(
        "PUT",
        "The device could not be added to the VM",
        "DeviceConfig",
        answers=(200, 204, 404),
        answer="PciDeviceInfo",
    ),
    "vm.remove-device": Endpoint(
        "PUT", "The device could not be removed from the VM", "VmRemoveDevice", answers=(204, 404)
    ),
    "vm.add-disk": Endpoint(
        "PUT",
        "The disk could not be added to the VM",
        "DiskConfig",
        answers=_ADDED,
        answer="PciDeviceInfo",
    ),
    "vm.add-fs": Endpoint(
        "PUT",
        "The fs could not be added to the VM",
        "FsConfig",
        answers=_ADDED,
        answer="PciDeviceInfo",
    ),
    "vm.add-generic-vhost-user": Endpoint(
        "PUT",
        "The generic vhost-user device could not be added to the VM",
        "GenericVhostUserConfig",
        answers=_ADDED,
        answer="PciDeviceInfo",
    ),
    "vm.add-pmem": Endpoint(
        "PUT",
        "The pmem device could not be added to the VM",
        "PmemConfig",
        answers=_ADDED,
        answer="PciDeviceInfo",
    ),
    "vm.add-net": Endpoint(
        "PUT",
        "The network device could not be added to the VM",
        "NetConfig",
        answers=_ADDED,
        answer="PciDeviceInfo",
    ),
    "vm.add-vsock": Endpoint(
        "PUT",
        "The vsock device could not be added to the VM",
        "VsockConfig",
        answers=_ADDED,
        answer="PciDeviceInfo",
    ),
    "vm.add-vdpa": Endpoint(
        "PUT",
        "The vDPA device could not be added to the VM",
        "VdpaConfig",
        answers=_ADDED,
        answer="PciDeviceInfo",
    ),
    "vm.add-user-device": Endpoint(
        "PUT",
        "The user device could not be added to the VM",
        "VmAddUserDevice",
        answers=(200, 204, 404),
        answer="PciDeviceInfo",
    ),
    "vm.snapshot": Endpoint(
        "PUT", "The VM could not be snapshotted", "VmSnapshotConfig", answers=(204, 404, 405)
    ),
    "vm.coredump": Endpoint(
        "PUT",
        "The VM could not be coredumped",
        "VmCoredumpData",
        answers=(204, 404, 405),
        feature="guest_debug",
    ),
    "vm.nmi": Endpoint("PUT", "Error triggering NMI"),
    "vm.restore": Endpoint(
        "PUT", "The VM could not be restored", "RestoreConfig", answers=(204, 404)
    ),
    "vm.receive-migration": Endpoint(
        "PUT", "Error receiving migration", "ReceiveMigrationData", answers=(204, 500)
    ),
    "vm.send-migration": Endpoint(
        "PUT",
        "Error dispatching the migration worker",
        "SendMigrationData",
        answers=(204, 500),
    ),
}

#: What the program answers though its description does not say so: 400 for a body that cannot be
#: read, 404 without a VM, 500 for everything else that fails (never 405), and 200 for vmm.shutdown.
UNDESCRIBED: Final = frozenset({400, 404, 500})
SHUTDOWN_ANSWER: Final = 200


class InvalidRequest(ValueError):
    """A request is not one of the description; `problems` says why, with the JSON path."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


# The description ----------------------------------------------------------------------------


def _described_fields(name: str) -> list[tuple[str, Field]]:
    out = []
    for field in STRUCTS[name].fields:
        if field.described:
            out.append((field.described_name or field.name, field))
            out += [(alias, field) for alias in field.aliases]
    return out


def schema_of(kind: Kind) -> dict[str, Any]:
    """Return the JSON schema of a kind."""
    if isinstance(kind, Named):
        return {"$ref": f"#/components/schemas/{kind.name}"}
    if isinstance(kind, ListOf):
        return {"type": "array", "items": schema_of(kind.item)}
    if isinstance(kind, MapOf):
        return {"type": "object", "additionalProperties": schema_of(kind.item)}
    if isinstance(kind, Names):
        if kind.described:
            return {"$ref": f"#/components/schemas/{kind.name}"}
        return {"type": "string"}
    if isinstance(kind, Word):
        return {"type": kind.json}
    assert isinstance(kind, Integer)
    out: dict[str, Any] = {"type": "integer"}
    if kind.minimum is not None:
        out["minimum"] = kind.minimum
    if kind.maximum is not None:
        out["maximum"] = kind.maximum
    return out


def _schema(name: str) -> dict[str, Any]:
    fields = _described_fields(name)
    out: dict[str, Any] = {
        "type": "object",
        "properties": {shown: schema_of(field.kind) for shown, field in fields},
    }
    required = [
        shown
        for shown, field in fields
        if (field.need if field.described_need is None else field.described_need)
        and shown not in field.aliases
    ]
    if required:
        out["required"] = required
    return out


def schemas() -> dict[str, Any]:
    """Return the description's schemas by name."""
    out = {name: _schema(name) for name, struct in STRUCTS.items() if struct.described}
    for names in ENUMS:
        out[names.name] = {"type": "string", "enum": list(names.values)}
    numbers = {"type": "object", "additionalProperties": {"type": "integer"}}
    out["VmCounters"] = {"type": "object", "additionalProperties": numbers}
    return out


def document() -> dict[str, Any]:
    """Return the description of the API as an OpenAPI document."""
    paths = {}
    for name, endpoint in ENDPOINTS.items():
        operation: dict[str, Any] = {
            "operationId": name,
            "responses": {str(code): {"description": ""} for code in endpoint.answers},
        }
        if endpoint.answer is not None:
            operation["responses"]["200"]["content"] = _content(endpoint.answer)
        if endpoint.body is not None:
            operation["requestBody"] = {"required": True, "content": _content(endpoint.body)}
        paths[f"/{name}"] = {endpoint.method.lower(): operation}
    return {
        "openapi": "3.0.1",
        "info": {"title": "Cloud Hypervisor API", "version": "0.3.0"},
        "servers": [{"url": f"http://localhost{ROOT}"}],
        "paths": paths,
        "components": {"schemas": schemas()},
    }


def _content(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


# Checking -----------------------------------------------------------------------------------


def validate_request(method: str, path: str, body: Any = None) -> None:
    """Check a request as a caller means it: `path` with or without the root, `body` as JSON.

    Besides the description the names that only the program has are allowed, and names that it
    does not have are refused.

    :raises InvalidRequest: with every problem
    """
    name = path.removeprefix(ROOT).strip("/")
    endpoint = ENDPOINTS.get(name)
    if endpoint is None:
        raise InvalidRequest([f"there is no {name}"])
    problems: list[str] = []
    if method != endpoint.method:
        problems.append(f"{name} is asked by {endpoint.method}, not by {method}")
    if endpoint.body is None:
        if body is not None:
            problems.append(f"{name} takes no body")
    elif body is None:
        problems.append(f"{name} needs a body")
    else:
        _check(Named(endpoint.body), body, endpoint.body, problems)
    if problems:
        raise InvalidRequest(problems)


def _check(kind: Kind, value: Any, where: str, problems: list[str]) -> None:
    if isinstance(kind, Named):
        _check_struct(kind.name, value, where, problems)
    elif isinstance(kind, ListOf):
        if not isinstance(value, list):
            problems.append(f"{where}: not an array")
            return
        for index, item in enumerate(value):
            _check(kind.item, item, f"{where}[{index}]", problems)
    elif isinstance(kind, Names):
        if value not in kind.values:
            problems.append(f"{where}: {value!r} is none of {', '.join(kind.values)}")
    elif isinstance(kind, Integer):
        low = kind.low if kind.minimum is None else max(kind.low, kind.minimum)
        high = kind.high if kind.maximum is None else kind.maximum
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            problems.append(f"{where}: {value!r} is no integer from {low} to {high}")
    elif isinstance(kind, Word) and not isinstance(value, PYTHON_TYPES[kind.json]):
        problems.append(f"{where}: {value!r} is no {kind.json}")


def _check_struct(name: str, value: Any, where: str, problems: list[str]) -> None:
    if not isinstance(value, dict):
        problems.append(f"{where}: not an object")
        return
    known = {}
    for field in STRUCTS[name].fields:
        # The description's name is not taken where the program has another: it would be ignored.
        for each in (field.name, *field.aliases):
            known[each] = field
        need = field.need or field.described_need
        if need and not any(each in value for each in (field.name, *field.aliases)):
            problems.append(f"{where}: {field.name} is missing")
    for key, member in value.items():
        if key not in known:
            problems.append(f"{where}: there is no {key}")
        else:
            _check(known[key].kind, member, f"{where}.{key}", problems)
