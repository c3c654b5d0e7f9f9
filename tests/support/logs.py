"""What the code under test logs in this process."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

from supervisor.logging import fields_of, log

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["captured_logs"]


@contextlib.contextmanager
def captured_logs() -> Iterator[list[dict[str, Any]]]:
    """Each line as its fields, with `event`, `level` and `exc_info`; nothing is written meanwhile."""
    lines: list[dict[str, Any]] = []

    class Capture(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            level = record.levelname.lower()
            told = {"event": record.getMessage(), "level": level, "exc_info": record.exc_info}
            lines.append({**fields_of(record), **told})

    capture, level = Capture(), log.logger.level
    log.logger.addHandler(capture)
    log.logger.propagate = False
    log.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        log.logger.removeHandler(capture)
        log.logger.propagate = True
        log.setLevel(level)
