"""Every error class has a code of its own, a place in the drawn tree, and survives pickling."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from hvcore import errors
from hvcore.errors import HvError
from hvcore.errors import Issue
from hvcore.errors import Reason

CLASSES = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, HvError) and cls.__module__ == errors.__name__
]

ARGUMENTS: dict[str, tuple[tuple[object, ...], dict[str, object]]] = {
    "ValidationFailed": (([Issue("no", line=3)],), {}),
    "AbiChanged": (([Issue("no", line=3)],), {}),
    "UnsupportedFeature": (("no",), {"feature": "x", "reason": Reason.NO_CAP}),
    "UnsupportedOperation": (("save",), {}),
    "JobTimeout": (("no",), {"holder": "start"}),
    "StateLocked": (("no",), {"pid": 1, "program": "x"}),
    "LaunchError": (("no",), {"argv": ["q"], "log_tail": "boom"}),
    "MonitorError": (("no",), {"sent": {"execute": "x"}, "error_class": "GenericError"}),
}


def test_codes_are_unique_and_well_formed():
    codes = {cls: cls.__dict__.get("code") for cls in CLASSES}
    assert all(code and re.fullmatch(r"HV\d{3}", code) for code in codes.values()), codes
    assert len(set(codes.values())) == len(codes)


def test_codes_lie_below_their_parents_hundred():
    for cls in CLASSES:
        parent = cls.__mro__[1]
        if parent not in (HvError, Exception):
            assert cls.code[:3] == parent.code[:3], cls


def test_the_tree_in_the_docstring_is_complete():
    tree = (errors.__doc__ or "").partition("::")[2].partition("Each class")[0]
    assert set(re.findall(r"\b[A-Z]\w+[a-z]\b", tree)) >= {cls.__name__ for cls in CLASSES}


def test_numbers_of_error_classes_are_unique():
    numbers = [kind.number for kind in errors.ErrorClass]
    # An alias would vanish from the enumeration, so the members are counted by name.
    assert len(errors.ErrorClass.__members__) == len(set(numbers))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_errors_survive_pickling(cls):
    arguments, keywords = ARGUMENTS.get(cls.__name__, (("no",), {}))
    error = cls(*arguments, **keywords, domain="vm", path="/domain", hint="try")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is cls
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)
    # libvirt's words about flags stand alone.
    prefix = "" if cls is errors.InvalidFlags else error.kind.prefix
    assert str(error) == prefix + error.message
