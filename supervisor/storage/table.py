"""A file of records, its lock and its last-writer token, as all engines on a graph root use them.

Reading takes no lock. The files are replaced as a whole, so each is consistent in itself, and another engine may hold
the lock for as long as it unpacks a layer. What was read is kept, and is good as long as the token in the lock file
and the files themselves are the same. A writer writes the token first and the file then: one who read in between has
the new token and the old file, whose inode the new one cannot have, since both were there at once.

Writing takes the lock, which is waited for: everything here blocks and is called in a thread. Each acquisition opens
the lock file anew, so that threads exclude one another as processes do.
"""

from __future__ import annotations

import os
import secrets
import struct
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Generic

import msgspec

from pyman.errors import InternalError
from supervisor.kernel import files
from supervisor.kernel.locks import OfdLock
from supervisor.storage.records import Entry, R, changed, new_entry, parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "TOKEN_SIZE",
    "Draft",
    "Snapshot",
    "Table",
    "clear_temporary",
    "locked",
    "read_token",
    "replace_file",
    "write_token",
]

TOKEN_SIZE = 64
"""Bytes. Old versions have hexadecimal digits there, new ones a time, a counter, a pid and random bytes: all compare
the whole."""
_TOKEN = struct.Struct("<QQI")
_MODE = 0o600
_TEMPORARY = ".pyman-"
_MOST = 256 << 20
"""Bytes of a file of records."""

_Stamp = tuple[int, int, int] | None
"""Inode, time of change in nanoseconds, size; None: there is no such file."""


class Snapshot(Generic[R]):
    """The records as they were at one instant, in the order of the files. Not to be changed."""

    def __init__(self, entries: Sequence[Entry[R]]) -> None:
        self.entries = entries
        self.records = [entry.record for entry in entries]
        self.by_id = {record.id: record for record in self.records}
        self.by_name = {name: record for record in self.records for name in record.names}


class Draft(Generic[R]):
    """What a writer changes while it holds the lock; `save` writes it down."""

    def __init__(self, table: Table[R], entries: Sequence[Entry[R]], lock: OfdLock) -> None:
        self._table = table
        self._entries = {entry.record.id: entry for entry in entries}
        self._lock = lock
        self._dirty: set[bool] = set()

    @property
    def records(self) -> list[R]:
        return [entry.record for entry in self._entries.values()]

    def get(self, id: str) -> R | None:
        entry = self._entries.get(id)
        return entry.record if entry is not None else None

    def add(self, record: R) -> R:
        entry = new_entry(msgspec.structs.replace(record, store=self._table.store))
        self._entries[record.id] = entry
        self._dirty.add(record.volatile)
        return entry.record

    def change(self, id: str, **fields: object) -> R:
        """Change fields of a record, by their names in `records`."""
        entry = changed(self._entries[id], **fields)
        self._entries[id] = entry
        self._dirty.add(entry.record.volatile)
        return entry.record

    def remove(self, id: str) -> None:
        self._dirty.add(self._entries.pop(id).record.volatile)

    def save(self) -> None:
        """Write down what was changed since the last time. StorageFailed, DiskFull."""
        if self._dirty:
            self._table.write(self._lock, list(self._entries.values()), self._dirty)
            self._dirty = set()


class Table(Generic[R]):
    """`directory/stem.json`, what is in `volatile-stem.json` beside it, and `stem.lock`."""

    def __init__(
        self, kind: type[R], store: str, stem: str, *, volatile: bool = True, read_only: bool = False
    ) -> None:
        self.store = store
        self.directory = f"{store}/overlay-{stem}"
        self._kind = kind
        self._read_only = read_only
        self.lock_file = f"{self.directory}/{stem}.lock"
        self._paths = {False: f"{self.directory}/{stem}.json"}
        if volatile:
            self._paths[True] = f"{self.directory}/volatile-{stem}.json"
        self._guard = threading.Lock()
        self._valid: tuple[bytes, list[_Stamp]] | None = None
        self._snapshot: Snapshot[R] = Snapshot(())

    def read(self) -> Snapshot[R]:
        """Fresh within microseconds. StorageFailed: a file cannot be read, or is damaged."""
        valid = read_token(self.lock_file), [_stamp(path) for path in self._paths.values()]
        with self._guard:
            if valid == self._valid:
                return self._snapshot
        snapshot = self._load()
        with self._guard:
            self._valid, self._snapshot = valid, snapshot
        return snapshot

    def _load(self) -> Snapshot[R]:
        found: dict[str, Entry[R]] = {}
        for volatile, path in self._paths.items():
            for entry in parse(self._kind, _content(path), path):
                record = msgspec.structs.replace(
                    entry.record, store=self.store, read_only=self._read_only, volatile=volatile
                )
                found.setdefault(record.id, Entry(record, entry.raw))
        return Snapshot(list(found.values()))

    @contextmanager
    def writing(self) -> Iterator[Draft[R]]:
        """Hold the lock, waiting for it. What is not saved is forgotten."""
        if self._read_only:
            raise InternalError(f"cannot write to the additional store '{self.store}'")
        with locked(self.lock_file) as lock:
            yield Draft(self, self.read().entries, lock)

    def write(self, lock: OfdLock, entries: Sequence[Entry[R]], dirty: set[bool]) -> None:
        """Called by a draft that holds the lock. The token comes first: a writer that ends in between has others
        read once too often, and not once too rarely."""
        token = write_token(lock, self.lock_file)
        for volatile in dirty:
            data = b"[" + b",".join(each.raw for each in entries if each.record.volatile is volatile) + b"]"
            replace_file(self._paths[volatile], data, durable=not volatile)
        valid = token, [_stamp(path) for path in self._paths.values()]
        with self._guard:
            self._valid, self._snapshot = valid, Snapshot(list(entries))


@contextmanager
def locked(path: str, *, shared: bool = False) -> Iterator[OfdLock]:
    """Hold the lock file, waiting for it. StorageFailed."""
    try:
        lock = OfdLock(path)
        lock.acquire(shared=shared)
    except OSError as error:
        raise files.storage_error(error, "lock", path) from error
    try:
        yield lock
    finally:
        with suppress(OSError):
            lock.release()  # a child that was just started has the descriptor until it executes its program
        lock.close()


@contextmanager
def tried(path: str) -> Iterator[bool]:
    """Hold the lock file for reading, unless a writer has it: nobody is waited for. StorageFailed."""
    try:
        lock = OfdLock(path)
        held = lock.try_acquire(shared=True)
    except OSError as error:
        raise files.storage_error(error, "lock", path) from error
    try:
        yield held
    finally:
        with suppress(OSError):
            lock.release()
        lock.close()


_counter = 0


def write_token(lock: OfdLock, path: str) -> bytes:
    """Say that the holder has changed what the lock protects. StorageFailed, DiskFull."""
    global _counter
    _counter += 1
    head = _TOKEN.pack(time.time_ns(), _counter, os.getpid())
    token = head + secrets.token_bytes(TOKEN_SIZE - len(head))
    try:
        os.pwrite(lock.fd, token, 0)
    except OSError as error:
        raise files.storage_error(error, "write", path) from error
    return token


def read_token(path: str) -> bytes:
    """Who has written last; empty: nobody yet, or there is no such lock file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise files.storage_error(error, "read", path) from error
    try:
        return os.pread(fd, TOKEN_SIZE, 0)
    finally:
        os.close(fd)


def temporary_files(directory: str) -> list[str]:
    """What writers have there at this instant, or killed ones have left, as absolute paths."""
    try:
        return [f"{directory}/{name}" for name in os.listdir(directory) if name.startswith(_TEMPORARY)]
    except OSError:
        return []


def clear_temporary(directory: str) -> None:
    """Remove what killed writers have left; while the lock is held there is no other."""
    for path in temporary_files(directory):
        with suppress(OSError):
            os.unlink(path)


def _stamp(path: str) -> _Stamp:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_ctime_ns, status.st_size


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_MOST)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise files.storage_error(error, "read", path) from error


def replace_file(path: str, data: bytes, *, durable: bool) -> None:
    """Replace a file by one with this content, while its lock is held. `durable`: the content has reached the disk
    before the name does. StorageFailed, DiskFull."""
    directory, name = os.path.split(path)
    temporary = f"{directory}/{_TEMPORARY}{name}.{secrets.token_hex(4)}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(fd, rest) :]
            if durable:
                os.fdatasync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(temporary)
        raise files.storage_error(error, "write", path) from error
