"""How an archive program gives up everything but one directory before it looks at what strangers have made.

Its root is that directory, in a mount namespace of its own where nothing else is mounted: what `..`, an absolute name
or a link says leads nowhere else. It keeps the capabilities that owners, modes, devices and file capabilities need,
and of system calls none that makes namespaces, mounts, sockets, other programs or other processes' business.
Standard library only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "READING",
    "READING_MARKS",
    "SYS_ADMIN",
    "WRITING",
    "attach",
    "clone",
    "in_user_namespace",
    "into",
    "join",
    "over",
    "restrict",
    "to",
    "views",
]

_CHOWN, _DAC_OVERRIDE, _DAC_READ_SEARCH, _FOWNER, _FSETID, _MKNOD, _SETFCAP = 0, 1, 2, 3, 4, 27, 31
SYS_ADMIN = 21
WRITING = (_CHOWN, _DAC_OVERRIDE, _FOWNER, _FSETID, _MKNOD, _SETFCAP)
READING = (_DAC_READ_SEARCH,)
READING_MARKS = (_DAC_READ_SEARCH, SYS_ADMIN)
"""Without SYS_ADMIN the kernel does not show attributes in `trusted.`; what else it is good for, `_filter` refuses."""

_NEW_MOUNT = 0x0002_0000
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
_NOATIME, _NODIRATIME, _RELATIME = 1 << 10, 1 << 11, 1 << 21
_DETACH = 2
_OPEN_TREE, _MOVE_MOUNT = 428, 429
_OPEN_TREE_CLONE, _CLOEXEC, _AT_EMPTY_PATH, _AT_FDCWD, _FROM_DESCRIPTOR = 1, os.O_CLOEXEC, 0x1000, -100, 4
_TO_DESCRIPTOR, _AT_RECURSIVE, _MOUNT_SETATTR = 0x40, 0x8000, 442
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV, _ATTR_NOEXEC = 1, 2, 4, 8
_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 4, 22, 38
_SECCOMP_FILTER = 2
_CAPABILITY_VERSION = 0x2008_0522

_MEMORY = 2 << 30
"""Bytes of address space: the decompressors' windows, and what is remembered of the most members, fit in."""
_DESCRIPTORS = 64

_libc = ctypes.CDLL(None, use_errno=True)


def _limit(descriptors: int) -> None:
    """Bounds on what the process may use, whatever it is made to do."""
    _lower(resource.RLIMIT_AS, _MEMORY)
    _lower(resource.RLIMIT_NOFILE, descriptors)
    _lower(resource.RLIMIT_CORE, 0)


def _lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    new = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (new, new))


def in_user_namespace() -> bool:
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return file.read().split() != ["0", "0", "4294967295"]


def into(directory: str, capabilities: Sequence[int], *, readonly: bool = False) -> None:
    """Make that directory all there is. OSError: it is none, or the kernel refuses."""
    _own_mounts()
    _mount(os.fsencode(directory), directory, _BIND)
    _remount(directory, readonly=readonly)
    _enter(directory)
    to(capabilities)


def views(directories: Sequence[str], capabilities: Sequence[int]) -> None:
    """Make those directories, read-only and named `0`, `1` and so on, all there is. OSError."""
    _own_mounts()
    places = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in directories]
    _check(_libc.mount(b"tmpfs", b"/proc", b"tmpfs", _NOSUID | _NODEV | _NOEXEC, b"mode=755"), "/proc")
    os.chdir("/proc")
    for number, place in enumerate(places):
        os.mkdir(str(number), 0o700)
        # What lies over /proc hides the names of descriptors.
        tree = clone(place, directories[number])
        _check(_libc.syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, b"%d" % number, _FROM_DESCRIPTOR), "mount")
        os.close(tree)
        os.close(place)
        _remount(str(number), readonly=True)
    _enter("/proc")
    _mount(b"", "/", _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV | _NOEXEC)
    to(capabilities)


def over(
    trees: Sequence[int],
    capabilities: Sequence[int],
    *,
    descriptors: int,
    furnish: Callable[[list[int]], None],
) -> list[int]:
    """Make those trees of mounts, which are mounted nowhere, all there is; descriptors of their roots. A single one is the
    root then, so that links lead where they lead in it. `furnish` is given the descriptors, and may mount more in them.
    OSError."""
    _own_mounts()
    _check(_libc.mount(b"tmpfs", b"/proc", b"tmpfs", _NOSUID | _NODEV | _NOEXEC, b"mode=755"), "/proc")
    os.chdir("/proc")
    for number, tree in enumerate(trees):
        os.mkdir(str(number), 0o700)
        _check(_libc.syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, b"%d" % number, _FROM_DESCRIPTOR), "mount")
        os.close(tree)
    # What is mounted in a container from now on is not seen, nor the other way round.
    _mount(b"", "/proc", _REC | _PRIVATE)
    roots = [os.open(str(number), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for number in range(len(trees))]
    furnish(roots)
    _enter("0" if len(trees) == 1 else "/proc")
    to(capabilities, descriptors=descriptors)
    return roots


def clone(descriptor: int, subject: str, *, recursive: bool = False) -> int:
    """What is mounted there once more, mounted nowhere. `recursive`: with all that is mounted below it. OSError."""
    flags = _OPEN_TREE_CLONE | _CLOEXEC | _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    tree: int = _libc.syscall(_OPEN_TREE, descriptor, b"", flags)
    _check(tree, subject)
    return tree


def attach(tree: int, place: int, subject: str) -> None:
    """Mount a tree where a descriptor of a directory, or of a file, points. OSError."""
    flags = _FROM_DESCRIPTOR | _TO_DESCRIPTOR
    _check(_libc.syscall(_MOVE_MOUNT, tree, b"", place, b"", flags), subject)


def restrict(tree: int, *, readonly: bool, recursive: bool = True) -> None:
    """Nothing in the tree is run, or opened as a device. A kernel that cannot do that of a tree at once need not: who is
    in it runs and opens nothing. OSError: it stays writable."""
    attributes = _ATTR_NOSUID | _ATTR_NODEV | _ATTR_NOEXEC | (_ATTR_RDONLY if readonly else 0)
    wish = struct.pack("=4Q", attributes, 0, 0, 0)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    done = _libc.syscall(_MOUNT_SETATTR, tree, b"", flags, wish, len(wish))
    if done < 0 and (readonly or ctypes.get_errno() not in (errno.ENOSYS, errno.EPERM)):
        _check(done, "mounts")


def join(namespace: int) -> None:
    """Into a mount namespace. The process has one thread. OSError."""
    _check(_libc.setns(namespace, _NEW_MOUNT), "mounts")


def to(capabilities: Sequence[int], *, descriptors: int = _DESCRIPTORS) -> None:
    """Keep these rights and no others. OSError."""
    _limit(descriptors)
    os.umask(0)
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _keep(capabilities)
    _filter()


def _own_mounts() -> None:
    _check(_libc.unshare(_NEW_MOUNT), "mounts")
    _mount(b"", "/", _REC | _PRIVATE)


def _remount(target: str, *, readonly: bool) -> None:
    flags = os.statvfs(target).f_flag  # what is locked has to be said again
    kept = (flags & (_RDONLY | _NOSUID | _NODEV | _NOEXEC)) | _time_flags(flags)
    more = _NOSUID | _NODEV | _NOEXEC | (_RDONLY if readonly else 0)
    _mount(b"", target, _REMOUNT | _BIND | kept | more)


def _enter(directory: str) -> None:
    """The new root goes over the old one, which is then taken away from below it."""
    os.chdir(directory)
    _check(_libc.pivot_root(b".", b"."), directory)
    _check(_libc.umount2(b".", _DETACH), directory)
    os.chdir("/")


def _time_flags(flags: int) -> int:
    """The same words have other numbers in statvfs."""
    return (
        (_NOATIME if flags & 1024 else 0)
        | (_NODIRATIME if flags & 2048 else 0)
        | (_RELATIME if flags & 4096 else 0)
    )


def _mount(source: bytes, target: str, flags: int) -> None:
    place = os.fsencode(target)
    _check(_libc.mount(source or None, place, None, ctypes.c_ulong(flags), None), target)


def _keep(capabilities: Sequence[int]) -> None:
    mask = sum(1 << number for number in capabilities)
    low, high = mask & 0xFFFF_FFFF, mask >> 32
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    data = struct.pack("=6I", low, low, 0, high, high, 0)
    _check(_libc.capset(header, data), "capabilities")


def _prctl(option: int, argument: int) -> None:
    _check(_libc.prctl(option, argument, 0, 0, 0), "prctl")


def _check(result: int, subject: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), subject)


# -- system calls ------------------------------------------------------------------------------

_EVERYWHERE = (*range(424, 434), 434, 438, 440, 442)
"""pidfd_send_signal, io_uring_*, open_tree, move_mount, fs*, pidfd_open, pidfd_getfd, process_madvise,
mount_setattr: the same numbers on every architecture."""
_CLONE3 = 435
_FORBIDDEN = {
    # Line by line: sockets and other ways to talk; programs and signals; other processes' memory and scheduling;
    # mounts and namespaces; keys, modules, the machine.
    "x86_64": (
        *(41, 42, 43, 49, 50, 53, 288, 29, 30, 31, 64, 66, 68, 71, 240),
        *(57, 58, 59, 322, 62, 129, 200, 234, 297),
        *(101, 298, 310, 311, 312, 321, 323, 141, 142, 144, 203, 251, 256, 279, 302, 314),
        *(155, 161, 165, 166, 272, 304, 308),
        *(163, 167, 168, 169, 170, 171, 175, 176, 179, 246, 248, 249, 250, 313, 320),
    ),
    "aarch64": (
        *(198, 199, 200, 201, 202, 203, 242, 180, 186, 187, 190, 191, 194, 195, 196),
        *(221, 281, 129, 130, 131, 138, 240),
        *(117, 241, 270, 271, 272, 280, 282, 118, 119, 122, 140, 30, 238, 239, 261, 274),
        *(39, 40, 41, 51, 97, 265, 268),
        *(89, 104, 105, 106, 142, 161, 162, 60, 217, 218, 219, 224, 225, 273, 294),
    ),
}
_CLONE = {"x86_64": 56, "aarch64": 220}
_ARCHITECTURE = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF_0000, 0x0005_0000, 0x8000_0000
_X32 = 0x4000_0000
_THREAD = 0x0001_0000
_NUMBER_AT, _ARCHITECTURE_AT, _FLAGS_AT = 0, 4, 16


def _filter() -> None:
    """Refuse the system calls that nothing here needs; on architectures whose numbers are not known, none."""
    machine = os.uname().machine
    if machine not in _FORBIDDEN:
        return
    program = _program(machine)
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    description = struct.pack("@HP", len(program), ctypes.addressof(code))
    if _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_FILTER, description, 0, 0):
        number = ctypes.get_errno()
        if number != errno.EINVAL:  # a kernel without filters
            raise OSError(number, os.strerror(number), "seccomp")


def _program(machine: str) -> list[tuple[int, int, int, int]]:
    """Lines of operation, jump if true, jump if false, operand."""
    forbidden = sorted({*_FORBIDDEN[machine], *_EVERYWHERE})
    count = len(forbidden)
    return [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, _ARCHITECTURE[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, count + 3, 0, _X32),
        (_EQUAL, count + 4, 0, _CLONE[machine]),
        (_EQUAL, count + 2, 0, _CLONE3),
        *((_EQUAL, count - at, 0, number) for at, number in enumerate(forbidden)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),  # the C library then takes the older call
        (_LOAD, 0, 0, _FLAGS_AT),
        (_AND, 0, 0, _THREAD),
        (_EQUAL, 0, 1, _THREAD),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
    ]
