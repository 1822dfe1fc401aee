"""The contract suite notices mistakes: mutants of a driver fail it, the driver itself passes."""

from __future__ import annotations

import pytest

from hvcore_test.driver import TestDriver
from tests.contract.mutants import MUTANTS
from tests.contract.mutants import ToyDriver

pytest_plugins = ["pytester"]

MODULE = """
import pytest
from hvcore.registry import Registry
from hvcore.testing.suite import *
from tests.contract.test_mutants import DRIVERS

DRIVER = DRIVERS["{name}"]

REGISTRY = Registry()
REGISTRY.add_driver(DRIVER)
REGISTRY.freeze()

@pytest.fixture
def driver_registry():
    return REGISTRY

@pytest.fixture
def driver_uri(tmp_path):
    return f"toy:///session?root={{tmp_path}}" if DRIVER.keeps_state else "test:///default"

@pytest.fixture
def driver_patience():
    return 0.3  # what has not happened by then never will

def document(init):
    return (
        "<domain type='test'><name>vm</name><memory>65536</memory><vcpu>1</vcpu>"
        f"<os><type>exe</type><init>{{init}}</init><initarg>60</initarg></os></domain>"
    )

@pytest.fixture
def guest_xml():
    return document("/bin/sleep")

@pytest.fixture
def device_xml():
    return "<disk type='file'><source file='/image'/><target dev='vdb' bus='virtio'/></disk>"

@pytest.fixture
def broken_xml():
    return document("/nowhere/program") if DRIVER.keeps_state else None
"""

DRIVERS = {name: driver for name, (driver, _) in MUTANTS.items()}
DRIVERS |= {"TestDriver": TestDriver, "ToyDriver": ToyDriver}


@pytest.fixture
def suite(pytester):
    """Return a function that runs the suite, or a class of it, against a driver."""

    def run(name, *chosen):
        pytester.makepyfile(test_it=MODULE.format(name=name))
        left_out = [f"-pno:{plugin}" for plugin in ("cacheprovider", "hypothesispytest", "xdist")]
        loop = "asyncio_default_fixture_loop_scope=function"
        return pytester.runpytest_inprocess(
            "-q", "-x", "--tb=line", *left_out, "-o", loop, "-k", " or ".join(chosen)
        )

    return run


@pytest.mark.parametrize("name", ["TestDriver", "ToyDriver"])
def test_a_driver_that_is_right_passes(suite, name):
    outcomes = suite(name).parseoutcomes()
    assert outcomes["passed"] > 30
    assert outcomes.keys() & {"failed", "errors"} == set()


@pytest.mark.parametrize("name", MUTANTS)
def test_a_driver_that_is_wrong_fails(suite, name):
    assert suite(name, *MUTANTS[name][1]).parseoutcomes().get("failed") == 1


def test_there_are_enough_of_them():
    assert len(MUTANTS) >= 10
