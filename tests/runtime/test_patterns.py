"""Clients' patterns: what fits, and that none takes the supervisor's time."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyman.errors import InvalidArgument
from supervisor.patterns import expression, wildcard


@pytest.mark.parametrize(
    ("pattern", "fits", "does_not"),
    [
        ("web", "my-web-1", "we"),
        ("^web$", "web", "web1"),
        ("w.b", "wob", "wb"),
        ("web|db", "db1", "cache"),
        ("^[a-c]+[0-9]{2}$", "abc12", "abc1"),
        ("(?i)WEB", "web", "wb"),
        ("gr\u00fc+n", "gr\u00fc\u00fcn", "grun"),
        ("", "anything", None),
    ],
)
def test_an_expression_is_found_anywhere(pattern: str, fits: str, does_not: str | None) -> None:
    assert expression(pattern).search(fits)
    assert does_not is None or not expression(pattern).search(does_not)


@pytest.mark.parametrize("pattern", ["(", "a**", "[b-a]", r"(a)\1", "(?=a)", "((a{100}){100}){100}"])
def test_what_is_none_is_refused_by_its_words(pattern: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        expression(pattern)
    assert str(refused.value).startswith(f"cannot use the filter value '{pattern}': ")
    assert len(str(refused.value).splitlines()) == 1


def test_what_is_none_is_not_told_to_anybodys_terminal() -> None:
    words = "from supervisor.patterns import expression\ntry:\n expression('(')\nexcept Exception: pass"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert done.stderr == ""


@pytest.mark.parametrize(
    "pattern", ["([0-9a-f]+)+!", "(a|a)*!", "(.*)(.*)(.*)(.*)(.*)!", "^(([a-z0-9])+.)+!$"]
)
def test_none_takes_longer_than_the_text_is_long(pattern: str) -> None:
    """Python's own would be at it for years."""
    found = expression(pattern)
    begun = time.process_time()
    assert not found.search("a" * 4096)
    assert time.process_time() - begun < 0.5


def test_nor_does_a_wildcard() -> None:
    fits = wildcard("*a" * 30 + "b")
    begun = time.process_time()
    assert not fits("a" * 4096)
    assert time.process_time() - begun < 0.5


@pytest.mark.parametrize(
    ("text", "fits", "does_not"),
    [
        ("fedora", "fedora", "fedora1"),
        ("fed*", "fedora", "fed/ora"),
        ("f?dora", "fedora", "f/dora"),
        ("*/fedora:*", "library/fedora:41", "a/b/fedora:41"),
        ("v[0-9]", "v1", "va"),
        ("v[^0-9]", "va", "v1"),
        (r"\*", "*", "a"),
        ("a.c", "a.c", "abc"),
    ],
)
def test_a_wildcard_is_gos(text: str, fits: str, does_not: str) -> None:
    assert wildcard(text)(fits)
    assert not wildcard(text)(does_not)


def test_a_wildcard_that_is_none_fits_nothing() -> None:
    assert not wildcard("[b-a]")("b")


@given(st.text("ab*?.-", max_size=8), st.text("ab.-", max_size=8))
def test_without_slashes_a_wildcard_is_the_shells(text: str, candidate: str) -> None:
    assert wildcard(text)(candidate) == fnmatchcase(candidate, text)


@given(st.text("ab.^$-_1", max_size=6), st.text("ab-_1", max_size=8))
def test_a_word_means_the_same_to_both_libraries(text: str, candidate: str) -> None:
    assert bool(expression(text).search(candidate)) == bool(re.search(text, candidate))


def test_a_word_needs_no_library() -> None:
    words = "import sys\nfrom supervisor.patterns import expression\nexpression('^web-1$')\nassert 're2' not in sys.modules"
    subprocess.run([sys.executable, "-c", words], check=True)
