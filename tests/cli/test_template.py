"""Go templates: what they print, what they refuse."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyman.cli.template import Template
from pyman.errors import InvalidArgument

DATA: dict[str, Any] = {
    "Id": "abc",
    "Names": ["a", "b"],
    "State": {"Running": True, "Pid": 5, "Code": 0},
    "Labels": {"x": "y", "a": "b"},
    "Nothing": None,
    "Delay": 60.0,
    "Half": 0.5,
    "Empty": [],
    "Rows": [{"Name": "r1", "N": 1}, {"Name": "r2", "N": 2}],
    "Label": lambda key: f"<{key}>",
}


def render(text: str) -> str:
    return Template(text).render(DATA)


@pytest.mark.parametrize(
    "text, expected",
    [
        # fields
        ("{{.Id}}", "abc"),
        ("{{.ID}}/{{.id}}", "abc/abc"),
        ("{{ .State.Pid }}", "5"),
        ("{{$.Id}}", "abc"),
        ("{{.Label `k`}}", "<k>"),
        ('{{"k" | .Label}}', "<k>"),
        ("{{(index .Rows 1).Name}}", "r2"),
        # how values are printed
        ("{{.Names}} {{.State}} {{.Labels}}", "[a b] {true 5 0} map[a:b x:y]"),
        ("{{.Delay}} {{.Half}} {{.Nothing}} {{.Empty}}", "60 0.5 <nil> []"),
        ("{{true}} {{-3}} {{0x10}} {{'a'}} {{1.5}}", "true -3 16 97 1.5"),
        ("{{.Labels.nope}}", "<no value>"),
        # white space
        ("a {{- .Id -}} b", "aabcb"),
        ("a {{.Id}} b", "a abc b"),
        ("{{/* nothing */}}x{{- /* trims */ -}} y", "xy"),
        ("a\\tb\\n", "a\tb\n"),
        # if, with
        ("{{if .State.Running}}yes{{else}}no{{end}}", "yes"),
        ("{{if .Empty}}yes{{else}}no{{end}}", "no"),
        ("{{if eq .Id `x`}}1{{else if eq .Id `abc`}}2{{else}}3{{end}}", "2"),
        ("{{with .State}}{{.Pid}}{{end}}", "5"),
        ("{{with .Nothing}}x{{else}}{{.Id}}{{end}}", "abc"),
        ("{{with $x := .Id}}{{$x}}{{.}}{{end}}", "abcabc"),
        # range
        ("{{range .Names}}<{{.}}>{{end}}", "<a><b>"),
        ("{{range $i, $n := .Names}}{{$i}}{{$n}}{{end}}", "0a1b"),
        ("{{range $n := .Names}}{{$n}}{{$.Id}}{{end}}", "aabcbabc"),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "a=b;x=y;"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{range .Nothing}}x{{else}}none{{end}}", "none"),
        ("{{range .Rows}}{{if eq .N 2}}{{continue}}{{end}}{{.Name}}{{end}}", "r1"),
        ("{{range .Names}}{{.}}{{break}}{{end}}", "a"),
        # variables
        ("{{$x := .Id}}{{$x}}", "abc"),
        ("{{$x := 1}}{{range .Names}}{{$x = .}}{{end}}{{$x}}", "b"),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21"),
        # functions and pipelines
        ("{{json .State}}", '{"Running":true,"Pid":5,"Code":0}'),
        ("{{json .Names}} {{json .Id}} {{json .Nothing}} {{json .Delay}}", '["a","b"] "abc" null 60'),
        ("{{.Id | upper | printf `%s!`}}", "ABC!"),
        ('{{join .Names ", "}}', "a, b"),
        ("{{split `a-b` `-`}}", "[a b]"),
        ("{{lower `AbC`}} {{title `hello big world`}}", "abc Hello Big World"),
        ("{{len .Names}} {{len .Id}} {{len .Labels}}", "2 3 2"),
        ("{{index .Names 1}} {{index .Labels `x`}} {{index .Labels `nope`}}", "b y "),
        ("{{slice .Id 1}} {{slice .Names 0 1}}", "bc [a]"),
        ("{{eq 1 1}} {{eq .Id `x` `abc`}} {{ne 1 2}} {{lt 1 2}} {{le 2 2}} {{gt 1 2}} {{ge 2 2}}",
         "true true true true true false true"),
        ("{{and .Id .State.Pid}} {{or .Empty .Id}} {{not .Id}} {{and 0 .Id}}", "5 abc false 0"),
        ("{{print .Id 1 2 `x`}} {{println .Id 1}}", "abc1 2x abc 1\n"),
        ("{{pad .Id 1 2}}| {{truncate .Id 2}}", " abc  | ab"),
        ("{{printf `%-5s|%5d|%05.1f|%v|%q|%t|%x|%%` .Id .State.Pid .Half .Names .Id true 255}}",
         'abc  |    5|000.5|[a b]|"abc"|true|ff|%'),
        ("{{printf `%d` .Id}} {{printf `%s`}} {{printf `x` 1}}", "%!d(string=abc) %!s(MISSING) x%!(EXTRA int=1)"),
        ("{{printf `%1 2s|%1.2.3s|%-+ 4d|%.s|%c|%c%c` .Id .Id 5 .Id 65 55296 1114112}}",
         "%! (string=abc)2s|%!.(string=abc)3s|+5  ||A|\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"),
        ("{{printf `%1000001d %.99999999999999999999s %00000005d` 1 .Id 2}}",
         "%!(BADWIDTH)1 %!(BADPREC)abc 00002"),
        ("{{if and .Nothing .Nothing.Foo}}x{{else}}short{{end}}", "short"),
    ],
)  # fmt: skip
def test_a_template_prints_what_go_prints(text: str, expected: str) -> None:
    assert render(text) == expected


@pytest.mark.parametrize(
    "text, place, sentence",
    [
        ("{{.Foo}}", "1:3", "there is no field .Foo; the fields are .Delay .Empty .Half .Id"),
        ("a\n  {{.State.Foo}}", "2:5", "there is no field .Foo; the fields are .Code .Pid .Running"),
        ("{{.Id.X}}", "1:3", "there is no field .X: it is asked of a plain value"),
        ("{{.Names.X}}", "1:3", "there is no field .X: it is asked of a list"),
        ("{{.Nothing.X}}", "1:3", "there is no field .X: it is asked of nothing"),
        ("{{foo .Id}}", "1:3", "there is no function foo; there are and eq ge"),
        ("{{$x}}", "1:3", "there is no variable $x"),
        ("{{$x = 1}}", "1:3", "there is no variable $x"),
        ("{{if true}}{{$x := 1}}{{end}}{{$x}}", "1:32", "there is no variable $x"),
        ("{{.Id", "1:1", "the action does not end with }}"),
        ("{{/* x", "1:1", "the comment does not end"),
        ("{{}}", "1:1", "a value is missing"),
        ("{{.Id |}}", "1:1", "a value is missing"),
        ("{{if}}x{{end}}", "1:1", "a value is missing"),
        ("{{if .Id}}x", "1:1", "if has no end"),
        ("{{range .Names}}x{{else}}", "1:1", "range has no end"),
        ("{{end}}", "1:1", "{{end}} without a beginning"),
        ("{{else}}", "1:1", "{{else}} without a beginning"),
        ("{{break}}", "1:1", "break stands alone inside a range"),
        ("{{define `x`}}", "1:1", "define is not supported"),
        ("{{`x}}", "1:3", "the string does not end"),
        ('{{"\\z"}}', "1:4", "the escape \\z is not known"),
        ("{{1x}}", "1:3", "1x is not a number"),
        ("{{&}}", "1:3", "the character '&' means nothing here"),
        ("{{(.Id}}", "1:3", "the parenthesis is not closed"),
        ("{{.Id)}}", "1:6", ") is not expected here"),
        ("{{.Id .Id}}", "1:3", "the field .Id takes no arguments"),
        ("{{1 2}}", "1:5", "only functions and methods take arguments"),
        ("{{.Id | .Id}}", "1:9", "the field .Id takes no arguments"),
        ("{{.Label}}", "1:3", "the method .Label takes other arguments"),
        ("{{upper}}", "1:3", "upper does not take 0 arguments"),
        ("{{upper 1}}", "1:3", "upper needs a string, not 1"),
        ("{{join .Id `,`}}", "1:3", "join needs a list, not abc"),
        ("{{index .Names 7}}", "1:3", "index 7 is out of range: there are 2"),
        ("{{len 5}}", "1:3", "5 has no length"),
        ("{{eq 1 `a`}}", "1:3", "eq cannot compare 1 with a"),
        ("{{lt .Names 1}}", "1:3", "cannot compare [a b] with 1"),
        ("{{range .Id}}x{{end}}", "1:1", "range cannot go through abc"),
    ],
)
def test_a_mistake_is_one_sentence_that_says_where(text: str, place: str, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        render(text)
    assert str(caught.value).startswith(f"cannot use the template: {place}: {sentence}")


def test_blanks_of_a_table_template_separate_columns_but_not_inside_actions() -> None:
    template = Template("{{.Id}}  {{printf `%s x` .Id}}\\t{{.Id}}", table=True)
    assert template.render(DATA) == "abc\tabc x\tabc"


def test_a_template_can_be_rendered_again() -> None:
    template = Template("{{$x := .Id}}{{range $i, $n := .Names}}{{$i}}{{$n}}{{end}}{{$x}}")
    assert template.render(DATA) == template.render(DATA) == "0a1babc"


@given(st.text().filter(lambda text: "{{" not in text and "\\" not in text))
def test_text_without_actions_stands_as_it_is(text: str) -> None:
    assert render(text) == text


@given(st.text(alphabet=st.characters(blacklist_characters='`\\"', blacklist_categories=("Cc", "Cs"))))
def test_a_string_comes_through_every_way_of_quoting_it(text: str) -> None:
    assert render("{{`" + text + "`}}") == text
    assert render('{{"' + text + '"}}') == text
    assert Template("{{.X}}").render({"X": text}) == text


PIECES = st.sampled_from(
    ["{{", "}}", "{{-", "-}}", ".Id", ".Names", "$", "$x", ":=", "=", "|", "(", ")", "if", "else", "end", "range",
     "with", "json", "len", "index", "printf", "eq", '"a"', "`b`", "'c'", "1", "-", ".", ",", " ", "\n", "x", "/*", "*/",
     '"%1 2s"', '"%.9999999999c"']
)  # fmt: skip


@given(st.lists(PIECES, max_size=14).map("".join))
def test_any_text_is_rendered_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidArgument):
        render(text)
