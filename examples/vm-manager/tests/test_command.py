"""The command, and files that say what is wanted."""

from __future__ import annotations

import sys

import pytest

from vm_manager.__main__ import main
from vm_manager.machine import Machine
from vm_manager.site import apply

SITE = """
template = "guest.xml"
inventory = "inventory.json"
[hosts]
a = "{uri}"
[machines.web]
memory = 64
{more}
"""


@pytest.fixture
def command(site, monkeypatch, capsys):
    """Return a function that runs the command on a file with these lines."""
    (site.folder / "guest.xml").write_text(site.template.text)
    path = site.folder / "site.toml"

    def command(more="", *arguments, status=0):
        path.write_text(SITE.format(uri=site.uris["a"], more=more))
        monkeypatch.setattr(sys, "argv", ["vm-manager", *arguments, str(path)])
        assert main() == status
        printed = capsys.readouterr()
        return printed.out + printed.err

    return command


def test_what_a_file_says(command):
    assert command() == "created web a\n"


def test_hosts_that_do_not_answer_are_a_problem(command, site):
    assert "no host can have 'web' (none is up)" in command("", "--failed", "a", status=1)


def test_a_file_that_is_wrong(command):
    assert "cannot have 0 of 1 CPUs" in command("max_cpus = 1\ncpus = 0", status=2)
    assert "unexpected keyword argument 'colour'" in command("colour = 'red'", status=2)


async def test_changes(manager, site, where):
    async def actions(*machines):
        report = await apply(manager, machines)
        assert report.problems == {}
        return [(action.what, action.machine) for action in report.actions]

    web, db = site.machine("web"), site.machine("db")
    assert await actions(web, db) == [("created", "db"), ("created", "web")]
    assert await actions(site.machine("web", cpus=2), db) == [("changed", "web")]
    assert manager.inventory.entries["web"].machine.cpus == 2
    stopped = site.machine("web", cpus=2, running=False)
    assert await actions(stopped) == [("removed", "db"), ("changed", "web")]
    assert await actions(stopped) == []
    assert (await where("web"))[1] == ""
    assert await where("db") == ("", "")


async def test_what_cannot_be_changed_is_a_problem(manager, site):
    await apply(manager, [site.machine()])
    report = await apply(manager, [Machine(name="web", memory=64)])
    assert "must be removed before" in str(report.problems["web"])
