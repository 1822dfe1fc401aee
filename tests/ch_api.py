"""Holds every conversation with cloud-hypervisor against the description of its API.

Requests must be those of the description, and so must replies be, the fake's as well as the real
program's; only what a test has injected is let through.
"""

from __future__ import annotations

import contextvars
import functools
from typing import Any

import jsonschema

from hvcore.testing import fake_ch
from hvcore.testing.fake_ch import api
from hvcore_ch import http
from hvcore_ch import monitor

ASKED: contextvars.ContextVar[str] = contextvars.ContextVar("endpoint")
_request = http.request


def checked_request(endpoint, body=None):
    """Make a request, after holding it against the description."""
    fake_ch.validate_request("GET" if endpoint in http.READS else "PUT", endpoint, body)
    ASKED.set(endpoint)
    return _request(endpoint, body)


class CheckedReader(http.Reader):
    """Holds replies against the description."""

    def feed(self, data):
        reply = super().feed(data)
        if reply is not None and b"\r\nServer: Injected\r\n" not in self._data:
            check_reply(ASKED.get(), reply.status, reply.body)
        return reply


def check_reply(endpoint: str, status: int, body: Any) -> None:
    """Hold a reply against the description.

    :raises AssertionError: it is no reply to this request.
    """
    described = api.ENDPOINTS[endpoint]
    # Neither a failure without a description nor that of an optional endpoint is the reply's fault.
    assert status in {*described.answers, *api.UNDESCRIBED, api.SHUTDOWN_ANSWER}, (endpoint, status)
    if status >= 300:
        assert body is None or isinstance(body, str) or all(isinstance(each, str) for each in body)
    elif status == 200 and described.answer is not None:
        validator(described.answer).validate(without_nulls(body))
    else:
        assert body is None, (endpoint, body)


@functools.cache
def validator(name: str) -> jsonschema.protocols.Validator:
    """Return what holds a value against a schema of the description."""
    document = fake_ch.document()
    return jsonschema.Draft7Validator({"$ref": f"#/components/schemas/{name}", **document})


def without_nulls(value: Any) -> Any:
    """Return a reply without the members that say that they are not there."""
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [without_nulls(each) for each in value]
    return value


def hold(monkeypatch) -> None:
    """Check everything that is asked and answered from now on."""
    monkeypatch.setattr(monitor, "request", checked_request)
    monkeypatch.setattr(monitor, "Reader", CheckedReader)
