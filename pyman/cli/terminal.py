"""The caller's terminal: its size, raw mode, and its return to what it was.

Raw mode hands every key to the container, Ctrl-C and Ctrl-Z too. `Terminal` remembers how it found the
terminal; `restore` may be called at any time and any number of times.
"""

from __future__ import annotations

import os
import termios

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

__all__ = ["Terminal", "size"]


def size() -> tuple[int, int]:
    """Rows and columns of the terminal this command runs on; (0, 0) where there is none."""
    for descriptor in (0, 1, 2):
        try:
            columns, rows = os.get_terminal_size(descriptor)
        except OSError:
            continue
        return rows, columns
    return 0, 0


class Terminal:
    """Raw mode of a terminal while it is entered."""

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor
        self._found: list[Any] | None = None

    def __enter__(self) -> Self:
        self._found = termios.tcgetattr(self._descriptor)
        self._raw(self._found)
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()
        self._found = None

    def restore(self) -> None:
        """As it was found. What cannot be restored any more (it is gone) is nobody's concern."""
        if self._found is not None and self._ours():
            try:
                termios.tcsetattr(self._descriptor, termios.TCSANOW, self._found)
            except termios.error:
                pass

    def resume(self) -> None:
        """Raw again, after a pause in which the shell had the terminal."""
        if self._found is not None and self._ours():
            try:
                self._raw(self._found)
            except termios.error:
                pass

    def _ours(self) -> bool:
        """A job in the background must not touch the terminal: it would be stopped for it."""
        try:
            return os.tcgetpgrp(self._descriptor) == os.getpgrp()
        except OSError:
            return True  # not our controlling terminal: nothing stops us

    def _raw(self, found: list[Any]) -> None:
        iflag, oflag, cflag, lflag, ispeed, ospeed, cc = found
        iflag &= ~(
            termios.IGNBRK
            | termios.BRKINT
            | termios.PARMRK
            | termios.ISTRIP
            | termios.INLCR
            | termios.IGNCR
            | termios.ICRNL
            | termios.IXON
        )
        oflag &= ~termios.OPOST
        lflag &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        cflag = (cflag & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
        cc = list(cc)
        cc[termios.VMIN], cc[termios.VTIME] = 1, 0
        raw = [iflag, oflag, cflag, lflag, ispeed, ospeed, cc]
        termios.tcsetattr(self._descriptor, termios.TCSANOW, raw)
