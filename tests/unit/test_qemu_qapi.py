from __future__ import annotations

import pytest

from hvcore_qemu.qapi import Schema

ENTRIES = [
    {"name": "add", "meta-type": "command", "arg-type": "0", "ret-type": "[1]", "features": ["f"]},
    {"name": "GONE", "meta-type": "event", "arg-type": "0"},
    {
        "name": "0",
        "meta-type": "object",
        "members": [
            {"name": "must", "type": "str"},
            {"name": "may", "type": "2", "default": None},
            {"name": "either", "type": "3"},
            {"name": "loop", "type": "0"},
        ],
        "variants": [{"case": "file", "type": "1"}],
        "features": ["g"],
    },
    {"name": "[1]", "meta-type": "array", "element-type": "1"},
    {"name": "1", "meta-type": "object", "members": [{"name": "path", "type": "str"}]},
    {
        "name": "2",
        "meta-type": "enum",
        "members": [{"name": "on", "features": ["h"]}, {"name": "off"}],
        "values": ["on", "off"],
    },
    {"name": "old", "meta-type": "enum", "values": ["on"]},
    {"name": "3", "meta-type": "alternate", "members": [{"type": "str"}, {"type": "1"}]},
    {"name": "4", "meta-type": "alternate", "members": [{"type": "4"}]},
    {"name": "str", "meta-type": "builtin", "json-type": "string"},
]


@pytest.mark.parametrize(
    "path",
    [
        "add",
        "GONE/arg-type/must",
        "add/$f",
        "add/arg-type/$g",
        "add/arg-type/must/!string",
        "add/arg-type/*may",
        "add/arg-type/may/^on",
        "add/arg-type/may/^on/$h",
        "old/^on",
        "add/arg-type/+file/path",
        "add/ret-type/path",
        "add/arg-type/either/path",
        "add/arg-type/either/!string",
        "add/arg-type/loop/loop/must",
    ],
)
def test_paths_that_exist(path):
    assert Schema(ENTRIES).has(path)


@pytest.mark.parametrize(
    "path",
    [
        "absent",
        "add/$g",
        "add/^on",
        "add/+file",
        "GONE/ret-type",
        "add/arg-type/absent",
        "add/arg-type/*must",
        "add/arg-type/+nvme",
        "add/arg-type/$g/more",
        "add/arg-type/^on",
        "add/arg-type/must/!int",
        "add/arg-type/must/more",
        "add/arg-type/may/on",
        "add/arg-type/may/^auto",
        "add/arg-type/may/^off/$h",
        "add/arg-type/may/^on/$h/more",
        "add/arg-type/either/absent",
        "old/^on/$h",
        "4/self/referring",
    ],
)
def test_paths_that_do_not(path):
    assert not Schema(ENTRIES).has(path)


def test_entries_are_found_by_name():
    entry = Schema(ENTRIES).entry("1")
    assert entry is not None
    assert entry["meta-type"] == "object"
    assert Schema(ENTRIES).entry("absent") is None
