"""What goes wrong: errors that say so, and nothing left of what was begun."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING
from typing import Any

import pytest

from hvcore.errors import ConfigError
from hvcore.errors import DomainExists
from hvcore.errors import HvError
from hvcore.errors import NoSuchDomain
from hvcore.errors import XmlSyntaxError
from hvcore.lifecycle import State
from hvcore.operations import Op

if TYPE_CHECKING:
    from hvcore.testing.suite.contract import Contract

_NOBODY = "00000000-0000-4000-8000-00000000dead"


@pytest.mark.asyncio
class TestErrors:
    """What a program that manages domains may rely on when something fails."""

    async def test_what_is_not_there_is_not_found(self, contract: Contract) -> None:
        """Every way of looking for a domain has the same error."""
        for search in (
            contract.host.lookup_name("contract-nobody"),
            contract.host.lookup_uuid(_NOBODY),
            contract.host.lookup_id(2**31 - 1),
        ):
            with pytest.raises(NoSuchDomain, match=r"^Domain not found: no domain with matching"):
                await search

    async def test_a_document_that_is_none_is_refused(self, contract: Contract) -> None:
        """Text that is no XML, and XML that is no domain, change nothing."""
        before = await contract.host.domains()
        with pytest.raises(XmlSyntaxError):
            await contract.host.define("<domain")
        with pytest.raises(ConfigError):
            await contract.host.define("<network/>")
        with pytest.raises(ConfigError):
            await contract.host.define(contract.document(change=_no_memory))
        assert await contract.host.domains() == before

    async def test_a_name_has_one_domain(self, contract: Contract) -> None:
        """The name of another domain is refused, and that one stays what it is."""
        domain = await contract.define()
        other = contract.document(change=_with_uuid)
        with pytest.raises(DomainExists, match=rf"already exists with uuid {domain.uuid}$"):
            await contract.host.define(other)
        assert await contract.mine() == [domain]

    async def test_a_start_that_fails_leaves_nothing(
        self, contract: Contract, broken_xml: str | None
    ) -> None:
        """A failed start raises; the domain is as before and can be tried again."""
        contract.need(Op.START)
        if broken_xml is None:
            pytest.skip("no document is known that can be defined and not started")
        contract.xml = broken_xml
        domain = await contract.define()
        contract.forget()
        for _ in range(2):
            with pytest.raises(HvError) as caught:
                await domain.start()
            assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args  # noqa: S301 - just made
            assert (await domain.state())[0] is State.SHUTOFF
            assert domain.id is None
        assert contract.happened(domain) == []
        folder = contract.runtime(domain)
        assert folder is None or not folder.exists()
        with pytest.raises(HvError):
            await contract.create("transient")
        assert await contract.mine() == [domain]

    async def test_a_removed_domain_says_so(self, contract: Contract) -> None:
        """A handle on what is gone has an error for everything."""
        domain = await contract.define()
        await domain.undefine()
        for attempt in (domain.state, domain.start, domain.destroy, domain.xml, domain.undefine):
            with pytest.raises(NoSuchDomain):
                await attempt()

    async def test_errors_survive_another_process(self, contract: Contract) -> None:
        """What a driver raises can be pickled, with its data."""
        domain = await contract.define()
        with pytest.raises(HvError) as caught:
            await domain.destroy()
        copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - just made
        assert (str(copy), copy.domain, copy.code) == (
            str(caught.value),
            domain.name,
            caught.value.code,
        )


def _no_memory(root: Any) -> None:
    for tag in ("memory", "currentMemory", "maxMemory"):
        for found in root.findall(tag):
            root.remove(found)


def _with_uuid(root: Any) -> None:
    element = root.makeelement("uuid")
    element.text = _NOBODY
    root.insert(1, element)
