"""The daemon's log on standard error: readable lines on a terminal, JSON otherwise.

`log.info("what happened", name=value, …)`, and so for the other levels: the standard library's logging, whose module
trio imports in any case, with fields. Values under names that promise a secret are left out. Writing never waits: a
reader that does not read costs lines, not the loop. Where standard error is a plain file (a supervisor started on
demand), the file is kept below `FILE_LIMIT`: the older part goes.
"""

from __future__ import annotations

import logging
import os
import re
import select
import stat
import time
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from types import TracebackType

__all__ = ["FILE_KEPT", "FILE_LIMIT", "Log", "Output", "configure", "crash", "fields_of", "log"]

FILE_LIMIT = 8 << 20
"""Bytes of a log file."""
FILE_KEPT = 1 << 20
"""Bytes of it that stay when it has reached its limit."""

_SECRET = re.compile(
    r"(?i)(^|_)(env|environ|environment|password|passphrase|secret|token|auth|credentials?)(_|$)"
)
_FIELDS = "pyman_fields"
_OF_LOGGING = frozenset({"exc_info", "stack_info", "stacklevel"})
_COLORS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}


class Log(logging.LoggerAdapter[logging.Logger]):
    """A logger whose further keyword arguments are the fields of the line."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kept = {name: value for name, value in kwargs.items() if name in _OF_LOGGING}
        fields = {
            name: "…" if _SECRET.search(name) else value for name, value in kwargs.items() if name not in kept
        }
        return msg, {**kept, "extra": {_FIELDS: fields}}


log = Log(logging.getLogger("pyman"))
"""The one of this process."""


def configure(level: str = "info", fd: int = 2) -> None:
    """Log from this level on; may be called again. `level`: debug, info, warning or error. What libraries have to
    say comes from warnings on."""
    handler = _Handler(Output(fd))
    handler.setFormatter(_Readable() if os.isatty(fd) else _Json())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    log.setLevel(level.upper())


def crash(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    """For `sys.excepthook`: what nobody expected, in the log's own form."""
    if not logging.getLogger().handlers:
        configure()
    log.critical("crashed", exc_info=error)


class _Handler(logging.Handler):
    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        self._output.msg(self.format(record))


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What was said besides the event."""
    found: dict[str, Any] = getattr(record, _FIELDS, {})
    return found


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        seconds, rest = divmod(int(record.created * 1_000_000), 1_000_000)
        told = {
            **fields_of(record),
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "timestamp": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:06d}Z",
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(told, enc_hook=repr).decode()


class _Readable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = record.levelname.lower()
        named = [f"\x1b[36m{name}\x1b[0m={value!r}" for name, value in fields_of(record).items()]
        begin = time.strftime("\x1b[2m%H:%M:%S\x1b[0m", time.localtime(record.created))
        words = [
            f"\x1b[{_COLORS.get(level, '0')}m{level:8}\x1b[0m",
            f"\x1b[1m{record.getMessage()}\x1b[0m",
            *named,
        ]
        trace = [self.formatException(record.exc_info)] if record.exc_info else []
        return "\n".join([" ".join([begin, *words]), *trace])


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
