"""What libvirt 11.3 can do with QEMU and not with its test driver, and what becomes of it here.

A management program that uses one of them cannot be tested with libvirt's test driver. The list is
the difference between ``qemuHypervisorDriver`` of qemu_driver.c and ``testHypervisorDriver`` of
test_driver.c, and what the latter has of an operation only in part.
"""

from __future__ import annotations

from typing import Final

import attrs


@attrs.frozen
class Operation:
    """One thing that can be asked for, by as many names as libvirt has for it.

    :ivar names: of libvirt's functions, or of steps of its protocol.
    :ivar ours: what to call; empty where there is nothing.
    :ivar reason: why there is nothing, or what is particular.
    """

    names: tuple[str, ...]
    ours: str = ""
    reason: str = ""


_AGENT: Final = "the agent is not asked for this yet; ``Domain.agent_command`` can be"
_DEVICES: Final = "devices of the host are a topic of their own"
_MIGRATION: Final = "migration has no such setting yet"
_HOST: Final = "hvcore looks at hosts and changes nothing there"
_HARDWARE: Final = "only hardware could answer"
_NO_GUEST: Final = "there is no guest at the other end"
_CPU: Final = "CPUs are compared when a domain is started"

OPERATIONS: Final = (
    # -- what works -------------------------------------------------------------------------------
    Operation(("virDomainAttachDeviceFlags",), "Domain.attach_device", "also for the next start"),
    Operation(("virDomainDetachDevice", "virDomainDetachDeviceFlags"), "Domain.detach_device"),
    Operation(("virDomainSaveParams",), "Domain.save"),
    Operation(("virDomainRestoreParams",), "Host.restore"),
    Operation(("virDomainManagedSaveGetXMLDesc",), "Domain.managed_save_xml"),
    Operation(("virDomainManagedSaveDefineXML",), "Domain.managed_save_define"),
    Operation(("virDomainSetVcpu",), "Domain.set_vcpu"),
    Operation(("virDomainBlockResize",), "Domain.resize_disk"),
    Operation(("virDomainBlockStatsFlags",), "Domain.block_stats"),
    Operation(("virDomainBlockPull", "virDomainBlockRebase"), "Domain.block_pull"),
    Operation(("virDomainBlockCommit",), "Domain.block_commit"),
    Operation(("virDomainBlockCopy",), "Domain.block_copy"),
    Operation(("virDomainGetBlockJobInfo",), "Domain.block_job"),
    Operation(("virDomainBlockJobSetSpeed",), "Domain.set_block_job_speed"),
    Operation(("virDomainBlockJobAbort",), "Domain.abort_block_job"),
    Operation(
        (
            "virDomainMigrateBegin3", "virDomainMigrateBegin3Params", "virDomainMigratePrepare2",
            "virDomainMigratePrepare3", "virDomainMigratePrepare3Params", "virDomainMigratePerform",
            "virDomainMigratePerform3", "virDomainMigratePerform3Params",
            "virDomainMigrateFinish2", "virDomainMigrateFinish3", "virDomainMigrateFinish3Params",
            "virDomainMigrateConfirm3", "virDomainMigrateConfirm3Params",
        ),
        "Domain.migrate",
        "steps of one operation",
    ),
    Operation(("virDomainGetJobInfo", "virDomainGetJobStats"), "Domain.job_info"),
    Operation(("virDomainAbortJob", "virDomainAbortJobFlags"), "Domain.abort_job"),
    Operation(("virDomainGetGuestInfo",), "Domain.guest_info"),
    Operation(("virDomainQemuAgentCommand",), "Domain.agent_command"),
    Operation(("virDomainPMSuspendForDuration",), "Domain.pm_suspend"),
    Operation(("virDomainPMWakeup",), "Domain.pm_wakeup"),
    Operation(("virDomainSetThrottleGroup",), "Domain.set_throttle_group"),
    Operation(("virDomainDelThrottleGroup",), "Domain.remove_throttle_group"),
    Operation(("virDomainSetAutostartOnce",), "Domain.set_autostart", "with ``once``"),
    Operation(("virDomainGetAutostartOnce",), "Domain.autostart_once"),
    Operation(
        ("virConnectDomainXMLToNative",), "Host.lower", "of hosts with recorded capabilities"
    ),
    # -- what does not ----------------------------------------------------------------------------
    Operation(
        (
            "virDomainGetGuestVcpus", "virDomainSetGuestVcpus", "virDomainAuthorizedSSHKeysGet",
            "virDomainAuthorizedSSHKeysSet",
        ),
        reason=_AGENT,
    ),
    Operation(
        ("virDomainAgentSetResponseTimeout",), reason="each command says how long it waits"
    ),
    Operation(
        (
            "virDomainMigrateGetMaxDowntime", "virDomainMigrateSetMaxDowntime",
            "virDomainMigrateGetCompressionCache", "virDomainMigrateSetCompressionCache",
            "virDomainMigrateSetMaxSpeed", "virDomainMigrateGetMaxSpeed",
            "virDomainMigrateStartPostCopy",
        ),
        reason=_MIGRATION,
    ),
    Operation(
        (
            "virDomainMigratePrepareTunnel", "virDomainMigratePrepareTunnel3",
            "virDomainMigratePrepareTunnel3Params",
        ),
        reason="there are no daemons that could tunnel",
    ),
    Operation(
        (
            "virDomainOpenConsole", "virDomainOpenChannel", "virDomainOpenGraphics",
            "virDomainOpenGraphicsFD",
        ),
        reason=_NO_GUEST,
    ),
    Operation(("virDomainGraphicsReload",), reason="there is no display that has certificates"),
    Operation(("virDomainStartDirtyRateCalc",), reason="there is no guest that writes to memory"),
    Operation(("virDomainBlockPeek",), reason="disks have a size, and nothing on them"),
    Operation(("virDomainSetBlockThreshold",), reason="disks are not filled by anybody"),
    Operation(("virDomainGetSecurityLabelList",), reason="hvcore labels nothing"),
    Operation(("virDomainSetLaunchSecurityState", "virNodeGetSEVInfo"), reason=_HARDWARE),
    Operation(
        ("virDomainBackupBegin", "virDomainBackupGetXMLDesc"), reason="hvcore has no backups yet"
    ),
    Operation(("virDomainFDAssociate",), reason="no image is opened that a descriptor could be of"),
    Operation(
        (
            "virDomainQemuMonitorCommand", "virDomainQemuMonitorCommandWithFiles",
            "virConnectDomainQemuMonitorEventRegister",
            "virConnectDomainQemuMonitorEventDeregister",
        ),
        reason="there is no QEMU; ``host.test.history`` has what one would have been told",
    ),
    Operation(("virDomainQemuAttach",), reason="libvirt took it out in 5.5"),
    Operation(
        ("virConnectDomainXMLFromNative",), reason="command lines are not read, only written"
    ),
    Operation(
        ("virConnectCompareCPU", "virConnectCompareHypervisorCPU"), reason=_CPU
    ),
    Operation(("virConnectBaselineHypervisorCPU",), reason="hvcore has no such operation yet"),
    Operation(("virConnectURIProbe",), reason="a URI names the driver"),
    Operation(
        (
            "virNodeDeviceDettach", "virNodeDeviceDetachFlags", "virNodeDeviceReAttach",
            "virNodeDeviceReset",
        ),
        reason=_DEVICES,
    ),
    Operation(
        ("virNodeAllocPages", "virNodeSetMemoryParameters", "virNodeSuspendForDuration"),
        reason=_HOST,
    ),
    Operation(
        ("virNodeGetMemoryStats", "virNodeGetMemoryParameters"),
        reason="hvcore has no statistics of hosts yet",
    ),
)  # fmt: skip
"""All of them, those that work first."""
