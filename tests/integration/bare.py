"""A QEMU driver whose command line is the least that runs; for testing all but command building.

The words of a definition's ``<description>`` are added to it.
"""

from __future__ import annotations

import shlex

from hvcore.registry import Registry
from hvcore.rules.base import Rules
from hvcore_qemu.driver import QemuDriver
from hvcore_qemu.driver import Start


class BareDriver(QemuDriver):
    """QEMU without devices."""

    def pipeline(self):
        if self._pipeline is None:
            from hvcore.pipeline import Pipeline

            self._pipeline = Pipeline(self.registry, Rules())
        return self._pipeline

    async def context(self, domain, *, new=False):
        from hvcore.pipeline import Context

        del domain
        return Context(registry=self.registry, driver=self.name, abi_update=new)

    async def plan(self, record, host, *, incoming=None):
        folder = self._directory.runtime(record.uuid)
        number = host.monitor(str(folder / "monitor.sock"))
        argv = "qemu-system-x86_64 -S -no-shutdown -nodefaults -no-user-config -display none"
        # KVM is left out: a nested one may start a guest and yet not boot it.
        argv += " -machine pc,accel=tcg -m 160"
        argv += f" -chardev socket,id=charmonitor,fd={number},server=on,wait=off"
        argv += " -mon chardev=charmonitor,id=monitor,mode=control"
        argv += "" if incoming is None else f" -incoming {incoming}"
        words = shlex.split(record.live.domain.description or "")
        env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
        return Start(argv=[*argv.split(), *words], env=env, files={}, folders=[], live=record.live)


def registry(**plugins):
    """Return a registry whose QEMU driver is the bare one."""
    found = Registry()
    found.add_driver(BareDriver)
    for name, plugin in plugins.items():
        found.register(plugin, name=name)
    found.freeze()
    return found
