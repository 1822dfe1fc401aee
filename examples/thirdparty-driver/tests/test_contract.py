"""The driver keeps the contract that all drivers of hvcore have to keep."""

from __future__ import annotations

import pytest

from hvcore.testing.suite import *  # noqa: F403 - the suite's tests become this module's


def document(program):
    return (
        "<domain type='lxc'><name>vm</name><memory>65536</memory><vcpu>1</vcpu><os><type>exe</type>"
        f"<init>{program}</init><initarg>60</initarg></os></domain>"
    )


@pytest.fixture
def driver_uri(tmp_path):
    return f"toy:///session?root={tmp_path}"


@pytest.fixture
def guest_xml():
    return document("/bin/sleep")


@pytest.fixture
def broken_xml():
    return document("/nowhere/program")
