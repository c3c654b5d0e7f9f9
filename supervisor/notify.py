"""What a service manager is told (sd_notify), by keeper and daemon, if it asked to be told.

Nothing is sent and no timer runs without $NOTIFY_SOCKET. The main process is the keeper; the daemon speaks
too, so the unit needs NotifyAccess=all. The watchdog is fed by the daemon, whose loop is what may hang.
A manager that does not listen is no reason to fail: messages are sent once and never waited for.
Standard library only.
"""

from __future__ import annotations

import os
import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Notifier", "watchdog_interval"]


class Notifier:
    """Sends to one notification socket, or nowhere."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        self._address = b"\0" + os.fsencode(path[1:]) if path.startswith("@") else os.fsencode(path)

    def __bool__(self) -> bool:
        return bool(self._address)

    def send(self, *lines: str) -> bool:
        """Whether it was delivered."""
        if not self._address:
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            try:
                out.sendto(
                    "\n".join(lines).encode(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, self._address
                )
            except OSError:
                return False
        return True

    def ready(self, main_pid: int, status: str) -> None:
        self.send("READY=1", f"MAINPID={main_pid}", f"STATUS={status}")

    def reloading(self) -> None:
        """`ready` has to follow."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        self.send("STOPPING=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        self.send(f"STATUS={status}")

    def alive(self) -> None:
        self.send("WATCHDOG=1")


def watchdog_interval(environ: Mapping[str, str], main_pid: int) -> float | None:
    """Seconds between two signs of life: half of what the manager waits. None: it does not ask for any."""
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not usec.isdigit() or int(usec) == 0 or not environ.get("NOTIFY_SOCKET"):
        return None
    if pid not in ("", str(main_pid)):
        return None
    return int(usec) / 2e6
