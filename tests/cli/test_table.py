"""Columns, the forms of --format, and the words for times and sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyman.cli.human import ago, byte_size, span
from pyman.cli.jsontext import compact, indented
from pyman.cli.table import columns, render
from pyman.cli.yamltext import yaml


def test_columns_are_as_wide_as_their_widest_cell_and_two_blanks() -> None:
    lines = [["CONTAINER ID", "NAMES"], ["6c866e400574", "a-name-that-is-long"], ["x", "y"]]
    assert columns(lines) == "CONTAINER ID  NAMES\n6c866e400574  a-name-that-is-long\nx             y"


def test_columns_are_twelve_wide_at_least_and_the_last_is_not_padded() -> None:
    assert (
        columns([["A", "B", "C"], ["1", "", "3"]]) == "A           B           C\n1                       3"
    )


def test_a_column_ends_where_a_line_has_no_cell_in_it() -> None:
    lines = [["a" * 20, "x"], ["no cells"], ["b", "x"]]
    assert columns(lines) == "a" * 20 + "  x\nno cells\nb" + " " * 11 + "x"


@given(
    st.lists(st.lists(st.text(alphabet="ab ", max_size=20), min_size=3, max_size=3), min_size=1, max_size=5)
)
def test_cells_of_one_column_begin_at_one_place(lines: list[list[str]]) -> None:
    widths = [max(12, *(len(line[column]) + 2 for line in lines)) for column in (0, 1)]
    made = columns(lines).split("\n")
    for line, cells in zip(made, lines, strict=True):
        assert line[: widths[0]].rstrip() == cells[0].rstrip()
        assert line[widths[0] : sum(widths)].rstrip() == cells[1].rstrip()
        assert line[sum(widths) :] == cells[2]


def test_a_format_is_carried_out_for_each_row() -> None:
    assert render("{{.N}}", [{"N": 1}, {"N": 2}]) == "1\n2\n"
    assert render("{{.N}}", []) == ""


def test_a_listings_format_that_begins_with_range_is_given_all_rows() -> None:
    rows = [{"N": 1, "L": ["a"]}, {"N": 2, "L": ["b"]}]
    assert render("{{range .}}{{.N}};{{end}}", rows, listing=True) == "1;2;\n"
    assert render("{{range .L}}{{.}}{{end}}", rows) == "a\nb\n"


def test_a_table_format_has_headers_also_without_rows() -> None:
    headers = {"N": "NUMBER"}
    assert render("table {{.N}}\\t{{.N}}", [{"N": 1}], headers) == "NUMBER      NUMBER\n1           1\n"
    assert render("table {{.N}} {{.N}}", [], headers) == "NUMBER      NUMBER\n"
    assert render("table {{.N}}", [{"N": 1}]) == "1\n"


@pytest.mark.parametrize(
    "seconds, words",
    [
        (0, "Less than a second"),
        (0.99, "Less than a second"),
        (1, "1 second"),
        (59.9, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (45 * 60, "45 minutes"),
        (60 * 60, "About an hour"),
        (89 * 60, "About an hour"),
        (90 * 60, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (13 * 86400, "13 days"),
        (14 * 86400, "2 weeks"),
        (59 * 86400, "8 weeks"),
        (60 * 86400, "2 months"),
        (729 * 86400, "24 months"),
        (730 * 86400, "2 years"),
    ],
)
def test_a_span_is_told_in_the_unit_that_tells_most(seconds: float, words: str) -> None:
    assert span(seconds) == words
    assert ago(seconds) == f"{words} ago"


@pytest.mark.parametrize(
    "count, words",
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (1_982_256, "1.98MB"),
        (5_368_709_120, "5.37GB"),
        (1e20, "100EB"),
    ],
)
def test_a_size_has_three_digits_and_decimal_units(count: float, words: str) -> None:
    assert byte_size(count) == words


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_json_is_read_back_as_it_was(value: object) -> None:
    import json

    assert json.loads(compact(value)) == value
    assert json.loads(indented(value, "  ")) == value


def test_json_has_no_blanks_or_is_indented_by_steps() -> None:
    assert compact({"a": [1, {"b": "ä"}], "c": {}}) == '{"a":[1,{"b":"ä"}],"c":{}}'
    assert indented({"a": [1], "c": {}}, "  ") == '{\n  "a": [\n    1\n  ],\n  "c": {}\n}'


def test_yaml_quotes_what_would_be_read_as_something_else() -> None:
    value = {
        "host": {
            "cpus": 2,
            "version": "1.10",
            "on": True,
            "text": "conmon version 2.1.6, commit: x",
            "empty": "",
        },
        "list": ["a", {"b": 1, "c": []}, "yes"],
        "none": None,
        "odd": ["- x", "it's", "'q'", "a #b", "tab\there", "2026-01-01", "/path:x", "key:"],
    }
    assert yaml(value) == (
        "host:\n"
        "  cpus: 2\n"
        '  version: "1.10"\n'
        '  "on": true\n'
        "  text: 'conmon version 2.1.6, commit: x'\n"
        '  empty: ""\n'
        "list:\n"
        "- a\n"
        "- b: 1\n"
        "  c: []\n"
        '- "yes"\n'
        "none: null\n"
        "odd:\n"
        "- '- x'\n"
        "- it's\n"
        "- '''q'''\n"
        "- 'a #b'\n"
        '- "tab\\there"\n'
        '- "2026-01-01"\n'
        "- /path:x\n"
        "- 'key:'\n"
    )
