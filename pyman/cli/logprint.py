"""What `pyman logs` makes of log records: the container's own bytes, or lines with times, names and colours."""

from __future__ import annotations

from pyman.cli.session import write_all
from pyman.logfile import records, runs, stamp_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyman.logfile import Record

__all__ = ["Plain", "Printer"]

_COLORS = (b"\x1b[37m", b"\x1b[31m", b"\x1b[33m", b"\x1b[34m", b"\x1b[35m", b"\x1b[36m", b"\x1b[32m")
_RESET = b"\x1b[0m"
_LONGEST = 1 << 20
"""Bytes of a line kept until its end is known; then what there is is shown."""


class _Period:
    """Which records lie in the time asked for."""

    def __init__(self, since: int | None, until: int | None) -> None:
        self._since = since if since is not None else -(1 << 63)
        self._until = until if until is not None else 1 << 63
        self._bounded = since is not None or until is not None
        self.past = False
        """The end was reached: there is nothing more to show."""

    def _inside(self, block: bytes) -> bool | None:
        """Whether all of the block is inside; none: some of it may be.

        A block is a moment long: between its first and its last record time is taken to run forward.
        """
        if not self._bounded:
            return True
        first = stamp_time(block[: block.find(b" ")])
        last_line = block[block.rfind(b"\n", 0, -1) + 1 :]
        last = stamp_time(last_line[: last_line.find(b" ")])
        if first >= self._since and last >= self._since and first <= self._until and last <= self._until:
            return True
        if first < self._since and last < self._since:
            return False
        return None

    def _chosen(self, block: bytes) -> Iterator[Record]:
        for record in records(block):
            when = stamp_time(record[0])
            if when > self._until:
                self.past = True
                return
            if when >= self._since:
                yield record


class Plain(_Period):
    """Byte for byte what the container wrote, each stream to ours of the same name.

    A line begun on one stream is held while there are lines of the other, so that they do not mix where
    both streams lead to the same place.
    """

    def __init__(self, since: int | None, until: int | None) -> None:
        super().__init__(since, until)
        self._held: dict[int, bytes] = {}

    def show(self, block: bytes) -> None:
        """Print a block of whole records. BrokenPipeError when nobody reads."""
        inside = self._inside(block)
        if inside:
            for stream, data in runs(block):
                self._write(stream, data)
        elif inside is None:
            for _, stream, full, text in self._chosen(block):
                self._write(stream, text + b"\n" if full else text)

    def _write(self, stream: int, data: bytes) -> None:
        if stream in self._held:
            data = self._held.pop(stream) + data
        if data[-1:] == b"\n" or len(data) > _LONGEST:
            write_all(stream, data)
        else:
            end = data.rfind(b"\n") + 1
            write_all(stream, memoryview(data)[:end])
            self._held[stream] = data[end:]

    def pause(self) -> None:
        """Nothing more is there for now: what was begun is shown."""
        for stream in sorted(self._held):
            write_all(stream, self._held.pop(stream))

    def finish(self) -> None:
        """Nothing more will come."""
        self.pause()


class Printer(_Period):
    """Whole lines, each with what was asked for before it."""

    def __init__(
        self,
        prefix: str,
        *,
        timestamps: bool,
        color: int | None,
        since: int | None,
        until: int | None,
    ) -> None:
        super().__init__(since, until)
        self._prefix = prefix.encode()
        self._timestamps = timestamps
        self._begin = b"" if color is None else _COLORS[color % len(_COLORS)]
        self._end = b"" if color is None else _RESET
        self._parts: dict[int, list[bytes]] = {}
        """Of unfinished lines by stream; the first is what stands before the line."""
        self._sizes: dict[int, int] = {}

    def show(self, block: bytes) -> None:
        """Print a block of whole records. BrokenPipeError when nobody reads."""
        inside = self._inside(block)
        if inside is False:
            return
        lines: list[bytes] = []
        current = 1
        for stamp, stream, full, text in records(block) if inside else self._chosen(block):
            if stream != current:
                self._write(current, lines)
                current = stream
            if full and stream not in self._parts:
                lines += (self._head(stamp), text, self._end, b"\n")
            else:
                self._part(lines, stream, stamp, text, full=full)
        self._write(current, lines)

    def _part(self, lines: list[bytes], stream: int, stamp: bytes, text: bytes, *, full: bool) -> None:
        parts = self._parts.setdefault(stream, [])
        if not parts:
            parts.append(self._head(stamp))
        parts.append(text)
        size = self._sizes.get(stream, 0) + len(text)
        self._sizes[stream] = size
        if full:
            lines += (*parts, self._end, b"\n")
            del self._parts[stream], self._sizes[stream]
        elif size > _LONGEST:
            lines += parts
            parts[:] = [b""]
            self._sizes[stream] = 0

    def pause(self) -> None:
        """Nothing more is there for now: a line is shown when it is whole."""

    def finish(self) -> None:
        """Nothing more will come: what was never ended is shown as it is."""
        for stream, parts in sorted(self._parts.items()):
            write_all(stream, b"".join((*parts, self._end)))
        self._parts.clear()

    def _head(self, stamp: bytes) -> bytes:
        if not self._timestamps:
            return self._begin + self._prefix
        if stamp.endswith((b"+00:00", b"-00:00")):
            stamp = stamp[:-6] + b"Z"
        return b"%b%b%b " % (self._begin, self._prefix, stamp)

    def _write(self, stream: int, lines: list[bytes]) -> None:
        if lines:
            write_all(stream, b"".join(lines))
            lines.clear()
