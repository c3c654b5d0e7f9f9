"""Container logs as conmon writes them: `TIME STREAM TAG TEXT`, tag F for a line and P for a part of one.

A record ends with a newline. Its text is what the container wrote: all of it with tag F, up to a pause or
the size of conmon's buffer with tag P, so texts of P and the F after it, joined, are the container's own
bytes again. A logical line is what one F ends; the two streams have theirs independently.

conmon's header always has the same length (RFC 3339 with nanoseconds and offset), which makes the common
case fast: whole blocks are cut by slicing, without a look at each line. Headers of other lengths are read
too. What is no record (the remainder of one that did not fit on a full disk) is passed over.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

try:
    from _operator import itemgetter
except ImportError:  # pragma: no cover - another Python
    from operator import itemgetter

__all__ = ["BLOCK", "Chain", "Record", "records", "runs", "stamp_time", "tail_start"]

BLOCK = 256 << 10
"""Bytes read at once: what fits the processor's cache is faster than more."""
_STAMP = 35
_HEADER = 45
_LONGEST_HEADER = 100
"""More than any header; the text behind it does not matter when records are counted."""
_FIRST_STEP = 16 << 10
"""Bytes read first from the end: a screenful."""
_HEADS = {
    b" stdout F ": (1, True),
    b" stdout P ": (1, False),
    b" stderr F ": (2, True),
    b" stderr P ": (2, False),
}
_head_of = itemgetter(slice(_STAMP, _HEADER))
_text_of = itemgetter(slice(_HEADER, None))

Record = tuple[bytes, int, bool, bytes]
"""Time as written, stream (1 or 2), whether it ends a line, text."""


def runs(block: bytes) -> list[tuple[int, bytes]]:
    """The container's bytes in a block of whole records: stretches of one stream, in order."""
    lines = block.split(b"\n")
    lines.pop()
    heads = list(map(_head_of, lines))
    kinds = set(heads)
    if len(kinds) == 1:
        return _run(heads[0], lines)
    found: list[tuple[int, bytes]] = []
    begin, count = 0, len(lines)
    while begin < count:
        head = heads[begin]
        end = begin + 1
        while end < count and heads[end] == head:
            end += 1
        found += _run(head, lines[begin:end])
        begin = end
    return found


def _run(head: bytes, lines: list[bytes]) -> list[tuple[int, bytes]]:
    """Records with the same head."""
    kind = _HEADS.get(head)
    if kind is None:
        return [
            (stream, text + b"\n" if full else text)
            for _, stream, full, text in map(_record, lines)
            if stream
        ]
    stream, full = kind
    if full:
        texts = list(map(_text_of, lines))
        texts.append(b"")
        return [(stream, b"\n".join(texts))]
    return [(stream, b"".join(map(_text_of, lines)))]


def records(block: bytes) -> Iterator[Record]:
    """The records of a block one by one."""
    lines = block.split(b"\n")
    lines.pop()
    for line in lines:
        record = _record(line)
        if record[1]:
            yield record


def _record(line: bytes) -> Record:
    """One record; stream 0: it is none."""
    kind = _HEADS.get(line[_STAMP:_HEADER])
    if kind is not None:
        return line[:_STAMP], kind[0], kind[1], line[_HEADER:]
    parts = line.split(b" ", 3)
    kind = _HEADS.get(b" %b %b " % (parts[1], parts[2][:1])) if len(parts) == 4 else None
    if kind is None or not parts[0][:4].isdigit():
        return b"", 0, False, b""
    return parts[0], kind[0], kind[1], parts[3]


_minutes: dict[bytes, int] = {}


def stamp_time(stamp: bytes) -> int:
    """Nanoseconds since the epoch; 0 for what is no time."""
    if len(stamp) == _STAMP:
        # Lines come many to a minute: only the first of them is worked out in full.
        minute = stamp[:17] + b"00" + stamp[29:]
        start = _minutes.get(minute)
        if start is None:
            start = _parse(minute)
            _minutes.clear()
            _minutes[minute] = start
        try:
            return start + int(stamp[17:19]) * 1_000_000_000 + int(stamp[20:29])
        except ValueError:
            return 0
    return _parse(stamp)


def _parse(stamp: bytes) -> int:
    from pyman.stamps import parse_stamp

    return parse_stamp(stamp.decode("ascii", "replace")) or 0


class Chain:
    """A container's log files, oldest first, read one after the other; new ones may be added meanwhile.

    The descriptors belong to the chain. `pread` is used: their position may be shared with somebody.
    """

    def __init__(self) -> None:
        self._files: list[int] = []
        self._offset = 0
        self._rest: list[bytes] = []
        self._limit: int | None = None

    def add(self, descriptor: int) -> None:
        self._files.append(descriptor)

    @property
    def files(self) -> Sequence[int]:
        """Those not done with; the first one is being read."""
        return self._files

    @property
    def current(self) -> int | None:
        return self._files[0] if self._files else None

    def start_at(self, index: int, offset: int) -> None:
        """Leave out what comes before."""
        for _ in range(index):
            self._next()
        self._offset = offset

    def freeze(self) -> None:
        """Let the present end be the end: a container that writes faster than we read has none."""
        if self._files:
            self._limit = os.fstat(self._files[-1]).st_size

    def read(self) -> Iterator[bytes]:
        """Blocks of whole records up to the present end of the newest file.

        A file that has a successor is final: its end is its end.
        """
        while self._files:
            descriptor = self._files[0]
            while data := os.pread(descriptor, self._share(), self._offset):
                self._offset += len(data)
                cut = data.rfind(b"\n") + 1
                if not cut:
                    self._rest.append(data)
                    continue
                self._rest.append(data[:cut])
                block = b"".join(self._rest) if len(self._rest) > 1 else self._rest[0]
                self._rest = [data[cut:]] if cut < len(data) else []
                yield block
            if os.fstat(descriptor).st_size < self._offset:
                self._offset = 0  # truncated by somebody: what is there now is new
                self._rest.clear()
                continue
            if len(self._files) == 1:
                return
            self._next()

    def _share(self) -> int:
        if self._limit is None or len(self._files) > 1:
            return BLOCK
        return max(0, min(BLOCK, self._limit - self._offset))

    def _next(self) -> None:
        os.close(self._files.pop(0))
        self._offset = 0
        self._rest.clear()

    def close(self) -> None:
        while self._files:
            self._next()


def tail_start(files: Sequence[int], count: int) -> tuple[int, int]:
    """Where the last `count` logical lines begin: index of the file and offset in it.

    Reads from the end backwards, no more than needed. An unfinished record at the end does not count;
    a part at the end that nothing has completed yet is a line. Where a line of one stream began before one
    of the other that is left out, its beginning is left out too.
    """
    start = (len(files), 0)
    if count <= 0:
        return _end(files)
    open_lines: set[int] = set()
    found = 0
    for index in range(len(files) - 1, -1, -1):
        for offset, stream, full in _backwards(files[index]):
            if full or stream not in open_lines:
                if found == count:
                    return start if start[0] < len(files) else _end(files)
                found += 1
                open_lines.add(stream)
            start = (index, offset)
    return start if start[0] < len(files) else (0, 0)


def _end(files: Sequence[int]) -> tuple[int, int]:
    """Behind the last whole record of all."""
    if not files:
        return (0, 0)
    descriptor = files[-1]
    position = os.fstat(descriptor).st_size
    while position > 0:
        begin = max(0, position - BLOCK)
        at = os.pread(descriptor, position - begin, begin).rfind(b"\n")
        if at >= 0:
            return (len(files) - 1, begin + at + 1)
        position = begin
    return (len(files) - 1, 0)


def _backwards(descriptor: int) -> Iterator[tuple[int, int, bool]]:
    """Offset, stream and tag of the records of a file, the last one first."""
    position = os.fstat(descriptor).st_size
    step = _FIRST_STEP
    fragment = b""  # the beginning of the record that goes on behind `position`
    complete = False  # whether it has its newline
    while position > 0:
        begin = max(0, position - step)
        block = os.pread(descriptor, position - begin, begin)
        data = block + fragment
        border, stop = len(block), len(data)
        while (at := data.rfind(b"\n", 0, min(stop, border))) >= 0:
            if complete:
                record = _record(data[at + 1 : min(stop, at + _LONGEST_HEADER)])
                if record[1]:
                    yield begin + at + 1, record[1], record[2]
            complete = True
            stop = at
        fragment = data[: min(stop, _LONGEST_HEADER)]
        position = begin
        step = min(step * 2, BLOCK)
    record = _record(fragment)
    if complete and record[1]:
        yield 0, record[1], record[2]
