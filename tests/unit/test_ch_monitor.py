"""Requests and replies as bytes, events from a file, and descriptors on their way."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvcore_ch.http import NotHttp
from hvcore_ch.http import Reader
from hvcore_ch.http import Reply
from hvcore_ch.http import request
from hvcore_ch.monitor import Decoder
from hvcore_ch.monitor import Events
from hvcore_ch.monitor import Monitor
from hvcore_ch.monitor import Notifier


def test_what_is_read_is_asked_and_what_changes_is_told():
    assert request("vm.info").startswith(b"GET /api/v1/vm.info HTTP/1.1\r\n")
    assert request("vm.boot").startswith(b"PUT /api/v1/vm.boot HTTP/1.1\r\n")
    head, _, body = request("vm.resize", {"desired_vcpus": 2}).partition(b"\r\n\r\n")
    assert json.loads(body) == {"desired_vcpus": 2}
    assert f"Content-Length: {len(body)}".encode() in head


REPLY = b'HTTP/1.1 200 \r\nServer: x\r\ncontent-length: 8\r\n\r\n{"a": 1}'


@given(st.lists(st.integers(0, len(REPLY)), max_size=8))
def test_a_reply_may_arrive_in_any_parts(cuts):
    reader, replies = Reader(), []
    edges = [0, *sorted(cuts), len(REPLY)]
    for start, end in itertools.pairwise(edges):
        replies.append(reader.feed(REPLY[start:end]))
    assert [reply for reply in replies if reply][:1] == [Reply(200, {"a": 1})]


def test_a_reply_may_have_no_body_or_plain_text():
    assert Reader().feed(b"HTTP/1.1 204 \r\nServer: x\r\n\r\n") == Reply(204)
    plain = Reader().feed(b"HTTP/1.1 400 \r\nContent-Length: 3\r\n\r\nbad")
    assert plain == Reply(400, "bad")
    assert plain.messages == ["bad"]


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\xff no",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n",
        b"HTTP/1.1 200 " + b"x" * 20000,
    ],
)
def test_what_is_no_reply_is_refused(data):
    with pytest.raises(NotHttp):
        Reader().feed(data)


def test_events_may_arrive_in_parts_and_broken_ones_are_passed_over():
    decoder = Decoder()
    assert decoder.feed(b'{"event": "a"}\n\n{"ev') == [{"event": "a"}]
    assert decoder.feed(b'ent": "b"}\n\n{"half\n\n{"event": "c"}\n\n') == [
        {"event": "b"},
        {"event": "c"},
    ]


async def test_events_are_read_from_where_the_last_manager_stopped(tmp_path):
    path = tmp_path / "events"
    path.write_text('{"event": "a"}\n\n')
    first = Events(path)
    assert first.read() == [{"event": "a"}]
    woken = asyncio.Event()
    notifier = Notifier()
    watch = notifier.watch(path, woken.set)
    with path.open("a") as file:
        file.write('{"event": "b"}\n\n')
    await asyncio.wait_for(woken.wait(), 5)
    assert Events(path, first.offset).read() == [{"event": "b"}]
    notifier.forget(watch)
    notifier.forget(watch)
    notifier.close()
    assert Events(tmp_path / "none").read() == []


async def test_descriptors_arrive_with_the_request(tmp_path):
    path = tmp_path / "api.sock"
    received = []

    def serve(server):
        peer, _ = server.accept()
        with peer:
            data, fds, _, _ = socket.recv_fds(peer, 65536, 4)
            while b"\r\n\r\n{" not in data:
                data += peer.recv(65536)
            received.append((data, fds))
            peer.sendall(b"HTTP/1.1 204 \r\n\r\n")

    with socket.socket(socket.AF_UNIX) as server, (tmp_path / "file").open("w+b") as file:
        server.bind(str(path))
        server.listen()
        serving = asyncio.create_task(asyncio.to_thread(serve, server))
        answer = await Monitor("guest", path).call("vm.add-net", {"id": "n"}, fds=[file.fileno()])
        await serving
        assert answer is None
        data, fds = received[0]
        assert data.startswith(b"PUT /api/v1/vm.add-net ")
        assert os.fstat(fds[0]).st_ino == os.fstat(file.fileno()).st_ino
        os.close(fds[0])
