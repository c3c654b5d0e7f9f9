"""What can be said to a running conmon: a new terminal size, and "open the log again".

conmon reads its FIFOs up to 200 bytes at a time and takes every message of one read for the first of
them: two in a row, and it forgets the second. So there is never more than one kind of message in a FIFO
(terminal sizes go to `winsz`, not through `ctl`), and a message that conmon has not read yet is replaced by
the next one, which makes it obsolete. Nothing here waits, whatever conmon does.
"""

from __future__ import annotations

import os

from pyman.errors import ConmonFailed
from supervisor.kernel import pipes

__all__ = ["listens", "reopen_logs", "resize"]


def resize(bundle: str, rows: int, columns: int) -> None:
    """Set the size of the container's (or exec session's) terminal. ConmonFailed: no conmon listens."""
    _say(bundle, "winsz", f"{rows} {columns}\n")


def reopen_logs(bundle: str) -> None:
    """Have conmon begin a new log file, which replaces what is at the log's path. Errors as `resize`."""
    _say(bundle, "ctl", "2 0 0\n")


def listens(bundle: str) -> bool:
    """There is a conmon that holds its FIFO open."""
    try:
        os.close(os.open(os.path.join(bundle, "ctl"), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _say(bundle: str, name: str, message: str) -> None:
    path = os.path.join(bundle, name)
    try:
        heard = pipes.replace_message(path, message.encode())
    except OSError as error:
        raise ConmonFailed(
            f"cannot reach the monitor in '{bundle}': {error.strerror}", subject=bundle
        ) from error
    if not heard:
        raise ConmonFailed(f"cannot reach the monitor in '{bundle}': it has gone", subject=bundle)
