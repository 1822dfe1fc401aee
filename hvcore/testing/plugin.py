"""Fixtures for pytest, for whoever asks: ``pytest_plugins = ["hvcore.testing.plugin"]``.

Each can be overridden by a fixture of the same name. ``hv_uri`` and ``hv_registry`` say what
``hv_host`` and ``hv_host_async`` connect to: the test driver with all that is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from hvcore import sync
from hvcore.host import Host
from hvcore.host import connect
from hvcore.registry import Registry
from hvcore.testing.golden import FOLDER
from hvcore.testing.golden import Golden
from hvcore.testing.recorder import RecordedEvents

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from collections.abc import Iterator

    from hvcore.testing.suite.contract import Contract


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--regen``."""
    group = parser.getgroup("hvcore")
    group.addoption("--regen", action="store_true", help="write the texts of golden tests anew")


# -- connections --------------------------------------------------------------------------------


@pytest.fixture
def hv_uri() -> str:
    """Return what to connect to: the test driver."""
    return "test:///default"


@pytest.fixture
def hv_registry() -> Registry:
    """Return the drivers and plugins to use: all that is installed."""
    return Registry.default()


@pytest.fixture
def recorded_events(hv_registry: Registry) -> RecordedEvents:
    """Return the events of ``hv_host`` and ``hv_host_async``, from the beginning."""
    recorder = RecordedEvents()
    hv_registry.register(recorder, name="hvcore-recorded-events")
    return recorder


@pytest.fixture
def hv_host(
    hv_uri: str,
    hv_registry: Registry,
    recorded_events: RecordedEvents,  # noqa: ARG001 - must listen before the first event
) -> Iterator[sync.Host]:
    """Return a blocking connection."""
    with sync.connect(hv_uri, registry=hv_registry) as host:
        yield host


@pytest_asyncio.fixture
async def hv_host_async(
    hv_uri: str,
    hv_registry: Registry,
    recorded_events: RecordedEvents,  # noqa: ARG001 - as above
) -> AsyncIterator[Host]:
    """Return an asynchronous connection."""
    async with await connect(hv_uri, registry=hv_registry) as host:
        yield host


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Return what compares texts with those kept beside the test's module."""
    # The option is missing where a test module, not a conftest, asked for this plugin.
    regenerate = bool(request.config.getoption("--regen", default=False))
    return Golden(request.path.parent / FOLDER, regenerate)


# -- the contract of drivers --------------------------------------------------------------------


@pytest.fixture(scope="session")
def driver_registry() -> Registry:
    """Return the drivers and plugins that the contract suite uses: all that is installed.

    One for all tests, since each compiles the parsers of its own.
    """
    return Registry.default()


@pytest.fixture
def driver_patience() -> float:
    """Return the seconds to wait for what a hypervisor does in its own time."""
    return 10.0


@pytest.fixture
def guest_obeys() -> bool:
    """Tell whether the guest of ``guest_xml`` does what its power button says."""
    return True


@pytest.fixture
def broken_xml() -> str | None:
    """Return a document that can be defined and not started, if there is any."""
    return None


@pytest.fixture
def device_xml() -> str | None:
    """Return a device that can be plugged into a running ``guest_xml``, if there is any."""
    return "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"


@pytest.fixture
def target_uri() -> str | None:
    """Return a second host of the driver to which guests can move, if there is any."""
    return None


@pytest_asyncio.fixture
async def contract(
    driver_uri: str, driver_registry: Registry, guest_xml: str, driver_patience: float
) -> AsyncIterator[Contract]:
    """Return a connection to the driver under test; what was made is gone afterwards."""
    from hvcore.testing.suite.contract import opened  # noqa: PLC0415 - rewrites its assertions

    async with opened(driver_uri, driver_registry, guest_xml, driver_patience) as made:
        yield made
