"""What the code under test logs in this process."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from supervisor import logging

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["captured_logs"]


@contextlib.contextmanager
def captured_logs() -> Iterator[list[dict[str, Any]]]:
    """Each line as its fields, with `event`, `level` and `exc_info`; nothing is written meanwhile."""
    lines: list[dict[str, Any]] = []

    def tell(level: str, event: str, fields: dict[str, Any], exc_info: object) -> None:
        lines.append({**fields, "event": event, "level": level, "exc_info": exc_info})

    own, written = vars(logging.log), logging.log.tell
    own["tell"] = tell
    try:
        yield lines
    finally:
        del own["tell"]
        assert logging.log.tell == written
