"""The listening sockets: inherited or bound, watched, and made again when their directory vanishes.

They belong to the keeper, so that a client that connects while there is no daemon waits in the backlog.
Three stand side by side: the main one, `…-events` and `…-read` for clients with fewer rights. Each is 0600
in a directory that is 0700 and the user's own. A socket file that nobody answers on is replaced; one that
is answered means that another supervisor runs.

A logout removes the directory, a tmp cleaner what is in it: inotify tells, and everything is made again as
soon as its parent is there. Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import socket
import stat
import struct

from pyman.errors import AlreadyRunning, PermissionDenied, PymanError, StorageFailed
from supervisor import instance

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["NAMES", "Listeners", "inherited", "paths"]

NAMES = ("main", "events", "read")
_BACKLOG = 4096
_LONGEST_PATH = 107

_IN_ATTRIB, _IN_MOVED_FROM, _IN_MOVED_TO, _IN_CREATE, _IN_DELETE = 0x4, 0x40, 0x80, 0x100, 0x200
_IN_DELETE_SELF, _IN_MOVE_SELF, _IN_ONLYDIR = 0x400, 0x800, 0x01000000
_OURS = _IN_ATTRIB | _IN_MOVED_FROM | _IN_DELETE | _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_ONLYDIR
_ABOVE = _IN_ATTRIB | _IN_CREATE | _IN_MOVED_TO | _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_ONLYDIR


def paths(main: str) -> dict[str, str]:
    """Where the sockets are, by name, if the main one is there."""
    stem = main.removesuffix(".sock")
    return {"main": main, "events": f"{stem}-events.sock", "read": f"{stem}-read.sock"}


def inherited(environ: Mapping[str, str], pid: int) -> list[socket.socket]:
    """What a service manager passed to this process (sd_listen_fds): its listening unix sockets."""
    if environ.get("LISTEN_PID") != str(pid) or not environ.get("LISTEN_FDS", "").isdigit():
        return []
    found: list[socket.socket] = []
    for number in range(3, 3 + int(environ["LISTEN_FDS"])):
        try:
            os.set_inheritable(number, False)
            made = socket.socket(fileno=number)
            listening = made.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError:
            continue
        if made.family == socket.AF_UNIX and made.type == socket.SOCK_STREAM and listening:
            found.append(made)
        else:
            made.close()
    return found


class Listeners:
    """`sockets` by name; `open` makes them, `renew` looks after them when a descriptor of `watch` fires."""

    def __init__(self, main: str, given: Sequence[socket.socket] = ()) -> None:
        self.paths = paths(main)
        self.directory = os.path.dirname(main)
        self.lock_path = main.removesuffix(".sock") + ".lock"
        self.sockets: dict[str, socket.socket] = {}
        self._made: dict[str, tuple[int, int]] = {}
        """Socket files by name that this process has made: device and inode."""
        self._rootless = os.geteuid() != 0
        """Asked here: in the user's namespace the user is root."""
        self._lock = -1
        self._inotify = -1
        self._watched = -1
        self._mounts = -1
        self._adopt(given)

    def _adopt(self, given: Sequence[socket.socket]) -> None:
        for one in given:
            path = os.fsdecode(one.getsockname())
            suffixed = (name for name in NAMES[1:] if path.endswith(f"-{name}.sock"))
            name = next(suffixed, "main")
            if name in self.sockets:
                one.close()
            else:
                self.sockets[name] = one

    def open(self) -> None:
        """Take the lock, bind what was not inherited, watch. Raises AlreadyRunning, PermissionDenied, …"""
        private_directory(self.directory)
        self._take_lock()
        try:
            self._bind_missing()
        except BaseException:
            self.close()
            raise

    def watch(self) -> list[tuple[int, int]]:
        """Begin to watch; the descriptors to poll, each with its events."""
        self._inotify = _libc().inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        # A logout detaches the user's tmpfs, which inotify does not tell as long as we have a file on it.
        if self._rootless:
            self._mounts = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self._look_at_directory()
        watched = [(self._inotify, select.POLLIN), (self._mounts, select.POLLPRI | select.POLLERR)]
        return [(fd, events) for fd, events in watched if fd >= 0]

    def renew(self) -> bool:
        """See to it that everything is there and ours. True: sockets were made again.

        What cannot be made now is tried again at the next change of the directory or of one above it.
        """
        with contextlib.suppress(BlockingIOError):
            while os.read(self._inotify, 1 << 16):
                pass
        renewed = False
        for _ in range(3):  # again, if something changed after it was made and before it was watched
            if self._intact():
                break
            try:
                private_directory(self.directory)
                self._take_lock()
                renewed |= self._bind_missing()
            except (PymanError, OSError):
                pass  # the parent is gone too, or not ours yet
            self._look_at_directory()
        return renewed

    def withdraw(self) -> None:
        """Take no more clients, and let a next instance wait for the lock instead of failing.

        Who waits in the backlog is disconnected, and finds no socket file when it tries again.
        """
        if self._lock >= 0:
            instance.note(self._lock, [os.getpid()], ending=True)
        for name, identity in self._made.items():
            if _identity(self.paths[name]) == identity:
                with contextlib.suppress(OSError):
                    os.unlink(self.paths[name])
        self._made.clear()
        for one in self.sockets.values():
            one.close()
        self.sockets.clear()

    def close(self) -> None:
        """Give up everything; files that are no longer those made here stay."""
        self.withdraw()
        for descriptor in (self._inotify, self._mounts):
            if descriptor >= 0:
                os.close(descriptor)
        self._inotify = self._mounts = -1
        if self._lock >= 0:
            with contextlib.suppress(OSError):
                instance.release(self._lock, self.lock_path)
            self._lock = -1

    def _take_lock(self) -> None:
        if self._lock >= 0 and instance.is_lock_of(self._lock, self.lock_path):
            return
        patience = instance.PATIENCE if self._lock < 0 else 0.0
        taken = instance.hold(self.lock_path, [os.getpid()], f"the socket '{self.paths['main']}'", patience)
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = taken

    def _bind_missing(self) -> bool:
        """Bind each socket that is not there; whether there was one."""
        bound = False
        for name, path in self.paths.items():
            there = _identity(path)
            if name in self.sockets and there is not None and self._made.get(name, there) == there:
                continue
            _clear(path)
            made = _listen(path)
            earlier = self.sockets.get(name)
            if earlier is not None:
                earlier.close()
            self.sockets[name] = made
            identity = _identity(path)
            if identity is not None:
                self._made[name] = identity
            bound = True
        return bound

    def _intact(self) -> bool:
        try:
            status = os.lstat(self.directory)
        except OSError:
            return False
        return (
            stat.S_ISDIR(status.st_mode)
            and status.st_uid == os.geteuid()
            and stat.S_IMODE(status.st_mode) == 0o700
            and self._lock >= 0
            and instance.is_lock_of(self._lock, self.lock_path)
            and all(
                (there := _identity(path)) is not None and self._made.get(name, there) == there
                for name, path in self.paths.items()
            )
        )

    def _look_at_directory(self) -> None:
        """Watch the directory, or the nearest one above it that exists."""
        libc = _libc()
        path, mask = self.directory, _OURS
        while (watch := libc.inotify_add_watch(self._inotify, os.fsencode(path), mask)) < 0 and path != "/":
            path, mask = os.path.dirname(path), _ABOVE
        if self._watched not in (-1, watch):
            libc.inotify_rm_watch(self._inotify, self._watched)  # fails if it went with its directory
        self._watched = watch


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISSOCK(status.st_mode) else None


def private_directory(path: str) -> None:
    """Make the directory 0700 with what is missing above it; PermissionDenied where it is another's."""
    uid = os.geteuid()
    parent = os.path.dirname(path)
    try:
        if not os.path.isdir(parent):
            private_directory(parent)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        above, status = os.stat(parent), os.lstat(path)
        if not stat.S_ISDIR(status.st_mode):
            raise PermissionDenied(f"cannot use '{path}': it is not a directory", subject=path)
        if status.st_uid != uid:
            message = f"cannot use the directory '{path}': it belongs to user {status.st_uid}, not {uid}"
            raise PermissionDenied(message, subject=path)
        if above.st_uid not in (0, uid) or (above.st_mode & 0o022 and not above.st_mode & stat.S_ISVTX):
            message = f"cannot use the directory '{path}': others can replace it in '{parent}'"
            raise PermissionDenied(message, subject=path)
        if stat.S_IMODE(status.st_mode) != 0o700:
            os.chmod(path, 0o700)
    except PermissionError as error:
        raise PermissionDenied(
            f"cannot make the directory '{path}': {error.strerror}", subject=path
        ) from error
    except OSError as error:
        raise StorageFailed(f"cannot make the directory '{path}': {error.strerror}", subject=path) from error


def _address(path: str, directory: int) -> str:
    """An address that is short enough, by way of the open directory."""
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        return path
    return f"/proc/self/fd/{directory}/{os.path.basename(path)}"


def _clear(path: str) -> None:
    """Remove a socket file that nobody answers on. AlreadyRunning if somebody does."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if stat.S_ISSOCK(status.st_mode):
        owner = _who_listens(path)
        if owner == 0 or (owner and instance.alive(owner)):  # 0: in another pid namespace
            message = f"cannot start: another process (pid {owner}) listens on the socket '{path}'"
            raise AlreadyRunning(message, subject=str(owner))
    elif stat.S_ISDIR(status.st_mode):
        raise StorageFailed(f"cannot make the socket '{path}': a directory is in its place", subject=path)
    os.unlink(path)


def _who_listens(path: str) -> int | None:
    """The pid of the process that made the socket listen. Its children may outlive it for a moment."""
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(_address(path, directory))
        except BlockingIOError:
            pass  # its backlog is full: somebody listens
        except OSError:
            return None
        finally:
            os.close(directory)
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid: int = struct.unpack("3i", credentials)[0]
        return pid


def _listen(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    umask = os.umask(0o177)
    try:
        made.bind(_address(path, directory))
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        raise StorageFailed(f"cannot make the socket '{path}': {error.strerror}", subject=path) from error
    finally:
        os.umask(umask)
        os.close(directory)
    return made
