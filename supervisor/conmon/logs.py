"""Container logs on disk: keeping them small, and handing them to readers without losing a line.

A log is a chain of files: `path` is being written, `path.1` is the one before it, and so on; `max_files` of
them are kept. conmon writes; it is told to begin a new file, which it makes as `path.tmp` and renames to
`path`. Before that the file gets its second name `path.1`, so that at every instant each of its lines is
reachable by a name. `path.tmp` is made beforehand: where there is no room for it, conmon, which would end
itself over that, is not asked.

A reader is given descriptors: of the whole chain first, then of each new file as soon as there is one, which
is after conmon has closed the old one and before the old one can be deleted. It reads one to its end when it
has the next.

While nothing is written, nothing runs. A watch on the file fires once and is armed again after a pause that
depends on how soon the file can be full: heavy writing costs a few looks a second.
"""

from __future__ import annotations

import errno
import os
import stat
import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import trio

from pyman.errors import ConmonFailed, StorageFailed
from supervisor.conmon import control
from supervisor.kernel.inotify import ATTRIB, MODIFY, ONESHOT, OVERFLOW, Inotify
from supervisor.logging import log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.kernel.inotify import Notice

__all__ = ["MAX_BEHIND", "Following", "LogKeeper", "files", "open_files", "unfit"]

MAX_BEHIND = 64
"""Files that a reader may be behind. One that is further behind is told so and gets no more: descriptors
keep deleted files on the disk."""

NO_FILE = "it is not a regular file"
_PAUSE_LEAST, _PAUSE_MOST = 0.02, 1.0
_TOP_SPEED = 400e6
"""Bytes a second that no container writes: a file with so much room needs no look before."""
_BETWEEN = 0.05
"""Seconds between two rotations of one log."""
_RETRY = 5.0
"""Seconds until a rotation that failed is tried again, if more is written."""


def files(path: str, max_files: int) -> list[str]:
    """The files of a log that exist, oldest first; a file with two names (in mid-rotation) once."""
    return [name for name, _ in _chain(path, max_files)]


def open_files(path: str, max_files: int) -> Iterator[int]:
    """Descriptors of the whole chain, oldest first; they are the caller's. Those not taken are closed."""
    waiting = deque(_open_chain(path, max_files))
    try:
        while waiting:
            yield waiting.popleft()
    finally:
        for fd in waiting:
            os.close(fd)


def unfit(path: str) -> str:
    """Why nothing can be logged to a path, or an empty string. conmon would wait for the reader of a FIFO."""
    try:
        return "" if not path or stat.S_ISREG(os.stat(path).st_mode) else NO_FILE
    except OSError:
        return ""  # not there: it is made, or conmon says why it cannot be


def _chain(path: str, max_files: int) -> list[tuple[str, tuple[int, int]]]:
    """Names and identities. Read in the direction in which a rotation moves files: none can be missed."""
    found: dict[tuple[int, int], str] = {}
    for name in _names(path, max_files):
        with suppress(FileNotFoundError):
            status = os.lstat(name)
            found.setdefault((status.st_dev, status.st_ino), name)
    return [(name, identity) for identity, name in reversed(found.items())]


def _open_chain(path: str, max_files: int) -> list[int]:
    found: dict[tuple[int, int], int] = {}
    try:
        for name in _names(path, max_files):
            with suppress(FileNotFoundError):
                fd = _open(name)
                if found.setdefault(_identity(fd), fd) != fd:
                    os.close(fd)
    except OSError as error:
        for fd in found.values():
            os.close(fd)
        raise StorageFailed(f"cannot read the log '{path}': {error.strerror}", subject=path) from error
    return list(reversed(found.values()))


def _names(path: str, max_files: int) -> list[str]:
    return [path, *(f"{path}.{number}" for number in range(1, max_files))] if path else []


def _open(path: str) -> int:
    """Never waits: in the place of the log there may be anything, a FIFO without a writer for example."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, NO_FILE, path)
    return fd


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


class Following:
    """An asynchronous iterator of descriptors, which belong to whoever takes them.

    The chain as it is, then None once, then every new file; it ends when the container has. Raises
    StorageFailed when the reader is too far behind. Whoever stops early just drops it, or closes it.
    """

    def __init__(self, path: str, max_files: int) -> None:
        self._path = path
        self._items: deque[int | None] = deque()
        self._items.extend(_open_chain(path, max_files))
        newest = self._items[-1] if self._items else None
        self._newest = _identity(newest) if newest is not None else None
        self._items.append(None)
        self._changed = trio.Event()
        self._ended = False
        self._failure: StorageFailed | None = None

    def offer(self) -> None:
        """Hand out the file that is being written, unless it was."""
        if self._ended:
            return
        try:
            fd = _open(self._path)
        except FileNotFoundError:
            return
        except OSError as error:
            self._fail(f"cannot follow the log '{self._path}': {error.strerror}")
            return
        if _identity(fd) == self._newest:
            os.close(fd)
            return
        self._newest = _identity(fd)
        self._items.append(fd)
        if len(self._items) > MAX_BEHIND:
            self._fail(
                f"cannot follow the log '{self._path}' any further: its reader is {MAX_BEHIND} files behind"
            )
        self._changed.set()

    def end(self) -> None:
        """Nothing will be written any more."""
        self._ended = True
        self._changed.set()

    def _fail(self, sentence: str) -> None:
        self.close()
        self._failure = StorageFailed(sentence, subject=self._path)

    def close(self) -> None:
        while self._items:
            fd = self._items.popleft()
            if fd is not None:
                os.close(fd)
        self.end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> int | None:
        await trio.lowlevel.checkpoint()
        while not self._items:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                raise StopAsyncIteration
            self._changed = trio.Event()
            await self._changed.wait()
        return self._items.popleft()

    def __del__(self) -> None:
        while self._items:
            fd = self._items.popleft()
            if fd is not None:
                os.close(fd)


class _Log:
    """One container's log. `identity` is that of the file known to be written."""

    def __init__(self, path: str, max_size: int, max_files: int, bundle: str) -> None:
        self.path = path
        self.max_size = max_size
        self.max_files = max(max_files, 1)
        self.bundle = bundle
        self.identity = self.look()[0]
        self.followers: weakref.WeakSet[Following] = weakref.WeakSet()
        self.busy = False
        """A task looks at it or rotates it; notices say nothing new."""
        self.asked = False
        """conmon was asked for a new file."""
        self.gone = False
        self._size, self._time = 0, 0.0

    def look(self) -> tuple[tuple[int, int] | None, int]:
        """Identity and size of the file at the path."""
        try:
            status = os.lstat(self.path)
        except OSError:
            return None, 0
        return (status.st_dev, status.st_ino), status.st_size

    def interrupted(self) -> bool:
        """A rotation was begun and not finished: the file being written has its second name already."""
        try:
            return os.path.samestat(os.lstat(self.path), os.lstat(f"{self.path}.1"))
        except OSError:
            return False

    def pause(self, size: int) -> float:
        """Seconds in which the file is not expected to grow by more than half of what is left."""
        now = trio.current_time()
        grown, passed = size - self._size, now - self._time
        measured = self._time > 0 and grown > 0 and passed > 0
        self._size, self._time = size, now
        left = self.max_size - size
        least = max(_PAUSE_LEAST, left / _TOP_SPEED)
        return min(max(left / (grown / passed) / 2, least), _PAUSE_MOST) if measured else least

    def calm(self) -> None:
        """How fast it grew before says nothing about what comes."""
        self._time = 0.0

    def tidy(self) -> None:
        """Remove the file that was made for a conmon which did not live to take it."""
        if self.asked or self.busy:
            with suppress(OSError):
                if not control.listens(self.bundle):
                    os.unlink(f"{self.path}.tmp")

    def shift(self) -> None:
        """Make room for a new file and give the present one its second name, if it has none. Blocks."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        os.close(os.open(f"{self.path}.tmp", flags, 0o600))
        if self.max_files == 1 or self.interrupted():
            return
        for number in range(self.max_files - 1, 1, -1):
            with suppress(FileNotFoundError):
                os.rename(f"{self.path}.{number - 1}", f"{self.path}.{number}")
        with suppress(FileNotFoundError):
            os.unlink(f"{self.path}.1")
        with suppress(FileNotFoundError):  # somebody has deleted the log: conmon makes it again
            os.link(self.path, f"{self.path}.1", follow_symlinks=False)


class LogKeeper:
    """Rotates the logs of running containers, and tells those who follow them of new files."""

    def __init__(self) -> None:
        self._logs: dict[str, _Log] = {}
        self._watches: dict[int, _Log] = {}
        self._notices: Inotify | None = None
        self._nursery: trio.Nursery | None = None
        self._limiter = trio.CapacityLimiter(2)

    async def run(self) -> None:
        """Works until it is cancelled. Logs may be added before."""
        try:
            queue = Inotify()
        except OSError as error:  # the user's inotify instances are used up
            log.warning("logs are not rotated", error=error.strerror)
            await trio.sleep_forever()
        async with trio.open_nursery() as rotations:
            with queue as notices:
                self._nursery, self._notices = rotations, notices
                try:
                    for known in self._logs.values():
                        self._begin(known)
                    while True:
                        for notice in await notices.read():
                            self._noticed(notice)
                finally:
                    self._nursery = self._notices = None

    def add(self, id: str, path: str, max_size: int, max_files: int, bundle: str) -> None:
        """A container's conmon runs. `max_size` in bytes, 0: the log is not rotated. `path` may be empty."""
        known = self._logs.pop(id, None)
        added = self._logs[id] = _Log(path, max_size, max_files, bundle)
        if known is not None:
            known.gone = True
            added.followers = known.followers
        self._begin(added)

    def finished(self, id: str) -> None:
        """A container has ended and its log is complete: who follows it comes to the end."""
        ended = self._logs.pop(id, None)
        if ended is None:
            return
        ended.gone = True
        for follower in list(ended.followers):
            follower.offer()  # conmon may have begun a file a moment ago
            follower.end()
        ended.tidy()

    def remove(self, id: str) -> None:
        """The container is removed; as `finished`."""
        self.finished(id)

    def follow(self, id: str) -> Following:
        """The log of a container that was added, from its beginning; of any other: nothing. StorageFailed."""
        known = self._logs.get(id)
        if known is None:
            following = Following("", 1)
            following.end()
            return following
        following = Following(known.path, known.max_files)
        known.followers.add(following)
        return following

    def files(self, path: str, max_files: int) -> list[str]:
        return files(path, max_files)

    def open_files(self, path: str, max_files: int) -> Iterator[int]:
        return open_files(path, max_files)

    # One log's way: armed → noticed → looked at → (shifted → asked → arrived) → armed

    def _begin(self, known: _Log) -> None:
        if self._nursery is None or known.max_size <= 0 or not known.path:
            return
        if known.interrupted():
            self._ask(known)
        else:
            known.busy = True
            self._nursery.start_soon(self._look, known)

    def _arm(self, known: _Log, mask: int) -> bool:
        """False: nothing will be noticed, and the log has to be looked at from time to time."""
        if self._notices is None or known.gone:
            return True
        try:
            self._watches[self._notices.add(known.path, mask | ONESHOT)] = known
        except OSError as error:
            log.warning("cannot watch a log", path=known.path, error=error.strerror)
            return False
        return True

    def _noticed(self, notice: Notice) -> None:
        if notice.mask & OVERFLOW:  # every watch fires once: this cannot be many logs' doing
            log.warning("notices about logs were lost")
            return
        known = self._watches.pop(notice.watch, None)
        if known is None or known.gone or self._nursery is None:
            return
        if known.asked:
            self._arrived(known)
        elif not known.busy:
            known.busy = True
            self._nursery.start_soon(self._look, known)

    async def _look(self, known: _Log) -> None:
        """After something was written: rotate, or watch again once that can matter."""
        known.calm()
        while not known.gone:
            identity, size = known.look()
            if identity is None or size >= known.max_size:
                if await self._rotate(known):
                    return
                continue
            await trio.sleep(known.pause(size))
            if not self._arm(known, MODIFY):
                await trio.sleep(_RETRY)
            elif known.look() == (identity, size):
                break
        known.busy = False

    async def _rotate(self, known: _Log) -> bool:
        """False: it cannot be done now."""
        try:
            await trio.to_thread.run_sync(known.shift, limiter=self._limiter)
        except OSError as error:
            log.warning("cannot rotate a log", path=known.path, error=error.strerror)
            await trio.sleep(_RETRY)
            return False
        if known.gone:
            known.tidy()
        else:
            self._ask(known)
        return True

    def _ask(self, known: _Log) -> None:
        known.asked = True
        # The old file tells when it has lost its first name to the new one.
        if not self._arm(known, ATTRIB) and self._nursery is not None:
            self._nursery.start_soon(self._ask_again, known)
        with suppress(ConmonFailed):  # it has ended, and with it the writing
            control.reopen_logs(known.bundle)

    async def _ask_again(self, known: _Log) -> None:
        await trio.sleep(_RETRY)
        if known.asked and not known.gone:
            self._arrived(known)

    def _arrived(self, known: _Log) -> None:
        identity, _ = known.look()
        if identity is None or identity == known.identity:
            # Something else happened to the file, or nothing could be noticed.
            if not self._arm(known, ATTRIB) and self._nursery is not None:
                self._nursery.start_soon(self._ask_again, known)
            identity, _ = known.look()
            if identity is None or identity == known.identity:
                return
        known.identity = identity
        known.asked = False
        for follower in list(known.followers):
            follower.offer()
        if self._nursery is not None:
            known.busy = True
            self._nursery.start_soon(self._settle, known)

    async def _settle(self, known: _Log) -> None:
        await trio.sleep(_BETWEEN)
        await self._look(known)
