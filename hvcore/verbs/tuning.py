"""Virtual CPUs, where threads run and where memory comes from, changed and asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from typing import ClassVar

import attrs

from hvcore.errors import ErrorClass
from hvcore.errors import HvError
from hvcore.model.types import NodeSet
from hvcore.operations import Op
from hvcore.verbs.base import Handle
from hvcore.verbs.base import Verbs

if TYPE_CHECKING:
    from hvcore.driver import Record
    from hvcore.model.domain import Domain as Model
    from hvcore.model.numatune import NumaMode
    from hvcore.rules.placement import Advice
    from hvcore.rules.tuning import Words

CpuSet = NodeSet | str | Iterable[int]
"""How a caller may give a set: as libvirt writes it (``0-3,^2``), or as numbers."""


@attrs.frozen(kw_only=True)
class NumaParameters:
    """Where memory without nodes of its own comes from.

    :param mode: ``strict`` where nothing is configured.
    :param nodeset: host nodes; empty for any.
    """

    mode: NumaMode
    nodeset: NodeSet


class TuningVerbs(Verbs):
    """What a driver may override.

    Each verb gets ``live``, a copy of the running definition, which becomes the definition when
    the verb returns or raises: change it as the guest changes, with :mod:`hvcore.rules.tuning`.
    """

    tuning_words: ClassVar[Words | None] = None
    """Refusals in the driver's own words; None for QEMU's."""

    def check_emulator_pin(self, domain: Model) -> None:
        """Refuse to pin the hypervisor's threads of a domain; nothing is refused unless overridden.

        :raises HvError: with the reason.
        """
        del domain

    async def set_vcpus(self, record: Record, live: Model, count: int) -> None:
        """Plug or unplug virtual CPUs until ``count`` are online; return when they are.

        :raises HvError: the hypervisor or the guest refuses.
        """
        del live, count
        raise self.unsupported(Op.SET_VCPUS, record)

    async def set_vcpu(self, record: Record, live: Model, vcpus: NodeSet, *, enabled: bool) -> None:
        """Plug or unplug the virtual CPUs of one entity that can be plugged; return when done.

        :raises HvError: they are no such entity, or the hypervisor or the guest refuses.
        """
        del live, vcpus, enabled
        raise self.unsupported(Op.SET_VCPU, record)

    async def pin_vcpu(self, record: Record, live: Model, vcpu: int, cpus: NodeSet) -> None:
        """Pin a virtual CPU; one that is offline is only remembered."""
        del live, vcpu, cpus
        raise self.unsupported(Op.PIN_VCPU, record)

    async def pin_emulator(self, record: Record, live: Model, cpus: NodeSet) -> None:
        """Pin the hypervisor's own threads."""
        del live, cpus
        raise self.unsupported(Op.PIN_EMULATOR, record)

    async def pin_iothread(self, record: Record, live: Model, number: int, cpus: NodeSet) -> None:
        """Pin an I/O thread."""
        del live, number, cpus
        raise self.unsupported(Op.PIN_IOTHREAD, record)

    async def set_numatune(
        self, record: Record, live: Model, mode: NumaMode | None, nodes: NodeSet | None
    ) -> None:
        """Move memory to other host nodes; None leaves mode or nodes as they are.

        :raises InvalidState: memory cannot be moved in this mode.
        """
        del live, mode, nodes
        raise self.unsupported(Op.SET_NUMATUNE, record)


class TuningHandle(Handle):
    """What a handle on a domain offers.

    ``live`` changes what runs, ``config`` the next start, both can be asked for at once; neither
    means what runs if it does and the next start otherwise.
    """

    __slots__ = ()

    async def vcpu_count(
        self, *, live: bool | None = None, config: bool | None = None, maximum: bool = False
    ) -> int:
        """Return how many virtual CPUs are online.

        :param maximum: how many there can be, instead.
        :raises InvalidState: it does not run, or is not persistent.
        """
        from hvcore.rules.vcpu import max_vcpus  # noqa: PLC0415 - handles import no rules, so below
        from hvcore.rules.vcpu import online_vcpus  # noqa: PLC0415

        model = await self._engine.view(self._record, live=live, config=config)
        return max_vcpus(model) if maximum else online_vcpus(model)

    async def set_vcpus(
        self,
        count: int,
        *,
        live: bool | None = None,
        config: bool | None = None,
        hotpluggable: bool = False,
    ) -> None:
        """Let ``count`` virtual CPUs be online.

        :param hotpluggable: those that come with the next start can be unplugged again.
        :raises HvError: it cannot have so many, or the guest does not let one go.
        """
        from hvcore.rules import tuning  # noqa: PLC0415 - as above, and so below

        driver, words = self._engine.driver, self._words()
        api = Op.SET_VCPUS.api
        async with self._engine.change(self._record, api, live=live, config=config) as change:
            if change.live is not None:
                tuning.check_vcpus(change.live, count, live=True, words=words)
            if change.config is not None:
                tuning.check_vcpus(change.config, count, live=False, words=words)
                tuning.set_vcpus(change.config, count, hotpluggable=hotpluggable)
                await change.seal()
            if change.live is not None:
                await driver.set_vcpus(change.record, change.live, count)

    async def set_vcpu(
        self,
        vcpus: CpuSet,
        *,
        enabled: bool,
        live: bool | None = None,
        config: bool | None = None,
    ) -> None:
        """Let certain virtual CPUs be online, or offline.

        :param vcpus: while the domain runs, those of one entity that can be plugged: a thread, on
            POWER a core with all its threads.
        :raises HvError: they cannot be, or the guest does not let them go.
        """
        from hvcore.rules import tuning  # noqa: PLC0415

        chosen = _cpus(vcpus)
        api = Op.SET_VCPU.api
        async with self._engine.change(self._record, api, live=live, config=config) as change:
            if change.config is not None:
                tuning.check_chosen_vcpus(change.config, chosen, live=False)
            if change.live is not None:
                tuning.check_chosen_vcpus(change.live, chosen, live=True)
            if change.config is not None:
                tuning.choose_vcpus(change.config, chosen, enabled=enabled)
                await change.seal()
            if change.live is not None:
                driver, record = self._engine.driver, change.record
                await driver.set_vcpu(record, change.live, chosen, enabled=enabled)

    async def set_max_vcpus(self, count: int) -> None:
        """Let ``count`` virtual CPUs be possible from the next start on.

        :raises InvalidState: it is not persistent.
        :raises HvError: its topology or its nodes say another number.
        """
        from hvcore.rules import tuning  # noqa: PLC0415

        async with self._engine.change(self._record, Op.SET_VCPUS.api, config=True) as change:
            assert change.config is not None  # asked for
            tuning.set_max_vcpus(change.config, count)
            await change.seal()

    async def vcpu_pins(
        self, *, live: bool | None = None, config: bool | None = None
    ) -> dict[int, NodeSet | None]:
        """Return the host CPUs that each possible virtual CPU may run on; None for all.

        :raises InvalidState: it does not run, or is not persistent.
        """
        from hvcore.rules.placement import vcpu_cpus  # noqa: PLC0415
        from hvcore.rules.vcpu import max_vcpus  # noqa: PLC0415

        model = await self._engine.view(self._record, live=live, config=config)
        advice = self._advice(live=live, config=config)
        return {number: vcpu_cpus(model, number, advice) for number in range(max_vcpus(model))}

    async def pin_vcpu(
        self, vcpu: int, cpus: CpuSet, *, live: bool | None = None, config: bool | None = None
    ) -> None:
        """Let a virtual CPU run only on some CPUs of the host.

        :raises HvError: there is no such virtual CPU, or the host refuses.
        """
        from hvcore.rules import tuning  # noqa: PLC0415

        driver, words = self._engine.driver, self._words()
        chosen = _cpus(cpus)
        api = Op.PIN_VCPU.api
        async with self._engine.change(self._record, api, live=live, config=config) as change:
            if change.config is not None:
                tuning.check_vcpu(change.config, vcpu, live=False, words=words)
            tuning.check_cpus(chosen)
            if change.live is not None:
                tuning.check_vcpu(change.live, vcpu, live=True, words=words)
            if change.config is not None:
                tuning.set_vcpu_pin(change.config, vcpu, chosen)
                await change.seal()
            if change.live is not None:
                await driver.pin_vcpu(change.record, change.live, vcpu, chosen)
                change.tuned(f"cputune.vcpupin{vcpu}", str(chosen))

    async def emulator_pin(
        self, *, live: bool | None = None, config: bool | None = None
    ) -> NodeSet | None:
        """Return the host CPUs that the hypervisor's own threads may run on; None for all.

        :raises InvalidState: it does not run, or is not persistent.
        """
        from hvcore.rules.placement import emulator_cpus  # noqa: PLC0415

        model = await self._engine.view(self._record, live=live, config=config)
        return emulator_cpus(model, self._advice(live=live, config=config))

    async def pin_emulator(
        self, cpus: CpuSet, *, live: bool | None = None, config: bool | None = None
    ) -> None:
        """Let the hypervisor's own threads run only on some CPUs of the host.

        :raises HvError: the host refuses.
        """
        from hvcore.rules import tuning  # noqa: PLC0415

        driver = self._engine.driver
        chosen = _cpus(cpus)
        api = Op.PIN_EMULATOR.api
        async with self._engine.change(self._record, api, live=live, config=config) as change:
            tuning.check_cpus(chosen)
            for model in filter(None, (change.live, change.config)):
                driver.check_emulator_pin(model)
            if change.config is not None:
                tuning.set_emulator_pin(change.config, chosen)
                await change.seal()
            if change.live is not None:
                await driver.pin_emulator(change.record, change.live, chosen)
                change.tuned("cputune.emulatorpin", str(chosen))

    async def iothread_pins(
        self, *, live: bool | None = None, config: bool | None = None
    ) -> dict[int, NodeSet | None]:
        """Return the host CPUs that each I/O thread may run on; None for all.

        :raises InvalidState: it does not run, or is not persistent.
        """
        from hvcore.rules.iothread import iothread_ids  # noqa: PLC0415
        from hvcore.rules.placement import iothread_cpus  # noqa: PLC0415

        model = await self._engine.view(self._record, live=live, config=config)
        advice = self._advice(live=live, config=config)
        return {n: iothread_cpus(model, n, advice) for n in sorted(iothread_ids(model))}

    async def pin_iothread(
        self, iothread: int, cpus: CpuSet, *, live: bool | None = None, config: bool | None = None
    ) -> None:
        """Let an I/O thread run only on some CPUs of the host.

        :raises HvError: there is no such thread, or the host refuses.
        """
        from hvcore.rules import tuning  # noqa: PLC0415

        driver = self._engine.driver
        chosen = _cpus(cpus)
        api = Op.PIN_IOTHREAD.api
        async with self._engine.change(self._record, api, live=live, config=config) as change:
            tuning.check_cpus(chosen, iothread=True)
            if change.live is not None:
                tuning.check_iothread(change.live, iothread, live=True)
            if change.config is not None:
                tuning.check_iothread(change.config, iothread, live=False)
                tuning.set_iothread_pin(change.config, iothread, chosen)
                await change.seal()
            if change.live is not None:
                await driver.pin_iothread(change.record, change.live, iothread, chosen)
                change.tuned(f"cputune.iothreadpin{iothread}", str(chosen))

    async def numa_parameters(
        self, *, live: bool | None = None, config: bool | None = None
    ) -> NumaParameters:
        """Return where memory without nodes of its own comes from.

        :raises InvalidState: it does not run, or is not persistent.
        """
        from hvcore.rules.numatune import numa_mode  # noqa: PLC0415
        from hvcore.rules.numatune import numa_nodeset  # noqa: PLC0415

        model = await self._engine.view(self._record, live=live, config=config)
        advice = self._advice(live=live, config=config)
        nodes = numa_nodeset(model, None if advice is None else advice.nodeset)
        return NumaParameters(mode=numa_mode(model) or "strict", nodeset=nodes or NodeSet())

    async def set_numa_parameters(
        self,
        *,
        mode: NumaMode | int | None = None,
        nodeset: CpuSet | None = None,
        live: bool | None = None,
        config: bool | None = None,
    ) -> None:
        """Let memory without nodes of its own come from other nodes of the host.

        :param mode: by name, or by its number in libvirt's API.
        :param nodeset: host nodes; those there are unless given.
        :raises InvalidState: memory of a running domain cannot be moved in its mode.
        :raises HvError: there is no such mode or node.
        """
        from hvcore.rules import tuning  # noqa: PLC0415

        named = None if mode is None else tuning.check_mode(mode)
        text = nodeset if isinstance(nodeset, str) else str(_cpus(nodeset or ()))
        nodes = None if nodeset is None else tuning.parse_nodeset(text)
        api = Op.SET_NUMATUNE.api
        async with self._engine.change(self._record, api, live=live, config=config) as change:
            if change.config is not None:
                tuning.set_numatune(change.config, named, nodes)
                await change.seal()
            if change.live is not None:
                await self._engine.driver.set_numatune(change.record, change.live, named, nodes)

    def _words(self) -> Words:
        from hvcore.rules.tuning import Words  # noqa: PLC0415

        return self._engine.driver.tuning_words or Words()

    def _advice(self, *, live: bool | None, config: bool | None) -> Advice | None:
        """Return the advice that counts: the next start will ask for its own."""
        from hvcore.rules.placement import Advice  # noqa: PLC0415

        record = self._now()
        return Advice.of(record.data) if record.active and (live or not config) else None


def _cpus(given: CpuSet) -> NodeSet:
    """Return the set that a caller gave.

    :raises HvError: the text is none.
    """
    if isinstance(given, NodeSet):
        return given
    if not isinstance(given, str):
        return NodeSet(given)
    try:
        return NodeSet.parse(given)
    except ValueError as error:
        raise HvError(str(error), kind=ErrorClass.INVALID_ARG) from error
