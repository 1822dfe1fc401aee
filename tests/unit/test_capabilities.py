from __future__ import annotations

import pickle

import attrs
import pytest

from hvcore.capabilities import Capabilities
from hvcore.capabilities import Deferred
from hvcore.capabilities import join_version
from hvcore.capabilities import split_version


def caps(*names):
    return Capabilities(names=frozenset(names), arch="x86_64", version=10_000_002)


def test_membership_and_missing_names():
    value = caps("kvm", "usb-hub")
    assert "kvm" in value
    assert "vnc" not in value
    assert value.has("kvm", "usb-hub")
    assert not value.has("kvm", "vnc")
    assert value.missing(["vnc", "kvm"]) == {"vnc"}


def test_replace_makes_another_value_and_removal_wins():
    value = caps("kvm")
    other = value.replace(add=["vnc", "spice"], remove=["spice", "kvm"])
    assert value.names == {"kvm"}
    assert other.names == {"vnc"}
    assert (other.arch, other.version) == (value.arch, value.version)


def test_value_is_sealed():
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        caps().arch = "ppc64"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "number"), [("10.0.2", 10_000_002), ("6.2.0", 6_002_000), ("9.1.50", 9_001_050)]
)
def test_versions_count_as_libvirt_counts(text, number):
    assert join_version(*map(int, text.split("."))) == number
    assert ".".join(map(str, split_version(number))) == text
    assert attrs.evolve(caps(), version=number).version_text == text


def test_deferred_is_made_once_and_only_when_asked():
    calls = []
    deferred = Deferred(lambda: calls.append(1) or "value")
    assert not calls
    assert deferred() == "value"
    assert deferred() == "value"
    assert calls == [1]


def test_deferred_compares_and_pickles_by_value():
    deferred = Deferred(lambda: (1, 2))
    assert deferred == Deferred.of((1, 2))
    assert deferred != Deferred.of((1, 3))
    assert hash(deferred) == hash(Deferred.of((1, 2)))
    assert pickle.loads(pickle.dumps(deferred)) == deferred
