"""Lines of container logs as conmon writes them (the format `k8s-file`).

A line is `TIME STREAM FLAG TEXT`: RFC 3339 time with nanoseconds, `stdout` or `stderr`, `F` for a full line
or `P` for a part that the next line of the same stream continues. Standard library only.
"""

from __future__ import annotations

__all__ = ["Line", "parse_line"]


class Line:
    """`time` as it stands in the file, `text` without the newline. `partial`: the line goes on."""

    __slots__ = ("partial", "stream", "text", "time")

    def __init__(self, time: str, stream: str, partial: bool, text: bytes) -> None:
        self.time = time
        self.stream = stream
        self.partial = partial
        self.text = text

    def __repr__(self) -> str:
        return f"Line({self.time!r}, {self.stream!r}, {self.partial!r}, {self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Line) and all(
            getattr(self, name) == getattr(other, name) for name in self.__slots__
        )

    def __hash__(self) -> int:
        return hash((self.time, self.stream, self.partial, self.text))


def parse_line(line: bytes) -> Line:
    """`line` without its newline. One that is not of the format is text of stdout without a time."""
    parts = line.split(b" ", 3)
    if len(parts) >= 3 and parts[1] in (b"stdout", b"stderr") and parts[2] in (b"F", b"P"):
        text = parts[3] if len(parts) == 4 else b""
        return Line(parts[0].decode(errors="replace"), parts[1].decode(), parts[2] == b"P", text)
    return Line("", "stdout", False, line)
