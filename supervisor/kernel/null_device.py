"""The host's /dev/null, and that it stays root's.

Where a command is given no standard input, conmon has this device be it. crun gives a command's standard streams to the
command's user, who could then close the device to everybody.
"""

from __future__ import annotations

import os
from contextlib import suppress

from supervisor.logging import log

__all__ = ["take_back"]

MODE = 0o666


def take_back() -> None:
    """After crun, if it has given it away. Who may not has no crun that could."""
    try:
        status = os.stat(os.devnull)
        if status.st_uid or status.st_gid:
            with suppress(PermissionError):
                os.chown(os.devnull, 0, 0)
                os.chmod(os.devnull, MODE)  # whoever had it may have been fast
    except OSError as error:
        log.error("cannot take back the null device", error=str(error))
