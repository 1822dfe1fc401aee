"""What tests of device families share: documents through the rules of one family, and commands."""

from __future__ import annotations

from importlib import import_module

from hvcore.capabilities import Capabilities
from hvcore.pipeline import Context
from hvcore.pipeline import Pipeline
from hvcore.registry import Registry
from hvcore.xml.context import FormatContext
from hvcore_qemu.command import Command
from hvcore_qemu.config import QemuConfig
from hvcore_qemu.prepare import Preparation
from hvcore_qemu.pretend import PretendHost
from hvcore_qemu.resources import Resources

_DOMAIN = (
    "<domain type='kvm'><name>g</name><os><type arch='{arch}' machine='{machine}'>hvm</type></os>"
    "<devices>{devices}</devices></domain>"
)


class Family:
    """The rules and commands of one family, without those of the others.

    :param names: modules of the same name under ``hvcore.rules`` and ``hvcore_qemu.devices``.
    :param caps: names of what QEMU can do.
    """

    def __init__(self, *names, caps=()):
        self.core = [import_module(f"hvcore.rules.{name}").rules for name in names]
        self.qemu = [import_module(f"hvcore_qemu.devices.{name}").rules for name in names]
        names = frozenset({"device.json+hotplug", *caps})
        self.caps = Capabilities(names=names, arch="x86_64")
        self.registry = Registry()
        self.registry.freeze()

    def read(self, xml, *, active=False, arch="x86_64", machine="pc", driver=True, **config):
        """Return the domain with devices ``xml`` after post-parse, with its context.

        :raises ValidationFailed: when the parser refuses the document.
        """
        document = _DOMAIN.format(arch=arch, machine=machine, devices=xml)
        domain = Pipeline(self.registry).parse(document)
        ctx = Context(
            registry=self.registry, caps=self.caps, active=active, config=QemuConfig(**config)
        )
        qemu = self.qemu if driver else []
        self.issues = []
        for rule in self._all(self.core, qemu, "early"):
            self.issues += rule(domain, ctx) or ()
        for rule in self._all([], qemu, "domain"):
            self.issues += rule(domain, ctx) or ()
        for device in domain.devices.walk():
            for rules in (*qemu, *self.core):
                for rule in rules.device.get(type(device), ()):
                    self.issues += rule(domain, device, ctx) or ()
        for rule in self._all(self.core, qemu, "late"):
            self.issues += rule(domain, ctx) or ()
        return domain, ctx

    def checked(self, xml, **how):
        """Return what validation of the devices ``xml`` says."""
        domain, ctx = self.read(xml, **how)
        found = list(self.issues)
        for device in domain.devices.walk():
            for rules in (*self.core, *self.qemu):
                for rule in rules.checks.get(type(device), ()):
                    found += rule(domain, device, ctx) or ()
        for rule in self._all([], self.qemu, "domain_checks"):
            found += rule(domain, ctx) or ()
        return [str(issue) for issue in found]

    def written(self, domain, **how):
        """Return the devices as XML on one line."""
        text = self.registry.binding.format(domain.devices, FormatContext(**how))
        return "".join(line.strip() for line in text.splitlines()[1:-1])

    def rewritten(self, xml, *, active=False, **how):
        """Return ``xml`` as it is after post-parse, on one line."""
        domain, _ = self.read(xml, active=active)
        return self.written(domain, **{"inactive": not active, **how})

    def plan(self, xml, prepare=(), command=(), aliases=None, host=None, **how):
        """Return the plan that functions of the family build.

        :param aliases: what is called with the domain to name its devices.
        :param host: where resources come from; None for one that pretends.
        """
        domain, ctx = self.read(xml, **how)
        if aliases is not None:
            aliases(domain)
        work = Preparation(
            domain=domain,
            caps=self.caps,
            config=ctx.config,
            host=host or PretendHost(),
            registry=self.registry,
            resources=Resources(domain_dir="/d", short_name="1-g", master_key=bytes(32)),
        )
        for step in prepare:
            step(work)
        cmd = Command(domain, self.caps, ctx.config, work.resources, self.registry)
        for fill in command:
            fill(cmd)
        return cmd.plan

    def _all(self, core, qemu, stage):
        return [rule for rules in (*core, *qemu) for rule in getattr(rules, stage)]
