"""One instance at a time: a lock file with the pids of who holds it.

The lock is flock(2): it belongs to the open file, so it is passed on with the descriptor and ends when the
last holder is dead, however it died. The first pid in the file is the one that people are told. A holder
that writes `ending` beside the pids is waited for, and so is one whose first process is dead already.

Two locks are of this kind: one beside the socket, held by the keeper, so that two that are started at once
do not both take the socket; and the one of the state directory, which alone protects the state.
Standard library only.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time

from pyman.errors import AlreadyRunning, PermissionDenied, StorageFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PATIENCE", "alive", "hold", "is_lock_of", "note", "release"]

PATIENCE = 15.0
"""Seconds that a holder which is about to end is waited for."""
_MOMENT = 3.0
"""Seconds for a process that is being killed to be gone."""
_ENDING = "ending"


def hold(path: str, pids: Sequence[int], subject: str, patience: float = PATIENCE) -> int:
    """A descriptor that holds the lock, with `pids` written into its file.

    AlreadyRunning names the process that holds it; `subject` is what the lock stands for, in words.
    """
    deadline = time.monotonic() + patience
    while True:
        descriptor = _open(path)
        try:
            _take(descriptor, deadline, subject)
            if is_lock_of(descriptor, path):
                note(descriptor, pids)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last holder has deleted the file: that is another lock now


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except PermissionError as error:
        raise PermissionDenied(f"cannot open the lock '{path}': {error.strerror}", subject=path) from error
    except OSError as error:
        raise StorageFailed(f"cannot open the lock '{path}': {error.strerror}", subject=path) from error


def _take(descriptor: int, deadline: float, subject: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    except BlockingIOError:
        pids, ending = _read(descriptor)
    except OSError as error:  # a file system without locks
        raise StorageFailed(f"cannot lock {subject}: {error.strerror}", subject=subject) from error
    seconds = deadline - time.monotonic()
    if not ending:
        if pids and alive(pids[0]):
            raise _held(pids, subject)
        # Its holder dies at this moment, or has taken it at this moment and not yet said who it is.
        seconds = min(seconds, _MOMENT)
    try:
        _wait(descriptor, seconds)
    except TimeoutError:
        raise _held(_read(descriptor)[0], subject, ending=ending) from None


def _wait(descriptor: int, seconds: float) -> None:
    """Block until the lock is ours. Needs the main thread: nothing but a signal ends the wait early."""

    def late(_number: int, _frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)


def _held(pids: Sequence[int], subject: str, *, ending: bool = False) -> AlreadyRunning:
    who = f"another supervisor (pid {pids[0]})" if pids else "another process"
    what = f"is still about to leave {subject}" if ending else f"has {subject}"
    return AlreadyRunning(f"cannot start: {who} {what}", subject=str(pids[0]) if pids else "")


def _read(descriptor: int) -> tuple[list[int], bool]:
    words = os.pread(descriptor, 256, 0).split()
    return [int(word) for word in words if word.isdigit()], _ENDING.encode() in words


def note(descriptor: int, pids: Sequence[int], *, ending: bool = False) -> None:
    """Say in the file who holds it, and whether they are about to let go."""
    words = [*map(str, pids), *([_ENDING] if ending else [])]
    text = (" ".join(words) + "\n").encode()
    os.pwrite(descriptor, text, 0)
    os.ftruncate(descriptor, len(text))


def is_lock_of(descriptor: int, path: str) -> bool:
    """Whether the file at `path` is still the one that is locked."""
    try:
        there = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    ours = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def release(descriptor: int, path: str = "") -> None:
    """Let go; with `path` the file is deleted first, which makes whoever waits for it look again."""
    if path and is_lock_of(descriptor, path):
        os.unlink(path)
    os.close(descriptor)


def alive(pid: int) -> bool:
    """Whether there is such a process; a zombie is none, since it holds nothing any more."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text[text.rindex(b")") + 2 :][:1] not in (b"Z", b"X")
