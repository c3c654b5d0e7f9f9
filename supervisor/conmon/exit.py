"""How a container ended, as conmon wrote it down.

conmon writes `exit` (the exit code as text) and, if the kernel killed for want of memory, `oom` into its
--persist-dir, and afterwards a file named after the container into its --exit-dir. Both stay until the
next start clears them: an old one must never be taken for the new one's.
"""

from __future__ import annotations

import os
from contextlib import suppress

import msgspec

__all__ = ["TIMED_OUT", "Exit", "clear_exit", "read_exit"]

TIMED_OUT = 255
"""The exit code of a container that conmon killed because its --timeout had passed."""


class Exit(msgspec.Struct, frozen=True):
    """`time_ns` is when the file was written: nanoseconds since 1970."""

    code: int
    time_ns: int
    oom: bool = False
    timed_out: bool = False


def read_exit(exits_dir: str | None, persist_dir: str | None, id: str) -> Exit | None:
    """The exit of a container (or, with its own persist directory, of an exec session); None: not there.

    Either directory may be left out.
    """
    for path in _exit_files(exits_dir, persist_dir, id):
        try:
            with open(path, "rb") as file:
                text = file.read(32)
                time_ns = os.fstat(file.fileno()).st_mtime_ns
        except FileNotFoundError:
            continue
        try:
            code = int(text)
        except ValueError:  # not conmon's: it replaces the file as a whole
            continue
        oom = persist_dir is not None and os.path.lexists(os.path.join(persist_dir, "oom"))
        if code < 0:
            return Exit(TIMED_OUT, time_ns, oom, timed_out=True)
        return Exit(code, time_ns, oom)
    return None


def clear_exit(exits_dir: str | None, persist_dir: str | None, id: str) -> None:
    """Forget the last exit, before the next start. Nothing there is not an error."""
    paths = _exit_files(exits_dir, persist_dir, id)
    if persist_dir:
        paths.append(os.path.join(persist_dir, "oom"))
    for path in paths:
        with suppress(FileNotFoundError):
            os.unlink(path)


def _exit_files(
    exits_dir: str | None,
    persist_dir: str | None,
    id: str,
) -> list[str]:
    paths = []
    if persist_dir:
        paths.append(os.path.join(persist_dir, "exit"))
    if exits_dir:
        paths.append(os.path.join(exits_dir, id))
    return paths
