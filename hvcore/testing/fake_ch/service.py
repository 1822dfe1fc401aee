"""From a request to the VMM and back: routing, reading the body, and the answer's code."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from typing import Final

from hvcore.testing.fake_ch import machine
from hvcore.testing.fake_ch.api import ENDPOINTS
from hvcore.testing.fake_ch.api import ROOT
from hvcore.testing.fake_ch.api import SHUTDOWN_ANSWER
from hvcore.testing.fake_ch.faults import Faults
from hvcore.testing.fake_ch.http import Answer
from hvcore.testing.fake_ch.http import Request
from hvcore.testing.fake_ch.http import errors
from hvcore.testing.fake_ch.http import read_json
from hvcore.testing.fake_ch.machine import ADDS
from hvcore.testing.fake_ch.machine import Vmm
from hvcore.testing.fake_ch.vm import Failure
from hvcore.testing.fake_ch.vm import close_all
from hvcore.testing.fake_ch.wire import Codec
from hvcore.testing.fake_ch.wire import DecodeError
from hvcore.testing.fake_ch.wire import Named

#: The failures that are answered by 404; all others are a 500.
_NOT_FOUND: Final = frozenset({machine.NOT_CREATED, "VM config is missing"})
#: vm.add-user-device reads what the program calls a UserDeviceConfig.
_READS: Final = {"VmAddUserDevice": "UserDeviceConfig"}


class Service:
    """The routes of one VMM."""

    def __init__(self, vmm: Vmm, faults: Faults, codec: Codec, send: Callable[..., None]) -> None:
        self._vmm = vmm
        self._faults = faults
        self._codec = codec
        self._send = send

    def handle(self, request: Request) -> Answer:
        """Answer a request, as the real program would."""
        name = request.path.removeprefix(f"{ROOT}/")
        endpoint = ENDPOINTS.get(name)
        features = self._faults["features"]
        if (
            endpoint is None
            or not request.path.startswith(f"{ROOT}/")
            or (endpoint.feature is not None and endpoint.feature not in features)
        ):
            close_all(request.fds)
            return errors(404, "Not Found")
        if request.method == "PATCH":
            return Answer(400, "")
        if request.method != endpoint.method:
            return errors(400, "Bad Request")
        return self._call(name, request)

    def _call(self, name: str, request: Request) -> Answer:
        endpoint = ENDPOINTS[name]
        body: Any = None
        if endpoint.body is None:
            # These three never look at a body; the others refuse one.
            reads_none = name in {"vmm.ping", "vm.info", "vm.counters", "vmm.shutdown"}
            if request.body is not None and not reads_none:
                return errors(400, "Bad Request")
        elif request.body is None:
            return Answer(400, "") if name == "vm.create" else errors(400, "Bad Request")
        else:
            struct = _READS.get(endpoint.body, endpoint.body)
            try:
                body = self._codec.decode(Named(struct), read_json(request.body))
            except DecodeError as error:
                where = f"at line 1 column {len(request.body)}"
                return errors(400, "Failed to deserialize JSON", f"{error} {where}")
            except ValueError as error:
                return errors(400, "Failed to deserialize JSON", str(error))
        if not _fds_fit(name, body, request.fds):
            close_all(request.fds)
            return errors(400, "Bad Request")
        try:
            result = self._run(name, body, request.fds)
        except Failure as error:
            if name == "vm.resize" and error.args[-1] == "Still pending removed vCPU":
                return errors(429, "Too Many Requests")
            status = 404 if error.args[0] in _NOT_FOUND else 500
            return errors(status, "Error from API", endpoint.failure, *error.args)
        if name == "vmm.shutdown":
            return Answer(SHUTDOWN_ANSWER, "")
        if result is None:
            return Answer(204)
        return Answer(200, json.dumps(result, separators=(",", ":"), ensure_ascii=False))

    def _run(self, name: str, body: Any, fds: list[int]) -> Any:
        vmm = self._vmm
        if name in ADDS:
            return self._add(name, body, fds)
        if name == "vm.restore":
            return vmm.restore(body, fds)
        close_all(fds)
        if name == "vm.send-migration":
            return vmm.send_migration(body, self._send)
        plain: dict[str, Callable[[], Any]] = {
            "vmm.ping": vmm.ping,
            "vmm.shutdown": vmm.vmm_shutdown,
            "vm.info": vmm.info,
            "vm.counters": vmm.counters,
            "vm.delete": vmm.delete,
            "vm.boot": vmm.boot,
            "vm.pause": vmm.pause,
            "vm.resume": vmm.resume,
            "vm.shutdown": vmm.shutdown,
            "vm.reboot": vmm.reboot,
            "vm.power-button": vmm.power_button,
            "vm.nmi": vmm.nmi,
        }
        if name in plain:
            return plain[name]()
        reading: dict[str, Callable[[Any], Any]] = {
            "vm.create": vmm.create,
            "vm.resize": vmm.resize,
            "vm.resize-disk": vmm.resize_disk,
            "vm.resize-zone": vmm.resize_zone,
            "vm.remove-device": vmm.remove_device,
            "vm.snapshot": vmm.snapshot,
            "vm.coredump": vmm.coredump,
            "vm.receive-migration": vmm.receive_migration,
        }
        return reading[name](body)

    def _add(self, name: str, body: Any, fds: list[int]) -> Any:
        if name == "vm.add-net":
            body["fds"] = fds or None
        elif name == "vm.add-device":
            body["fd"] = fds[0] if fds else None
        else:
            close_all(fds)
        try:
            return self._vmm.add(ADDS[name], body)
        except Failure:
            if name in {"vm.add-net", "vm.add-device"}:
                close_all(fds)
            raise


def _fds_fit(name: str, body: Any, fds: list[int]) -> bool:
    """Say whether as many descriptors came as the request is about."""
    if name == "vm.add-device":
        return len(fds) <= 1
    if name == "vm.restore" and body["net_fds"] is not None:
        expected: int = sum(net["num_fds"] for net in body["net_fds"])
        return len(fds) == expected
    return True
