"""The contract of a driver, as tests that any driver can run against itself.

A test module of the driver's author::

    from hvcore.testing.suite import *

    @pytest.fixture
    def driver_uri(tmp_path):
        return f"toy:///session?root={tmp_path}"

    @pytest.fixture
    def guest_xml():
        return "<domain type='lxc'>...</domain>"

What a driver has is what its ``operations`` say; tests of other verbs are skipped, and the verbs
must refuse. Further fixtures may be overridden: ``driver_registry``, ``driver_patience``,
``guest_obeys``, ``broken_xml``, ``device_xml`` and ``target_uri``.
"""

from __future__ import annotations

import pytest

_TOPICS = (
    "blockjobs",
    "lifecycle",
    "events",
    "errors",
    "failures",
    "operations",
    "devices",
    "migration",
    "tuning",
    "resizing",
    "saving",
    "persistence",
    "reconnect",
    "concurrency",
)
# What pytest shows of a failing assertion is written into a module when it is first imported.
pytest.register_assert_rewrite(
    f"{__name__}.contract", *[f"{__name__}.{topic}" for topic in _TOPICS]
)

from hvcore.testing.suite.blockjobs import TestBlockJobs  # noqa: E402
from hvcore.testing.suite.concurrency import TestConcurrency  # noqa: E402
from hvcore.testing.suite.devices import TestDevices  # noqa: E402
from hvcore.testing.suite.errors import TestErrors  # noqa: E402
from hvcore.testing.suite.events import TestEvents  # noqa: E402
from hvcore.testing.suite.failures import TestFailures  # noqa: E402
from hvcore.testing.suite.lifecycle import TestLifecycle  # noqa: E402
from hvcore.testing.suite.migration import TestMigration  # noqa: E402
from hvcore.testing.suite.operations import TestOperations  # noqa: E402
from hvcore.testing.suite.persistence import TestPersistence  # noqa: E402
from hvcore.testing.suite.reconnect import TestReconnect  # noqa: E402
from hvcore.testing.suite.resizing import TestResizing  # noqa: E402
from hvcore.testing.suite.resizing import TestStatistics  # noqa: E402
from hvcore.testing.suite.saving import TestSaving  # noqa: E402
from hvcore.testing.suite.tuning import TestTuning  # noqa: E402

pytest_plugins = ["hvcore.testing.plugin"]
"""Brings the fixtures into a module that imports everything of this one."""

__all__ = [
    "TestBlockJobs",
    "TestConcurrency",
    "TestDevices",
    "TestErrors",
    "TestEvents",
    "TestFailures",
    "TestLifecycle",
    "TestMigration",
    "TestOperations",
    "TestPersistence",
    "TestReconnect",
    "TestResizing",
    "TestSaving",
    "TestStatistics",
    "TestTuning",
    "pytest_plugins",
]
