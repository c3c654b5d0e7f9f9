"""short-name-aliases.conf: what users have chosen short names to mean. All engines share it."""

from __future__ import annotations

import fcntl
import json
import os
import threading

from supervisor.kernel.files import storage_error, write_atomic
from supervisor.settings import files

__all__ = ["record_alias"]

_here = threading.Lock()
"""The lock on the file is the process's, not the thread's."""


def record_alias(path: str, short: str, full: str) -> None:
    """Add what a user has chosen. Blocking. Raises InvalidConfig, StorageFailed, DiskFull."""
    with _here:
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise storage_error(error, "write", path) from error
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX)  # as the other engines have it
            _add(path, short, full)
        except OSError as error:
            raise storage_error(error, "lock", path) from error
        finally:
            os.close(lock)


def _add(path: str, short: str, full: str) -> None:
    content = files.read_table(path) if os.path.exists(path) else {}
    listed = content.get("aliases", {})
    aliases = {**(listed if isinstance(listed, dict) else {}), short: full}
    lines = [f"  {json.dumps(name)} = {json.dumps(value)}" for name, value in sorted(aliases.items())]
    write_atomic(path, "\n".join(["[aliases]", *lines, ""]).encode())
