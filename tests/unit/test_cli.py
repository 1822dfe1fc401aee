"""hv on the test driver: virsh's verbs, words and exit statuses."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid

import pytest
from click.testing import CliRunner

from hvcore.cli.main import VERBS
from hvcore.cli.main import hv
from hvcore.host import connect

XML = """<domain type='test'>
  <name>{name}</name>
  <memory unit='KiB'>8192</memory>
  <vcpu>1</vcpu>
  <os><type>hvm</type></os>
</domain>
"""


@pytest.fixture
def run(monkeypatch):
    """Run hv in this process; a held connection keeps test:///default alive between verbs."""
    runner = CliRunner()
    loop = asyncio.new_event_loop()
    held = loop.run_until_complete(connect("test:///default"))
    monkeypatch.setattr(asyncio, "run", loop.run_until_complete)

    def invoke(*args, code=0):
        result = runner.invoke(hv, ["-c", "test:///default", *args])
        assert result.exit_code == code, result.output + result.stderr
        return result

    yield invoke
    loop.run_until_complete(held.close())
    loop.close()


@pytest.fixture
def guest(run, tmp_path):
    """A freshly defined domain."""
    name = f"g{uuid.uuid4().hex[:8]}"
    file = tmp_path / "guest.xml"
    file.write_text(XML.format(name=name))
    assert f"Domain '{name}' defined from {file}" in run("define", str(file)).output
    return name


def test_a_domain_lives_through_its_verbs(run, guest):
    assert run("domstate", guest).output == "shut off\n"
    assert run("start", guest).output == f"Domain '{guest}' started\n"
    assert run("domstate", guest, "--reason").output == "running (booted)\n"
    assert run("suspend", guest).output == f"Domain '{guest}' suspended\n"
    assert run("domstate", guest, "--reason").output == "paused (user)\n"
    assert run("resume", guest).output == f"Domain '{guest}' resumed\n"
    assert run("reset", guest).output == f"Domain '{guest}' was reset\n"
    assert run("reboot", guest).output == f"Domain '{guest}' is being rebooted\n"
    assert run("shutdown", guest, "--wait").output == f"Domain '{guest}' is being shutdown\n"
    assert run("domstate", guest, "--reason").output == "shut off (shutdown)\n"
    run("start", guest)
    assert run("destroy", guest).output == f"Domain '{guest}' destroyed\n"
    assert run("domstate", guest, "--reason").output == "shut off (destroyed)\n"
    assert run("undefine", guest).output == f"Domain '{guest}' has been undefined\n"
    assert "failed to get domain" in run("domstate", guest, code=1).stderr


def test_lists_are_tables_or_names_or_json(run, guest):
    table = run("list", "--all").output.splitlines()
    assert table[0].split() == ["Id", "Name", "State"]
    assert ["-", guest, "shut", "off"] in [line.split() for line in table]
    assert guest in run("list", "--inactive", "--name").output.split()
    assert guest not in run("list", "--name").output.split()
    rows = json.loads(run("--json", "list", "--all").output)
    assert {"id", "name", "uuid", "state"} == set(rows[0])
    run("start", guest)
    assert guest in run("list", "--state-running", "--name").output.split()
    assert guest not in run("list", "--state-paused", "--name").output.split()
    run("destroy", guest)


def test_identities_and_documents(run, guest):
    text = run("domuuid", guest).output.strip()
    assert run("domname", text).output.strip() == guest
    assert run("domid", guest).output == "-\n"
    assert f"<name>{guest}</name>" in run("dumpxml", guest).output
    assert json.loads(run("--json", "dominfo", guest).output)["max_memory"] == 8192
    assert "Max memory:    8192 KiB" in run("dominfo", guest).output


def test_autostart_is_marked_and_unmarked(run, guest):
    assert "marked as autostarted" in run("autostart", guest).output
    assert guest in run("list", "--all", "--autostart", "--name").output
    assert "unmarked" in run("autostart", guest, "--disable").output
    assert guest not in run("list", "--all", "--autostart", "--name").output


def test_refusals_show_every_issue_with_its_line(run, tmp_path):
    file = tmp_path / "bad.xml"
    file.write_text(
        "<domain type='test'>\n<name>x</name>\n<memory unit='parsec'>1</memory>\n"
        "<devices>\n<watchdog/>\n</devices><os><type>hvm</type></os></domain>\n"
    )
    result = run("define", str(file), code=1)
    lines = result.stderr.splitlines()
    assert lines[0] == f"error: Failed to define domain from {file}"
    assert lines[1] == "error: invalid argument: unknown suffix 'parsec'"
    assert lines[2].strip() == "3 | <memory unit='parsec'>1</memory>"
    assert "error: XML error: Missing required attribute 'model' in element 'watchdog'" in lines
    data = json.loads(run("--json", "define", str(file), code=1).stderr)["error"]
    assert [issue["line"] for issue in data["issues"]] == [3, 5]
    assert data["number"] == 8


def test_validate_is_strict_and_keeps_nothing(run, tmp_path):
    file = tmp_path / "typo.xml"
    file.write_text(XML.format(name="typo").replace("<vcpu>1</vcpu>", "<vcpus>1</vcpus><vpcu/>"))
    result = run("validate", str(file), code=1)
    assert "did you mean 'vcpu'?" in result.stderr
    assert "validates" in run("validate", "--lenient", str(file)).output
    assert "typo" not in run("list", "--all", "--name").output


def test_a_missing_file_is_said_so(run):
    assert "Failed to open file '/nonexistent'" in run("define", "/nonexistent", code=1).stderr


def test_wrong_use_ends_with_2(run):
    result = run("strat", "x", code=2)
    assert "did you mean 'start'?" in result.output + result.stderr
    run("event", code=2)


def test_edit_offers_a_refused_document_again(run, guest, monkeypatch, tmp_path):
    script = tmp_path / "editor"
    script.write_text("#!/bin/sh\nsed -i 's/8192/16384/' \"$1\"\n")
    script.chmod(0o700)
    monkeypatch.setenv("VISUAL", str(script))
    assert "XML configuration edited" in run("edit", guest).output
    assert json.loads(run("--json", "dominfo", guest).output)["max_memory"] == 16384
    assert "XML not changed" in run("edit", guest).output


def test_events_are_listed_and_watched_for_a_time(run):
    kinds = run("event", "--list").output.split()
    assert {"lifecycle", "reboot", "device-removed"} <= set(kinds)
    result = run("event", "--all", "--timeout", "0.05", code=1)
    assert "events received: 0" in result.output


def test_unknown_connections_are_refused_in_libvirts_words():
    result = CliRunner().invoke(hv, ["-c", "nope:///x", "list"])
    assert result.exit_code == 1
    assert "no connection driver available for nope" in result.stderr


def test_every_verb_has_help_and_the_table_is_right():
    for verb, (_, text) in VERBS.items():
        result = CliRunner().invoke(hv, [verb, "--help"])
        assert result.exit_code == 0, verb
        assert text


def test_a_verb_imports_only_what_it_needs():
    code = (
        "import sys; from hvcore.cli.main import hv; hv.get_command(None, 'list');"
        "print(' '.join(m for m in ('rich', 'asyncio', 'lxml', 'qemu.qmp') if m in sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == ""


def test_a_driver_that_cannot_say_what_guests_can_have(run):
    said = run("domcapabilities", "--machine", "pc", code=1).stderr
    assert said.startswith("error: failed to get emulator capabilities\n")
    assert "virConnectGetDomainCapabilities" in said


def test_virtual_cpus_are_counted_and_pinned(run, guest):
    assert run("setvcpus", guest, "0", code=1).stderr == "error: Can't set 0 processors for a VM\n"
    run("setvcpus", guest, "4", "--maximum", "--config")
    run("setvcpus", guest, "2", "--config")
    run("start", guest)
    table = run("vcpucount", guest).output.split()
    assert table == [
        "maximum", "config", "4", "maximum", "live", "4",
        "current", "config", "2", "current", "live", "2",
    ]  # fmt: skip
    assert run("vcpucount", guest, "--live").output == "2\n"
    run("setvcpus", guest, "3", "--live")
    assert run("vcpucount", guest, "--live", "--active").output == "3\n"
    run("vcpupin", guest, "2", "0", "--live")
    assert json.loads(run("-j", "vcpupin", guest).output)["2"] == "0"
    shown = run("vcpupin", guest, "--vcpu", "2").output.splitlines()
    assert [line.split() for line in shown[::2]] == [["VCPU", "CPU", "Affinity"], ["2", "0"]]
    refused = run("vcpupin", guest, "0", "999", code=1).stderr
    assert refused.startswith("error: CPU 999 in cpulist '999' exceed the maxcpu ")
    assert run("vcpupin", guest, "0", "", code=1).stderr == "error: Invalid cpulist ''\n"
    run("emulatorpin", guest, "r")
    assert run("emulatorpin", guest).output.splitlines()[2].split()[0] == "*"
    run("destroy", guest)


def test_memory_placement_is_shown_and_changed(run, guest):
    assert run("numatune", guest).output.splitlines()[0] == "numa_mode      : strict"
    run("numatune", guest, "--mode", "restrictive", "--nodeset", "0")
    shown = json.loads(run("-j", "numatune", guest).output)
    assert shown == {"numa_mode": "restrictive", "numa_nodeset": "0"}
    refused = run("numatune", guest, "--mode", "7", code=1).stderr
    assert refused.splitlines() == [
        "error: Unable to change numa parameters",
        "error: invalid argument: unsupported numatune mode: '7'",
    ]
    run("numatune", guest, "--live", "--current", "--mode", "0", code=2)
