"""A program that is started before there is a loop to wait for it in: `children.collect` waits for it there.

What the daemon asks of other programs when it starts is asked before it imports most of itself; the answers come
meanwhile. Standard library only.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["CLEAN_ENVIRONMENT", "Begun", "begin"]

CLEAN_ENVIRONMENT: Mapping[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}
"""What a child sees that was given no environment; never the daemon's own."""


class Begun:
    """`error`: why it could not be executed; then there is no process."""

    __slots__ = ("_pidfd", "argv", "error", "pid", "stderr", "stdout", "taken")

    def __init__(self, argv: Sequence[str]) -> None:
        self.argv = list(argv)
        self.error: OSError | None = None
        self.taken = False
        self.pid = self.stdout = self.stderr = self._pidfd = -1

    def watch(self, pid: int) -> None:
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)

    def take(self) -> bool:
        """Become the one who waits for it, and who closes `stdout` and `stderr`. False: somebody has."""
        if self.taken or self.pid < 0:
            return False
        self.taken = True
        os.close(self._pidfd)
        return True

    def abandon(self) -> None:
        """End it, unless somebody waits for it. Blocks until it is gone."""
        if self.taken or self.pid < 0:
            return
        # By pidfd: orphans may have been looked for meanwhile, and this one found.
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        self.take()
        os.close(self.stdout)
        os.close(self.stderr)


def begin(argv: Sequence[str]) -> Begun:
    """Start a program with a clean environment and without input; its process group is its own."""
    begun = Begun(argv)
    begun.stdout, out = os.pipe2(os.O_CLOEXEC)
    begun.stderr, err = os.pipe2(os.O_CLOEXEC)
    streams = (
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, out, 1),
        (os.POSIX_SPAWN_DUP2, err, 2),
    )
    try:
        begun.watch(
            os.posix_spawn(
                begun.argv[0], begun.argv, CLEAN_ENVIRONMENT, file_actions=streams, setpgroup=0, setsigmask=[]
            )
        )
    except OSError as error:
        begun.error = error
        os.close(begun.stdout)
        os.close(begun.stderr)
    finally:
        os.close(out)
        os.close(err)
    return begun
