"""Starting the daemon's process, as early as whoever is to be its keeper can.

The daemon's interpreter and imports take the longest of all that a first command waits for. So its process is started
before the keeper has imported what it needs itself, and by the command line even before it becomes the keeper: the
daemon is the child of a process, whatever program that runs. Until the keeper says `hello`, the daemon touches nothing.
Standard library only, and next to nothing of that.
"""

from __future__ import annotations

import os

from pyman.wire import sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["spawn"]

_CHANNEL = 3
_POOLS = {"MALLOC_ARENA_MAX": "2"}
"""Threads of the daemon share memory pools: separate ones only grow."""


def spawn(
    program: Sequence[str], options: Sequence[str], environ: Mapping[str, str]
) -> tuple[int, sockets.socket]:
    """Its process id, and the keeper's end of the channel to it. Raises OSError."""
    ours, theirs = sockets.socketpair(sockets.AF_UNIX, sockets.SOCK_SEQPACKET | sockets.SOCK_CLOEXEC)
    argv = [*program, "daemon", f"--keeper={os.getpid()}", f"--channel={_CHANNEL}", *options]
    try:
        pid = os.posix_spawn(
            argv[0],
            argv,
            {**_POOLS, **environ},
            file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), _CHANNEL)],
            setpgroup=0,  # a Ctrl-C in the terminal is for the keeper, which passes it on
            setsigmask=[],
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return pid, ours
