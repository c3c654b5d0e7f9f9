"""The parser: tables of options against command lines."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyman.cli.main import main
from pyman.cli.options import COUNT, CSV, FLAG, INT, LIST, SECONDS, TEXT, TRUE, parse, split_csv
from pyman.errors import InvalidArgument

if TYPE_CHECKING:
    from pyman.cli.options import Option

TABLE: tuple[Option, ...] = (
    ("all", "a", FLAG, "", "All"),
    ("env", "e", LIST, "NAME", "Variables"),
    ("filter", "f", CSV, "KEY=VALUE", "Filters"),
    ("last", "n", INT, "N", "Newest"),
    ("network|net", "", TEXT, "MODE", "Network"),
    ("quiet", "q", FLAG, "", "Quiet"),
    ("sig-proxy", "", TRUE, "", "Proxy"),
    ("tail", "", COUNT, "N", "Lines"),
    ("time|timeout", "t", SECONDS, "S", "Time"),
)


@pytest.mark.parametrize(
    "line, expected, arguments",
    [
        ("", {}, []),
        ("-a", {"all": True}, []),
        ("-aq", {"all": True, "quiet": True}, []),
        ("--all=false -q=true", {"all": False, "quiet": True}, []),
        ("-aqn5", {"all": True, "quiet": True, "last": 5}, []),
        ("-n=5", {"last": 5}, []),
        ("-n -1", {"last": -1}, []),
        ("--last=-1", {"last": -1}, []),
        ("-e A=1 --env B=2 -eC", {"env": ["A=1", "B=2", "C"]}, []),
        ("-e a,b", {"env": ["a,b"]}, []),
        ("-f a=1,b=2 -f c=3", {"filter": ["a=1", "b=2", "c=3"]}, []),
        ("--net none", {"network": "none"}, []),
        ("--network=", {"network": ""}, []),
        ("--sig-proxy=false", {"sig_proxy": False}, []),
        ("--sig-proxy", {"sig_proxy": True}, []),
        ("--timeout 1.5", {"time": 1.5}, []),
        ("-t 1m30s", {"time": 90.0}, []),
        ("-t 250ms", {"time": 0.25}, []),
        ("web -a db", {"all": True}, ["web", "db"]),
        ("web -- -a db", {"all": False}, ["web", "-a", "db"]),
        ("-", {}, ["-"]),
        ("--env --all", {"env": ["--all"], "all": False}, []),
    ],
)
def test_a_command_line_becomes_values_and_arguments(
    line: str, expected: dict[str, Any], arguments: list[str]
) -> None:
    parsed = parse(line.split(), TABLE)
    assert {name: getattr(parsed, name) for name in expected} == expected
    assert parsed.arguments == arguments


def test_what_was_not_given_has_its_kinds_default() -> None:
    parsed = parse([], TABLE)
    assert (parsed.all, parsed.sig_proxy, parsed.network) == (False, True, "")
    assert (parsed.env, parsed.filter, parsed.last, parsed.tail, parsed.time) == ([], [], None, None, None)
    assert not parsed.given("sig-proxy")
    assert parse(["--sig-proxy"], TABLE).given("sig-proxy")


def test_lists_of_two_lines_are_not_one() -> None:
    parse(["-e", "A"], TABLE)
    assert parse(["-e", "B"], TABLE).env == ["B"]


def test_options_end_at_the_first_argument_where_the_rest_is_a_command() -> None:
    parsed = parse(["-a", "web", "-q", "--", "x"], TABLE, stop=True)
    assert (parsed.all, parsed.quiet) == (True, False)
    assert parsed.arguments == ["web", "-q", "--", "x"]


@pytest.mark.parametrize(
    "line, sentence",
    [
        ("--al", "unknown option --al: did you mean --all?"),
        ("--xyzzy", "unknown option --xyzzy: see 'pyman ps --help'"),
        ("-x", "unknown option -x: see 'pyman ps --help'"),
        ("-ax", "unknown option -x in -ax: see 'pyman ps --help'"),
        ("--env", "option --env needs a value (NAME): see 'pyman ps --help'"),
        ("-e", "option -e needs a value (NAME): see 'pyman ps --help'"),
        ("--all=maybe", "option --all cannot be 'maybe': it must be true or false"),
        ("-n x", "option -n cannot be 'x': it must be a whole number"),
        ("--tail -1", "option --tail cannot be '-1': it must be a whole number from 0 on"),
        (
            "-t soon",
            "option -t cannot be 'soon': it must be a number of seconds, or a duration such as 1m30s",
        ),
        ("-t -1", "option -t cannot be '-1': it must be a number of seconds, or a duration such as 1m30s"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_option(line: str, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(line.split(), TABLE, command="ps")
    assert str(caught.value) == sentence


def test_help_is_an_option_of_every_command_and_h_where_it_is_free() -> None:
    assert parse(["--help"], TABLE).help
    assert parse(["-h"], TABLE).help
    hostname: Option = ("hostname", "h", TEXT, "NAME", "Name")
    parsed = parse(["-h", "web"], (hostname,))
    assert (parsed.hostname, parsed.help) == ("web", False)


def test_an_attribute_that_is_no_option_is_an_error() -> None:
    with pytest.raises(AttributeError, match="has no option 'nope'"):
        _ = parse([], TABLE).nope


@pytest.mark.parametrize(
    "text, items",
    [
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        ("", [""]),
        ("a,", ["a", ""]),
        ('"a,b",c', ["a,b", "c"]),
        ('label="x,y"', ["label=x,y"]),
        ('"say ""hi""",b', ['say "hi"', "b"]),
    ],
)
def test_csv_values_split_at_commas_that_are_not_quoted(text: str, items: list[str]) -> None:
    assert split_csv(text) == items


@given(st.lists(st.text(min_size=1), max_size=4), st.text())
def test_values_and_arguments_come_through_unchanged(arguments: list[str], value: str) -> None:
    parsed = parse(["--env", value, f"--network={value}", "--", *arguments], TABLE)
    assert (parsed.env, parsed.network, parsed.arguments) == ([value], value, arguments)


@given(st.lists(st.text(max_size=6), max_size=6))
def test_any_line_is_parsed_or_refused(words: list[str]) -> None:
    with contextlib.suppress(InvalidArgument):
        parse(words, TABLE)


ENDLESS = "1" * 5000


@pytest.mark.parametrize(
    "line",
    [
        "port x {}", "logs --since {} x", "logs --tail {} x", "events --until {}s", "stats --interval {}",
        "network create --route 10.0.0.0/8,10.1.1.1,{}", "create --secret x,uid={} i", "create --secret x,mode={} i",
        "create --expose {} i", "create --memory {} i", "create --shm-size {}g i", "create --log-opt max-file={} i",
        "create --log-opt max-size={} i", "create --device-read-bps /dev/null:{} i", "create --device-read-iops /dev/null:{} i",
        "create --ulimit nofile={} i", "create --restart on-failure:{} i", "run --preserve-fd {} i",
    ],
)  # fmt: skip
def test_a_number_that_nobody_can_mean_is_refused_as_any_other(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python does not even read it."""
    assert main(line.format(ENDLESS).split()) == 125
    said = capsys.readouterr().err
    assert said.startswith(("Error: option --", "Error: cannot use the port '1"))
    assert ENDLESS in said
