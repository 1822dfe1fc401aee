"""The fake cloud-hypervisor has the real one's states, words and pitfalls.

What is asserted here was seen on v53.0 or read in its source; tests/integration holds the same
conversations against the real program where it is installed.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from hvcore.testing import fake_ch
from hvcore.testing.fake_ch import faults
from hvcore.testing.fake_ch.api import ENDPOINTS
from hvcore.testing.fake_ch.faults import DEFAULTS
from tests.unit.ch_process import Lost
from tests.unit.ch_process import Vmm


class Lab:
    """A folder with the program, a kernel and images; the programs started are ended."""

    def __init__(self, folder):
        self.folder = folder
        self.binary = fake_ch.install(folder)
        self.kernel = self._file("kernel")
        self.disk = self._file("disk.raw")
        self.other = self._file("other.raw")
        self.started = []

    def _file(self, name):
        path = self.folder / name
        path.write_bytes(bytes(4096))
        return str(path)

    def start(self, *more, name="vmm"):
        vmm = Vmm(self.binary, self.folder / name, *more)
        self.started.append(vmm)
        return vmm

    def faults(self, **settings):
        fake_ch.set_faults(self.folder, settings)

    def config(self, **more):
        return {"payload": {"kernel": self.kernel}, "console": {"mode": "Off"}, **more}

    def running(self, **more):
        vmm = self.start()
        vmm.ok("vm.create", self.config(**more))
        vmm.ok("vm.boot")
        return vmm


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    yield lab
    for vmm in lab.started:
        vmm.close()


def chain(reply):
    """Return the messages below the API's own, of a failed request."""
    assert reply.status in {404, 500}, reply
    assert reply.body[0] == "Error from API"
    return reply.body[2:]


# The program ---------------------------------------------------------------------------------


def test_the_program_is_private_and_says_its_version(lab):
    assert lab.binary.stat().st_mode & 0o777 == 0o700
    vmm = lab.start()
    ping = vmm.ok("vmm.ping")
    assert ping["version"] == "53.0.0"
    assert ping["build_version"] == "v53.0"
    assert ping["pid"] == vmm.process.pid
    assert ping["features"] == ["io_uring", "kvm"]


def test_an_answer_looks_like_the_real_programs(lab):
    vmm = lab.start()
    reply = vmm.call("vmm.ping")
    assert reply.headers == {
        "Server": "Cloud Hypervisor API",
        "Connection": "keep-alive",
        "Content-Type": "application/json",
        "Content-Length": str(len(reply.raw)),
    }
    reply = vmm.call("vm.delete")
    assert (reply.status, reply.headers) == (
        204,
        {"Server": "Cloud Hypervisor API", "Connection": "keep-alive"},
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_program_in_order(lab, number):
    vmm = lab.running()
    vmm.signal(number)
    assert vmm.end() == 0
    assert vmm.names()[-3:] == ["vm shutdown", "vm deleted", "vmm shutdown"]
    assert not vmm.socket.exists()
    assert vmm.socket.with_name("api.sock.lock").exists()


def test_vmm_shutdown_answers_before_the_end(lab):
    vmm = lab.running()
    assert vmm.call("vmm.shutdown").status == 200
    assert vmm.end() == 0
    assert vmm.names()[-1] == "vmm shutdown"


def test_a_second_program_does_not_take_the_socket(lab):
    first = lab.start()
    second = lab.start()
    _, errors = second.process.communicate(timeout=10)
    assert second.process.returncode == 1
    assert b"is already in use by another running instance" in errors
    assert first.call("vmm.ping").status == 200


def test_a_stale_socket_is_replaced(lab):
    first = lab.start()
    first.signal(signal.SIGKILL)
    first.end()
    assert first.socket.exists()
    second = lab.start()
    assert second.call("vmm.ping").status == 200


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--bogus"], 2, "unexpected argument '--bogus'"),
        (["--seccomp", "maybe"], 2, "invalid value 'maybe' for '--seccomp <seccomp>'"),
        (["--event-monitor", "x"], 1, "unknown option: x"),
        (["--api-socket", "path=/nowhere/x"], 1, "No such file or directory (os error 2)"),
        ([], 2, "Usage"),
    ],
)
def test_a_bad_command_line_is_refused(lab, arguments, code, words):
    done = subprocess.run(
        [lab.binary, *arguments], capture_output=True, text=True, timeout=10, check=False
    )
    assert done.returncode == code
    assert words in done.stderr


def test_the_real_programs_other_options_are_taken(lab):
    log = lab.folder / "log"
    vmm = lab.start("--log-file", str(log), "-vv", "--seccomp=log", "--landlock")
    assert vmm.call("vmm.ping").status == 200
    assert log.exists()


def test_sockets_and_events_can_be_handed_over_as_descriptors(lab):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(lab.folder / "given.sock"))
    listener.listen()
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [
            lab.binary,
            "--api-socket",
            f"fd={listener.fileno()}",
            "--event-monitor",
            f"fd={writer}",
        ],
        pass_fds=[listener.fileno(), writer],
    )
    os.close(writer)
    listener.close()
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(10)
        peer.connect(str(lab.folder / "given.sock"))
        peer.sendall(b"PUT /api/v1/vmm.shutdown HTTP/1.1\r\n\r\n")
        assert peer.recv(100).startswith(b"HTTP/1.1 200 ")
    assert process.wait(10) == 0
    with os.fdopen(reader) as events:
        seen = [json.loads(part) for part in events.read().split("\n\n") if part]
    assert [event["event"] for event in seen] == ["starting", "shutdown"]


# HTTP ----------------------------------------------------------------------------------------


def test_requests_on_one_connection_are_answered_in_order(lab):
    vmm = lab.start()
    with vmm.connect() as peer:
        peer.sendall(b"GET /api/v1/vmm.ping HTTP/1.1\r\n\r\n" * 2)
        vmm.send(peer, "PUT", "vm.delete")
        text = b""
        while text.count(b"HTTP/1.1") < 3 or not text.endswith(b"\r\n\r\n"):
            text += peer.recv(65536)
    assert text.count(b"HTTP/1.1 200 ") == 2


def test_a_body_may_come_in_pieces(lab):
    vmm = lab.start()
    body = json.dumps(lab.config()).encode()
    with vmm.connect() as peer:
        peer.sendall(f"PUT /api/v1/vm.create HTTP/1.1\r\nContent-Length: {len(body)}\r\n".encode())
        peer.sendall(b"\r\n" + body[:10])
        peer.sendall(body[10:])
        assert vmm.receive(peer).status == 204


@pytest.mark.parametrize(
    ("request_bytes", "words"),
    [
        (b"GARBAGE\r\n\r\n", b"Invalid request."),
        (b"DELETE /api/v1/vm.boot HTTP/1.1\r\n\r\n", b"Unsupported HTTP method."),
        (
            b"PUT /api/v1/vm.create HTTP/1.1\r\nContent-Length: 51201\r\n\r\n",
            b"size 51201 is larger than the limit of 51200",
        ),
    ],
)
def test_what_is_no_request_is_refused_by_the_server(lab, request_bytes, words):
    vmm = lab.start()
    with vmm.connect() as peer:
        peer.sendall(request_bytes)
        reply = vmm.receive(peer)
    assert reply.status == 400
    assert reply.headers["Server"] == "Firecracker API"
    assert words in reply.raw


@pytest.mark.parametrize(
    ("method", "name", "body", "status", "messages"),
    [
        ("GET", "vm.nope", None, 404, ["Not Found"]),
        ("GET", "vm.boot", None, 400, ["Bad Request"]),
        ("PUT", "vmm.ping", None, 400, ["Bad Request"]),
        ("PUT", "vm.boot", {}, 400, ["Bad Request"]),
        ("PUT", "vm.add-disk", None, 400, ["Bad Request"]),
        ("PUT", "vm.create", None, 400, None),
        ("PUT", "vm.coredump", {"destination_url": "file:///x"}, 404, ["Not Found"]),
    ],
)
def test_a_wrong_method_or_body_is_refused(lab, method, name, body, status, messages):
    reply = lab.start().call(name, body, method=method)
    assert (reply.status, reply.body) == (status, messages)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"garbage", "expected value"),
        ({"payload": 3}, "invalid type: integer `3`, expected struct PayloadConfig"),
        ({"cpus": {"boot_vcpus": 2}}, "missing field `max_vcpus`"),
        ({"cpus": {"boot_vcpus": -1, "max_vcpus": 1}}, "invalid value: integer `-1`, expected u32"),
        ({"cpus": {"boot_vcpus": 1.5, "max_vcpus": 1}}, "invalid type: floating point `1.5`"),
        ({"memory": {"size": "1"}}, 'invalid type: string "1", expected u64'),
        ({"memory": None}, "invalid type: null"),
        ({"serial": {"mode": "Loud"}}, "unknown variant `Loud`, expected one of `Off`, `Pty`"),
        ({"net": [{"mac": "x"}]}, "MAC address"),
        ({"net": [{"ip": "x"}]}, "invalid IP address syntax"),
        ({"disks": {}}, "expected a sequence"),
        ({"disks": [{"rate_limiter_config": {"bw": 1}}]}, "unknown field `bw`, expected"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_refused(lab, body, words):
    reply = lab.start().call("vm.create", body)
    assert reply.status == 400
    assert reply.body[0] == "Failed to deserialize JSON"
    assert words in reply.body[1]


def test_unknown_names_are_ignored_without_a_word(lab):
    vmm = lab.start()
    vmm.ok("vm.create", lab.config(sound=[1], **{"generic-vhost-user": [{"socket": "/x"}]}))
    config = vmm.ok("vm.info")["config"]
    assert "sound" not in config
    assert "generic_vhost_user" not in config


# States --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "body", "status", "messages"),
    [
        ("vm.info", None, 404, ["VM is not created"]),
        ("vm.boot", None, 404, ["VM config is missing"]),
        ("vm.reboot", None, 404, ["VM is not created"]),
        ("vm.resize", {"desired_vcpus": 2}, 404, ["VM is not created"]),
        ("vm.add-disk", {"path": "/x"}, 404, ["VM is not created"]),
        ("vm.remove-device", {"id": "x"}, 404, ["VM is not created"]),
        ("vm.pause", None, 500, ["VM is not running"]),
        ("vm.resume", None, 500, ["VM is not running"]),
        ("vm.shutdown", None, 500, ["VM is not running"]),
        ("vm.counters", None, 500, ["VM is not running"]),
        ("vm.nmi", None, 500, ["VM is not running"]),
        ("vm.power-button", None, 500, ["VM is not running"]),
        ("vm.snapshot", {"destination_url": "file:///x"}, 500, ["VM is not running"]),
    ],
)
def test_without_a_vm(lab, name, body, status, messages):
    reply = lab.start().call(name, body)
    assert (reply.status, chain(reply)) == (status, messages)


def test_a_life(lab):
    vmm = lab.start()
    vmm.ok("vm.create", lab.config())
    assert vmm.state() == "Created"
    assert "device_tree" not in vmm.ok("vm.info")
    assert chain(vmm.call("vm.create", lab.config())) == ["VM is already created"]
    vmm.ok("vm.boot")
    assert vmm.state() == "Running"
    assert chain(vmm.call("vm.boot")) == ["VM is already created"]
    vmm.ok("vm.pause")
    assert vmm.state() == "Paused"
    assert chain(vmm.call("vm.pause"))[-1] == (
        "Invalid transition: InvalidStateTransition(Paused, Paused)"
    )
    vmm.ok("vm.resume")
    assert chain(vmm.call("vm.resume"))[0] == "Cannot resume VM"
    vmm.ok("vm.reboot")
    vmm.ok("vm.shutdown")
    assert vmm.state() == "Created"
    vmm.ok("vm.boot")
    vmm.ok("vm.delete")
    vmm.ok("vm.delete")
    assert vmm.names() == [
        "vmm starting", "vm booting", "vm booted", "vm pausing", "vm paused", "vm pausing",
        "vm resuming", "vm resumed", "vm resuming", "vm rebooting", "vm rebooted",
        "vm shutdown", "vm booting", "vm booted", "vm shutdown", "vm deleted",
    ]  # fmt: skip


def test_a_configuration_is_checked_when_it_is_booted(lab):
    vmm = lab.start()
    vmm.ok("vm.create", {"cpus": {"boot_vcpus": 2, "max_vcpus": 1}})
    assert chain(vmm.call("vm.boot")) == [
        "Failed to validate config",
        "Payload configuration is not bootable",
        "No bootitem provided: neither firmware nor kernel",
    ]
    assert vmm.state() == "Created"


def test_a_failed_create_leaves_its_configuration(lab):
    vmm = lab.start()
    bad = lab.config(serial={"mode": "File", "file": "/nowhere/x"})
    assert chain(vmm.call("vm.create", bad))[0] == "Error creating console devices"
    assert chain(vmm.call("vm.create", lab.config())) == ["VM is already created"]
    vmm.ok("vm.delete")
    vmm.ok("vm.create", lab.config())


def test_a_vm_without_its_kernel_is_there_and_must_be_taken_down(lab):
    vmm = lab.start()
    vmm.ok("vm.create", lab.config(payload={"kernel": "/nowhere/kernel"}))
    assert chain(vmm.call("vm.boot")) == [
        "Cannot open kernel file",
        "No such file or directory (os error 2)",
    ]
    info = vmm.ok("vm.info")
    assert info["state"] == "Created"
    assert "device_tree" in info
    assert chain(vmm.call("vm.boot")) == ["VM is already created"]


def test_a_boot_that_failed_on_an_image_has_lost_the_disks(lab):
    vmm = lab.start()
    vmm.ok("vm.create", lab.config(disks=[{"path": lab.disk}, {"path": "/nowhere/disk"}]))
    assert chain(vmm.call("vm.boot"))[:2] == ["Error from device manager", "Cannot open disk path"]
    vmm.ok("vm.boot")
    assert "disks" not in vmm.ok("vm.info")["config"]


def test_the_power_button_ends_the_guest_and_the_program(lab):
    vmm = lab.running()
    vmm.ok("vm.power-button")
    assert vmm.end() == 0
    assert vmm.names()[-3:] == ["vm shutdown", "vm deleted", "vmm shutdown"]


def test_no_shutdown_keeps_the_program(lab):
    vmm = lab.start("--no-shutdown")
    vmm.ok("vm.create", lab.config())
    vmm.ok("vm.boot")
    vmm.ok("vm.power-button")
    vmm.wait_event("shutdown")
    assert vmm.state() == "Created"


def test_a_guest_may_ignore_the_power_button(lab):
    lab.faults(power_button="ignore", guest_delay=0)
    vmm = lab.running()
    vmm.ok("vm.power-button")
    assert vmm.state() == "Running"


@pytest.mark.parametrize(
    ("action", "event"), [("poweroff", "deleted"), ("reset", "rebooted"), ("panic", "panic")]
)
def test_the_guest_acts_on_request(lab, action, event):
    lab.faults(guest=action)
    vmm = lab.running(pvpanic=True)
    vmm.signal(signal.SIGUSR1)
    vmm.wait_event(event)


def test_information_has_every_default(lab):
    vmm = lab.running(disks=[{"path": lab.disk}], net=[{"mac": "52:54:00:00:00:01"}])
    info = vmm.ok("vm.info")
    assert info["memory_actual_size"] == 512 << 20
    assert info["config"]["cpus"] == {
        "boot_vcpus": 1, "max_vcpus": 1, "kvm_hyperv": False, "max_phys_bits": 46,
        "features": {"amx": False}, "nested": True, "core_scheduling": "Vm", "profile": "Host",
    }  # fmt: skip
    disk = info["config"]["disks"][0]
    assert (disk["id"], disk["image_type"], disk["queue_size"]) == ("_disk0", "Raw", 128)
    tree = info["device_tree"]
    assert tree["_disk0"]["parent"] == "_virtio-pci-_disk0"
    assert {name: node["pci_bdf"] for name, node in tree.items() if "pci_bdf" in node} == {
        "_virtio-pci-_disk0": "0000:00:01.0",
        "_virtio-pci-_net1": "0000:00:02.0",
        "_virtio-pci-__rng": "0000:00:03.0",
    }
    counters = vmm.ok("vm.counters")
    assert counters["_net1"] == {"rx_bytes": 0, "rx_frames": 0, "tx_bytes": 0, "tx_frames": 0}
    assert counters["_disk0"]["read_latency_min"] == 2**64 - 1


def test_consoles_are_created_with_the_configuration(lab):
    vmm = lab.start()
    path = lab.folder / "serial.sock"
    vmm.ok(
        "vm.create",
        lab.config(
            console={"mode": "Pty"},
            serial={"mode": "Socket", "socket": str(path)},
            debug_console={"mode": "File", "file": str(lab.folder / "debug")},
        ),
    )
    pty = vmm.ok("vm.info")["config"]["console"]["file"]
    os.close(os.open(pty, os.O_RDWR | os.O_NOCTTY))
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(path))
    assert (lab.folder / "debug").exists()


# Devices -------------------------------------------------------------------------------------


def test_adding_before_the_boot_is_noted(lab):
    vmm = lab.start()
    vmm.ok("vm.create", lab.config())
    assert vmm.call("vm.add-pmem", {"file": lab.disk, "id": "pm"}).status == 204
    assert vmm.ok("vm.info")["config"]["pmem"][0]["id"] == "pm"
    vmm.ok("vm.remove-device", {"id": "pm"})
    assert chain(vmm.call("vm.remove-device", {"id": "pm"})) == ['No device with id "pm" to remove']


def test_a_removed_device_is_gone_only_when_the_guest_has_ejected_it(lab):
    lab.faults(guest_delay=0.2)
    vmm = lab.running()
    disk = {"path": lab.disk, "id": "vdb"}
    assert vmm.ok("vm.add-disk", disk) == {"id": "vdb", "bdf": "0000:00:02.0"}
    assert vmm.call("vm.remove-device", {"id": "vdb"}).status == 204
    info = vmm.ok("vm.info")
    assert info["config"]["disks"] == []
    assert "vdb" in info["device_tree"]
    assert chain(vmm.call("vm.add-disk", disk)) == [
        "Error from device manager",
        "Invalid identifier as it is not unique: vdb",
    ]
    assert chain(vmm.call("vm.remove-device", {"id": "vdb"})) == [
        "Error from device manager",
        "Failed to find device corresponding to the given identifier: vdb",
    ]
    removed = vmm.wait_event("device-removed")
    assert removed["properties"] == {"id": "vdb", "bdf": "0000:00:02.0"}
    assert "vdb" not in vmm.ok("vm.info")["device_tree"]
    assert vmm.ok("vm.add-disk", disk) == {"id": "vdb", "bdf": "0000:00:02.0"}


def test_a_guest_may_never_give_a_device_back(lab):
    lab.faults(unplug="ignore", guest_delay=0)
    vmm = lab.running(net=[{"id": "n0"}])
    vmm.ok("vm.remove-device", {"id": "n0"})
    assert "n0" in vmm.ok("vm.info")["device_tree"]
    # A reboot is the end of it.
    vmm.ok("vm.reboot")
    assert "n0" not in vmm.ok("vm.info")["device_tree"]


def test_removal_can_be_refused(lab):
    vmm = lab.running(net=[{"id": "n0"}])
    lab.faults(unplug="refuse")
    assert "Not allowed to remove" in chain(vmm.call("vm.remove-device", {"id": "n0"}))[1]
    assert vmm.ok("vm.info")["config"]["net"][0]["id"] == "n0"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nope", "Failed to find device corresponding to the given identifier: nope"),
        ("__rng", "Not allowed to remove this type of device from the VM: rng"),
        ("__serial", "Could not find the node in the device tree"),
    ],
)
def test_what_cannot_be_removed(lab, name, words):
    vmm = lab.running()
    assert chain(vmm.call("vm.remove-device", {"id": name})) == ["Error from device manager", words]


INVALID = "Failed to validate config"
BROKEN = "Error from device manager"


@pytest.mark.parametrize(
    ("name", "body", "messages"),
    [
        ("vm.add-disk", {"id": "vda", "path": "OTHER"}, [INVALID, "Identifier vda is not unique"]),
        ("vm.add-disk", {"id": "__x", "path": "OTHER"}, [INVALID, "Identifier __x is not invalid"]),
        (
            "vm.add-disk",
            {"path": "OTHER", "num_queues": 9},
            [INVALID, "Queue count (9) must not exceed boot vCPUs (1)"],
        ),
        (
            "vm.add-disk",
            {"path": "OTHER", "pci_device_id": 0},
            [INVALID, "Given PCI device ID (0) is reserved"],
        ),
        (
            "vm.add-disk",
            {"path": "OTHER", "pci_device_id": 1},
            [
                BROKEN,
                "Failed to find an available PCI device ID",
                "Valid PCI device identifier but already used: 1",
            ],
        ),
        (
            "vm.add-disk",
            {"path": "OTHER", "pci_segment": 4},
            [INVALID, "Invalid PCI segment id: 4"],
        ),
        (
            "vm.add-disk",
            {"path": "OTHER", "iommu": True},
            [BROKEN, "Cannot hotplug device behind vIOMMU"],
        ),
        ("vm.add-disk", {}, [BROKEN, "No disk path was specified when one was expected"]),
        (
            "vm.add-disk",
            {"path": "/nowhere"},
            [
                BROKEN,
                "Cannot open disk path",
                "I/O error (path=/nowhere op=open)",
                "No such file or directory (os error 2)",
            ],
        ),
        (
            "vm.add-net",
            {"num_queues": 1},
            [INVALID, "Number of queues (1) to virtio_net should be higher than 2"],
        ),
        ("vm.add-vsock", {"cid": 2, "socket": "/x"}, [INVALID, "2 is a special VSOCK CID"]),
        (
            "vm.add-fs",
            {"tag": "t", "socket": "/x"},
            [INVALID, "Using vhost-user requires using shared memory or huge pages"],
        ),
        (
            "vm.add-user-device",
            {"socket": "/x"},
            [INVALID, "Using user devices requires using shared memory or huge pages"],
        ),
        (
            "vm.add-device",
            {},
            [INVALID, "VFIO device config must specify `path=` or `fd=`"],
        ),
        (
            "vm.add-device",
            {"path": "/nowhere"},
            [
                BROKEN,
                "Cannot create a VFIO device",
                "failed to open /dev/vfio/vfio container: No such file or directory (os error 2)",
                "No such file or directory (os error 2)",
            ],
        ),
        (
            "vm.add-vdpa",
            {"path": "/nowhere"},
            [
                BROKEN,
                "Cannot create vdpa device",
                "Failed to create vhost-vdpa",
                "failure in opening vhost file: No such file or directory (os error 2)",
            ],
        ),
        (
            "vm.add-pmem",
            {"file": "/nowhere"},
            [
                BROKEN,
                "Cannot open persistent memory file",
                "No such file or directory (os error 2)",
            ],
        ),
    ],
)
def test_what_cannot_be_added(lab, name, body, messages):
    vmm = lab.running(disks=[{"id": "vda", "path": lab.disk}])
    body = {key: lab.other if value == "OTHER" else value for key, value in body.items()}
    assert chain(vmm.call(name, body)) == messages


def test_an_image_has_one_writer(lab):
    vmm = lab.running(disks=[{"path": lab.disk}])
    assert chain(vmm.call("vm.add-disk", {"path": lab.disk}))[-1] == "The file is already locked"


def test_only_one_vsock(lab):
    vmm = lab.running()
    vmm.ok("vm.add-vsock", {"cid": 3, "socket": "/x", "id": "vs"})
    assert chain(vmm.call("vm.add-vsock", {"cid": 4, "socket": "/y"})) == [
        "Too many virtio-vsock devices"
    ]


def test_nothing_is_answered_while_a_vhost_user_socket_is_waited_for(lab):
    lab.faults(vhost_user_timeout=0.3)
    vmm = lab.running(memory={"size": 64 << 20, "shared": True})
    with vmm.connect() as peer:
        vmm.send(peer, "PUT", "vm.add-fs", {"tag": "t", "socket": str(lab.folder / "fs.sock")})
        with pytest.raises(TimeoutError):
            vmm.call("vmm.ping", seconds=0.1)
        assert chain(vmm.receive(peer))[0] == BROKEN
    with socket.socket(socket.AF_UNIX) as served:
        served.bind(str(lab.folder / "fs.sock"))
        served.listen()
        vmm.ok("vm.add-fs", {"tag": "t", "socket": str(lab.folder / "fs.sock")})


def test_a_network_takes_descriptors_and_gives_them_up_when_removed(lab):
    lab.faults(unplug="ignore")
    vmm = lab.running()
    reader, writer = os.pipe()
    vmm.ok("vm.add-net", {"id": "n0", "num_queues": 2, "fds": [7]}, fds=[writer])
    os.close(writer)
    assert min(vmm.ok("vm.info")["config"]["net"][0]["fds"]) > 2
    vmm.ok("vm.remove-device", {"id": "n0"})
    # The other end is closed although the guest still has the device.
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_the_number_of_descriptors_must_fit(lab):
    vmm = lab.running()
    reader, writer = os.pipe()
    reply = vmm.call("vm.add-net", {"id": "n0", "num_queues": 4}, fds=[writer])
    assert chain(reply)[1].endswith("does not match the number of FDs (2)")
    assert vmm.call("vm.add-device", {}, fds=[reader, writer]).status == 400
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)


# Sizes ---------------------------------------------------------------------------------------


def test_vcpus(lab):
    lab.faults(unplug="ignore")
    vmm = lab.running(cpus={"boot_vcpus": 1, "max_vcpus": 4})
    vmm.ok("vm.resize", {"desired_vcpus": 2})
    assert chain(vmm.call("vm.resize", {"desired_vcpus": 9}))[-1] == (
        "Requested vCPUs exceed maximum"
    )
    assert chain(vmm.call("vm.resize", {"desired_vcpus": 0}))[-1] == "Requested zero vCPUs"
    vmm.ok("vm.resize", {"desired_vcpus": 1})
    # The guest has not given the vCPU back.
    reply = vmm.call("vm.resize", {"desired_vcpus": 3})
    assert (reply.status, reply.body) == (429, ["Too Many Requests"])
    assert vmm.ok("vm.info")["config"]["cpus"]["boot_vcpus"] == 1


def test_memory_by_acpi(lab):
    vmm = lab.running(memory={"size": 128 << 20, "hotplug_size": 256 << 20})
    vmm.ok("vm.resize", {"desired_ram": 256 << 20})
    assert vmm.ok("vm.info")["memory_actual_size"] == 256 << 20
    assert chain(vmm.call("vm.resize", {"desired_ram": 300 << 20}))[-1] == (
        "The requested hotplug memory addition is not a valid size"
    )
    assert chain(vmm.call("vm.resize", {"desired_ram": 1 << 30}))[-1] == (
        "Not enough space in the hotplug RAM region"
    )
    # Less is noted, and nothing is taken from the guest.
    vmm.ok("vm.resize", {"desired_ram": 128 << 20})
    assert vmm.ok("vm.info")["config"]["memory"]["size"] == 128 << 20


def test_memory_by_virtio_mem(lab):
    memory = {"size": 128 << 20, "hotplug_size": 128 << 20, "hotplug_method": "VirtioMem"}
    vmm = lab.running(memory=memory)
    vmm.ok("vm.resize", {"desired_ram": 192 << 20})
    info = vmm.ok("vm.info")
    assert info["config"]["memory"]["hotplugged_size"] == 64 << 20
    assert info["memory_actual_size"] == 192 << 20
    assert "below boot size" in chain(vmm.call("vm.resize", {"desired_ram": 1 << 20}))[-1]
    vmm.ok("vm.resize", {"desired_ram": 128 << 20})
    assert "hotplugged_size" not in vmm.ok("vm.info")["config"]["memory"]


def test_zones(lab):
    zone = {"id": "z", "size": 64 << 20, "hotplug_size": 64 << 20}
    vmm = lab.running(memory={"size": 0, "hotplug_method": "VirtioMem", "zones": [zone]})
    vmm.ok("vm.resize-zone", {"id": "z", "desired_ram": 96 << 20})
    assert vmm.ok("vm.info")["memory_actual_size"] == 96 << 20
    assert chain(vmm.call("vm.resize-zone", {"id": "y", "desired_ram": 96 << 20})) == [
        "Failed resizing a memory zone"
    ]
    assert "user defined memory regions" in chain(vmm.call("vm.resize", {"desired_ram": 1}))[-1]


def test_balloon_and_disk(lab):
    vmm = lab.running(balloon={"size": 0}, disks=[{"path": lab.disk, "id": "vda"}])
    vmm.ok("vm.resize", {"desired_balloon": 1 << 20})
    assert vmm.ok("vm.info")["memory_actual_size"] == 511 << 20
    vmm.ok("vm.resize-disk", {"id": "vda", "desired_size": 8192})
    assert Path(lab.disk).stat().st_size == 8192
    assert chain(vmm.call("vm.resize-disk", {"id": "x", "desired_size": 1}))[-1].endswith(": x")


def test_sizes_before_the_boot_are_noted(lab):
    vmm = lab.start()
    vmm.ok("vm.create", lab.config())
    vmm.ok("vm.resize", {"desired_vcpus": 3, "desired_ram": 1 << 30, "desired_balloon": 5})
    config = vmm.ok("vm.info")["config"]
    assert (config["cpus"]["boot_vcpus"], config["memory"]["size"]) == (3, 1 << 30)


# Images and migration ------------------------------------------------------------------------


def test_snapshot_and_restore(lab):
    folder = lab.folder / "snapshot"
    folder.mkdir()
    target = {"destination_url": f"file://{folder}"}
    vmm = lab.running(
        cpus={"boot_vcpus": 1, "max_vcpus": 2}, disks=[{"path": lab.disk, "id": "vda"}]
    )
    vmm.ok("vm.resize", {"desired_vcpus": 2})
    assert chain(vmm.call("vm.snapshot", target))[-1] == "Trying to snapshot while VM is running"
    vmm.ok("vm.pause")
    vmm.ok("vm.snapshot", target)
    assert chain(vmm.call("vm.snapshot", target))[-1] == "File exists (os error 17)"
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "memory-ranges",
        "state.json",
    ]
    source = {"source_url": f"file://{folder}"}
    assert chain(vmm.call("vm.restore", source)) == ["VM is already created"]
    vmm.ok("vm.delete")
    vmm.ok("vm.restore", source)
    assert vmm.state() == "Paused"
    vmm.ok("vm.resume")
    assert vmm.ok("vm.info")["config"]["disks"][0]["id"] == "vda"
    vmm.ok("vm.delete")
    vmm.ok("vm.restore", {**source, "resume": True})
    assert vmm.state() == "Running"


def test_what_cannot_be_restored(lab):
    vmm = lab.start()
    reply = vmm.call("vm.restore", {"source_url": "file:///nowhere"})
    assert chain(reply)[-1] == 'Destination is not a directory: "/nowhere"'
    reply = vmm.call("vm.restore", {"source_url": f"file://{lab.folder}"})
    assert chain(reply)[-1] == "No such file or directory (os error 2)"
    assert vmm.call("vm.info").status == 404


def test_restore_wants_the_descriptors_of_its_networks(lab):
    folder = lab.folder / "snapshot"
    folder.mkdir()
    vmm = lab.running()
    reader, writer = os.pipe()
    vmm.ok("vm.add-net", {"id": "n0"}, fds=[writer])
    vmm.ok("vm.pause")
    vmm.ok("vm.snapshot", {"destination_url": f"file://{folder}"})
    vmm.ok("vm.delete")
    source = {"source_url": f"file://{folder}"}
    assert chain(vmm.call("vm.restore", source))[-1] == (
        "Net id n0 is associated with FDs and is required"
    )
    nets = {**source, "net_fds": [{"id": "n0", "num_fds": 1}]}
    assert vmm.call("vm.restore", nets).status == 400
    vmm.ok("vm.restore", nets, fds=[writer])
    assert min(vmm.ok("vm.info")["config"]["net"][0]["fds"]) > 2
    os.close(writer)
    os.close(reader)


def test_coredump_is_there_where_it_is_built_in(lab):
    lab.faults(features=["guest_debug", "kvm"])
    vmm = lab.running()
    core = lab.folder / "core"
    vmm.ok("vm.coredump", {"destination_url": f"file://{core}"})
    assert core.exists()
    assert vmm.state() == "Running"
    reply = vmm.call("vm.coredump", {"destination_url": "file:///nowhere/core"})
    assert chain(reply)[1:] == ["coredump", "No such file or directory (os error 2)"]
    # A dump that failed leaves the VM paused.
    assert vmm.state() == "Paused"


def receiving(vmm, url):
    replies = []
    thread = threading.Thread(
        target=lambda: replies.append(vmm.call("vm.receive-migration", {"receiver_url": url}))
    )
    thread.start()
    vmm.wait_event("migration-receive-ready")
    return thread, replies


@pytest.mark.parametrize("initial", ["Running", "Paused"])
@pytest.mark.parametrize("scheme", ["unix", "tcp"])
def test_migration(lab, initial, scheme):
    lab.faults(migration_seconds=0.2)
    source = lab.running(disks=[{"path": lab.disk, "id": "vda"}])
    if initial == "Paused":
        source.ok("vm.pause")
    target = lab.start(name="target")
    url = f"unix:{lab.folder}/migration.sock"
    if scheme == "tcp":
        with socket.create_server(("127.0.0.1", 0)) as free:
            url = f"tcp:127.0.0.1:{free.getsockname()[1]}"
    thread, replies = receiving(target, url)
    # Nothing else is answered by the receiver, and SIGTERM does not end it.
    with pytest.raises(TimeoutError):
        target.call("vmm.ping", seconds=0.1)
    source.ok("vm.send-migration", {"destination_url": url})
    # The request is over, the migration is not; the VM can be looked at, not changed.
    assert source.state() == initial
    assert chain(source.call("vm.pause")) == ["VM is currently migrating and can't be modified"]
    assert chain(source.call("vm.delete")) == ["VM is currently migrating and can't be modified"]
    assert chain(source.call("vm.send-migration", {"destination_url": url}))[-1] == (
        "There is already an ongoing migration"
    )
    assert source.end() == 0
    thread.join(10)
    assert replies[0].status == 204
    assert target.state() == initial
    assert target.ok("vm.info")["config"]["disks"][0]["id"] == "vda"
    assert "vm migration-finished" in source.names()
    assert source.names()[-2:] == ["vm deleted", "vmm shutdown"]
    assert target.names()[-1] == "vm migration-receive-finished"


@pytest.mark.parametrize("how", ["nobody", "fault"])
def test_a_failed_migration_leaves_the_vm(lab, how):
    source = lab.running()
    url = f"unix:{lab.folder}/migration.sock"
    thread, replies = None, []
    if how == "fault":
        lab.faults(migration="fail")
        thread, replies = receiving(lab.start(name="target"), url)
    assert source.call("vm.send-migration", {"destination_url": url}).status == 204
    source.wait_event("migration-failed")
    source.wait(lambda: source.call("vm.pause").status == 204)
    source.ok("vm.resume")
    if thread is not None:
        thread.join(10)
        assert replies[0].status == 500


def test_migrations_that_are_refused_at_once(lab):
    vmm = lab.running()
    for body, words in (
        ({"destination_url": "foo"}, "must use tcp:<host>:<port> or unix:<path>."),
        ({"destination_url": "unix:/x", "connections": 2}, "connections option cannot be used"),
        ({"destination_url": "unix:/x", "tls_dir": "/x"}, "TLS encryption cannot be used"),
        ({"destination_url": "tcp:a:1", "connections": 129}, "must not exceed 128."),
        ({"destination_url": "tcp:a:1", "local": True}, "only supported with UNIX sockets."),
        ({"destination_url": "unix:/x", "local": True}, "requires shared memory or hugepages"),
    ):
        assert words in chain(vmm.call("vm.send-migration", body))[-1]
    assert (
        "already created"
        in chain(vmm.call("vm.receive-migration", {"receiver_url": "unix:/x"}))[-1]
    )


# Faults --------------------------------------------------------------------------------------


def test_a_request_can_be_answered_wrongly(lab):
    vmm = lab.running()
    lab.faults(requests={"vm.pause": {"status": 500, "body": ["Broken"], "skip": 1, "times": 1}})
    vmm.ok("vm.pause")
    vmm.ok("vm.resume")
    reply = vmm.call("vm.pause")
    assert (reply.status, reply.body) == (500, ["Broken"])
    vmm.ok("vm.pause")


def test_a_request_can_hang(lab):
    lab.faults(requests={"vm.info": "hang"})
    vmm = lab.running()
    with pytest.raises(TimeoutError):
        vmm.call("vm.info", seconds=0.2)
    with pytest.raises(TimeoutError):
        vmm.call("vmm.ping", seconds=0.2)
    vmm.signal(signal.SIGTERM)
    with pytest.raises(Exception, match="timed out"):
        vmm.end(0.2)


@pytest.mark.parametrize("kind", ["half", "close", "garbage"])
def test_an_answer_can_be_cut(lab, kind):
    lab.faults(requests={"vm.info": kind})
    vmm = lab.running()
    with pytest.raises((Lost, ValueError)):
        vmm.call("vm.info")
    assert vmm.call("vmm.ping").status == 200


@pytest.mark.parametrize(("kind", "done"), [("die", False), ("die-after", True)])
def test_the_program_can_die(lab, kind, done):
    lab.faults(requests={"vm.pause": kind})
    vmm = lab.running()
    with pytest.raises((Lost, ConnectionResetError)):
        vmm.call("vm.pause")
    assert vmm.end() == -signal.SIGKILL
    assert ("vm paused" in vmm.names()) is done
    assert vmm.socket.exists()


def test_another_version(lab):
    lab.faults(version="48.0.0", build_version="v48.0", drop=["device_tree"])
    vmm = lab.running()
    assert vmm.ok("vmm.ping")["version"] == "48.0.0"
    assert "device_tree" not in vmm.ok("vm.info")


def test_files_can_be_assumed(lab):
    lab.faults(files="assume")
    vmm = lab.running(payload={"kernel": "/nowhere"}, disks=[{"path": "/nowhere/disk"}])
    assert vmm.state() == "Running"


def test_a_misspelt_fault_is_an_error(lab):
    lab.faults(unplugs="never")
    done = subprocess.run([lab.binary, "-V"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "unknown settings of the fake cloud-hypervisor: ['unplugs']" in done.stderr


def test_every_fault_is_documented():
    missing = [name for name in DEFAULTS if f"`{name}`" not in (faults.__doc__ or "")]
    assert missing == []


# Checking requests ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/v1/vmm.ping", None),
        ("PUT", "vm.boot", None),
        ("PUT", "/vm.create", {"payload": {"kernel": "/k"}, "net": [{"fds": [3]}]}),
        ("PUT", "vm.create", {"payload": {}, "generic_vhost_user": []}),
        ("PUT", "vm.restore", {"source_url": "file:///x", "net_fds": [{"id": "a"}]}),
        ("PUT", "vm.create", {"payload": {}, "platform": {"uuid": "x"}}),
    ],
)
def test_valid_requests(method, path, body):
    fake_ch.validate_request(method, path, body)


@pytest.mark.parametrize(
    ("method", "path", "body", "problems"),
    [
        ("GET", "vm.nope", None, ["there is no vm.nope"]),
        ("GET", "vm.boot", None, ["vm.boot is asked by PUT, not by GET"]),
        ("PUT", "vm.boot", {}, ["vm.boot takes no body"]),
        ("PUT", "vm.create", None, ["vm.create needs a body"]),
        ("PUT", "vm.create", {}, ["VmConfig: payload is missing"]),
        (
            "PUT",
            "vm.create",
            {"payload": {}, "generic-vhost-user": []},
            ["VmConfig: there is no generic-vhost-user"],
        ),
        (
            "PUT",
            "vm.add-disk",
            {"path": 3, "image_type": "raw", "num_queues": True, "size": 1},
            [
                "DiskConfig.path: 3 is no string",
                "DiskConfig.image_type: 'raw' is none of FixedVhd, Qcow2, Raw, Vhdx, Unknown",
                "DiskConfig.num_queues: True is no integer from 0 to 18446744073709551615",
                "DiskConfig: there is no size",
            ],
        ),
        (
            "PUT",
            "vm.resize",
            {"desired_vcpus": 0},
            ["VmResize.desired_vcpus: 0 is no integer from 1 to 4294967295"],
        ),
        ("PUT", "vm.remove-device", {}, ["VmRemoveDevice: id is missing"]),
    ],
)
def test_invalid_requests(method, path, body, problems):
    with pytest.raises(fake_ch.InvalidRequest) as caught:
        fake_ch.validate_request(method, path, body)
    assert caught.value.problems == problems


def test_the_description_has_31_endpoints():
    assert len(ENDPOINTS) == 31
    assert len(fake_ch.document()["paths"]) == 31
