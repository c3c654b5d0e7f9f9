"""A terminal with a person at it: what is typed goes in, what is shown is read until the expected comes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import termios
import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

__all__ = ["PseudoTerminal"]


class PseudoTerminal:
    """`spawn` programs on it, which end with it; `seen` is everything that was shown so far."""

    def __init__(self, rows: int = 24, columns: int = 80) -> None:
        self.master, self.slave = pty.openpty()
        self.seen = b""
        self._read_up_to = 0
        self._programs: list[subprocess.Popen[bytes]] = []
        self.resize(rows, columns)
        self.found = termios.tcgetattr(self.slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for program in self._programs:
            if program.poll() is None:
                program.kill()
                program.wait()
        os.close(self.slave)
        os.close(self.master)

    def spawn(
        self, start: Callable[..., subprocess.Popen[bytes]], *arguments: str
    ) -> subprocess.Popen[bytes]:
        """`start` takes arguments and what Popen takes; the program gets the terminal as its own."""

        def take() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        options: dict[str, Any] = {"start_new_session": True, "preexec_fn": take}
        program = start(*arguments, stdin=self.slave, stdout=self.slave, stderr=self.slave, **options)
        self._programs.append(program)
        return program

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def expect(self, text: bytes, seconds: float = 20.0) -> bytes:
        """Read until it is shown (after what was expected before); returns what was shown up to there."""
        deadline = time.monotonic() + seconds
        while (at := self.seen.find(text, self._read_up_to)) < 0:
            left = deadline - time.monotonic()
            ready = select.select([self.master], [], [], max(0.0, left))[0]
            assert ready, f"{text!r} is not shown within {seconds} s, but {self.seen[self._read_up_to :]!r}"
            with contextlib.suppress(OSError):
                self.seen += os.read(self.master, 65536)
        begin, self._read_up_to = self._read_up_to, at + len(text)
        return self.seen[begin : self._read_up_to]

    def forget(self) -> None:
        """What was shown so far will not be expected any more. For when no program is on the terminal."""
        while select.select([self.master], [], [], 0)[0]:
            self.seen += os.read(self.master, 65536)
        self._read_up_to = len(self.seen)

    @property
    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ISIG | termios.ECHO)

    @property
    def is_as_found(self) -> bool:
        return termios.tcgetattr(self.slave) == self.found
