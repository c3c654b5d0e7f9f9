"""What is in a secret on its way between the engine and a client: through a descriptor, of which no more is read than a
secret may have."""

from __future__ import annotations

import fcntl
import os
import stat

import trio

from pyman.errors import DeadlineExceeded, InvalidArgument
from supervisor.kernel import files
from supervisor.runtime.secrets.records import LIMIT

__all__ = ["received", "to_send"]

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_readers = trio.CapacityLimiter(8)
_waiters = trio.CapacityLimiter(8)
"""Threads that wait for what clients write into pipes."""


async def received(descriptor: int, deadline: float) -> bytes:
    """A file from its beginning, or a pipe or socket to its end, and of what is too long a byte too many. `deadline`:
    seconds for all of it. The descriptor, which is closed, is never made anything but what it was. InvalidArgument,
    StorageFailed, DeadlineExceeded."""
    try:
        kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
        readable = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_WRONLY
    except OSError as error:
        os.close(descriptor)
        raise files.storage_error(error, "look at", "the descriptor of a secret") from error
    if kind not in (stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK) or not readable:
        os.close(descriptor)
        raise InvalidArgument(
            "cannot read a secret from this descriptor: it takes a file or a pipe to read from"
        )
    is_file = kind == stat.S_IFREG
    limiter = _readers if is_file else _waiters
    with trio.move_on_after(deadline):
        # Given up, the thread closes the descriptor when its client lets it.
        return await trio.to_thread.run_sync(
            _read, descriptor, is_file, limiter=limiter, abandon_on_cancel=True
        )
    raise DeadlineExceeded(f"cannot wait any longer for a secret: it has not come within {deadline:g} s")


def _read(descriptor: int, is_file: bool) -> bytes:
    data = b""
    try:
        while len(data) <= LIMIT:
            most = LIMIT + 1 - len(data)
            part = os.pread(descriptor, most, len(data)) if is_file else os.read(descriptor, most)
            if not part:
                break
            data += part
    except OSError as error:
        raise files.storage_error(error, "read", "the descriptor of a secret") from error
    finally:
        os.close(descriptor)
    return data


def to_send(data: bytes) -> int:
    """A descriptor of it, in memory, which nobody can change any more. StorageFailed."""
    try:
        descriptor = os.memfd_create("secret", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        raise files.storage_error(error, "make", "a file in memory") from error
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except OSError as error:
        os.close(descriptor)
        raise files.storage_error(error, "write", "a file in memory") from error
    return descriptor
