"""The verbs that drivers may have."""

from __future__ import annotations

import enum


class Op(enum.Enum):
    """Verbs of a driver: the method's name, and libvirt's name of the operation."""

    START = ("start", "virDomainCreate")
    DESTROY = ("destroy", "virDomainDestroy")
    SHUTDOWN = ("shutdown", "virDomainShutdown")
    REBOOT = ("reboot", "virDomainReboot")
    RESET = ("reset", "virDomainReset")
    SUSPEND = ("suspend", "virDomainSuspend")
    RESUME = ("resume", "virDomainResume")
    INFO = ("info", "virDomainGetInfo")
    CONSOLE = ("console", "virDomainOpenConsole")
    LOWER = ("lower", "virConnectDomainXMLToNative")
    VERSION = ("version", "virConnectGetVersion")
    CAPABILITIES = ("capabilities", "virConnectGetCapabilities")
    SET_VCPUS = ("set_vcpus", "virDomainSetVcpusFlags")
    SET_VCPU = ("set_vcpu", "virDomainSetVcpu")
    PIN_VCPU = ("pin_vcpu", "virDomainPinVcpuFlags")
    PIN_EMULATOR = ("pin_emulator", "virDomainPinEmulator")
    PIN_IOTHREAD = ("pin_iothread", "virDomainPinIOThread")
    SET_NUMATUNE = ("set_numatune", "virDomainSetNumaParameters")
    ATTACH_DEVICE = ("attach_device", "virDomainAttachDeviceFlags")
    DETACH_DEVICE = ("detach_device", "virDomainDetachDeviceFlags")
    UPDATE_DEVICE = ("update_device", "virDomainUpdateDeviceFlags")
    SET_MEMORY = ("set_memory", "virDomainSetMemoryFlags")
    RESIZE_DISK = ("resize_disk", "virDomainBlockResize")
    INJECT_NMI = ("inject_nmi", "virDomainInjectNMI")
    BLOCK_STATS = ("block_stats", "virDomainBlockStats")
    INTERFACE_STATS = ("interface_stats", "virDomainInterfaceStats")
    DOMAIN_CAPABILITIES = ("domain_capabilities", "virConnectGetDomainCapabilities")
    SAVE = ("save", "virDomainSave")
    RESTORE = ("load", "virDomainRestore")
    DUMP = ("dump", "virDomainCoreDumpWithFormat")
    MEMORY_STATS = ("memory_stats", "virDomainMemoryStats")
    VCPU_INFO = ("vcpu_info", "virDomainGetVcpus")
    BLOCK_INFO = ("block_info", "virDomainGetBlockInfo")
    MIGRATE_BEGIN = ("migrate_begin", "virDomainMigrateBegin3Params")
    MIGRATE_PREPARE = ("migrate_prepare", "virDomainMigratePrepare3Params")
    MIGRATE = ("migrate_perform", "virDomainMigrate3")
    MIGRATE_FINISH = ("migrate_finish", "virDomainMigrateFinish3Params")
    MIGRATE_CONFIRM = ("migrate_confirm", "virDomainMigrateConfirm3Params")
    JOB_INFO = ("job_progress", "virDomainGetJobStats")
    ABORT_JOB = ("abort_job", "virDomainAbortJob")
    BLOCK_PULL = ("block_pull", "virDomainBlockRebase")
    BLOCK_COMMIT = ("block_commit", "virDomainBlockCommit")
    BLOCK_COPY = ("block_copy", "virDomainBlockCopy")
    BLOCK_JOB_INFO = ("block_job_progress", "virDomainGetBlockJobInfo")
    BLOCK_JOB_SPEED = ("block_job_speed", "virDomainBlockJobSetSpeed")
    BLOCK_JOB_ABORT = ("block_job_abort", "virDomainBlockJobAbort")
    ADD_IOTHREAD = ("add_iothread", "virDomainAddIOThread")
    REMOVE_IOTHREAD = ("remove_iothread", "virDomainDelIOThread")
    SET_IOTHREAD = ("set_iothread", "virDomainSetIOThreadParams")
    IOTHREAD_STATS = ("iothread_stats", "virConnectGetAllDomainStats")
    SET_THROTTLE_GROUP = ("set_throttle_group", "virDomainSetThrottleGroup")
    REMOVE_THROTTLE_GROUP = ("remove_throttle_group", "virDomainDelThrottleGroup")
    PM_SUSPEND = ("pm_suspend", "virDomainPMSuspendForDuration")
    PM_WAKEUP = ("pm_wakeup", "virDomainPMWakeup")
    SNAPSHOT_CREATE = ("snapshot_create", "virDomainSnapshotCreateXML")
    SNAPSHOT_REVERT = ("snapshot_revert", "virDomainRevertToSnapshot")
    SNAPSHOT_DELETE = ("snapshot_delete", "virDomainSnapshotDelete")
    AGENT_COMMAND = ("agent_command", "virDomainQemuAgentCommand")
    CPU_STATS = ("cpu_stats", "virDomainGetCPUStats")

    def __init__(self, method: str, api: str) -> None:
        self.method = method
        self.api = api
