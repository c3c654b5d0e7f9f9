"""Numbered locks: each object has a number, recorded with it, that stands for a byte of the lock file.

Within a supervisor an object's worker serialises what is done to it; the locks keep a second process
away. A running supervisor holds the whole file (every present and future byte of it) from its start to
its end, as an open file description lock, which the kernel drops when the process dies, however it dies:
so it pays nothing per operation. A maintenance tool that works on some objects without a supervisor holds
their bytes, and the header shared; both ways exclude each other.

The file says how many locks it has room for, and to which state it belongs. `num_locks` is the size to
start from; the file grows when numbers run out. What does not fit together is LocksMismatch, until
`system renumber` makes the file anew. It may vanish with a reboot (/dev/shm): then it is made again.
"""

from __future__ import annotations

import heapq
import os
import stat
import struct
from typing import TYPE_CHECKING

from pyman.errors import AlreadyRunning, LocksMismatch, PermissionDenied, StorageFailed
from supervisor.kernel.locks import OfdLock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyman.errors import PymanError
    from supervisor.settings.model import EngineSettings
    from supervisor.state.changes import Loaded

__all__ = ["HEADER", "Locks", "hold", "hold_all"]

HEADER = 64
"""Bytes before the first lock's byte."""

_MAGIC = b"pymanlk1"
_HEADER = struct.Struct("<8sQ32s")
"""Magic, number of locks, id of the journal in the same state database."""


class Locks:
    """The numbers in use, and the file, held as a whole. All in memory, except when the file grows."""

    def __init__(self, file: OfdLock, owner: str, size: int, numbers: Iterable[int]) -> None:
        self._file = file
        self._owner = owner
        self._used = set(numbers)
        self._next = max(self._used, default=-1) + 1
        self._free = sorted(set(range(self._next)) - self._used)
        self.size = 0
        """Locks there is room for at present."""
        self._grow(max(size, self._next))

    @classmethod
    def open(cls, path: str, settings: EngineSettings, loaded: Loaded, *, renumber: bool = False) -> Locks:
        """Hold the lock file, made if it is absent. `renumber` takes over a file that does not fit.

        AlreadyRunning if any other process holds a lock, LocksMismatch, PermissionDenied, StorageFailed.
        """
        return cls.adopt(hold_all(path), settings, loaded, renumber=renumber)

    @classmethod
    def adopt(
        cls, file: OfdLock, settings: EngineSettings, loaded: Loaded, *, renumber: bool = False
    ) -> Locks:
        """As `open`, of a file that is held already; it is closed if that fails."""
        numbers = [record.lock for record in loaded.records if record.lock is not None]
        try:
            size = _recorded_size(file, loaded.journal_id, fresh=renumber or not numbers)
            return cls(file, loaded.journal_id, max(size, settings.num_locks), numbers)
        except BaseException:
            file.close()
            raise

    @property
    def used(self) -> int:
        return len(self._used)

    def allocate(self) -> int:
        """The lowest number that is free. StorageFailed if the file cannot grow."""
        if self._free:
            number = heapq.heappop(self._free)
        else:
            number = self._next
            if number >= self.size:
                self._grow(self.size * 2)
            self._next += 1
        self._used.add(number)
        return number

    def release(self, number: int | None) -> None:
        """The number may be given again. Nothing happens if it is free already."""
        if number in self._used:
            self._used.remove(number)
            heapq.heappush(self._free, number)

    def renumber(self, count: int) -> None:
        """The numbers 0 to `count` - 1 are in use, and no others."""
        self._used = set(range(count))
        self._next, self._free = count, []
        if count > self.size:
            self._grow(count)

    def close(self) -> None:
        self._file.close()

    def _grow(self, size: int) -> None:
        try:
            # The file first: one that is larger than its header says is what a kill in between leaves.
            os.ftruncate(self._file.fd, HEADER + size)
            os.pwrite(self._file.fd, _HEADER.pack(_MAGIC, size, self._owner.encode()), 0)
        except OSError as error:
            raise _failed(self._file.path, error) from error
        self.size = size


def hold_all(path: str) -> OfdLock:
    """The whole file, made if it is absent. AlreadyRunning, PermissionDenied, StorageFailed."""
    file = _open(path)
    if not file.try_acquire():
        file.close()
        raise _held(path)
    return file


def hold(path: str, *numbers: int) -> OfdLock:
    """The locks with these numbers, for a tool that works on their objects without a supervisor; dropped
    by closing the result. AlreadyRunning if a supervisor or another tool holds one of them."""
    file = _open(path)
    wanted = [(0, HEADER, True), *((HEADER + number, 1, False) for number in numbers)]
    if not all(file.try_acquire(start, length, shared=shared) for start, length, shared in wanted):
        file.close()
        raise _held(path)
    return file


def _open(path: str) -> OfdLock:
    try:
        file = OfdLock(path)
    except OSError as error:
        raise _failed(path, error) from error
    try:
        status = os.fstat(file.fd)
        # /dev/shm is open to everybody: the file may have been put there by somebody else.
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            message = f"cannot use the lock file '{path}': it is not a regular file of the engine's user"
            raise PermissionDenied(message, subject=path)
        if status.st_mode & 0o077:
            os.fchmod(file.fd, 0o600)
    except BaseException:
        file.close()
        raise
    return file


def _recorded_size(file: OfdLock, owner: str, *, fresh: bool) -> int:
    """How many locks the file has room for; 0 if it is new, or if `fresh` permits to make it anew."""
    header = file.read(HEADER)
    if fresh or not header.strip(b"\0"):
        return 0
    problem = "it is not a lock file of pyman"
    if len(header) >= _HEADER.size:
        magic, size, recorded = _HEADER.unpack_from(header)
        if magic == _MAGIC:
            if recorded.decode("latin-1") != owner:
                problem = "it belongs to the state of another root"
            elif os.fstat(file.fd).st_size < HEADER + size:
                problem = f"it is too short for the {size} locks it says it has"
            else:
                return int(size)
    raise LocksMismatch(
        f"cannot use the lock file '{file.path}': {problem}",
        subject=file.path,
        hint="choose another --tmpdir, or, if nothing else uses the file, run `pyman system renumber`",
    )


def _held(path: str) -> AlreadyRunning:
    return AlreadyRunning(f"cannot use the lock file '{path}': another process holds it", subject=path)


def _failed(path: str, error: OSError) -> PymanError:
    kind = PermissionDenied if isinstance(error, PermissionError) else StorageFailed
    return kind(f"cannot use the lock file '{path}': {error.strerror}", subject=path)
