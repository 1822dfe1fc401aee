"""The fake cloud-hypervisor answers whatever is generated from the description as it says.

``tox run -e api`` installs what generates the requests.
"""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading

import pytest
from hypothesis import Phase
from hypothesis import settings

from hvcore.testing import fake_ch
from hvcore.testing.fake_ch.api import ROOT
from tests.ch_api import check_reply
from tests.unit.ch_process import Vmm

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
SERVER_ITSELF = "Firecracker API"
"""The program's HTTP server, where a request never came to the program."""

SCHEMA = schemathesis.openapi.from_dict(fake_ch.document())


class Fake:
    """A program that is started for each request, reached by TCP."""

    def __init__(self, folder):
        self.folder = folder
        self.binary = fake_ch.install(folder)
        self.vmm = None
        lab = self

        class Forward(socketserver.BaseRequestHandler):
            def handle(self):
                self.request.settimeout(5)
                with lab.vmm.connect(seconds=5) as peer, contextlib.suppress(OSError):
                    back = threading.Thread(target=copy, args=(peer, self.request))
                    back.start()
                    copy(self.request, peer)
                    back.join()

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Forward)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}{ROOT}"

    def start(self):
        if self.vmm is not None:
            self.vmm.close()
        (self.folder / "kernel").write_bytes(bytes(4096))
        fake_ch.set_faults(self.folder, {"files": "assume", "vhost_user_timeout": 0.0})
        self.vmm = Vmm(self.binary, self.folder / "vmm")

    def close(self):
        self.vmm.close()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def copy(source, sink):
    """Hand on what one side says until it says no more."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    fake = Fake(tmp_path_factory.mktemp("fake"))
    yield fake
    fake.close()


@pytest.mark.parametrize("booted", [False, True])
@SCHEMA.parametrize()
@settings(max_examples=20, deadline=None, phases=[Phase.generate])
def test_an_answer_is_one_that_is_described(case, fake, booted):
    fake.start()
    if booted:
        fake.vmm.ok("vm.create", {"payload": {"kernel": "/k"}, "console": {"mode": "Off"}})
        fake.vmm.ok("vm.boot")
    response = case.call(base_url=fake.url, headers={"Connection": "close"}, timeout=5)
    if SERVER_ITSELF in response.headers["server"]:
        assert response.status_code == 400
        return
    case.validate_response(response, checks=[schemathesis.checks.response_schema_conformance])
    body = json.loads(response.content) if response.content else None
    check_reply(case.path.strip("/"), response.status_code, body)
    assert fake.vmm.process.poll() is None or case.path == "/vmm.shutdown"
