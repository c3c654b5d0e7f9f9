"""The schema of the state database: how the file is opened, checked and brought to the present version.

The file belongs to the engine's user alone (0600). It is never reached through a symbolic link, nor
through a directory that others may write to. SQLite's `application_id` tells that a database is
pyman's, its `user_version` is the version of the schema; a version newer than known is refused.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from typing import TYPE_CHECKING
from urllib.parse import quote

from pyman.errors import PermissionDenied, StateDamaged, StorageFailed
from supervisor.state.faults import RECOVER, translate

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["APPLICATION_ID", "MIGRATIONS", "check_records", "connect", "open_reader", "open_writer"]

APPLICATION_ID = 0x70796D6E
"""The letters `pymn`."""

MIGRATIONS: tuple[str, ...] = (
    # Version 1.
    # `state` is a table of its own because a definition is large and rarely changes. `total` counts the
    # bytes of all bodies up to and including this event: the size of any range is a difference.
    """
    CREATE TABLE meta(key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) WITHOUT ROWID, STRICT;
    CREATE TABLE record(
        number INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        name TEXT NOT NULL,
        lock INTEGER,
        definition BLOB NOT NULL,
        UNIQUE(kind, id)
    ) STRICT;
    CREATE UNIQUE INDEX record_name
        ON record(CASE kind WHEN 'pod' THEN 'container' ELSE kind END, name) WHERE name <> '';
    CREATE UNIQUE INDEX record_lock ON record(lock) WHERE lock IS NOT NULL;
    CREATE TABLE state(number INTEGER PRIMARY KEY REFERENCES record ON DELETE CASCADE, body BLOB NOT NULL) STRICT;
    CREATE TABLE intent(id TEXT PRIMARY KEY NOT NULL, body BLOB NOT NULL) STRICT;
    CREATE TABLE event(
        seq INTEGER PRIMARY KEY, time INTEGER NOT NULL, total INTEGER NOT NULL, body BLOB NOT NULL
    ) STRICT;
    CREATE INDEX event_time ON event(time);
    CREATE TABLE gap(first INTEGER PRIMARY KEY, last INTEGER NOT NULL, reason TEXT NOT NULL) STRICT;
    CREATE TABLE journal(
        one INTEGER PRIMARY KEY CHECK(one = 1),
        id TEXT NOT NULL,
        boot_id TEXT NOT NULL,
        reserved INTEGER NOT NULL,
        clean INTEGER NOT NULL,
        pruned INTEGER NOT NULL,
        pruned_time INTEGER NOT NULL,
        pruned_total INTEGER NOT NULL
    ) STRICT;
    """,
)

_RECORD_TABLES = ("meta", "record", "state", "intent", "gap", "journal")


def connect(path: str, *, mode: str) -> sqlite3.Connection:
    """A connection in autocommit mode, usable from any thread (one at a time). `mode`: `ro` or `rw`."""
    connection = sqlite3.connect(
        f"file:{quote(path)}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=5.0,
    )
    # Half of SQLite's own default: the working set is a few hundred pages.
    connection.execute("PRAGMA cache_size = -1024")
    return connection


def open_reader(path: str) -> sqlite3.Connection:
    connection = connect(path, mode="ro")
    connection.execute("PRAGMA query_only = ON")
    return connection


def open_writer(path: str, migrations: Sequence[str] = MIGRATIONS) -> sqlite3.Connection:
    """The one connection that writes: file made where it is absent, schema brought up to date.

    StateDamaged for what is not a state database that this version can use, PermissionDenied for a
    file that is not the user's own, StorageFailed and DiskFull.
    """
    _secure_file(path)
    try:
        connection = connect(path, mode="rw")
    except sqlite3.Error as error:
        raise translate(error, path) from error
    try:
        _configure(connection, path)
        _migrate(connection, path, migrations)
    except sqlite3.Error as error:
        connection.close()
        raise translate(error, path) from error
    except BaseException:
        connection.close()
        raise
    return connection


def check_records(connection: sqlite3.Connection, path: str) -> None:
    """StateDamaged if the records or their indexes are not sound. The events, by far the most of the
    file, are left out: damage there shows when they are read."""
    for table in _RECORD_TABLES:
        (verdict,) = connection.execute(f"PRAGMA quick_check('{table}')").fetchone()
        if verdict != "ok":
            raise StateDamaged(
                f"cannot use the state database '{path}': {verdict}", subject=path, hint=RECOVER
            )


def _configure(connection: sqlite3.Connection, path: str) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application_id != APPLICATION_ID and (application_id or tables):
        message = f"cannot use '{path}': it is a database, but not of pyman's state"
        raise StateDamaged(message, subject=path)
    (journal_mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if journal_mode != "wal":
        message = f"cannot use the state database '{path}': its file system does not permit a write-ahead log"
        raise StorageFailed(message, subject=path)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    # Debian's SQLite overwrites what is deleted; nothing secret is stored here, and it doubles the writes.
    connection.execute("PRAGMA secure_delete = OFF")
    # The writer checkpoints between requests; this is only the bound if it never finds the time.
    connection.execute("PRAGMA wal_autocheckpoint = 8192")
    connection.execute("PRAGMA journal_size_limit = 16777216")


def _migrate(connection: sqlite3.Connection, path: str, migrations: Sequence[str]) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(migrations):
        message = (
            f"cannot use the state database '{path}': its schema {version} is newer than {len(migrations)}"
        )
        hint = "it was written by a newer pyman: use that one, or another --root"
        raise StateDamaged(message, subject=path, hint=hint)
    for number, script in enumerate(migrations[version:], start=version + 1):
        # One transaction: a migration that is interrupted leaves the version before it.
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in _statements(script):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _statements(script: str) -> list[str]:
    """`executescript` would commit what is open."""
    found, rest = [], ""
    for part in script.split(";"):
        rest += part + ";"
        if sqlite3.complete_statement(rest):
            if rest.strip(" \n;"):
                found.append(rest)
            rest = ""
    return found


def _secure_file(path: str) -> None:
    """Make the file or see that it is a regular one of ours, and that nobody else can read it."""
    directory = os.path.dirname(path)
    try:
        _secure_directory(directory)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        for suffix in ("-wal", "-shm", ""):
            name = path + suffix
            if os.path.islink(name):
                raise PermissionDenied(f"cannot use '{name}': it is a symbolic link", subject=name)
            if suffix and not os.path.exists(name):
                continue
            descriptor = os.open(name, flags, 0o600)
            try:
                _secure_descriptor(descriptor, name)
            finally:
                os.close(descriptor)
    except PermissionError as error:
        raise PermissionDenied(
            f"cannot open the state database '{path}': {error.strerror}", subject=path
        ) from error
    except OSError as error:
        raise StorageFailed(
            f"cannot open the state database '{path}': {error.strerror}", subject=path
        ) from error


def _secure_directory(directory: str) -> None:
    os.makedirs(directory, mode=0o700, exist_ok=True)
    status = os.stat(directory)
    if status.st_uid not in {0, os.geteuid()} or status.st_mode & 0o022:
        message = f"cannot keep the state in '{directory}': others may write there"
        raise PermissionDenied(message, subject=directory, hint="give it to the engine's user, mode 0700")


def _secure_descriptor(descriptor: int, name: str) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise PermissionDenied(f"cannot use '{name}': it is not a regular file", subject=name)
    if status.st_uid != os.geteuid():
        message = f"cannot use '{name}': it belongs to the user {status.st_uid}"
        raise PermissionDenied(message, subject=name)
    if stat.S_IMODE(status.st_mode) != 0o600:
        os.fchmod(descriptor, 0o600)
