"""Times as people and programs read them: RFC 3339 in UTC with nanoseconds."""

from __future__ import annotations

import time
from functools import lru_cache

__all__ = ["NEVER", "rfc3339"]

NEVER = "0001-01-01T00:00:00Z"
"""How Podman writes a time that has not been."""


@lru_cache(maxsize=4096)
def rfc3339(nanoseconds: int) -> str:
    """A time given in nanoseconds since the epoch; 0 is `NEVER`."""
    if nanoseconds <= 0:
        return NEVER
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"
