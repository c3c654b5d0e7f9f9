"""The daemon's log: structlog on standard error, coloured lines on a terminal, JSON otherwise.

Values under names that promise a secret are left out. Writing never waits: a reader that does not read
costs lines, not the loop. Where standard error is a plain file (a supervisor started on demand), the file is
kept below `FILE_LIMIT`: the older part goes.
"""

from __future__ import annotations

import os
import re
import select
import stat
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from types import TracebackType

__all__ = ["FILE_KEPT", "FILE_LIMIT", "Output", "configure", "crash"]

FILE_LIMIT = 8 << 20
"""Bytes of a log file."""
FILE_KEPT = 1 << 20
"""Bytes of it that stay when it has reached its limit."""

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_SECRET = re.compile(
    r"(?i)(^|_)(env|environ|environment|password|passphrase|secret|token|auth|credentials?)(_|$)"
)


def configure(level: str = "info", fd: int = 2) -> None:
    """Log from this level on; may be called again. `level`: debug, info, warning or error."""
    terminal = os.isatty(fd)
    output = Output(fd)
    renderer: structlog.types.Processor
    if terminal:
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    else:
        renderer = structlog.processors.JSONRenderer(serializer=_json)
    processors: list[structlog.types.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if terminal else "iso", utc=not terminal),
        without_secrets,
        renderer,
    ]
    if not terminal:
        processors.insert(3, structlog.processors.format_exc_info)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_names: output,
        cache_logger_on_first_use=False,
    )


def crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What nobody expected, in the log's own form."""
    if not structlog.is_configured():
        configure()
    structlog.get_logger("supervisor").critical("crashed", exc_info=(kind, error, trace))


def without_secrets(
    _logger: object, _method: str, fields: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for name in fields:
        if _SECRET.search(name):
            fields[name] = "…"
    return fields


def _json(fields: Any, **_: object) -> str:
    return msgspec.json.encode(fields, enc_hook=repr).decode()


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

    log = debug = info = warn = warning = error = err = exception = critical = fatal = failure = msg

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
