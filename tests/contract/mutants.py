"""Drivers that are wrong in one way each; the contract suite has to notice.

A mutant is a driver and what is done to it: most wrap what the driver reports, so they would be
mistakes in any driver.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from hvcore import events
from hvcore.errors import HvError
from hvcore.errors import UnsupportedOperation
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from hvcore.operations import Op
from hvcore_test.driver import TestDriver

EXAMPLE = Path(__file__).parents[2] / "examples" / "thirdparty-driver"
sys.path.insert(0, str(EXAMPLE))

from hvcore_toy.driver import ToyDriver  # noqa: E402 - found by the line above


class Reports:
    """Hands on what a driver reports; mutants override what they get wrong."""

    def __init__(self, to):
        self.to = to

    def save(self, record):
        self.to.save(record)

    def transition(self, record, reason, *happened):
        self.to.transition(record, reason, *happened)

    def publish(self, record, *happened):
        self.to.publish(record, *happened)

    def stopped(self, record, reason, detail):
        self.to.stopped(record, reason, detail)

    def __getattr__(self, name):
        return getattr(self.to, name)


MUTANTS = {}
"""Driver class and the suite's classes that should notice, by what is wrong."""


def mutant(driver, *notices):
    """Add a mutant that is a driver with other verbs, or one whose reports go through a class."""

    def add(cls):
        made = cls
        if issubclass(cls, Reports):

            def init(self, setup):
                driver.__init__(self, setup)
                self.reports = cls(setup.reports)

            made = type(cls.__name__, (driver,), {"__init__": init})
        MUTANTS[cls.__name__] = (made, notices)
        return cls

    return add


# -- what is announced --------------------------------------------------------------------------


@mutant(TestDriver, "TestLifecycle")
class DropsAnEvent(Reports):
    def transition(self, record, reason, *happened):
        kept = [event for event in happened if not isinstance(event, events.Resumed)]
        self.to.transition(record, reason, *kept)


@mutant(TestDriver, "TestLifecycle")
class RepeatsAnEvent(Reports):
    def transition(self, record, reason, *happened):
        self.to.transition(record, reason, *happened, *happened)


@mutant(TestDriver, "TestEvents")
class AnnouncesBeforeTheState(Reports):
    def transition(self, record, reason, *happened):
        self.to.publish(record, *happened)
        self.to.transition(record, reason)


@mutant(ToyDriver, "TestEvents")
class AnnouncesBeforeTheStatusIsWritten(Reports):
    def transition(self, record, reason, *happened):
        record.reason = reason
        self.to.publish(record, *happened)
        self.to.save(record)


@mutant(TestDriver, "TestLifecycle")
class AnnouncesTheWrongDetail(Reports):
    def stopped(self, record, reason, detail):
        del detail
        self.to.stopped(record, reason, events.StoppedDetail.CRASHED)


@mutant(TestDriver, "TestLifecycle")
class AnnouncesNoReset(TestDriver):
    async def reset(self, record):
        record.runtime.reset()


# -- states -------------------------------------------------------------------------------------


@mutant(TestDriver, "TestLifecycle")
class SkipsAStateChange(Reports):
    def transition(self, record, reason, *happened):
        del reason
        self.to.publish(record, *happened)


@mutant(TestDriver, "TestLifecycle")
class GivesTheWrongReason(Reports):
    def transition(self, record, reason, *happened):
        wrong = {PausedReason.USER: PausedReason.UNKNOWN}
        self.to.transition(record, wrong.get(reason, reason), *happened)


@mutant(TestDriver, "TestLifecycle")
class ForgetsWhyItRuns(Reports):
    def transition(self, record, reason, *happened):
        wrong = {RunningReason.UNPAUSED: RunningReason.BOOTED}
        self.to.transition(record, wrong.get(reason, reason), *happened)


@mutant(TestDriver, "TestLifecycle")
class IgnoresThePowerButton(TestDriver):
    async def shutdown(self, record):
        record.runtime.powerdown()


@mutant(ToyDriver, "TestReconnect")
class TakesACrashForAnEnd(Reports):
    def stopped(self, record, reason, detail):
        del reason, detail
        self.to.stopped(record, ShutoffReason.SHUTDOWN, events.StoppedDetail.SHUTDOWN)


@mutant(ToyDriver, "TestLifecycle")
class TellsOfTheEndBeforeItsDestroyer(ToyDriver):
    async def destroy(self, record, *, graceful):
        record.destroying = False
        await super().destroy(record, graceful=graceful)


# -- verbs --------------------------------------------------------------------------------------


@mutant(ToyDriver, "TestErrors")
class SwallowsAnError(ToyDriver):
    async def start(self, record, *, paused):
        try:
            await super().start(record, paused=paused)
        except HvError:
            return


@mutant(ToyDriver, "TestReconnect")
class LeavesTheProcessBehind(ToyDriver):
    async def destroy(self, record, *, graceful):
        del record, graceful


@mutant(ToyDriver, "TestReconnect")
class DoesNotWriteDownTheProcess(ToyDriver):
    async def start(self, record, *, paused):
        await super().start(record, paused=paused)
        record.process = None


@mutant(ToyDriver, "TestReconnect")
class GivesUpWhatRunsOnReconnect(ToyDriver):
    async def reconnect(self, record, status):
        del status
        self.reports.stopped(record, ShutoffReason.CRASHED, events.StoppedDetail.CRASHED)


@mutant(TestDriver, "TestOperations")
class ListsAVerbItDoesNotHave(TestDriver):
    async def console(self, record, alias):
        del alias
        raise self.unsupported(Op.CONSOLE, record)


@mutant(TestDriver, "TestOperations")
class RefusesInItsOwnWay(TestDriver):
    async def console(self, record, alias):
        raise NotImplementedError


@mutant(TestDriver, "TestOperations")
class RefusesUnderAnotherName(TestDriver):
    async def console(self, record, alias):
        raise UnsupportedOperation("openConsole", driver=self.name, domain=record.name)


@mutant(TestDriver, "TestTuning")
class PlugsNoCpu(TestDriver):
    async def set_vcpus(self, record, live, count):
        record.runtime.set_vcpus(count)


@mutant(TestDriver, "TestDevices")
class PlugsADeviceAndForgetsIt(TestDriver):
    async def attach_device(self, record, live, device):
        await super().attach_device(record, self.registry.binding.clone(live), device)


@mutant(TestDriver, "TestDevices")
class SaysThatADeviceIsGone(TestDriver):
    async def detach_device(self, record, live, device, within):
        return True


@mutant(TestDriver, "TestDevices")
class ChangesADeviceThatIsNotThere(TestDriver):
    async def update_device(self, record, live, device, *, force):
        pass


@mutant(TestDriver, "TestTuning")
class PinsNoIothread(TestDriver):
    async def pin_iothread(self, record, live, number, cpus):
        pass


@mutant(TestDriver, "TestFailures")
class SwallowsAFailedPause(TestDriver):
    async def suspend(self, record):
        with contextlib.suppress(HvError):
            await super().suspend(record)


@mutant(TestDriver, "TestLifecycle")
class KnowsNoMemory(TestDriver):
    async def info(self, record):
        from hvcore.driver import Info

        return Info(memory=0, cpu_time=0)


@mutant(TestDriver, "TestSaving")
class SavesNothing(TestDriver):
    async def save(self, record, fd):
        pass


@mutant(TestDriver, "TestSaving")
class StandsStillAfterADump(TestDriver):
    async def dump_done(self, record, *, reset, resume):
        pass


@mutant(TestDriver, "TestResizing")
class TakesNoMemory(TestDriver):
    async def set_memory(self, record, live, size):
        record.runtime.set_memory(size)


@mutant(TestDriver, "TestBlockJobs")
class PullsNothing(TestDriver):
    async def block_pull(self, record, live, job):
        pass


@mutant(TestDriver, "TestResizing")
class LeavesADiskAsItIs(TestDriver):
    async def resize_disk(self, record, live, disk, size):
        pass


@mutant(TestDriver, "TestStatistics")
class KnowsNoVirtualCpus(TestDriver):
    async def vcpu_info(self, record):
        return []
