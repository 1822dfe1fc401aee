"""The conformance harness itself: what counts as equal, and that nothing stops it."""

from __future__ import annotations

import json

import pytest

from tests.conformance import __main__ as command
from tests.conformance import suite as suites
from tests.conformance.compare import parse_command
from tests.conformance.compare import same_command
from tests.conformance.compare import same_text
from tests.conformance.qmpschema import QmpSchema
from tests.conformance.suite import CaseFailedError
from tests.conformance.suite import Outcome
from tests.conformance.suite import Suite
from tests.conformance.suites.testdriver import Alignment
from tests.conformance.suites.testdriver import NotComparableError
from tests.conformance.suites.testdriver import commands

COMMAND = """\
LC_ALL=C \\
BAR='' \\
/usr/bin/q \\
-name 'guest=it'\\''s' \\
-device '{"driver":"d","n":1}' \\
-x -y
"""


def test_a_command_is_read_as_a_shell_would():
    assert parse_command(COMMAND) == (
        ["LC_ALL=C", "BAR="],
        ["/usr/bin/q", "-name", "guest=it's", "-device", '{"driver":"d","n":1}', "-x", "-y"],
    )


def test_spelling_of_json_does_not_matter():
    environment, arguments = parse_command(COMMAND)
    arguments[4] = '{"driver": "d", "n": 1}'
    same_command(parse_command(COMMAND), environment, arguments)


@pytest.mark.parametrize(
    "device", ['{"n":1,"driver":"d"}', '{"driver":"d","n":true}', '{"driver":"d","n":1,"n":1}']
)
def test_order_types_and_repetition_in_json_do(device):
    environment, arguments = parse_command(COMMAND)
    arguments[4] = device
    with pytest.raises(CaseFailedError, match="-device"):
        same_command(parse_command(COMMAND), environment, arguments)


def test_the_environment_counts():
    environment, arguments = parse_command(COMMAND)
    with pytest.raises(CaseFailedError, match="BAR="):
        same_command(parse_command(COMMAND), environment[:1], arguments)


def test_only_a_missing_last_newline_is_forgiven():
    same_text("a\nb\n", "a\nb")
    for wrong in ("a\nb\n\n", "a\n b", "a\nb "):
        with pytest.raises(CaseFailedError):
            same_text("a\nb\n", wrong)


SCHEMA = QmpSchema(
    [
        {"meta-type": "command", "name": "object-add", "arg-type": "o"},
        {"meta-type": "command", "name": "device_add", "arg-type": "o"},
        {"meta-type": "command", "name": "netdev_add", "arg-type": "o", "features": ["deprecated"]},
        {
            "meta-type": "object",
            "name": "o",
            "members": [
                {"name": "kind", "type": "e"},
                {"name": "size", "type": "int", "default": None},
                {"name": "old", "type": "int", "default": None, "features": ["deprecated"]},
                {"name": "either", "type": "a", "default": None},
            ],
            "tag": "kind",
            "variants": [{"case": "x", "type": "v"}, {"case": "y", "type": "none"}],
        },
        {"meta-type": "object", "name": "v", "members": [{"name": "list", "type": "[int]"}]},
        {"meta-type": "object", "name": "none", "members": []},
        {"meta-type": "array", "name": "[int]", "element-type": "int"},
        {"meta-type": "alternate", "name": "a", "members": [{"type": "int"}, {"type": "str"}]},
        {
            "meta-type": "enum",
            "name": "e",
            "values": ["x", "y"],
            "members": [{"name": "x"}, {"name": "y", "features": ["unstable"]}],
        },
        {"meta-type": "builtin", "name": "int", "json-type": "int"},
        {"meta-type": "builtin", "name": "str", "json-type": "string"},
    ]
)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"kind": "x", "list": [1, 2]}, None),
        ({"kind": "x", "list": [], "either": "s"}, None),
        ({"kind": "x", "list": [], "either": True}, "no alternative fits"),
        ({"kind": "x", "list": [True]}, "list: True is not of type int"),
        ({"kind": "x"}, "member 'list' is missing"),
        ({"kind": "z"}, "'z' is no case of 'kind'"),
        ({"list": []}, "discriminator 'kind' is missing"),
        ({"kind": "x", "list": [], "new": 1}, "member 'new' is not in the schema"),
        ({"kind": "x", "list": [], "old": 1}, "'old' is deprecated"),
        ({"kind": "y"}, "'y' is unstable"),
    ],
)
def test_the_schema_refuses_what_qemu_would(arguments, problem):
    found = SCHEMA.problem("object-add", arguments)
    assert (found is None) if problem is None else (problem in (found or ""))


def test_only_device_add_may_have_members_that_are_not_described():
    arguments = {"kind": "x", "list": [], "new": 1}
    assert SCHEMA.problem("device_add", arguments) is None
    assert SCHEMA.problem("netdev_add", arguments) == "'netdev_add' is deprecated"


def test_json_arguments_of_a_command_line_are_checked():
    SCHEMA.check_arguments(["q", "-object", "memory", "-device", '{"kind":"x","list":[]}'])
    with pytest.raises(CaseFailedError, match="'b' is not in the schema"):
        SCHEMA.check_arguments(["q", "-object", '{"kind":"x","list":[],"b":1}'])


class _Suite(Suite):
    name = "made_up"

    def check(self, case, progress):
        with progress.stage("xml"):
            if case["id"] == "good":
                progress.remark("not counted")
            if case["id"] == "crash":
                raise KeyError(case["id"])
            if case["id"] == "differs":
                same_text("a='1'\n", "a='2'\n")


@pytest.fixture
def made_up(tmp_path, monkeypatch) -> Suite:
    (tmp_path / "made_up").mkdir()
    rows = [{"id": "good"}, {"id": "differs"}, {"id": "crash"}]
    (tmp_path / "made_up" / "cases.json").write_text(json.dumps(rows))
    suite = _Suite(tmp_path)
    monkeypatch.setattr(suites, "suite_names", lambda: ["made_up"])
    monkeypatch.setattr(suites, "open_suite", lambda name, data: suite)
    monkeypatch.setattr(suites, "GAPS", tmp_path)
    return suite


def test_outcomes_name_the_stage(made_up):
    assert made_up.run("good") == Outcome(ok=True, detail="not counted")
    differs = made_up.run("differs")
    assert (differs.stage, differs.detail) == ("xml", "-a='1'\n+a='2'")
    crash = made_up.run("crash")
    assert crash.stage == "crash"
    assert "in xml: test_conformance_harness.py" in crash.detail
    assert "KeyError: 'crash'" in crash.detail


def test_the_command_reports_and_succeeds(made_up, tmp_path, capsys):
    report = tmp_path / "report.json"
    assert command.main(["made_up", "--json", str(report), "--summary", "--update-gaps"]) == 0
    assert "made_up: 1 passed, 2 failed" in capsys.readouterr().out
    written = json.loads(report.read_text())
    assert (written["suite"], written["passed"], written["failed"]) == ("made_up", 1, 2)
    assert written["cases"]["good"] == {"ok": True, "stage": "", "detail": "not counted"}
    assert written["cases"]["differs"]["stage"] == "xml"
    assert suites.known_gaps("made_up") == {"differs", "crash"}


def test_single_cases_show_their_detail(made_up, capsys):
    assert command.main(["made_up", "--case", "differs"]) == 0
    assert "FAILED differs [xml]\n-a='1'" in capsys.readouterr().out
    assert command.main(["made_up", "--case", "good"]) == 0
    assert "passed good, beside it differs\nnot counted" in capsys.readouterr().out


def test_unknown_cases_are_a_usage_error(made_up, capsys):
    with pytest.raises(SystemExit):
        command.main(["made_up", "--case", "nope"])
    assert "no such case: nope" in capsys.readouterr().err


def test_scripts_of_virsh_are_read_as_it_reads_them():
    text = "list --all; echo 'a;b' # no\ndom\\\nname 1\n\n"
    assert commands(text) == [["list", "--all"], ["echo", "a;b"], ["domname", "1"]]


def test_what_hv_says_has_to_be_what_virsh_said():
    told = " Id   Name\n-----\n 1    a\n\nunknown\nOS Type: linux\nSecurity DOI: x\n## Exit code: 1"
    found = Alignment(told)
    found.take(["Id Name", "1 a"])
    found.skip()
    found.take(["OS Type: hvm"])
    found.finish()
    assert found.failed
    other = Alignment(told)
    with pytest.raises(CaseFailedError, match="2 a"):
        other.take(["Id Name", "2 a"])
    with pytest.raises(CaseFailedError, match="unknown"):
        other.finish()


def test_what_depends_on_what_hv_cannot_do_is_not_compared():
    refused = Alignment("error: no such thing\n\n 1    a\n 2    b")
    refused.skip("attach-disk")
    refused.take(["1 a"])
    with pytest.raises(CaseFailedError):
        refused.take(["2 c"])
    for said in (["1 a"], ["1 z"]):
        changed = Alignment("Disk attached\n\n 1    a")
        changed.skip("attach-disk")
        with pytest.raises(NotComparableError, match="attach-disk"):
            changed.take(said)
