"""Small files of the user's own that are read by the next process: whole or not at all, and nobody else's.

Standard library only: the keeper needs it too.
"""

from __future__ import annotations

import contextlib
import os
import stat

__all__ = ["read_own", "write_own"]

_MOST = 4096


def read_own(path: str) -> str:
    """What is in a file; nothing, if it is not there, no file, another user's, or no text."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            return ""
        return file.read(_MOST).decode("ascii", errors="replace")


def write_own(path: str, text: str) -> None:
    """Replace a file's contents in one step."""
    directory, name = os.path.split(path)
    temporary = f"{directory}/.{name}-{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(text)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
