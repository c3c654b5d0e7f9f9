"""Namespaces: leaving and joining them, and naming them by file handle.

A file handle (Linux 6.18) names a namespace without a process or a path that keeps it; it is stale once nothing
lives inside. Joining a user or mount namespace needs a process of one thread. Failures are OSErrors.
Standard library only: the keeper needs it too.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct

__all__ = [
    "NEW_MOUNT",
    "NEW_USER",
    "UNSUPPORTED",
    "handle_of",
    "join",
    "kind_of",
    "leave",
    "open_handle",
    "owner_of",
]

NEW_MOUNT, NEW_USER = 0x0002_0000, 0x1000_0000
UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
"""What a kernel says that has no handles of namespaces."""

_AT_EMPTY_PATH = 0x1000
_NSFS_ROOT = -10003
_HANDLE_BYTES = 128
_NSIO = 0xB7
_NS_GET_NSTYPE = _NSIO << 8 | 3
_NS_GET_OWNER_UID = _NSIO << 8 | 4

_libc = ctypes.CDLL(None, use_errno=True)


class _FileHandle(ctypes.Structure):
    _fields_ = (
        ("handle_bytes", ctypes.c_uint),
        ("handle_type", ctypes.c_int),
        ("f_handle", ctypes.c_ubyte * _HANDLE_BYTES),
    )


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def leave(kinds: int) -> None:
    """Into new namespaces of these kinds (unshare)."""
    _check(_libc.unshare(kinds))


def join(descriptor: int, kind: int) -> None:
    """Into the namespace that the descriptor stands for, which has to be of that kind (setns)."""
    _check(_libc.setns(descriptor, kind))


def handle_of(descriptor: int) -> bytes:
    """The file handle of a namespace: its type (4 bytes, native order) and what the kernel made."""
    handle, mount = _FileHandle(handle_bytes=_HANDLE_BYTES), ctypes.c_int()
    _check(
        _libc.name_to_handle_at(descriptor, b"", ctypes.byref(handle), ctypes.byref(mount), _AT_EMPTY_PATH)
    )
    return struct.pack("=i", handle.handle_type) + bytes(handle.f_handle[: handle.handle_bytes])


def open_handle(name: bytes) -> int:
    """A descriptor of the namespace, close-on-exec. OSError ESTALE: it is no more."""
    body = name[4:]
    if len(name) < 4 or len(body) > _HANDLE_BYTES:
        raise OSError(errno.EINVAL, "no handle of a namespace")
    handle = _FileHandle(handle_bytes=len(body), handle_type=struct.unpack("=i", name[:4])[0])
    ctypes.memmove(handle.f_handle, body, len(body))
    return _check(_libc.open_by_handle_at(_NSFS_ROOT, ctypes.byref(handle), os.O_RDONLY | os.O_CLOEXEC))


def kind_of(descriptor: int) -> int:
    """`NEW_USER`, `NEW_MOUNT` …"""
    return fcntl.ioctl(descriptor, _NS_GET_NSTYPE)


def owner_of(descriptor: int) -> int:
    """Who made a user namespace: a uid as seen from here."""
    answer = fcntl.ioctl(descriptor, _NS_GET_OWNER_UID, b"\0\0\0\0")
    return int(struct.unpack("=I", answer)[0])
