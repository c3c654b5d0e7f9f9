"""Mounts: making, undoing and finding them.

Everything here blocks, an unmount for as long as the file system takes: it is called in a thread. A failure
is an OSError; whoever knows what was mounted for whom makes an error for people of it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import struct
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "FLAGS",
    "attach",
    "bind",
    "bind_idmapped",
    "clone",
    "detached_overlay",
    "detached_tree",
    "file_system_of",
    "is_dead",
    "make_readonly",
    "map_ids",
    "mount_of",
    "mounted",
    "mounts_below",
    "overlay",
    "tmpfs",
    "unmount",
]

_RDONLY, _NOSUID, _NODEV, _NOEXEC = 1, 2, 4, 8
_REMOUNT, _BIND, _REC, _PRIVATE = 1 << 5, 1 << 12, 1 << 14, 1 << 18
_DETACH, _NOFOLLOW = 2, 8
FLAGS: Mapping[str, int] = {
    "nosuid": _NOSUID,
    "nodev": _NODEV,
    "noexec": _NOEXEC,
    "noatime": 1 << 10,
    "nodiratime": 1 << 11,
    "relatime": 1 << 21,
}
"""Options of a mount that are flags and not for its file system, by their names."""
_DATA_LIMIT = os.sysconf("SC_PAGESIZE") - 1

_DESCRIPTORS = "/proc/self/fd"
_CLONE_FS = 0x200

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
"""Numbers of system calls, the same on every architecture but alpha."""
_OPEN_TREE_CLONE = 1
_MOVE_FROM_DESCRIPTOR = 4
_ATTR_IDMAP = 0x10_0000
_MOUNT_ATTR = struct.Struct("=QQQQ")
_AT_EMPTY_PATH = 0x1000
_AT_FDCWD = -100
_AT_NO_AUTOMOUNT = 0x800
_AT_RECURSIVE = 0x8000
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_STATX_DONT_SYNC = 0x4000
_ATTR_MOUNT_ROOT = 0x2000
_STATX_SIZE = 256

_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
"""The same numbers on every architecture."""
_CONFIG_FLAG, _CONFIG_STRING, _CONFIG_CREATE = 0, 1, 6
_CLOEXEC = 1

_libc = ctypes.CDLL(None, use_errno=True)


def overlay(
    target: str,
    lower: Sequence[str],
    upper: str = "",
    work: str = "",
    options: str = "",
    flags: Sequence[str] = (),
) -> None:
    """An overlay of `lower` (topmost first) and, unless it is to be read-only, `upper` with its `work`. `flags` are
    names of FLAGS.

    Any path will do: colons, commas and backslashes in it, and more layers than fit into one page of options.
    """
    mask = 0
    for name in flags:
        mask |= FLAGS[name]
    data = _overlay_data(lower, upper, work, options, str)
    if len(os.fsencode(data)) <= _DATA_LIMIT:
        _mount("overlay", target, "overlay", mask, data)
        return
    with ExitStack() as stack:
        numbers: dict[str, int] = {}
        for path in (*lower, *filter(None, (upper, work))):
            numbers[path] = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, numbers[path])
        data = _overlay_data(lower, upper, work, options, lambda path: str(numbers[path]))
        _mount_among_descriptors(os.path.abspath(target), mask, data)


def _mount_among_descriptors(target: str, mask: int, data: str) -> None:
    """An overlay whose directories are named as in `_DESCRIPTORS`, which is the working directory of one thread only."""
    failures: list[OSError] = []

    def mount() -> None:
        try:
            if _libc.unshare(_CLONE_FS):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), target)
            os.chdir(_DESCRIPTORS)
            _mount("overlay", target, "overlay", mask, data)
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=mount, name="mount")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _overlay_data(
    lower: Sequence[str], upper: str, work: str, options: str, name: Callable[[str], str]
) -> str:
    parts = ["lowerdir=" + ":".join(_escaped(name(path), r"[\\,:]") for path in lower)]
    if upper:
        parts.append("upperdir=" + _escaped(name(upper), r"[\\,]"))
        parts.append("workdir=" + _escaped(name(work), r"[\\,]"))
    if options:
        parts.append(options)
    return ",".join(parts)


def _escaped(path: str, special: str) -> str:
    return re.sub(special, lambda match: "\\" + match[0], path)


def detached_overlay(lower: str, upper: str, work: str, options: Sequence[str] = ()) -> int:
    """A descriptor of the root of an overlay that has no place in the tree, and ends when that is closed.

    OSError: the kernel refuses such an overlay, or overlays, or (ENOSYS) has no mounts without a place.
    """
    with ExitStack() as stack:
        context = _call(_FSOPEN, b"overlay", _CLOEXEC)
        stack.callback(os.close, context)
        for key, path in (("lowerdir", lower), ("upperdir", upper), ("workdir", work)):
            fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            _call(_FSCONFIG, context, _CONFIG_STRING, key.encode(), b"/proc/self/fd/%d" % fd, 0)
        for option in options:
            _call(_FSCONFIG, context, _CONFIG_FLAG, option.encode(), None, 0)
        _call(_FSCONFIG, context, _CONFIG_CREATE, None, None, 0)
        return _call(_FSMOUNT, context, _CLOEXEC, 0)


def detached_tree(path: str) -> int:
    """A descriptor of a directory as it is without what is mounted below it. To it, all that lies in it is on one
    mount: names can be moved in it that lead across a mount of the directory on itself.

    OSError EINVAL: something is mounted below that this user may not look behind.
    """
    return _call(_OPEN_TREE, _AT_FDCWD, os.fsencode(path), _OPEN_TREE_CLONE | _CLOEXEC)


def _call(number: int, *arguments: int | bytes | None) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def tmpfs(
    target: str, *, size: int = 0, mode: int = 0o1777, options: str = "", source: str = "tmpfs"
) -> None:
    """A tmpfs without devices, set-uid programs or programs at all. `size` in bytes, 0: the kernel's default.
    `source`: the name by which `mount_of` finds it."""
    parts = [f"mode={mode:o}"]
    if size:
        parts.append(f"size={size}")
    if options:
        parts.append(options)
    _mount(source, target, "tmpfs", _NOSUID | _NODEV | _NOEXEC, ",".join(parts))


def make_readonly(target: str) -> None:
    """Make the tmpfs mounted there read-only, wherever else it is seen."""
    _mount("", target, "", _REMOUNT | _RDONLY | _NOSUID | _NODEV | _NOEXEC, "")


def bind(source: str, target: str, *, recursive: bool = True, readonly: bool = False) -> None:
    """Make a directory or file appear at a second place; mounts there do not spread from or to elsewhere."""
    _mount(source, target, "", _BIND | (_REC if recursive else 0), "")
    _mount("", target, "", _PRIVATE | (_REC if recursive else 0), "")
    if readonly:
        _mount("", target, "", _BIND | _REMOUNT | _RDONLY, "")


def bind_idmapped(source: str, target: str, namespace: int) -> None:
    """Make a directory appear at a second place, its files with the ids to which the user namespace maps theirs:
    what belongs to 0 belongs to whoever is 0 there. Mounts below `source` are left out.

    OSError EINVAL: the file system, or a kernel before 5.12, cannot do that. EPERM: it belongs to another user
    namespace.
    """
    tree = detached_tree(source)
    try:
        map_ids(tree, namespace, recursive=False)
        attach(tree, target)
    finally:
        os.close(tree)


def clone(descriptor: int, *, recursive: bool) -> int:
    """A descriptor of a mount, without a place in the tree, of just the file or directory that is open there: whatever
    is moved about meanwhile. `recursive`: with what is mounted below."""
    flags = _OPEN_TREE_CLONE | _CLOEXEC | _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    return _call(_OPEN_TREE, descriptor, b"", flags)


def map_ids(tree: int, namespace: int, *, recursive: bool) -> None:
    """Have a mount without a place show files with the ids to which the user namespace maps theirs, and no mounts spread
    to it or from it. OSError as `bind_idmapped`."""
    attributes = _MOUNT_ATTR.pack(_ATTR_IDMAP, 0, _PRIVATE, namespace)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    _call(_MOUNT_SETATTR, tree, b"", flags, attributes, len(attributes))


def attach(tree: int, target: str) -> None:
    """Give a mount its place: an empty directory, or a file, as it is one itself."""
    _call(_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_FROM_DESCRIPTOR)


def unmount(target: str, *, lazy: bool = False) -> None:
    """Undo the topmost mount at `target`. One that is not there, or a path that is not, is not an error.

    `lazy`: it disappears now, and ends when nobody uses it any more.
    """
    flags = _NOFOLLOW | (_DETACH if lazy else 0)
    if _libc.umount2(os.fsencode(target), flags):
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOENT):
            raise OSError(number, os.strerror(number), target)


def mounted(path: str) -> bool:
    """Something is mounted exactly there, alive or dead. A path that does not exist has nothing mounted.

    Nothing is asked of whoever serves the file system: one that does not answer holds up nobody.
    """
    answer = (ctypes.c_uint64 * (_STATX_SIZE // 8))()
    flags = _AT_SYMLINK_NOFOLLOW | _AT_NO_AUTOMOUNT | _AT_STATX_DONT_SYNC
    if _libc.statx(_AT_FDCWD, os.fsencode(path), flags, 0, answer):
        number = ctypes.get_errno()
        if number in (errno.ENOENT, errno.ENOTDIR):
            return False
        if number == errno.ENOTCONN:
            return True
        raise OSError(number, os.strerror(number), path)
    attributes, known = answer[1], answer[7]
    if known & _ATTR_MOUNT_ROOT:
        return bool(attributes & _ATTR_MOUNT_ROOT)
    return os.path.realpath(path) in _mount_points()


def is_dead(path: str) -> bool:
    """What is mounted there is served by a process that has ended (FUSE)."""
    try:
        os.statvfs(path)
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def file_system_of(path: str) -> str:
    """The type of the file system that a file lies on (`ext4`, `overlay`, `fuse.sshfs`); empty: unknown."""
    try:
        device = os.stat(path).st_dev
    except OSError:
        return ""
    number = f"{os.major(device)}:{os.minor(device)}".encode()
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            fields = line.split(b" ")
            if fields[2] == number:
                return os.fsdecode(fields[fields.index(b"-") + 1])
    return ""


def mounts_below(prefix: str) -> list[str]:
    """Mount points at `prefix` or below it, deepest first; a mount over another one twice."""
    top = os.path.normpath(prefix)
    start = top.rstrip("/") + "/"
    found = [point for point in _mount_points() if point == top or point.startswith(start)]
    return sorted(found, key=lambda point: point.count("/"), reverse=True)


def mount_of(source: str) -> str:
    """Where the tmpfs of that name is mounted; empty: nowhere."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            place, _, described = line.partition(" - ")
            if described.split()[:2] == ["tmpfs", source]:
                return place.split(" ", 5)[4]
    return ""


def _mount_points() -> list[str]:
    with open("/proc/self/mountinfo", "rb") as file:
        points = [line.split(b" ", 5)[4] for line in file]
    return [os.fsdecode(_unescaped(point)) if b"\\" in point else os.fsdecode(point) for point in points]


def _unescaped(point: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), point)


def _mount(source: str, target: str, kind: str, flags: int, data: str) -> None:
    arguments = (os.fsencode(source), os.fsencode(target), os.fsencode(kind) or None)
    if _libc.mount(*arguments, ctypes.c_ulong(flags), os.fsencode(data) or None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)
