"""Work inside other namespaces than this process's own, in a thread that ends with it; and their descriptors.

A descriptor of a namespace is of exactly the process that was meant, whatever becomes of the number of that process: it
is looked at once more after the file was opened. `path_of` names a descriptor for other processes, as long as this one
lives and holds it. Everything here may block, on a path as long as its file system does. Failures are OSErrors.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import threading
from typing import TYPE_CHECKING, TypeVar

import outcome

from supervisor.kernel import mounts, namespaces
from supervisor.kernel.process import ref_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor.kernel.process import ProcessRef

__all__ = [
    "KINDS",
    "has_rights",
    "joined",
    "node_name",
    "of_path",
    "of_process",
    "owner",
    "path_of",
    "set_domain_name",
    "tree",
]

T = TypeVar("T")

KINDS = {
    "pid": ("pid", 0x2000_0000),
    "network": ("net", 0x4000_0000),
    "ipc": ("ipc", 0x0800_0000),
    "uts": ("uts", 0x0400_0000),
    "cgroup": ("cgroup", 0x0200_0000),
    "user": ("user", namespaces.NEW_USER),
    "mount": ("mnt", namespaces.NEW_MOUNT),
}
"""By the OCI specification's names: the kernel's name in /proc/PID/ns, and its number."""

_CLONE_FS = 0x200
_GET_USERNS, _GET_PARENT = 0xB701, 0xB702

_libc = ctypes.CDLL(None, use_errno=True)


def path_of(descriptor: int) -> str:
    """Where other processes of this user find what a descriptor of this process stands for."""
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def of_process(ref: ProcessRef, kind: str) -> int:
    """A descriptor of a namespace of exactly that process. ProcessLookupError: it has ended."""
    try:
        descriptor = os.open(f"/proc/{ref.pid}/ns/{KINDS[kind][0]}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from error
    if ref_of(ref.pid) != ref:
        os.close(descriptor)
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    return descriptor


def of_path(path: str, kind: str) -> int:
    """A descriptor of the namespace at a path. What is none is not opened: that could wait, or do something."""
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if stat.S_ISREG(os.fstat(place).st_mode):
            descriptor = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if namespaces.kind_of(descriptor) == KINDS[kind][1]:
                    return descriptor
            except OSError:
                pass  # an ordinary file
            os.close(descriptor)
    finally:
        os.close(place)
    raise OSError(errno.EINVAL, f"it is no {kind} namespace", path)


def owner(descriptor: int) -> int | None:
    """A descriptor of the user namespace that a namespace belongs to; none: one outside of this process's own."""
    try:
        return fcntl.ioctl(descriptor, _GET_USERNS)
    except PermissionError:
        return None


def has_rights(user: int, descriptor: int) -> bool:
    """Whoever is root in the user namespace `user` has all rights over a namespace: it belongs to that one or to one
    below. Both are descriptors."""
    wanted = _identity(user)
    found = owner(descriptor)
    while found is not None:
        try:
            if _identity(found) == wanted:
                return True
            above = fcntl.ioctl(found, _GET_PARENT)
        except PermissionError:
            return False
        finally:
            os.close(found)
        found = above
    return False


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def node_name(uts: int) -> str:
    """The host name in a UTS namespace."""
    return joined(uts, "uts", lambda: os.uname().nodename)


def set_domain_name(uts: int, name: str) -> None:
    """In a UTS namespace."""

    def work() -> None:
        text = name.encode()
        if _libc.setdomainname(text, len(text)):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    joined(uts, "uts", work)


def tree(mount: int, path: str) -> int:
    """A descriptor of a copy, without a place, of the mount at a path in a mount namespace; no link is followed there.
    OSError EINVAL: nothing is mounted exactly there."""

    def work() -> int:
        if not mounts.mounted(path):
            raise OSError(errno.EINVAL, "nothing is mounted there", path)
        directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.open(
                os.path.basename(path),
                os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
                dir_fd=directory,
            )
        finally:
            os.close(directory)
        try:
            return mounts.clone(found, recursive=False)
        finally:
            os.close(found)

    return joined(mount, "mount", work)


def joined(descriptor: int, kind: str, work: Callable[[], T]) -> T:
    """The result of work in a thread of its own that has joined a namespace; what it raises is raised here. Not for user
    namespaces."""
    done: list[outcome.Outcome[T]] = []

    def run() -> T:
        if kind == "mount" and _libc.unshare(_CLONE_FS):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        namespaces.join(descriptor, KINDS[kind][1])
        return work()

    thread = threading.Thread(target=lambda: done.append(outcome.capture(run)), name="inside")
    thread.start()
    thread.join()
    return done[0].unwrap()
