"""Two hosts, of whichever kind ``--hv-uri`` says, and a manager of both."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import pytest

import hvcore
from hvcore.registry import Registry
from hvcore.testing import fake_ch
from vm_manager import Inventory
from vm_manager import Machine
from vm_manager import Manager
from vm_manager import Template

TEMPLATES = {
    "test": """<domain type='test'>$machine
      <os><type arch='x86_64'>hvm</type></os><devices>$disks</devices></domain>""",
    "qemu": """<domain type='{kind}'>$machine
      <os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>
      <devices>$disks<memballoon model='virtio'/></devices></domain>""",
    "ch": """<domain type='kvm'>$machine
      <os><type arch='x86_64'>hvm</type><kernel>{folder}/kernel</kernel></os>
      <devices><emulator>{folder}/cloud-hypervisor</emulator>
      $disks<memballoon model='virtio'/></devices></domain>""",
}


def pytest_addoption(parser):
    parser.addoption(
        "--hv-uri",
        default="test:///default?{host}",
        help="what to connect to; {host} is one of two names, {root} a directory",
    )


class Site:
    """What the tests know of the hosts beside what the manager knows."""

    def __init__(self, uri, folder, registry):
        self.folder = folder
        self.registry = registry
        self.scheme = uri.partition(":")[0]
        self.uris = {name: uri.format(host=name, root=folder / name) for name in ("a", "b")}
        kind = "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) else "qemu"
        # A test host with the capabilities of a QEMU takes what that QEMU takes.
        text = (
            TEMPLATES["qemu" if "caps=qemu" in uri else self.scheme]
            .replace("{folder}", str(folder))
            .replace("{kind}", kind)
        )
        self.template = Template(text)

    def manager(self, **options):
        options = {"patience": 20.0, "grace": 0.2, **options}
        inventory = Inventory(self.folder / "inventory.json")
        return Manager(self.uris, self.template, inventory, registry=self.registry, **options)

    def machine(self, name="web", **more):
        """Return a machine that can grow."""
        disk = self.folder / f"{name}.raw"
        disk.write_bytes(bytes(1 << 20))
        more = {"memory": 64, "max_memory": 128, "max_cpus": 2, **more}
        return Machine(name=name, disks={"vda": str(disk)}, **more)

    async def cut_power(self, name, host):
        """End what runs on a host, as losing power does; the host itself comes back at once."""
        if self.scheme == "test":
            host.test.faults.reboot_host()
            return
        for process in self.processes(f"{name}/"):
            os.kill(process, signal.SIGKILL)
        async with asyncio.timeout(10):
            while await host.domains(active=True):  # noqa: ASYNC110 - of any kind of host
                await asyncio.sleep(0.01)

    def processes(self, host=""):
        """Return the hypervisors that the tests started, or those of one host."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                # Whose it is its log tells: sockets are handed over without their paths.
                if str((process / "fd" / "1").readlink()).startswith(f"{self.folder}/{host}"):
                    found.append(int(process.name))
        return found


@pytest.fixture(scope="session")
def registry():
    """Return what is installed, found once for all tests."""
    return Registry.default()


@pytest.fixture
def site(request, tmp_path, monkeypatch, registry):
    site = Site(request.config.getoption("--hv-uri"), tmp_path, registry)
    if site.scheme == "ch":
        fake_ch.install(tmp_path)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        (tmp_path / "kernel").write_bytes(bytes(4096))
    yield site
    for process in site.processes():
        os.kill(process, signal.SIGKILL)


@pytest.fixture
async def hosts(site):
    """Return connections of the test's own: hosts in memory live as long as they are open."""
    async with contextlib.AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(await hvcore.connect(uri, registry=site.registry))
            for name, uri in site.uris.items()
        }


@pytest.fixture
async def manager(site, hosts):
    async with site.manager() as manager:
        yield manager


@pytest.fixture
def where(hosts):
    """Return a function that tells on which hosts a machine is, and on which it runs."""

    async def where(name="web"):
        there, running = [], []
        for host, connection in hosts.items():
            for domain in await connection.domains():
                if domain.name == name:
                    there.append(host)
                    running += [host] if domain.is_active else []
        return "".join(there), "".join(running)

    return where


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--hv-uri").startswith("test:"):
        items[:] = [item for item in items if item.get_closest_marker("faults") is None]
