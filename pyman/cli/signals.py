"""Signals to a command that stands for a container: noted when they come, acted upon when that is safe.

A handler only notes the number; the loop that waits is woken through a descriptor, so none is lost between
looking and waiting. While the command blocks in a write that nobody reads, `urgent` is called instead.
(`signal` the module imports `enum`, which costs as much as everything else here.)
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterable
    from typing import Any, Self
else:
    try:
        import _signal as signal
    except ImportError:  # pragma: no cover - another Python
        import signal

__all__ = ["ENDING", "NEVER_PROXIED", "Interrupted", "Signals", "die", "proxied", "signal"]

ENDING: tuple[int, ...] = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
"""What ends a command that does nothing else with it."""
NEVER_PROXIED = frozenset(
    int(number)
    for number in (
        # What is meant for this process, or cannot be caught.
        signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGURG, signal.SIGWINCH,
        # A background job that touches its terminal must stop, not go on trying.
        signal.SIGTTIN, signal.SIGTTOU,
        # Faults of this process.
        signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL,
    )
)  # fmt: skip


class Interrupted(BaseException):
    """A signal ends the command: unwind, put everything in order, then `die` of it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def die(number: int) -> int:
    """End as the signal would have: whoever waits sees it. Returns only where it is blocked."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number


def proxied() -> list[int]:
    """All that are passed on to a container; those that were ignored from the start stay so (nohup)."""
    numbers = (int(number) for number in signal.valid_signals())
    return [n for n in numbers if n not in NEVER_PROXIED and signal.getsignal(n) is not signal.SIG_IGN]


class Signals:
    """While it is entered, the numbers in `watched` are noted in `pending`; `fileno` is readable then."""

    def __init__(self, watched: Iterable[int]) -> None:
        self._watched = tuple(watched)
        self.pending: list[int] = []
        self.urgent: Callable[[], None] | None = None
        self._previous: list[tuple[int, Any]] = []
        self._read = self._write = self._wakeup = -1

    def __enter__(self) -> Self:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # Full is fine: the loop is awake then.
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in self._watched:
            try:
                previous = signal.signal(number, self._note)
            except (OSError, ValueError):
                continue  # the C library keeps some for itself
            self._previous.append((number, previous))
        return self

    def __exit__(self, *_: object) -> None:
        for number, previous in self._previous:
            signal.signal(number, signal.SIG_DFL if previous is None else previous)
        self._previous.clear()
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._read)
        os.close(self._write)

    def fileno(self) -> int:
        return self._read

    def _note(self, number: int, _frame: object) -> None:
        self.pending.append(number)
        if self.urgent is not None:
            self.urgent()

    def drain(self) -> None:
        """Make `fileno` wait for the next one; what is pending stays."""
        try:
            os.read(self._read, 4096)
        except BlockingIOError:
            pass

    def take(self) -> list[int]:
        """The numbers that came since the last call, oldest first."""
        self.drain()
        taken = []
        while self.pending:
            taken.append(self.pending.pop(0))
        return taken
