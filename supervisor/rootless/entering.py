"""Entering the user's namespaces: those that are there, or new ones.

For a process of one thread, as the keeper is before it starts anything. Afterwards it is root among the user's
ids and may mount. All engines of a user share one user namespace, so that they can share files; it lives as
long as something lives inside. Standard library only: the keeper needs it too.

Joining is tried first, then again under a lock, and only then are new namespaces made: two that start at once
end up in the same ones.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pwd
import select
import signal
import time
from typing import TYPE_CHECKING, Self

from pyman.errors import UserNamespaceFailed
from supervisor.kernel import namespaces
from supervisor.kernel.namespaces import NEW_MOUNT, NEW_USER
from supervisor.rootless import handles, pause, subids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from supervisor.kernel.idmaps import IdRange
    from supervisor.rootless.handles import Found

__all__ = ["NO_HANDLES", "abandon", "enter", "tend", "watch"]

NO_HANDLES = "PYMAN_NO_NS_HANDLES"
"""A variable: with a value, a pause process keeps the namespaces, as on a kernel before 6.18."""
_LOCK = "namespaces.lock"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PATIENCE = 20.0
"""Seconds for newuidmap or newgidmap."""


def enter(directory: str) -> str:
    """Join the namespaces that are written down in a directory of the user's own, or make them. What the user had
    better know, or an empty string.

    Raises UserNamespaceFailed, and the process is where it was then, or of no use any more.
    """
    try:
        told = _join(directory, locked=False)
        if told is not None:
            return told
        with _locked(directory):
            told = _join(directory, locked=True)
            if told is not None:
                return told
            return "; ".join(filter(None, (_make(), _save(directory))))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserNamespaceFailed(
            f"cannot keep the user's namespaces: {reason}", subject=error.filename or directory
        ) from error


def tend(directory: str) -> str:
    """For a process in the namespaces: bring back a pause process that has ended. A warning, or an empty string.
    OSError: it cannot be done."""
    if pause.is_missing(directory):
        with _locked(directory):
            if pause.is_missing(directory):
                return pause.start(directory)
    return ""


def watch(directory: str) -> int:
    """A descriptor that is readable once there is something to tend; -1: there will be nothing."""
    return pause.watch(directory)


def abandon(directory: str) -> None:
    """Have the next process make new namespaces. These end with what lives in them."""
    with _locked(directory):
        handles.forget(directory)
        pause.end(directory)


@contextlib.contextmanager
def _locked(directory: str) -> Iterator[None]:
    descriptor = os.open(f"{directory}/{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _join(directory: str, *, locked: bool) -> str | None:
    """None: there are no namespaces. Otherwise this process is in them now; a warning, or an empty string."""
    for find in (handles.find, pause.find):
        told = _join_found(directory, find, locked=locked)
        if told is not None:
            return told
    return None


def _join_found(
    directory: str, find: Callable[[str], AbstractContextManager[Found | None]], *, locked: bool
) -> str | None:
    with find(directory) as found:
        if found is None or (found.mount < 0 and not locked):
            return None
        try:
            namespaces.join(found.user, NEW_USER)
        except OSError:
            return None  # it has ended just now
        if found.mount >= 0:
            with contextlib.suppress(OSError):
                namespaces.join(found.mount, NEW_MOUNT)
                return ""
    # Something lives in the user namespace, and nothing in its mount namespace any more.
    with contextlib.nullcontext() if locked else _locked(directory):
        _attempt("make a mount namespace", NEW_MOUNT)
        return _save(directory)


def _save(directory: str) -> str:
    """Have the next process find the namespaces that this one is in. A warning, or an empty string."""
    with open("/proc/self/ns/user", "rb") as user, open("/proc/self/ns/mnt", "rb") as mount:
        saved = not os.environ.get(NO_HANDLES) and handles.save(directory, user.fileno(), mount.fileno())
    if saved:
        pause.end(directory)
        return ""
    handles.forget(directory)
    pause.end(directory)
    return pause.start(directory)


def _make() -> str:
    """New namespaces; a warning, or an empty string."""
    uid, gid = os.geteuid(), os.getegid()
    name = _name_of(uid)
    uids = subids.read(subids.SUBUID, name, uid)
    gids = subids.read(subids.SUBGID, name, uid)
    alone = not uids or not gids
    with _Mapper([] if alone else _commands(subids.id_map(uid, uids), subids.id_map(gid, gids))) as mapper:
        _attempt("make a user namespace", NEW_USER)
        said = mapper.map()
        if said or alone:
            _map_alone(uid, gid)
    _attempt("make a mount namespace", NEW_MOUNT)
    if alone:
        missing = " and ".join(
            path for path, found in ((subids.SUBUID, uids), (subids.SUBGID, gids)) if not found
        )
        return (
            f"there are no subordinate ids for the user {name or uid} in {missing}: only one id can be used"
        )
    return f"{said}: only one id can be used" if said else ""


def _attempt(what: str, kind: int) -> None:
    try:
        namespaces.leave(kind)
    except OSError as error:
        hints = {
            errno.EPERM: "see the sysctls kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns",
            errno.ENOSPC: "see the sysctl user.max_user_namespaces",
            errno.EUSERS: "user namespaces are nested too deeply here",
        }
        raise UserNamespaceFailed(
            f"cannot {what}: {(error.strerror or str(error)).lower()}", hint=hints.get(error.errno or 0, "")
        ) from None


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _commands(uids: Sequence[IdRange], gids: Sequence[IdRange]) -> list[list[str]]:
    pid = str(os.getpid())
    return [
        [program, pid, *(str(number) for line in lines for number in line)]
        for program, lines in (("newuidmap", uids), ("newgidmap", gids))
    ]


def _map_alone(uid: int, gid: int) -> None:
    """The user's own id and no other, which needs nobody's help: in each map that is not there yet. One of the
    programs may have made its own, and then the other one has refused."""
    lines = (
        ("gid_map", "setgroups", "deny"),
        ("uid_map", "uid_map", f"0 {uid} 1"),
        ("gid_map", "gid_map", f"0 {gid} 1"),
    )
    for made, name, text in lines:
        try:
            with open(f"/proc/self/{made}", encoding="ascii") as file:
                if file.read():
                    continue
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
        except OSError as error:
            raise UserNamespaceFailed(f"cannot map the user's ids: {error.strerror}") from None


class _Mapper:
    """A child that stays outside and calls the programs that may map other ids."""

    def __init__(self, commands: Sequence[Sequence[str]]) -> None:
        self._commands = commands
        self._pid = 0
        self._go = self._answer = -1

    def __enter__(self) -> Self:
        if self._commands:
            theirs_go, self._go = os.pipe2(os.O_CLOEXEC)
            self._answer, theirs_answer = os.pipe2(os.O_CLOEXEC)
            self._pid = os.fork()
            if not self._pid:
                self._child(theirs_go, theirs_answer)
            os.close(theirs_go)
            os.close(theirs_answer)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pid:
            os.close(self._go)
            os.close(self._answer)
            os.waitpid(self._pid, 0)

    def map(self) -> str:
        """Why it could not be done; an empty string: the maps are there."""
        if not self._pid:
            return ""
        os.write(self._go, b"x")
        with open(os.dup(self._answer), encoding="utf-8", errors="replace") as file:
            return file.read().strip()

    def _child(self, go: int, answer: int) -> None:
        status = 1
        try:
            os.close(self._go)  # or nobody would tell us of the other's end
            if os.read(go, 1):
                os.write(answer, _call(self._commands).encode())
                status = 0
        finally:
            os._exit(status)


def _call(commands: Sequence[Sequence[str]]) -> str:
    """Side by side; without subprocess, whose import takes longer than both of them together."""
    deadline = time.monotonic() + _PATIENCE
    problems = [end(deadline) for end in [_begin(command) for command in commands]]
    return next(filter(None, problems), "")


def _begin(command: Sequence[str]) -> Callable[[float], str]:
    """Start a program. What comes back waits for it, and gives what went wrong or an empty string."""
    name = command[0]
    places = (f"{directory}/{name}" for directory in _PATH.split(":"))
    path = next((place for place in places if os.access(place, os.X_OK)), "")
    if not path:
        return lambda _deadline: f"{name} is not installed"
    said, theirs = os.pipe2(os.O_CLOEXEC)
    streams = (
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_DUP2, theirs, 2),
    )
    try:
        pid = os.posix_spawn(path, [*command], {"PATH": _PATH}, file_actions=streams)
    except OSError as error:
        problem = f"{name} cannot be used: {error}"
        return lambda _deadline: problem
    finally:
        os.close(theirs)
    return lambda deadline: _end(name, pid, said, deadline)


def _end(name: str, pid: int, said: int, deadline: float) -> str:
    text = b""
    poll = select.poll()
    poll.register(said, select.POLLIN)
    while True:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return f"{name} cannot be used: it has not ended within {_PATIENCE:g} s"
        chunk = os.read(said, 4096)
        if not chunk:
            break
        text += chunk
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if not status:
        return ""
    words = text.decode(errors="replace").strip().splitlines()
    return f"{name} refused: {words[-1] if words else status}"
