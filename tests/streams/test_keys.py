"""Detach keys: nothing of what was typed is lost or changed, whatever the pieces it comes in."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyman.cli.keys import DEFAULT, KeyFilter, parse_keys
from pyman.errors import InvalidArgument

_letters = st.integers(0, 2).map(lambda number: b"abc"[number : number + 1])
_few = st.lists(_letters, max_size=30).map(b"".join)


@pytest.mark.parametrize(
    "text, keys",
    [
        (DEFAULT, b"\x10\x11"),
        ("", b""),
        ("a", b"a"),
        ("a,Z", b"aZ"),
        ("ctrl-@,ctrl-a,ctrl-Z", b"\x00\x01\x1a"),
        ("ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x1b\x1c\x1d\x1e\x1f"),
        ("DEL", b"\x7f"),
    ],
)
def test_keys_are_written_as_for_podman(text: str, keys: bytes) -> None:
    assert parse_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-1", "zzz", "a,,b", ",", "ctrl-aa", "ä"])
def test_other_keys_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="option --detach-keys cannot be"):
        parse_keys(text)


@given(keys=_few, typed=_few, cuts=st.lists(st.integers(0, 30)))
def test_everything_before_the_keys_is_passed_on_and_nothing_after(
    keys: bytes, typed: bytes, cuts: list[int]
) -> None:
    places = sorted({0, len(typed), *(cut for cut in cuts if cut < len(typed))})
    pieces = [typed[begin:end] for begin, end in itertools.pairwise(places)]
    keys_filter = KeyFilter(keys)
    passed = b""
    for piece in pieces:
        passed += keys_filter.feed(piece)
        if keys_filter.detached:
            break
    passed += keys_filter.end()
    at = typed.find(keys) if keys else -1
    assert keys_filter.detached == (at >= 0)
    assert passed == (typed if at < 0 else typed[:at])


def test_the_first_of_two_keys_is_held_until_the_next_one() -> None:
    keys = KeyFilter(parse_keys(DEFAULT))
    assert keys.feed(b"ls\x10") == b"ls"
    assert keys.feed(b"x") == b"\x10x"
    assert keys.feed(b"\x10") == b""
    assert keys.feed(b"\x11") == b""
    assert keys.detached
