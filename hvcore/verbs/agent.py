"""What the agent in a guest can be asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

from hvcore.operations import Op
from hvcore.verbs.base import Handle
from hvcore.verbs.base import Verbs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Mapping
    from collections.abc import Sequence

    from hvcore.agent import Filesystem
    from hvcore.agent import GuestInterface
    from hvcore.driver import Record
    from hvcore.model.devices.chardev import Channel


class AgentVerbs(Verbs):
    """What a driver may override."""

    async def agent_connected(self, record: Record, channel: Channel) -> bool:
        """Tell whether the agent listens at the other end of its channel; asked before commands."""
        del record, channel
        return False

    async def agent_command(
        self, record: Record, channel: Channel, command: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Give the agent a command, and return its answer, which may be an error; no deadline.

        An agent that obeys ``guest-shutdown`` need not answer.

        :raises DriverError: it went away.
        """
        del channel, command
        raise self.unsupported(Op.AGENT_COMMAND, record)


class AgentHandle(Handle):
    """What a handle on a domain offers.

    All of it needs an agent in the guest, and the channel ``org.qemu.guest_agent.0``.

    :raises InvalidState: the domain does not run.
    :raises HvError: it has no agent, or that does not listen.
    :raises DriverError: the agent refuses, or does not answer.
    """

    __slots__ = ()

    async def agent_command(self, command: str, *, within: float | None = 5.0) -> str:
        """Give the agent a command, and return its answer.

        :param command: JSON, such as ``{"execute": "guest-ping"}``.
        :param within: seconds to wait for the answer; for ever if None.
        :raises DriverError: the agent refuses, or does not answer.
        """
        from hvcore import agent  # noqa: PLC0415 - few programs need it, and so below

        return await agent.by_hand(self._engine, self._record, command, within=within)

    async def filesystems(self) -> list[Filesystem]:
        """Return the file systems that are mounted in the guest.

        :raises DriverError: the agent refuses.
        """
        from hvcore import agent  # noqa: PLC0415

        async with agent.asking(self._engine, self._record, "virDomainGetFSInfo") as found:
            answer = await found.ask("guest-get-fsinfo")
            return agent.filesystems(found.record.definition.domain, answer)

    async def freeze(self, mountpoints: Sequence[str] | None = None) -> int:
        """Have the guest write down what it holds back, and hold its file systems still.

        :param mountpoints: of some of them; all unless given.
        :return: how many.
        :raises DriverError: the agent refuses.
        """
        from hvcore import agent  # noqa: PLC0415

        return await agent.freeze(self._engine, self._record, mountpoints)

    async def thaw(self) -> int:
        """Let the guest write to its file systems again, and return to how many.

        :raises DriverError: the agent refuses.
        """
        from hvcore import agent  # noqa: PLC0415

        return await agent.thaw(self._engine, self._record)

    async def trim(self, *, minimum: int = 0) -> None:
        """Have the guest tell its disks which blocks it does not use.

        :param minimum: bytes of the smallest range to be told of.
        :raises DriverError: the agent refuses.
        """
        from hvcore import agent  # noqa: PLC0415

        async with agent.asking(self._engine, self._record, "virDomainFSTrim") as found:
            await found.ask("guest-fstrim", minimum=minimum)

    async def guest_interfaces(self) -> list[GuestInterface]:
        """Return the network interfaces as the guest sees them, with their addresses.

        :raises DriverError: the agent refuses.
        """
        from hvcore import agent  # noqa: PLC0415

        operation = "virDomainInterfaceAddresses"
        async with agent.asking(self._engine, self._record, operation) as found:
            return agent.interfaces(await found.ask("guest-network-get-interfaces"))

    async def hostname(self) -> str:
        """Return the name that the guest has given itself.

        :raises DriverError: the agent refuses.
        """
        from hvcore import agent  # noqa: PLC0415

        async with agent.asking(self._engine, self._record, "virDomainGetHostname") as found:
            return str((await found.ask("guest-get-host-name"))["host-name"])

    async def set_user_password(self, user: str, password: str, *, encrypted: bool = False) -> None:
        """Change the password of a user of the guest.

        :param encrypted: it is what the guest would keep of it.
        :raises DriverError: the agent refuses.
        """
        from hvcore import agent  # noqa: PLC0415

        await agent.set_password(self._engine, self._record, user, password, encrypted=encrypted)

    async def guest_info(self, types: Iterable[str] = ()) -> dict[str, Any]:
        """Return facts about the guest, by libvirt's names such as ``os.id``.

        :param types: of :data:`hvcore.agent.TYPES`; all that the agent can say unless given.
        :raises HvError: there is no such type.
        :raises DriverError: the agent refuses.
        """
        from hvcore import agent  # noqa: PLC0415

        async with agent.asking(self._engine, self._record, "virDomainGetGuestInfo") as found:
            return await agent.info(found, types)
