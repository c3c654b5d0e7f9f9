"""The daemon's log on standard error: readable lines on a terminal, JSON otherwise.

`log.info("what happened", name=value, …)`, and so for the other levels. Values under names that promise a secret are
left out. Writing never waits: a reader that does not read costs lines, not the loop. Where standard error is a plain
file (a supervisor started on demand), the file is kept below `FILE_LIMIT`: the older part goes.

It does what it has to and no more: a logging library's import is a tenth of what a first command waits for.
"""

from __future__ import annotations

import os
import re
import select
import stat
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from types import TracebackType

    Trouble = BaseException | bool | None

__all__ = ["FILE_KEPT", "FILE_LIMIT", "Log", "Output", "configure", "crash", "log"]

FILE_LIMIT = 8 << 20
"""Bytes of a log file."""
FILE_KEPT = 1 << 20
"""Bytes of it that stay when it has reached its limit."""

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_COLORS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}
_SECRET = re.compile(
    r"(?i)(^|_)(env|environ|environment|password|passphrase|secret|token|auth|credentials?)(_|$)"
)


class Log:
    """`exc_info`: an exception whose traceback is told too; True means the one that is being handled."""

    def __init__(self) -> None:
        self._least = _LEVELS["info"]
        self._output: Output | None = None
        self._terminal = False

    def to(self, fd: int, level: str) -> None:
        """From this level on, to this descriptor."""
        self._least = _LEVELS[level]
        self._output = Output(fd)
        self._terminal = os.isatty(fd)

    def debug(self, event: str, *, exc_info: Trouble = None, **fields: object) -> None:
        self.tell("debug", event, fields, exc_info)

    def info(self, event: str, *, exc_info: Trouble = None, **fields: object) -> None:
        self.tell("info", event, fields, exc_info)

    def warning(self, event: str, *, exc_info: Trouble = None, **fields: object) -> None:
        self.tell("warning", event, fields, exc_info)

    def error(self, event: str, *, exc_info: Trouble = None, **fields: object) -> None:
        self.tell("error", event, fields, exc_info)

    def critical(self, event: str, *, exc_info: Trouble = None, **fields: object) -> None:
        self.tell("critical", event, fields, exc_info)

    def exception(self, event: str, **fields: object) -> None:
        """An error, with the traceback of the exception that is being handled."""
        self.tell("error", event, fields, exc_info=True)

    def tell(self, level: str, event: str, fields: dict[str, Any], exc_info: Trouble) -> None:
        if _LEVELS[level] < self._least:
            return
        if self._output is None:
            self.to(2, "info")
        assert self._output is not None  # noqa: S101 - made just now, if it was not there
        shown = {name: "…" if _SECRET.search(name) else value for name, value in fields.items()}
        trace = _traceback(exc_info)
        if self._terminal:
            self._output.msg(_readable(level, event, shown, trace))
        else:
            shown.update(event=event, level=level, timestamp=_now())
            if trace:
                shown["exception"] = trace
            self._output.msg(msgspec.json.encode(shown, enc_hook=repr).decode())


log = Log()
"""The one of this process."""


def configure(level: str = "info", fd: int = 2) -> None:
    """Log from this level on; may be called again. `level`: debug, info, warning or error."""
    log.to(fd, level)


def crash(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    """For `sys.excepthook`: what nobody expected, in the log's own form."""
    log.critical("crashed", exc_info=error)


def _now() -> str:
    """UTC with microseconds."""
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest // 1000:06d}Z"


def _traceback(exc_info: Trouble) -> str:
    error = sys.exc_info()[1] if exc_info is True else exc_info
    if not isinstance(error, BaseException):
        return ""
    import traceback

    return "".join(traceback.format_exception(error)).rstrip()


def _readable(level: str, event: str, fields: dict[str, Any], trace: str) -> str:
    named = " ".join(f"\x1b[36m{name}\x1b[0m={value!r}" for name, value in fields.items())
    time_of_day = time.strftime("%H:%M:%S")
    line = (
        f"\x1b[2m{time_of_day}\x1b[0m [\x1b[{_COLORS[level]}m{level:8}\x1b[0m] \x1b[1m{event}\x1b[0m {named}"
    )
    return f"{line.rstrip()}\n{trace}" if trace else line.rstrip()


class Output:
    """Writes whole lines to a descriptor that is not its own."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lost = 0
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        status = os.fstat(fd)
        self._bounded = stat.S_ISREG(status.st_mode)
        self._size = status.st_size

    def msg(self, line: str) -> None:
        data = memoryview(line.encode(errors="backslashreplace") + b"\n")
        if self._lost:
            note = b"(%d lines were lost: nobody read them)\n" % self._lost
            if not self._write(memoryview(note)):
                self._lost += 1
                return
            self._lost = 0
        if not self._write(data):
            self._lost += 1
        if self._bounded and self._size > FILE_LIMIT:
            self._shorten()

    def _write(self, data: memoryview) -> bool:
        """In pieces for which there is room whenever there is any. False: there was none."""
        while data:
            if not self._poll.poll(0):
                return False
            try:
                written = os.write(self._fd, data[: select.PIPE_BUF])
            except OSError:
                return False
            self._size += written
            data = data[written:]
        return True

    def _shorten(self) -> None:
        """Keep the end. The file was opened for appending, so every writer goes on behind it."""
        try:
            size = os.fstat(self._fd).st_size
            with open(f"/proc/self/fd/{self._fd}", "rb") as file:
                file.seek(max(0, size - FILE_KEPT))
                end = file.read(FILE_KEPT)
            os.ftruncate(self._fd, 0)
            self._size = os.write(self._fd, end[end.find(b"\n") + 1 :])
        except OSError:
            self._bounded = False
