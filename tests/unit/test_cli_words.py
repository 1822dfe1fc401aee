"""Arguments by name and numbers, as virsh understands them."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from hvcore.cli.main import hv
from hvcore.cli.words import Number
from hvcore.cli.words import Positional
from hvcore.cli.words import Timeout
from hvcore.cli.words import arranged


@click.command("verb")
@click.argument("domain")
@click.argument("count", type=Number())
@click.argument("rest", nargs=-1)
@click.option("--live", is_flag=True)
@click.option("--size")
def verb(**found):
    click.echo(found)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("a 1", "a 1"),
        ("--count 1 a", "a 1"),
        ("--count=1 --domain a --live", "--live a 1"),
        ("1 --domain=a --size --count", "--size --count a 1"),
        ("a -1 --size 2", "--size 2 -- a -1"),
        ("a 1 --rest x --rest=y", "a 1 x y"),
        ("a -- --count", "-- a --count"),
        ("a 1 --help", "--help a 1"),
        ("", ""),
    ],
)
def test_arguments_may_have_their_names(args, expected):
    assert arranged(verb, args.split()) == expected.split()


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("--count 1", "command 'verb' requires <domain> option"),
        ("a", "command 'verb' requires <count> option"),
        ("a 1 --colour red", "command 'verb' doesn't support option --colour"),
        ("a 1 --liv", "command 'verb' doesn't support option --liv\n   hint: did you mean --live?"),
        ("a 1 --size", "expected syntax: --size <string>"),
        ("a --count", "expected syntax: --count <number>"),
    ],
)
def test_what_is_wrong_is_named(args, expected):
    with pytest.raises(click.UsageError) as caught:
        arranged(verb, args.split(), whole=True)
    assert caught.value.message == expected


def test_what_is_too_much_is_named():
    said = CliRunner().invoke(hv, ["-c", "test:///default", "domname", "1", "two"])
    assert (said.exit_code, said.stderr.splitlines()[-1]) == (2, "Error: unexpected data 'two'")


@click.command("verb")
@click.argument("domain")
@click.option("--base", cls=Positional)
@click.option("--disk", cls=Positional, multiple=True)
def placing(**found):
    click.echo(found)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("a b c d", "--base b --disk c --disk d a"),
        ("--disk c a d --base b", "--disk c --disk d a --base b"),
        ("--disk c a", "--disk c a"),
    ],
)
def test_options_may_come_without_their_names(args, expected):
    found = arranged(placing, args.split(), whole=True)
    assert sorted(found) == sorted(expected.split())
    seen = placing.make_context("verb", found).params
    assert (seen["domain"], seen["disk"][0]) == ("a", "c")


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Number(), ["0", "4294967295"], ["-1", "4294967296", "1.5", "", "9" * 5000, "٣"]),
        (Number(signed=True), ["-1", "2147483647"], ["2147483648", "abc", "4M"]),
        (Timeout(), ["1", "0.5"], ["0", "-1", "2147484", "nan", "4M"]),
    ],
)
def test_numbers_have_their_limits(kind, good, bad):
    param = click.Option(["--start"])
    for text in good:
        assert kind.convert(text, param, None) == float(text)
    for text in bad:
        with pytest.raises(click.UsageError) as caught:
            kind.convert(text, param, None)
        said = f"Numeric value '{text}' for <start> option is malformed or out of range"
        assert caught.value.message == said


def test_names_work_for_verbs():
    said = CliRunner().invoke(hv, ["-c", "test:///default", "domname", "--domain", "1"])
    assert said.output == "test\n"


def test_text_that_is_left_out_is_empty():
    @click.command("verb")
    @click.argument("domain")
    @click.argument("name", required=False)
    @click.argument("count", type=Number(), required=False)
    @click.argument("specs", nargs=-1)
    def found(**words):
        click.echo(words)

    assert arranged(found, ["a", "--count", "1"]) == ["a", "", "1"]
    assert arranged(found, ["a", "b"]) == ["a", "b"]
    assert arranged(found, ["--specs", "x", "a", "n", "2", "y"]) == ["a", "n", "2", "x", "y"]
    with pytest.raises(click.UsageError, match="command 'verb' requires <count> option"):
        arranged(found, ["a", "--specs", "x"])
