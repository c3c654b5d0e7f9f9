"""What there is once on a host, for one test at a time: other workers, and other runs, wait for their turn."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["turn"]


@contextlib.contextmanager
def turn(what: str) -> Iterator[None]:
    """`what`: a name for it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(f"/tmp/pyman-tests-{what}.lock", flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
