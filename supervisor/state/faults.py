"""SQLite's errors, translated at one edge into those of `pyman.errors`."""

from __future__ import annotations

import os
import sqlite3

from pyman.errors import DiskFull, InternalError, PymanError, StateDamaged, StorageFailed

__all__ = ["RECOVER", "translate"]

RECOVER = "stop the supervisor, keep a copy of the file, and look at it with `pyman system check`"

_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_REFUSED = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}


def translate(error: BaseException, path: str) -> PymanError:
    """What to tell of `error`, that a call on the database at `path` raised."""
    if isinstance(error, PymanError):
        return error
    if not isinstance(error, sqlite3.Error):
        return InternalError(f"cannot change the state: {type(error).__name__}: {error}", subject=path)
    # Extended result codes keep the primary one in the low byte; errors of the Python module have none.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE) & 0xFF
    if code in _DAMAGED:
        return StateDamaged(f"cannot use the state database '{path}': {error}", subject=path, hint=RECOVER)
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _no_space(path)):
        message = f"cannot write the state database '{path}': the disk is full"
        return DiskFull(message, subject=path, hint="free some space and try again; nothing was changed")
    if code in _REFUSED:
        return StorageFailed(f"cannot access the state database '{path}': {error}", subject=path)
    return InternalError(f"cannot change the state: {error}", subject=path)


def _no_space(path: str) -> bool:
    """Growing the shared-memory file fails with a plain I/O error on a full disk."""
    try:
        return os.statvfs(os.path.dirname(path)).f_bavail == 0
    except OSError:
        return False
