"""The option `U`: the files of a mount are given to the container's user.

Done by a program that can be ended, as there may be millions of files, and on a server that does not answer. No link is
followed. What belongs to that user already is left alone, down to its change time.
"""

from __future__ import annotations

import os
import sys
from functools import partial

import trio

from pyman.errors import InvalidArgument, StorageFailed
from supervisor.kernel import children, files
from supervisor.runtime.mounts import chown_program

__all__ = ["chown"]

_OF_THE_HOST = frozenset(
    f"/{name}"
    for name in (
        "", "bin", "boot", "dev", "etc", "etc/passwd", "etc/pki", "etc/shadow", "home", "lib", "lib64", "media", "mnt",
        "opt", "proc", "root", "run", "sbin", "srv", "sys", "tmp", "usr", "usr/bin", "usr/lib", "usr/lib64",
        "usr/libexec", "usr/local", "usr/sbin", "usr/share", "var", "var/cache", "var/lib", "var/log", "var/run",
        "var/spool", "var/tmp",
    )
)  # fmt: skip
"""To give these to somebody is never what was meant."""


def chown(path: str, owner: tuple[int, int], where: str, deadline: float) -> None:
    """Give a file, or a directory with all that is in it, to a uid and gid. In a thread of the event loop's.
    `where`: the destination, for errors. InvalidArgument, StorageFailed, DeadlineExceeded."""
    real = os.path.realpath(path)
    if real in _OF_THE_HOST:
        raise InvalidArgument(
            f"cannot mount '{where}' with 'U': '{real}' belongs to the host, and keeps its owners",
            subject=real,
        )
    try:
        descriptor = os.open(real, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise files.storage_error(error, "change the owner of", path) from error
    try:
        argv = [sys.executable, "-I", "-S", chown_program.__file__, *map(str, (descriptor, *owner))]
        done = trio.from_thread.run(partial(children.run, argv, deadline=deadline, pass_fds=[descriptor]))
    finally:
        os.close(descriptor)
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise StorageFailed(f"cannot change the owner of '{path}': {reason}", subject=path)
