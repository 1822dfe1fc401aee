"""Rules of changing where and on how many virtual CPUs a domain runs: libvirt's, without any I/O.

Each function changes a copy of a definition, or says why not. Sources: ``qemuDomainSetVcpus*``,
``qemuDomainPin*`` and ``qemuDomainSetNumaParameters`` of libvirt's qemu_driver.c, and
``virDomainNumatuneSet`` of numa_conf.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Final
from typing import get_args

import attrs

from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.errors import InvalidState
from hvcore.errors import Unsupported
from hvcore.model.cputune import CpuTune
from hvcore.model.cputune import EmulatorPin
from hvcore.model.cputune import IOThreadPin
from hvcore.model.cputune import VcpuPin
from hvcore.model.numatune import NumaMemory
from hvcore.model.numatune import NumaMode
from hvcore.model.numatune import NumaTune
from hvcore.model.types import NodeSet
from hvcore.rules.cpu import topology_vcpus
from hvcore.rules.domain_memory import numa_cells
from hvcore.rules.iothread import iothread_ids
from hvcore.rules.numatune import numa_mode
from hvcore.rules.numatune import numa_nodeset
from hvcore.rules.vcpu import max_vcpus
from hvcore.rules.vcpu import online_vcpus
from hvcore.rules.vcpu import vcpu_states

if TYPE_CHECKING:
    from hvcore.model.domain import Domain

MODES: Final[tuple[NumaMode, ...]] = get_args(NumaMode)
"""Modes by their number in libvirt's API (virDomainNumatuneMemMode)."""


@attrs.frozen(kw_only=True)
class Words:
    """What a refusal says, where libvirt's drivers differ; the defaults are QEMU's."""

    vcpus_live: str = (
        "requested vcpus is greater than max allowable vcpus for the live domain: {count} > {most}"
    )
    vcpus_config: str = (
        "requested vcpus is greater than max allowable vcpus for the persistent domain: "
        "{count} > {most}"
    )
    pin_live: str = "vcpu {vcpu} is out of range of live cpu count {most}"
    pin_config: str = "vcpu {vcpu} is out of range of persistent cpu count {online}"


def _invalid(message: str) -> HvError:
    return HvError(message, kind=ErrorClass.INVALID_ARG)


# -- how many --------------------------------------------------------------------------------------


def check_vcpus(domain: Domain, count: int, *, live: bool, words: Words) -> None:
    """Refuse a number of online virtual CPUs that the domain cannot have.

    :raises HvError: it is zero or above the maximum.
    """
    if count < 1:
        raise _invalid("nvcpus in virDomainSetVcpusFlags must not be zero")
    most = max_vcpus(domain)
    if count > most:
        text = words.vcpus_live if live else words.vcpus_config
        raise _invalid(text.format(count=count, most=most))


def set_vcpus(domain: Domain, count: int, *, hotpluggable: bool) -> None:
    """Let ``count`` virtual CPUs be online at the next start.

    The lowest ones that are offline come, the highest ones that are online go.

    :param hotpluggable: those that come can be unplugged again.
    """
    assert domain.vcpu is not None  # every definition has one
    states = vcpu_states(domain)
    for state in states:
        # What is not there any more may have been counted.
        state.order = None
    online = [state for state in states if state.enabled]
    offline = [state for state in states if not state.enabled]
    coming = offline[: max(count - len(online), 0)]
    if coming:
        # Those that stay forever must be the first ones.
        earlier = [state for state in online if state.id < coming[-1].id]
        hotpluggable = hotpluggable or any(state.hotpluggable for state in earlier)
    for state in coming:
        state.enabled, state.hotpluggable = True, hotpluggable
    for state in online[count:]:
        state.enabled, state.hotpluggable = False, True
    if domain.vcpus or (coming and hotpluggable):
        domain.vcpus = states
    domain.vcpu.current = count if count < domain.vcpu.count else None


def check_chosen_vcpus(domain: Domain, vcpus: NodeSet, *, live: bool) -> None:
    """Refuse to enable or disable virtual CPUs that there are not.

    :raises HvError: there are none of these numbers, or no numbers.
    """
    if not vcpus:
        raise _invalid("no vcpus selected for modification")
    last = max(vcpus)
    if last >= max_vcpus(domain):
        where = "live" if live else "persistent"
        raise _invalid(f"vcpu {last} is not present in {where} config")


def choose_vcpus(domain: Domain, vcpus: NodeSet, *, enabled: bool) -> None:
    """Let some virtual CPUs be online, or offline, at the next start.

    :raises HvError: one of them is the first, or others that stay for ever come after them.
    """
    assert domain.vcpu is not None  # every definition has one
    if 0 in vcpus:
        raise _invalid("vCPU '0' can't be modified")
    states, first = vcpu_states(domain), min(vcpus)
    for state in states[first + 1 :]:
        if state.id not in vcpus and state.enabled and not state.hotpluggable:
            raise _invalid(
                f"vcpu '{first}' can't be modified as it is followed by non-hotpluggable online"
                " vcpus"
            )
    for state in states:
        state.order = None
        if state.id in vcpus:
            state.enabled, state.hotpluggable = enabled, True
    domain.vcpus = states
    online = online_vcpus(domain)
    domain.vcpu.current = online if online < domain.vcpu.count else None


def set_max_vcpus(domain: Domain, count: int) -> None:
    """Let ``count`` virtual CPUs be possible from the next start on.

    What was said of those that are not there any more goes with them.

    :raises HvError: the guest's topology or nodes say another number.
    """
    if count < 1:
        raise _invalid("nvcpus in virDomainSetVcpusFlags must not be zero")
    assert domain.vcpu is not None  # every definition has one
    if sum(len(cell.cpus or ()) for cell in numa_cells(domain)) > count:
        raise _invalid("Number of CPUs in <numa> exceeds the desired maximum vcpu count")
    if topology_vcpus(domain.cpu) not in (None, count):
        raise _invalid("CPU topology doesn't match the desired vcpu count")
    states = vcpu_states(domain)[:count]
    online = sum(state.enabled for state in states)
    if domain.vcpus:
        domain.vcpus = states
    domain.vcpu.count = count
    domain.vcpu.current = online if online < count else None
    if domain.cputune is not None:
        _forget_vcpus(domain.cputune, count)


def _forget_vcpus(tune: CpuTune, count: int) -> None:
    """Drop what ``tune`` says of virtual CPUs from ``count`` on."""
    kept = NodeSet.from_mask((1 << count) - 1)
    tune.vcpupins = [pin for pin in tune.vcpupins if pin.vcpu < count]
    for entry in tune.vcpuscheds:
        entry.vcpus &= kept
    tune.vcpuscheds = [entry for entry in tune.vcpuscheds if entry.vcpus]


# -- where -----------------------------------------------------------------------------------------


def _tune(domain: Domain) -> CpuTune:
    if domain.cputune is None:
        domain.cputune = CpuTune()
    return domain.cputune


def check_cpus(cpus: NodeSet, *, iothread: bool = False) -> None:
    """Refuse to pin to no CPU at all.

    :raises HvError: the set is empty.
    """
    if not cpus:
        what = "iothread cpumap" if iothread else "cpu"
        raise _invalid(f"Empty {what} list for pinning")


def check_vcpu(domain: Domain, vcpu: int, *, live: bool, words: Words) -> None:
    """Refuse a virtual CPU that the domain cannot have.

    :raises HvError: there is none of this number.
    """
    most = max_vcpus(domain)
    if not 0 <= vcpu < most:
        text = words.pin_live if live else words.pin_config
        # The persistent count in the text is that of the CPUs online, as in libvirt.
        raise _invalid(text.format(vcpu=vcpu, most=most, online=online_vcpus(domain)))


def set_vcpu_pin(domain: Domain, vcpu: int, cpus: NodeSet) -> None:
    """Pin one virtual CPU."""
    tune = _tune(domain)
    others = [pin for pin in tune.vcpupins if pin.vcpu != vcpu]
    tune.vcpupins = sorted([*others, VcpuPin(vcpu=vcpu, cpuset=cpus)], key=lambda pin: pin.vcpu)


def drop_vcpu_pin(domain: Domain, vcpu: int) -> None:
    """Forget where one virtual CPU was pinned."""
    if domain.cputune is not None:
        domain.cputune.vcpupins = [pin for pin in domain.cputune.vcpupins if pin.vcpu != vcpu]


def set_emulator_pin(domain: Domain, cpus: NodeSet) -> None:
    """Pin the hypervisor's own threads."""
    _tune(domain).emulatorpin = EmulatorPin(cpuset=cpus)


def check_iothread(domain: Domain, number: int, *, live: bool) -> None:
    """Refuse an I/O thread that the domain does not have.

    :raises HvError: there is none of this number.
    """
    if number not in iothread_ids(domain):
        raise _invalid(f"iothread{'' if live else 'id'} {number} not found")


def set_iothread_pin(domain: Domain, number: int, cpus: NodeSet) -> None:
    """Pin one I/O thread."""
    tune = _tune(domain)
    others = [pin for pin in tune.iothreadpins if pin.iothread != number]
    pins = [*others, IOThreadPin(iothread=number, cpuset=cpus)]
    tune.iothreadpins = sorted(pins, key=lambda pin: pin.iothread)


# -- memory ----------------------------------------------------------------------------------------


def parse_nodeset(text: str) -> NodeSet:
    """Return the nodes that a caller gave.

    :raises HvError: it is no set, or an empty one.
    """
    try:
        nodes = NodeSet.parse(text)
    except ValueError as error:
        raise _invalid(str(error)) from error
    if not nodes:
        raise InvalidState(f"Invalid nodeset of 'numatune': {text}")
    return nodes


def check_mode(mode: NumaMode | int) -> NumaMode:
    """Return a mode given by its name or by its number in libvirt's API.

    :raises HvError: there is none such.
    """
    if isinstance(mode, int):
        if not 0 <= mode < len(MODES):
            raise _invalid(f"unsupported numatune mode: '{mode}'")
        return MODES[mode]
    if mode not in MODES:
        raise _invalid(f"unsupported numatune mode: '{mode}'")
    return mode


def check_numatune_mode(domain: Domain, mode: NumaMode | None) -> None:
    """Refuse another mode than the one a running domain was started with.

    :raises InvalidState: it differs.
    """
    configured = numa_mode(domain)
    if mode is not None and configured is not None and configured != mode:
        raise InvalidState("can't change numatune mode for running domain")


def numatune_changes(
    domain: Domain,
    mode: NumaMode | None,
    nodes: NodeSet | None,
    *,
    advice: NodeSet | None,
    movable: NumaMode,
) -> bool:
    """Tell whether a change asked for of a running domain is one at all.

    :param advice: numad's, for automatic placement.
    :param movable: the mode in which the driver can move memory.
    :raises InvalidState: it is one that cannot be made.
    """
    check_numatune_mode(domain, mode)
    if mode == "strict":
        if (nodes or NodeSet()) != (numa_nodeset(domain, advice) or NodeSet()):
            raise InvalidState("can't change nodeset for strict mode for running domain")
        return False
    configured = numa_mode(domain)
    if nodes is not None and configured not in (None, movable):
        raise InvalidState(f"change of nodeset for running domain requires {movable} numa mode")
    return True


def set_numatune(domain: Domain, mode: NumaMode | None, nodes: NodeSet | None) -> None:
    """Set mode and nodes of all memory that has none of its own; None leaves what there is.

    :raises Unsupported: static placement is left without nodes.
    """
    if mode is None and nodes is None:
        return
    assert domain.vcpu is not None  # every definition has one
    if domain.numatune is None:
        domain.numatune = NumaTune()
    memory = domain.numatune.memory
    if memory is None:
        static = nodes is not None or domain.vcpu.placement == "static"
        memory = NumaMemory(mode="strict", placement="static" if static else "auto")
    memory.mode = mode or memory.mode
    if nodes is not None:
        memory.nodeset, memory.placement = nodes, "static"
    if memory.placement == "static" and memory.nodeset is None:
        raise Unsupported(
            "nodeset for NUMA memory tuning must be set if 'placement' is 'static'",
            kind=ErrorClass.CONFIG_UNSUPPORTED,
        )
    domain.numatune.memory = memory
