"""How guests get into files and out of them: the same for all drivers.

A saved guest is its document and what the hypervisor wrote. While a file is written the guest
stands still, and the domain ends only when the file is complete; whatever goes wrong before lets
it run on.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from hvcore import events
from hvcore import saveimage
from hvcore.errors import DriverError
from hvcore.errors import InvalidState
from hvcore.events import StartedDetail
from hvcore.events import SuspendedDetail
from hvcore.jobs import AsyncJob
from hvcore.lifecycle import PausedReason
from hvcore.lifecycle import RunningReason
from hvcore.lifecycle import ShutoffReason
from hvcore.lifecycle import State
from hvcore.operations import Op
from hvcore.origin import Origin
from hvcore.saveimage import Image
from hvcore.saveimage import IncompleteImage

if TYPE_CHECKING:
    from hvcore.driver import Record
    from hvcore.engine import Engine
    from hvcore.pipeline import Definition
    from hvcore.saveimage import SaveFile

_log = logging.getLogger(__name__)


async def save(
    engine: Engine,
    known: Record,
    path: str | None,
    *,
    xml: str | bytes | None,
    running: bool | None,
) -> None:
    """Write a guest into a file and end it.

    :param path: None for the saved state that its next start begins with.
    :param xml: the document to restore with instead of its own.
    :param running: whether it is to run when restored; as it does now unless given.
    :raises InvalidState: it does not run, or is transient and has no next start.
    :raises DriverError: that fails; the guest goes on.
    """
    if Op.SAVE not in engine.driver.operations():
        raise engine.driver.unsupported(Op.SAVE)
    operation = "virDomainManagedSave" if path is None else Op.SAVE.api
    async with engine.work(known, operation, AsyncJob.SAVE) as record:
        if path is None and record.persistent is None:
            raise InvalidState("cannot do managed save for transient domain", domain=record.name)
        if record.blockjobs:
            raise InvalidState("domain has active block job", domain=record.name)
        ran = record.state is State.RUNNING
        document = _document(record.definition)
        if xml is not None:
            document = await _changed(engine, record.definition, xml, volatile=True)
        image = Image(
            document=document,
            running=ran if running is None else running,
            driver=engine.driver.name,
        )
        if path is None:
            file = engine.saves.create(record.uuid, image)
        else:
            file = saveimage.create(path, image)
        try:
            with file:
                await engine.driver.save(record, file.fd)
                await asyncio.to_thread(file.finish)
        except BaseException:
            if path is None:
                engine.saves.remove(record.uuid, missing_ok=True)
            else:
                saveimage.discard(path)
            if record.active:
                await engine.driver.save_failed(record, resume=ran)
            raise
        await engine.end(record, ShutoffReason.SAVED, events.StoppedDetail.SAVED)


async def restore(
    engine: Engine, file: SaveFile, *, xml: str | bytes | None, running: bool | None
) -> Record:
    """Start the guest of a file.

    :param running: whether it is to run; as the file says unless given.
    :raises StateError: it runs already, or its name belongs to another domain.
    :raises LaunchError: it did not come up.
    """
    await engine.own()
    definition = engine.driver.restore(file.image.document)
    if xml is not None:
        document = await _changed(engine, definition, xml, volatile=True)
        definition = engine.driver.restore(document)
    record = engine.admit(await engine.driver.completed(definition), check_live=True)
    try:
        await _begin(engine, record, definition, file, running=running)
    except BaseException:
        if record.persistent is None and not record.active:
            engine.remove(record)
        raise
    return record


async def start(engine: Engine, known: Record, *, paused: bool, force_boot: bool = False) -> None:
    """Start a defined domain: with its saved state if it has one, and otherwise afresh.

    :param force_boot: remove the saved state, if there is one.
    :raises InvalidState: it runs already.
    :raises LaunchError: it did not come up.
    """
    await engine.own()
    record = engine.refresh(known)
    if not record.active and engine.saves.has(record.uuid):
        if force_boot:
            engine.saves.remove(record.uuid)
        elif await _start_saved(engine, record, paused=paused):
            return
    await engine.start(record, paused=paused)


async def _start_saved(engine: Engine, record: Record, *, paused: bool) -> bool:
    try:
        file = engine.saves.open(record.uuid)
    except IncompleteImage:
        _log.warning("Ignoring incomplete managed state of domain '%s'", record.name)
        engine.saves.remove(record.uuid)
        return False
    with file:
        definition = engine.driver.restore(file.image.document)
        running = False if paused else None
        await _begin(engine, record, definition, file, running=running, operation=Op.START.api)
    engine.saves.remove(record.uuid)
    return True


async def _begin(
    engine: Engine,
    record: Record,
    definition: Definition,
    file: SaveFile,
    *,
    running: bool | None,
    operation: str = Op.RESTORE.api,
) -> None:
    driver = engine.driver
    if file.image.driver != driver.name:
        raise DriverError(f"image was saved by driver '{file.image.driver}'", driver=driver.name)
    runs = file.image.running if running is None else running

    async def begin(started: Record) -> None:
        await driver.load(started, file.fd, paused=not runs)

    detail = SuspendedDetail.RESTORED if running is None else SuspendedDetail.PAUSED
    origin = Origin(
        begin=begin,
        running=RunningReason.RESTORED,
        paused=PausedReason.MIGRATION,
        started=StartedDetail.RESTORED,
        suspended=detail,
    )
    await engine.start(record, definition, paused=not runs, operation=operation, origin=origin)


def show(file: SaveFile, engine: Engine, *, secure: bool) -> str:
    """Return the document in a file.

    :param secure: with passwords.
    """
    return engine.driver.restore(file.image.document).xml(secure=secure)


async def define(engine: Engine, file: SaveFile, xml: str | bytes, *, running: bool | None) -> None:
    """Change the document in a file, and whether the guest is to run.

    :raises ValidationFailed: the guest would see another machine.
    :raises DriverError: the document does not fit.
    """
    definition = engine.driver.restore(file.image.document)
    image = file.image
    changed = Image(
        document=await _changed(engine, definition, xml, volatile=True),
        running=image.running if running is None else running,
        driver=image.driver,
        notes=image.notes,
    )
    await asyncio.to_thread(file.replace, changed)


async def dump(
    engine: Engine,
    known: Record,
    path: str,
    *,
    kind: str | None,
    crash: bool,
    live: bool,
    reset: bool,
) -> None:
    """Write the memory of a guest into a file.

    :param kind: format of memory alone, such as ``elf``; None for the hypervisor's own format.
    :param crash: end it afterwards, as crashed.
    :param live: let it run meanwhile.
    :param reset: reset it afterwards.
    :raises InvalidState: it does not run.
    :raises DriverError: that fails.
    """
    driver = engine.driver
    async with engine.work(known, Op.DUMP.api, AsyncJob.DUMP) as record:
        ran = record.state is State.RUNNING
        file = saveimage.create_private(path)
        try:
            await driver.dump(record, file, kind=kind, live=live)
            await asyncio.to_thread(saveimage.close_durably, file, path)
        except BaseException:
            saveimage.discard(path)
            if ran and record.active:
                await driver.dump_done(record, reset=False, resume=True)
            raise
        if crash:
            await engine.end(record, ShutoffReason.CRASHED, events.StoppedDetail.CRASHED)
        else:
            await driver.dump_done(record, reset=reset, resume=ran)


def _document(definition: Definition) -> str:
    return definition.xml(inactive=True, secure=True, migratable=True)


async def _changed(
    engine: Engine, definition: Definition, xml: str | bytes, *, volatile: bool
) -> str:
    """Return a document that replaces that of ``definition``.

    :raises AbiChanged: the guest would see another machine.
    """
    from hvcore.abi import require_same  # noqa: PLC0415 - only for documents by hand

    driver = engine.driver
    changed = driver.restore(xml)
    before, after = definition.domain, changed.domain
    await require_same(driver, before, after, document=xml, volatile=volatile)
    return _document(changed)
