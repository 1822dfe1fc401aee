"""What tests of the cloud-hypervisor driver share: documents, and what they become."""

from __future__ import annotations

from hvcore.hostinfo import HostInfo
from hvcore.pipeline import Context
from hvcore.pipeline import Pipeline
from hvcore.registry import Registry
from hvcore_ch.capabilities import ChCapabilities
from hvcore_ch.capabilities import conclude
from hvcore_ch.config import ChConfig
from hvcore_ch.launch import pipeline
from hvcore_ch.launch import plan_start

FOLDER = "/run/guest"
STATES = "/var/lib/states/guest"

_DOMAIN = """\
<domain type='kvm'>
  <name>guest</name>
  <uuid>11111111-2222-3333-4444-555555555555</uuid>
  <memory unit='MiB'>512</memory>
  <vcpu>2</vcpu>
  {more}
  <os><type arch='x86_64'>hvm</type>{os}</os>
  <devices><emulator>/usr/bin/cloud-hypervisor</emulator>{devices}</devices>
</domain>
"""
_KERNEL = "<kernel>/boot/vmlinux</kernel>"


def capabilities(*, version: str = "53.0.0", landlock: bool = True) -> ChCapabilities:
    ping = {"version": version, "features": ["kvm", "io_uring", "guest_debug", "sev_snp", "tdx"]}
    return conclude(ping, arch="x86_64", landlock=landlock)


class Lab:
    """The driver's rules and plans, on no host at all."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.registry.load_entry_points()
        self.registry.driver("ch")
        self.registry.freeze()
        self.pipeline: Pipeline = pipeline(self.registry)

    def context(self, *, caps=None, config=None) -> Context:
        return Context(
            registry=self.registry,
            driver="ch",
            caps=caps or capabilities(),
            host=HostInfo(arch="x86_64"),
            config=config or ChConfig(),
            abi_update=True,
            stub_console=False,
        )

    def plan(self, xml, **how):
        """Return the plan of a document; raises what refuses it."""
        ctx = self.context(**how)
        definition = self.pipeline.define(xml, ctx)
        return plan_start(definition.clone(), ctx, FOLDER, STATES)

    def config(self, devices="", *, more="", os=_KERNEL, **how):
        """Return the VmConfig of a guest with these devices."""
        return self.plan(document(devices, more=more, os=os), **how).config

    def refusals(self, devices="", *, more="", os=_KERNEL, **how):
        """Return the issues of a guest with these devices, with their places."""
        ctx = self.context(**how)
        domain = self.pipeline.parse(document(devices, more=more, os=os))
        self.pipeline.post_parse(domain, ctx)
        return [(str(issue), issue.path) for issue in self.pipeline.validate(domain, ctx)]


def document(devices: str = "", *, more: str = "", os: str = _KERNEL) -> str:
    return _DOMAIN.format(devices=devices, more=more, os=os)
