"""A pause process in a scope of its own, so that it ends neither with the session nor with the service it comes from.

systemd's own programs are what asks systemd: they are there where it is, while a D-Bus library would be with every
keeper for good. Only making a pause process comes here. Failing is a sentence for the log, and takes a bounded time.
Standard library only: the keeper needs it too.
"""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["move"]

PATIENCE = 5.0
"""Seconds for each of the two programs; a few milliseconds are usual."""
_SYSTEMD = "/run/systemd/system"
_MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TEXT = 1000


def move(pid: int, runtime_dir: str, environ: Mapping[str, str] = os.environ) -> str:
    """Why the process stays in the cgroup that it is in; an empty string: it does not, or no systemd runs here."""
    if not os.path.isdir(_SYSTEMD):
        return ""
    address = environ.get("DBUS_SESSION_BUS_ADDRESS") or f"unix:path={runtime_dir}/bus"
    place = address.removeprefix("unix:path=").partition(",")[0]
    if place.startswith("/") and not os.path.exists(place):
        return _sentence("the user has no service manager (see 'loginctl enable-linger')")
    environment = {"PATH": _PATH, "XDG_RUNTIME_DIR": runtime_dir, "DBUS_SESSION_BUS_ADDRESS": address}
    unit = f"pyman-pause-{os.urandom(8).hex()}.scope"
    properties = (
        *("PIDs", "au", "1", str(pid)),
        *("Slice", "s", "user.slice"),
        *("CollectMode", "s", "inactive-or-failed"),
        *("Description", "s", "keeps the namespaces of pyman"),
    )
    ask = ("busctl", "--user", "call", *_MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))")
    problem = _run([*ask, unit, "fail", "4", *properties, "0"], environment)
    # The answer is that it will be tried; starting what is being started waits for the outcome.
    problem = problem or _run(["systemctl", "--user", "start", unit], environment)
    return _sentence(problem) if problem else ""


def _sentence(reason: str) -> str:
    return f"cannot move the pause process to a scope of its own: {reason}"


def _run(words: list[str], environment: Mapping[str, str]) -> str:
    """Why it has failed; empty: it has not."""
    readable, writable = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
            (os.POSIX_SPAWN_DUP2, 0, 1),
            (os.POSIX_SPAWN_DUP2, writable, 2),
        ]
        pid = os.posix_spawnp(words[0], words, environment, file_actions=actions, setsigmask=[])
        ended = _await(pid)
        _, status = os.waitpid(pid, 0)
        if not ended:
            return f"'{words[0]}' does not answer within {PATIENCE:g} s"
        if not status:
            return ""
        return _said(readable) or f"'{words[0]}' has failed"
    except OSError as error:
        return f"cannot execute '{words[0]}': {error.strerror}"
    finally:
        os.close(readable)
        os.close(writable)


def _await(pid: int) -> bool:
    """False: it had to be killed."""
    descriptor = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if poll.poll(PATIENCE * 1000):
            return True
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        return False
    finally:
        os.close(descriptor)


def _said(readable: int) -> str:
    """The last line."""
    try:
        lines = os.read(readable, _TEXT).decode(errors="replace").strip().splitlines()
    except BlockingIOError:
        return ""
    return lines[-1].strip() if lines else ""
