"""Reading log files: what comes out is what the container wrote, byte for byte, wherever blocks end."""

from __future__ import annotations

import datetime
import itertools
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyman import logfile
from pyman.logfile import Chain, records, runs, stamp_time, tail_start
from pyman.stamps import parse_stamp

if TYPE_CHECKING:
    from pathlib import Path

STAMP = b"2026-11-22T11:08:30.681110505+00:00"
_text = st.binary(max_size=40).map(lambda text: text.replace(b"\n", b""))
_record = st.tuples(st.sampled_from([1, 2]), st.booleans(), _text)
_log = st.lists(_record, max_size=40)


def write(log: list[tuple[int, bool, bytes]], stamp: bytes = STAMP) -> bytes:
    names = {1: b"stdout", 2: b"stderr"}
    return b"".join(
        b"%b %b %b %b\n" % (stamp, names[stream], b"F" if full else b"P", text) for stream, full, text in log
    )


def said(log: list[tuple[int, bool, bytes]], stream: int) -> bytes:
    return b"".join(text + b"\n" * full for number, full, text in log if number == stream)


def joined(found: list[tuple[int, bytes]], stream: int) -> bytes:
    return b"".join(data for number, data in found if number == stream)


def make_chain(tmp_path: Path, *contents: bytes) -> Chain:
    chain = Chain()
    for number, content in enumerate(contents):
        path = tmp_path / f"{number}.log"
        path.write_bytes(content)
        chain.add(os.open(path, os.O_RDONLY))
    return chain


@given(_log, st.sampled_from([STAMP, b"2026-11-22T11:08:30Z"]))
def test_a_block_gives_each_stream_its_bytes(log: list[tuple[int, bool, bytes]], stamp: bytes) -> None:
    found = runs(write(log, stamp)) if log else []
    assert joined(found, 1) == said(log, 1)
    assert joined(found, 2) == said(log, 2)
    order = [stream for stream, _ in found]
    assert len(order) <= len(log), "stretches of one stream stay together"
    assert list(records(write(log, stamp))) == [(stamp, *record) for record in log]


@pytest.mark.parametrize("garbage", [b"", b"x", b"half of a rec", b"2026-11-22T11:08:30Z stdout", b"a b c d"])
def test_what_is_no_record_is_passed_over(garbage: bytes) -> None:
    good = write([(1, True, b"one")])
    assert joined(runs(good + garbage + b"\n" + good), 1) == b"one\none\n"
    assert len(list(records(good + garbage + b"\n" + good))) == 2


@pytest.mark.parametrize("block", [1, 7, 46, 1000])
def test_a_chain_is_read_in_order_whatever_the_size_of_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(logfile, "BLOCK", block)
    files = [[(1, False, b"a"), (2, True, b"\x00err")], [], [(1, True, b"b" * 300), (1, False, b"end")]]
    chain = make_chain(tmp_path, *map(write, files))
    found = [run for part in chain.read() for run in runs(part)]
    assert joined(found, 1) == b"a" + b"b" * 300 + b"\nend"
    assert joined(found, 2) == b"\x00err\n"
    chain.close()


def test_an_unfinished_record_waits_for_its_end(tmp_path: Path) -> None:
    whole = write([(1, True, b"first"), (1, True, b"second")])
    chain = make_chain(tmp_path, whole[:-10])
    assert joined([run for part in chain.read() for run in runs(part)], 1) == b"first\n"
    with (tmp_path / "0.log").open("ab") as file:
        file.write(whole[-10:])
    assert joined([run for part in chain.read() for run in runs(part)], 1) == b"second\n"
    chain.close()


def test_what_is_appended_to_the_last_file_comes_with_the_next_read(tmp_path: Path) -> None:
    chain = make_chain(tmp_path, write([(1, True, b"1")]))
    assert len(list(chain.read())) == 1
    assert list(chain.read()) == []
    with (tmp_path / "0.log").open("ab") as file:
        file.write(write([(1, True, b"2")]))
    newer = tmp_path / "newer.log"
    newer.write_bytes(write([(1, True, b"3")]))
    chain.add(os.open(newer, os.O_RDONLY))
    assert joined([run for part in chain.read() for run in runs(part)], 1) == b"2\n3\n"
    assert len(chain.files) == 1, "a file that has a successor is closed after its end"
    chain.close()


def test_a_frozen_chain_ends_where_it_ended_then(tmp_path: Path) -> None:
    chain = make_chain(tmp_path, write([(1, True, b"1")]))
    chain.freeze()
    with (tmp_path / "0.log").open("ab") as file:
        file.write(write([(1, True, b"2")]))
    assert joined([run for part in chain.read() for run in runs(part)], 1) == b"1\n"
    chain.close()


def test_a_truncated_file_is_read_from_its_beginning(tmp_path: Path) -> None:
    chain = make_chain(tmp_path, write([(1, True, b"long ago")] * 3))
    list(chain.read())
    (tmp_path / "0.log").write_bytes(write([(1, True, b"new")]))
    assert joined([run for part in chain.read() for run in runs(part)], 1) == b"new\n"
    chain.close()


def _lines(log: list[tuple[int, bool, bytes]]) -> list[int]:
    """For each record, how many logical lines begin at or after it (counted from the end)."""
    count, after, open_lines = 0, [], set()
    for stream, full, _ in reversed(log):
        if full or stream not in open_lines:
            count += 1
            open_lines.add(stream)
        after.append(count)
    return after[::-1]


@given(
    log=_log,
    cuts=st.lists(st.integers(0, 40), max_size=3),
    count=st.integers(0, 12),
    step=st.integers(1, 200),
)
def test_the_tail_begins_where_counting_all_lines_says(
    tmp_path_factory: pytest.TempPathFactory,
    log: list[tuple[int, bool, bytes]],
    cuts: list[int],
    count: int,
    step: int,
) -> None:
    places = sorted({0, len(log), *(cut for cut in cuts if cut < len(log))})
    parts = [log[begin:end] for begin, end in itertools.pairwise(places)] or [[]]
    directory = tmp_path_factory.mktemp("tail")
    chain = make_chain(directory, *map(write, parts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logfile, "_FIRST_STEP", step)
        patch.setattr(logfile, "BLOCK", step)
        chain.start_at(*tail_start(chain.files, count))
        found = [record for part in chain.read() for record in records(part)]
    chain.close()
    expected = [record for record, lines in zip(log, _lines(log), strict=True) if lines <= count]
    assert [record[1:] for record in found] == expected


def test_the_tail_of_a_huge_log_reads_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "big.log"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: whoever reads it all never ends
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + write([(1, True, b"%d" % number) for number in range(100)]))
    chain = Chain()
    chain.add(os.open(path, os.O_RDONLY))
    read = 0

    def pread(descriptor: int, size: int, offset: int, *, real: object = os.pread) -> bytes:
        nonlocal read
        data: bytes = real(descriptor, size, offset)  # type: ignore[operator]
        read += len(data)
        return data

    monkeypatch.setattr(os, "pread", pread)
    chain.start_at(*tail_start(chain.files, 10))
    found = [run for part in chain.read() for run in runs(part)]
    assert joined(found, 1) == b"".join(b"%d\n" % number for number in range(90, 100))
    assert read < 100_000
    chain.close()


@given(st.integers(1_000_000_000, 4_000_000_000), st.integers(0, 999_999_999))
def test_stamps_of_records_are_read_like_any_other(seconds: int, nanoseconds: int) -> None:

    when = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    stamp = f"{when:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}+00:00"
    assert stamp_time(stamp.encode()) == parse_stamp(stamp) == seconds * 10**9 + nanoseconds
