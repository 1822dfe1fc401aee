"""Verbs that change virtual CPUs, where threads run and where memory comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any
from typing import NoReturn

import click

from hvcore.cli.session import domain_argument
from hvcore.cli.words import Number
from hvcore.errors import ErrorClass
from hvcore.errors import HvError

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from collections.abc import Callable

    from hvcore.cli.session import Session
    from hvcore.domain import Domain
    from hvcore.host import Host
    from hvcore.model.types import NodeSet


def scope_options(command: Any) -> Any:
    """Add virsh's options that say what is meant: the guest, the next start, or what there is."""
    for name, text in (
        ("current", "what runs, or the next start when nothing does (the default)"),
        ("live", "what runs"),
        ("config", "the next start"),
    ):
        command = click.option(f"--{name}", is_flag=True, help=text)(command)
    return command


def scope(options: dict[str, Any]) -> dict[str, bool | None]:
    """Return the options of :func:`scope_options` as the API takes them.

    :raises UsageError: ``--current`` beside one of the others.
    """
    for other in ("live", "config"):
        if options["current"] and options[other]:
            raise click.UsageError(f"Options --current and --{other} are mutually exclusive")
    return {"live": options["live"] or None, "config": options["config"] or None}


# -- how many -------------------------------------------------------------------------------------


@click.command()
@domain_argument
@click.argument("count", type=Number())
@click.option("--maximum", is_flag=True, help="how many there can be, at the next start")
@click.option("--hotpluggable", is_flag=True, help="those that come can be unplugged again")
@scope_options
@click.pass_obj
def setvcpus(session: Session, /, domain: str, count: int, **options: Any) -> None:
    """Change the number of virtual CPUs."""
    where = scope(options)
    if count == 0:
        _refuse(session, "Can't set 0 processors for a VM")
    if options["maximum"] and not options["config"]:
        _refuse(session, "--maximum must be used with --config")

    async def work(host: Host, found: Domain) -> None:
        del host
        if options["maximum"]:
            await found.set_max_vcpus(count)
        else:
            await found.set_vcpus(count, hotpluggable=options["hotpluggable"], **where)

    session.on(domain, work)
    session.done("")


@click.command()
@domain_argument
@click.argument("vcpulist")
@click.option("--enable", is_flag=True, help="let them be online")
@click.option("--disable", is_flag=True, help="let them be offline")
@scope_options
@click.pass_obj
def setvcpu(session: Session, /, domain: str, vcpulist: str, **options: Any) -> None:
    """Plug or unplug certain virtual CPUs."""
    where = scope(options)
    if options["enable"] and options["disable"]:
        raise click.UsageError("Options --enable and --disable are mutually exclusive")
    if not (options["enable"] or options["disable"]):
        _refuse(session, "one of options --enable or --disable is required by command 'setvcpu'")

    async def work(host: Host, found: Domain) -> None:
        del host
        await found.set_vcpu(vcpulist, enabled=options["enable"], **where)

    session.on(domain, work)
    session.done("")


@click.command()
@domain_argument
@click.option("--maximum", is_flag=True, help="how many there can be")
@click.option("--active", is_flag=True, help="how many are online (the default)")
@scope_options
@click.pass_obj
def vcpucount(session: Session, /, domain: str, **options: Any) -> None:
    """Show how many virtual CPUs there are and can be."""
    where = scope(options)
    if options["maximum"] and options["active"]:
        raise click.UsageError("Options --maximum and --active are mutually exclusive")
    chosen = any(options.values())

    async def work(host: Host, found: Domain) -> Any:
        del host
        if chosen:
            return await found.vcpu_count(maximum=options["maximum"], **where)
        counts = []
        for maximum in (True, False):
            for place, there in (("config", found.is_persistent), ("live", found.is_active)):
                if there:
                    scope_ = {place: True}
                    count = await found.vcpu_count(maximum=maximum, **scope_)
                    counts.append(("maximum" if maximum else "current", place, count))
        return counts

    found = session.on(domain, work)
    if chosen:
        session.value(found, str(found))
        return
    rows = [{"what": what, "where": place, "count": count} for what, place, count in found]
    session.value(rows, "\n".join(f"{w:<12} {p:<12} {c:>3}" for w, p, c in found) + "\n")


# -- where ----------------------------------------------------------------------------------------


def _cpulist(session: Session, text: str, count: int) -> NodeSet:
    """Return the CPUs that virsh's argument names, ``r`` being all; end the program for others."""
    from hvcore.model.types import NodeSet  # noqa: PLC0415 - only to change a pin

    if text == "r":
        return NodeSet.from_mask((1 << count) - 1)
    try:
        cpus = NodeSet.parse(text)
    except ValueError:
        _refuse(session, f"Invalid cpulist '{text}'")
    for number in cpus:
        if number >= count:
            _refuse(session, f"CPU {number} in cpulist '{text}' exceed the maxcpu {count}")
    return cpus


def _shown(cpus: NodeSet | None, count: int) -> str:
    """Return a mask for people: what may run everywhere shows the whole host."""
    if cpus is None:
        return f"0-{count - 1}" if count > 1 else "0"
    return str(cpus)


async def _host_cpus(host: Host) -> int:
    return (await host.nodeinfo()).cpus


def _masks(
    session: Session,
    domain: str,
    column: str,
    ask: Callable[[Domain], Awaitable[dict[int, NodeSet | None]]],
) -> None:
    """Print the masks of threads, by their number."""

    async def work(host: Host, found: Domain) -> dict[int, str]:
        count = await _host_cpus(host)
        masks = await ask(found)
        return {n: _shown(mask, count) for n, mask in masks.items()}

    masks = session.on(domain, work)
    if session.as_json:
        session.value(masks, "")
    else:
        session.table((column, "CPU Affinity"), [(str(n), text) for n, text in masks.items()])


def _pin(
    session: Session,
    domain: str,
    cpulist: str,
    change: Callable[[Domain, NodeSet], Awaitable[None]],
) -> None:
    async def work(host: Host, found: Domain) -> None:
        await change(found, _cpulist(session, cpulist, await _host_cpus(host)))

    session.on(domain, work)
    session.done("")


@click.command()
@domain_argument
@click.argument("vcpu", type=Number(), required=False)
@click.argument("cpulist", required=False)
@click.option("--vcpu", "vcpu_option", type=Number(), help="number of the virtual CPU")
@click.option("--cpulist", "cpulist_option", help="host CPUs, as 0-3,^2; r for all")
@scope_options
@click.pass_obj
def vcpupin(
    session: Session, /, domain: str, vcpu: int | None, cpulist: str | None, **options: Any
) -> None:
    """Show or change the host CPUs that virtual CPUs may run on."""
    where = scope(options)
    number = options["vcpu_option"] if vcpu is None else vcpu
    cpus = options["cpulist_option"] if cpulist is None else cpulist
    if cpus is None:
        _masks(session, domain, "VCPU", lambda found: _vcpu_pins(session, found, number, where))
        return
    if number is None:
        _refuse(session, "vcpupin: Missing vCPU number in pin mode.")
    _pin(session, domain, cpus, lambda found, mask: found.pin_vcpu(number, mask, **where))


async def _vcpu_pins(
    session: Session, found: Domain, number: int | None, where: dict[str, bool | None]
) -> dict[int, NodeSet | None]:
    """Return where virtual CPUs may run, or where one may; end the program if there is none."""
    masks = await found.vcpu_pins(**where)
    if number is None:
        return masks
    if number not in masks:
        live = where["live"] or (not where["config"] and found.is_active)
        kind = "live" if live else "persistent"
        _refuse(session, f"vcpu {number} is out of range of {kind} cpu count {len(masks)}")
    return {number: masks[number]}


@click.command()
@domain_argument
@click.argument("cpulist", required=False)
@click.option("--cpulist", "cpulist_option", help="host CPUs, as 0-3,^2; r for all")
@scope_options
@click.pass_obj
def emulatorpin(session: Session, /, domain: str, cpulist: str | None, **options: Any) -> None:
    """Show or change the host CPUs that the hypervisor's own threads may run on."""
    where = scope(options)
    cpus = options["cpulist_option"] if cpulist is None else cpulist
    if cpus is not None:
        _pin(session, domain, cpus, lambda found, mask: found.pin_emulator(mask, **where))
        return

    async def work(host: Host, found: Domain) -> str:
        return _shown(await found.emulator_pin(**where), await _host_cpus(host))

    mask = session.on(domain, work)
    if session.as_json:
        session.value(mask, "")
    else:
        session.table(("emulator", "CPU Affinity"), [("*", mask)])


@click.command()
@domain_argument
@click.argument("iothread", type=Number())
@click.argument("cpulist")
@scope_options
@click.pass_obj
def iothreadpin(
    session: Session, /, domain: str, iothread: int, cpulist: str, **options: Any
) -> None:
    """Change the host CPUs that an I/O thread may run on."""
    where = scope(options)
    _pin(session, domain, cpulist, lambda found, mask: found.pin_iothread(iothread, mask, **where))


@click.command()
@domain_argument
@scope_options
@click.pass_obj
def iothreadinfo(session: Session, /, domain: str, **options: Any) -> None:
    """Show the I/O threads and the host CPUs they may run on."""
    where = scope(options)
    _masks(session, domain, "IOThread ID", lambda found: found.iothread_pins(**where))


# -- memory ---------------------------------------------------------------------------------------


@click.command()
@domain_argument
@click.argument("mode", required=False)
@click.argument("nodeset", required=False)
@click.option("--mode", "mode_option", help="strict, preferred, interleave or restrictive")
@click.option("--nodeset", "nodeset_option", help="host NUMA nodes, as 0-3,^2")
@scope_options
@click.pass_obj
def numatune(
    session: Session, /, domain: str, mode: str | None, nodeset: str | None, **options: Any
) -> None:
    """Show or change the host nodes that memory comes from."""
    where = scope(options)
    mode = options["mode_option"] if mode is None else mode
    nodeset = options["nodeset_option"] if nodeset is None else nodeset
    if mode is None and nodeset is None:

        async def show(host: Host, found: Domain) -> tuple[str, str]:
            del host
            parameters = await found.numa_parameters(**where)
            return parameters.mode, str(parameters.nodeset)

        name, nodes = session.on(domain, show, failing="Unable to get numa parameters")
        text = f"{'numa_mode':<15}: {name}\n{'numa_nodeset':<15}: {nodes}\n"
        session.value({"numa_mode": name, "numa_nodeset": nodes}, text)
        return
    wanted: Any = int(mode) if mode is not None and mode.isascii() and mode.isdigit() else mode

    async def work(host: Host, found: Domain) -> None:
        del host
        await found.set_numa_parameters(mode=wanted, nodeset=nodeset, **where)

    session.on(domain, work, failing="Unable to change numa parameters")
    session.done("")


def _refuse(session: Session, message: str) -> NoReturn:
    session.fail(HvError(message, kind=ErrorClass.SYSTEM))
